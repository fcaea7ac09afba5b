// kernels/linear.inl: matrix products of packed tiles with 1 to 8 rows.
//
// The idea: a vector lane is an output row. Each tile's codes are unpacked once and used for all
// rows of the group; four columns of activations are broadcast to all lanes. Integer sums are
// exact, so only the float sum over blocks has an order, and that is the order of the columns.

// How far ahead of what is in use the weights are asked for. The processor's own prefetching keeps
// up with one row; with four, whose arithmetic fills its window, it fell behind by half. Where
// several groups read each tile, the first of them asks for the whole next one. Weights that shall
// pass by the larger caches wait in the first one, which is small.
constexpr size_t kAheadBytes = 4096;
constexpr size_t kAheadOfGroupsBytes = 8192;

// How the codes of one block become eight vectors of unsigned bytes.
template <int kBits>
struct Codes;

template <>
struct Codes<4> {
    static inline void load(const uint8_t* p, B* w) {
        for (int i = 0; i < 4; ++i) {
            const B packed = b_load(p + 64 * i);
            w[i] = b_low_nibbles(packed);
            w[i + 4] = b_high_nibbles(packed);
        }
    }
};

template <>
struct Codes<5> {
    static inline void load(const uint8_t* p, B* w) {
        Codes<4>::load(p, w);
        const B plane = b_load(p + 256);
        w[0] = b_insert<4, 16>(w[0], plane);
        w[1] = b_insert<3, 16>(w[1], plane);
        w[2] = b_insert<2, 16>(w[2], plane);
        w[3] = b_insert<1, 16>(w[3], plane);
        w[4] = b_insert<0, 16>(w[4], plane);
        w[5] = b_insert<-1, 16>(w[5], plane);
        w[6] = b_insert<-2, 16>(w[6], plane);
        w[7] = b_insert<-3, 16>(w[7], plane);
    }
};

template <>
struct Codes<6> {
    static inline void load(const uint8_t* p, B* w) {
        Codes<4>::load(p, w);
        for (int i = 0; i < 2; ++i) {
            const B plane = b_load(p + 256 + 64 * i);
            w[4 * i + 0] = b_insert<4, 48>(w[4 * i + 0], plane);
            w[4 * i + 1] = b_insert<2, 48>(w[4 * i + 1], plane);
            w[4 * i + 2] = b_insert<0, 48>(w[4 * i + 2], plane);
            w[4 * i + 3] = b_insert<-2, 48>(w[4 * i + 3], plane);
        }
    }
};

template <>
struct Codes<8> {
    static inline void load(const uint8_t* p, B* w) {
        for (int i = 0; i < 8; ++i) w[i] = b_load(p + 64 * i);
    }
};

// Q2_K: four vectors share a plane of bit pairs.
template <>
struct Codes<2> {
    static inline void load(const uint8_t* p, B* w) {
        for (int i = 0; i < 2; ++i) {
            const B plane = b_load(p + 64 * i);
            w[4 * i + 0] = b_extract<0, 3>(plane);
            w[4 * i + 1] = b_extract<2, 3>(plane);
            w[4 * i + 2] = b_extract<4, 3>(plane);
            w[4 * i + 3] = b_extract<6, 3>(plane);
        }
    }
};

template <>
struct Codes<3> {
    static inline void load(const uint8_t* p, B* w) {
        Codes<2>::load(p, w);
        const B plane = b_load(p + 128);
        w[0] = b_insert<2, 4>(w[0], plane);
        w[1] = b_insert<1, 4>(w[1], plane);
        w[2] = b_insert<0, 4>(w[2], plane);
        w[3] = b_insert<-1, 4>(w[3], plane);
        w[4] = b_insert<-2, 4>(w[4], plane);
        w[5] = b_insert<-3, 4>(w[5], plane);
        w[6] = b_insert<-4, 4>(w[6], plane);
        w[7] = b_insert<-5, 4>(w[7], plane);
    }
};

struct CodeTable {
    uint8_t codes[16];
};

constexpr CodeTable code_table(const PackedLayout& layout) {
    CodeTable table{};
    for (int i = 0; i < 16; ++i) {
        table.codes[i] = static_cast<uint8_t>(layout.values[i] + layout.offset);
    }
    return table;
}

// Codes that are indices. Told by type: with sanitisers, GCC takes no comparison of the table's
// address for a constant.
constexpr bool has_table(BlockType type) {
    return type == BlockType::IQ4_NL || type == BlockType::IQ4_XS || type == BlockType::MXFP4 ||
           type == BlockType::NVFP4;
}

// The codes of a format, through its table where it has one.
template <BlockType kType>
static inline void load_codes(const uint8_t* p, B* w) {
    constexpr PackedLayout kLayout = packed_layout(kType);
    Codes<kLayout.bits>::load(p, w);
    if constexpr (has_table(kType)) {
        static constexpr CodeTable kTable = code_table(kLayout);
        const B table = b_repeat(kTable.codes);
        for (int i = 0; i < 8; ++i) w[i] = b_look_up(table, w[i]);
    }
}

// A scale per 16 columns.
constexpr bool has_two_scales(BlockType type) {
    return type == BlockType::Q2_K || type == BlockType::Q3_K || type == BlockType::Q6_K ||
           type == BlockType::NVFP4;
}

// A minimum per 32 columns; Q2_K has two.
constexpr bool has_minimum(BlockType type) {
    return type == BlockType::Q4_1 || type == BlockType::Q5_1 || type == BlockType::Q4_K ||
           type == BlockType::Q5_K;
}

// Codes above 127.
constexpr bool is_wide(BlockType type) { return packed_layout(type).offset == 128; }

// Asks for what will be in use soon. Every line of a matrix is asked for once, those of the scales,
// too.
template <bool kPassing>
static inline void ask_for(const uint8_t* p, size_t bytes) {
    for (size_t line = 0; line < bytes; line += 64) {
        if constexpr (kPassing) {
            prefetch_passing(p + line);
        } else {
            prefetch(p + line);
        }
    }
}

// Sum over blocks of d * (scale * dot) + m * (scale * sum). Where the weights or (kFine) the
// activations have a scale per 16 columns, the two halves of a block are summed apart.
template <BlockType kType, int kRows, bool kFine, bool kPassing>
static void tile_integer(const uint8_t* tile, int blocks, size_t ahead, const RowGroup& group,
                         float* out) {
    constexpr PackedLayout kLayout = packed_layout(kType);
    constexpr bool kSuper = kLayout.super_scale_bytes > 0;
    constexpr bool kTwoScales = has_two_scales(kType);
    constexpr bool kHalves = kTwoScales || kFine;
    constexpr int kRowScales = kFine ? 2 : 1;
    constexpr bool kMinimum = has_minimum(kType);
    constexpr bool kTwoMinimums = kType == BlockType::Q2_K;
    constexpr bool kWide = is_wide(kType);
    constexpr int kUnit = unit_blocks(kType);
    const uint8_t* scales = nullptr;
    const uint8_t* codes = nullptr;
    const int8_t* q = group.q;
    const float* row_scale = group.scale;
    const float* row_scaled_sum = group.scaled_sum;
    const int16_t* row_sums = group.sums;

    F sum[kRows];
    for (int m = 0; m < kRows; ++m) sum[m] = f_zero();
    F super_scale = f_zero();
    F super_minimum = f_zero();
    for (int b = 0; b < blocks; ++b) {
        if (b % kUnit == 0) {
            ask_for<kPassing>(tile + ahead, unit_scale_bytes(kType));
            if constexpr (kSuper) {
                super_scale = f_from_half(tile);
                if constexpr (kMinimum || kTwoMinimums) super_minimum = f_from_half(tile + 32);
            }
            scales = tile + kLayout.super_scale_bytes;
            codes = tile + unit_scale_bytes(kType);
            tile += unit_bytes(kType);
        }
        ask_for<kPassing>(codes + ahead, code_bytes(kType));
        F d;
        F d_next;
        F minimum;
        F minimum_next;
        if constexpr (kTwoMinimums) {
            const F negative = f_sub(f_zero(), super_minimum);
            d = f_mul(super_scale, f_from_low_u4(scales));
            d_next = f_mul(super_scale, f_from_low_u4(scales + 16));
            minimum = f_mul(negative, f_from_high_u4(scales));
            minimum_next = f_mul(negative, f_from_high_u4(scales + 16));
        } else if constexpr (kType == BlockType::NVFP4) {
            d = f_half_of_e4m3(scales);
            d_next = f_half_of_e4m3(scales + 16);
        } else if constexpr (kType == BlockType::MXFP4) {
            d = f_half_of_e8m0(scales);
        } else if constexpr (kType == BlockType::IQ4_XS) {
            d = f_mul(super_scale, f_from_i8(scales));
        } else if constexpr (kTwoScales) {
            d = f_mul(super_scale, f_from_i8(scales));
            d_next = f_mul(super_scale, f_from_i8(scales + 16));
        } else if constexpr (kSuper) {
            d = f_mul(super_scale, f_from_u8(scales));
            minimum = f_sub(f_zero(), f_mul(super_minimum, f_from_u8(scales + 16)));
        } else {
            d = f_from_half(scales);
            if constexpr (kMinimum) minimum = f_from_half(scales + 32);
        }
        B w[8];
        load_codes<kType>(codes, w);
        // One set of integer sums, folded after each half where that has scales of its own: two
        // sets beside the float sums would not fit into the registers. From four rows on GCC keeps
        // a loop, and with it the codes in memory, where they have to be anyway if registers are
        // few.
        I dot[kRows];
#if defined(NEXTN_MANY_REGISTERS)
#pragma GCC unroll 2
#endif
        for (int half = 0; half < (kHalves ? 2 : 1); ++half) {
            for (int m = 0; m < kRows; ++m) {
                if constexpr (kLayout.offset != 0) {
                    const int sum_of_row =
                        kHalves ? row_sums[2 * m + half] : row_sums[2 * m] + row_sums[2 * m + 1];
                    dot[m] = i_set(-kLayout.offset * sum_of_row);
                } else {
                    dot[m] = i_zero();
                }
            }
            for (int j = kHalves ? 4 * half : 0; j < (kHalves ? 4 * half + 4 : 8); ++j) {
                for (int m = 0; m < kRows; ++m) {
                    dot[m] = dot4<kWide>(dot[m], w[j], q + m * kBlockColumns + 4 * j);
                }
            }
            const F weight_scale = kTwoScales && half == 1 ? d_next : d;
            for (int m = 0; m < kRows; ++m) {
                const F scale = f_set(row_scale[kRowScales * m + (kFine ? half : 0)]);
                sum[m] = f_fma(f_from_i(dot[m]), f_mul(weight_scale, scale), sum[m]);
            }
        }
        for (int m = 0; m < kRows; ++m) {
            if constexpr (kMinimum) sum[m] = f_fma(minimum, f_set(row_scaled_sum[m]), sum[m]);
            if constexpr (kTwoMinimums) {
                const float first = row_scale[kRowScales * m] * static_cast<float>(row_sums[2 * m]);
                const float next = row_scale[kRowScales * m + kRowScales - 1] *
                                   static_cast<float>(row_sums[2 * m + 1]);
                sum[m] = f_fma(minimum, f_set(first), sum[m]);
                sum[m] = f_fma(minimum_next, f_set(next), sum[m]);
            }
        }
        codes += code_bytes(kType);
        scales += kLayout.scale_bytes;
        q += kRows * kBlockColumns;
        row_scale += kRowScales * kRows;
        row_scaled_sum += kRows;
        row_sums += 2 * kRows;
    }
    for (int m = 0; m < kRows; ++m) f_store(out + m * kTileRows, sum[m]);
}

template <BlockType kType>
static inline F load_weights(const uint8_t* p) {
    if constexpr (kType == BlockType::F32) return f_load(reinterpret_cast<const float*>(p));
    if constexpr (kType == BlockType::F16) return f_from_half(p);
    return f_from_bfloat(p);
}

// Float formats: even and odd columns are summed apart, which hides the latency of the additions.
template <BlockType kType, int kRows>
static void tile_float(const uint8_t* tile, int blocks, size_t, const RowGroup& group, float* out) {
    constexpr size_t kStep = static_cast<size_t>(packed_layout(kType).bits) / 8 * kTileRows;
    const float* values = group.values;
    F even[kRows];
    F odd[kRows];
    for (int m = 0; m < kRows; ++m) even[m] = odd[m] = f_zero();
    for (int c = 0; c < blocks * kBlockColumns; c += 2, tile += 2 * kStep, values += 2 * kRows) {
        const F first = load_weights<kType>(tile);
        const F second = load_weights<kType>(tile + kStep);
        for (int m = 0; m < kRows; ++m) {
            even[m] = f_fma(first, f_set(values[m]), even[m]);
            odd[m] = f_fma(second, f_set(values[kRows + m]), odd[m]);
        }
    }
    for (int m = 0; m < kRows; ++m) f_store(out + m * kTileRows, f_add(even[m], odd[m]));
}

using TileFunction = void (*)(const uint8_t* tile, int blocks, size_t ahead, const RowGroup& group,
                              float* out);

template <BlockType kType, int kRows, bool kFine, bool kPassing>
static constexpr TileFunction tile_function() {
    if constexpr (is_float_format(kType)) {
        return tile_float<kType, kRows>;
    } else {
        return tile_integer<kType, kRows, kFine, kPassing>;
    }
}

template <BlockType kType, bool kFine, bool kPassing>
static inline TileFunction tile_for_rows(int rows) {
    static constexpr TileFunction kByRows[kMaxGroupRows] = {
        tile_function<kType, 1, kFine, kPassing>(), tile_function<kType, 2, kFine, kPassing>(),
        tile_function<kType, 3, kFine, kPassing>(), tile_function<kType, 4, kFine, kPassing>(),
        tile_function<kType, 5, kFine, kPassing>(), tile_function<kType, 6, kFine, kPassing>(),
        tile_function<kType, 7, kFine, kPassing>(), tile_function<kType, 8, kFine, kPassing>()};
    return kByRows[rows - 1];
}

template <BlockType kType>
static inline TileFunction tile_for_group(const RowGroup& group, bool passing) {
    if (passing) {
        return group.fine ? tile_for_rows<kType, true, true>(group.rows)
                          : tile_for_rows<kType, false, true>(group.rows);
    }
    return group.fine ? tile_for_rows<kType, true, false>(group.rows)
                      : tile_for_rows<kType, false, false>(group.rows);
}

static TileFunction find_tile_function(BlockType type, const RowGroup& group, bool passing) {
    switch (type) {
        case BlockType::F32: return tile_for_group<BlockType::F32>(group, passing);
        case BlockType::F16: return tile_for_group<BlockType::F16>(group, passing);
        case BlockType::BF16: return tile_for_group<BlockType::BF16>(group, passing);
        case BlockType::Q4_0: return tile_for_group<BlockType::Q4_0>(group, passing);
        case BlockType::Q4_1: return tile_for_group<BlockType::Q4_1>(group, passing);
        case BlockType::Q5_0: return tile_for_group<BlockType::Q5_0>(group, passing);
        case BlockType::Q5_1: return tile_for_group<BlockType::Q5_1>(group, passing);
        case BlockType::Q8_0: return tile_for_group<BlockType::Q8_0>(group, passing);
        case BlockType::Q2_K: return tile_for_group<BlockType::Q2_K>(group, passing);
        case BlockType::Q3_K: return tile_for_group<BlockType::Q3_K>(group, passing);
        case BlockType::Q4_K: return tile_for_group<BlockType::Q4_K>(group, passing);
        case BlockType::Q5_K: return tile_for_group<BlockType::Q5_K>(group, passing);
        case BlockType::Q6_K: return tile_for_group<BlockType::Q6_K>(group, passing);
        case BlockType::IQ4_NL: return tile_for_group<BlockType::IQ4_NL>(group, passing);
        case BlockType::IQ4_XS: return tile_for_group<BlockType::IQ4_XS>(group, passing);
        case BlockType::MXFP4: return tile_for_group<BlockType::MXFP4>(group, passing);
        case BlockType::NVFP4: return tile_for_group<BlockType::NVFP4>(group, passing);
    }
    return nullptr;
}

static const uint8_t* tile_data(const PackedMatrix& matrix, int tile) {
    return matrix.data + static_cast<size_t>(tile) * matrix.tile_bytes;
}

static void linear(const LinearTask& task, int tile_begin, int tile_end) {
    alignas(64) float result[kMaxGroupRows * kTileRows];
    alignas(64) float up_result[kMaxGroupRows * kTileRows];
    const PackedMatrix& matrix = *task.matrix;
    // A tile that several groups read has to stay for them.
    const bool passing = task.passing && task.group_count == 1;
    const size_t ahead = task.group_count == 1 ? kAheadBytes : kAheadOfGroupsBytes;
    TileFunction multiply = nullptr;
    TileFunction multiply_up = nullptr;
    int rows = 0;  // that these are for
    for (int tile = tile_begin; tile < tile_end; ++tile) {
        const int column = tile * kTileRows;
        for (int g = 0; g < task.group_count; ++g) {
            const RowGroup& group = task.groups[g];
            if (group.rows != rows) {
                rows = group.rows;
                multiply = find_tile_function(matrix.type, group, passing);
                if (task.activation != 0) {
                    multiply_up = find_tile_function(task.up->type, group, passing);
                }
            }
            multiply(tile_data(matrix, tile), matrix.blocks, ahead, group, result);
            if (task.activation != 0) {
                multiply_up(tile_data(*task.up, tile), task.up->blocks, ahead, group, up_result);
            }
            for (int m = 0; m < group.rows; ++m) {
                const size_t row = static_cast<size_t>(group.first_row + m);
                const float factor = task.row_factors != nullptr ? task.row_factors[row] : 1.0F;
                F y = f_mul(f_load(result + m * kTileRows), f_set(task.scale * factor));
                if (task.bias != nullptr) y = f_add(y, f_load(task.bias + column));
                if (task.activation != 0) {
                    F up = f_mul(f_load(up_result + m * kTileRows), f_set(task.up_scale * factor));
                    if (task.up_bias != nullptr) up = f_add(up, f_load(task.up_bias + column));
                    y = f_mul(f_activate(y, task.activation), up);
                }
                if (task.residual != nullptr) {
                    y = f_add(y, f_load(task.residual + row * task.residual_stride + column));
                }
                f_store(task.out + row * task.out_stride + column, y);
            }
        }
    }
}
