// kernels/rows.inl: work on single rows: quantising, norms, rotary embedding, sums. Widths are
// padded to 16, and the padding is zero.

constexpr int kTogether = 16;  // halves of blocks, 16 columns each, whose sums fill a vector

// Sixteen columns, or zeros behind the end.
static inline F load_columns(const float* x, int column, int end) {
    return column < end ? f_load(x + column) : f_zero();
}

// Eight blocks at a time: what belongs to a half of a block is a lane, so that a maximum or a sum
// of sixteen halves costs hardly more than that of one. A value that is NaN or infinite makes the
// scale of its block NaN, so that it is not lost: as a code it would look like any number.
static void quantise_row(const float* x, const float* weight, int begin, int end,
                         const RowGroup& group, int row) {
    const int block_end = (end + kBlockColumns - 1) / kBlockColumns;
    for (int block = begin / kBlockColumns; block < block_end; block += kTogether / 2) {
        F values[kTogether];
        for (int h = 0; h < kTogether; ++h) {
            const int column = block * kBlockColumns + 16 * h;
            values[h] = load_columns(x, column, end);
            if (weight != nullptr && column < end) {
                values[h] = f_mul(values[h], f_load(weight + column));
            }
        }
        F magnitudes[kTogether];
        for (int h = 0; h < kTogether; h += 2) {
            magnitudes[h] = f_abs(values[h]);
            magnitudes[h + 1] = f_abs(values[h + 1]);
            if (!group.fine) {
                magnitudes[h] = f_higher(magnitudes[h], magnitudes[h + 1]);
                magnitudes[h + 1] = magnitudes[h];
            }
        }
        const F highest = f_highest_of_each(magnitudes);
        // A block of subnormal values would overflow the reciprocal; it counts as zero.
        alignas(64) float inverses[kTogether];
        f_store(inverses, f_where_above(highest, f_set(1e-30F), f_div(f_set(127.0F), highest)));
        const F poison = f_sub(highest, highest);  // 0, or NaN if any value is not finite
        const F scale = f_add(f_div(highest, f_set(127.0F)), poison);
        alignas(64) float scales[kTogether];
        f_store(scales, scale);
        I codes[kTogether];
        for (int h = 0; h < kTogether; ++h) {
            // What is no number becomes the limit, as rounding it has no defined result.
            const F scaled = f_max(f_mul(values[h], f_set(inverses[h])), f_set(-127.0F));
            codes[h] = i_round(scaled);
        }
        const I sums = i_sum_of_each(codes);
        alignas(64) int32_t half_sums[kTogether];
        i_store(half_sums, sums);
        alignas(64) float scaled_sums[kTogether];
        f_store(scaled_sums, f_mul(scale, f_from_i(sums)));
        const int blocks = block_end - block < kTogether / 2 ? block_end - block : kTogether / 2;
        for (int b = 0; b < blocks; ++b) {
            const size_t at = static_cast<size_t>(block + b) * group.rows + row;
            i_store_i8(group.q + at * kBlockColumns, codes[2 * b]);
            i_store_i8(group.q + at * kBlockColumns + 16, codes[2 * b + 1]);
            if (group.fine) {
                group.scale[2 * at] = scales[2 * b];
                group.scale[2 * at + 1] = scales[2 * b + 1];
            } else {
                group.scale[at] = scales[2 * b];
            }
            group.scaled_sum[at] = scaled_sums[2 * b] + scaled_sums[2 * b + 1];
            group.sums[2 * at] = static_cast<int16_t>(half_sums[2 * b]);
            group.sums[2 * at + 1] = static_cast<int16_t>(half_sums[2 * b + 1]);
        }
    }
}

static void spread_row(const float* x, const float* weight, int begin, int end,
                       const RowGroup& group, int row) {
    const int padded = (end + kBlockColumns - 1) / kBlockColumns * kBlockColumns;
    for (int c = begin; c < padded; ++c) {
        const float value = c < end ? x[c] : 0.0F;
        group.values[static_cast<size_t>(c) * group.rows + row] =
            weight != nullptr && c < end ? value * weight[c] : value;
    }
}

static void square_row(const float* x, int begin, int end, const RowGroup& group, int row) {
    float* out = group.squares + static_cast<size_t>(row) * group.square_stride;
    const int half_end = (end + kBlockColumns - 1) / kBlockColumns * 2;
    for (int half = begin / 16; half < half_end; half += kTogether) {
        F squares[kTogether];
        for (int h = 0; h < kTogether; ++h) {
            const F values = load_columns(x, (half + h) * 16, end);
            squares[h] = f_mul(values, values);
        }
        alignas(64) float sums[kTogether];
        f_store(sums, f_sum_of_each(squares));
        for (int h = 0; h < kTogether && half + h < half_end; ++h) out[half + h] = sums[h];
    }
}

static float norm_factor(const float* squares, int width, float epsilon) {
    const int halves = (width + kBlockColumns - 1) / kBlockColumns * 2;
    F sum = f_zero();
    int h = 0;
    for (; h + 16 <= halves; h += 16) sum = f_add(sum, f_load(squares + h));
    float rest = 0.0F;
    for (; h < halves; ++h) rest += squares[h];
    const float mean = (f_sum(sum) + rest) / static_cast<float>(width);
    return 1.0F / __builtin_sqrtf(mean + epsilon);
}

static void rms_norm(const float* x, const float* weight, int width, float epsilon,
                     const float* residual, float* out) {
    F even = f_zero();
    F odd = f_zero();
    int i = 0;
    for (; i + 32 <= width; i += 32) {
        const F a = f_load(x + i);
        const F b = f_load(x + i + 16);
        even = f_fma(a, a, even);
        odd = f_fma(b, b, odd);
    }
    for (; i < width; i += 16) {
        const F a = f_load(x + i);
        even = f_fma(a, a, even);
    }
    const float mean = f_sum(f_add(even, odd)) / static_cast<float>(width);
    const F factor = f_set(1.0F / __builtin_sqrtf(mean + epsilon));
    for (i = 0; i < width; i += 16) {
        F y = f_mul(f_mul(f_load(x + i), factor), f_load(weight + i));
        if (residual != nullptr) y = f_add(y, f_load(residual + i));
        f_store(out + i, y);
    }
}

static void rope(float* head, const RopeTask& task, int row) {
    const float* cos = task.cos + static_cast<size_t>(row) * task.pairs;
    const float* sin = task.sin + static_cast<size_t>(row) * task.pairs;
    const int step = task.interleaved ? 2 : 1;
    const int distance = task.interleaved ? 1 : task.pairs;
    int i = 0;
    if (!task.interleaved) {
        for (; i + 16 <= task.pairs; i += 16) {
            const F a = f_load(head + i);
            const F b = f_load(head + distance + i);
            const F c = f_load(cos + i);
            const F s = f_load(sin + i);
            f_store(head + i, f_sub(f_mul(a, c), f_mul(b, s)));
            f_store(head + distance + i, f_add(f_mul(b, c), f_mul(a, s)));
        }
    }
    for (; i < task.pairs; ++i) {
        float* first = head + i * step;
        float* second = first + distance;
        const float a = *first;
        const float b = *second;
        *first = a * cos[i] - b * sin[i];
        *second = b * cos[i] + a * sin[i];
    }
}

static void activate(const float* gate, const float* up, int width, int activation, float* out) {
    for (int i = 0; i < width; i += 16) {
        f_store(out + i, f_mul(f_activate(f_load(gate + i), activation), f_load(up + i)));
    }
}

static void add(const float* a, const float* b, int width, float* out) {
    for (int i = 0; i < width; i += 16) f_store(out + i, f_add(f_load(a + i), f_load(b + i)));
}
