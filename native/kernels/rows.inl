// kernels/rows.inl: work on single rows: quantising, norms, rotary embedding, sums. Widths are
// padded to 16, and the padding is zero.

// Eight blocks at a time: what belongs to a half of a block is a lane, so that a maximum or a sum
// of sixteen halves costs hardly more than that of one. A value that is NaN or infinite makes the
// scale of its block NaN, so that it is not lost: as a code it would look like any number.
static void quantise_row(const float* x, int columns, const RowGroup& group, int row) {
    constexpr int kHalves = 16;
    const int halves = (columns + kBlockColumns - 1) / kBlockColumns * 2;
    for (int first = 0; first < halves; first += kHalves) {
        F values[kHalves];
        for (int h = 0; h < kHalves; ++h) {
            const int column = (first + h) * 16;
            values[h] = column < columns ? f_load(x + column) : f_zero();
        }
        F magnitudes[kHalves];
        for (int h = 0; h < kHalves; h += 2) {
            magnitudes[h] = f_abs(values[h]);
            magnitudes[h + 1] = f_abs(values[h + 1]);
            if (!group.fine) {
                magnitudes[h] = f_higher(magnitudes[h], magnitudes[h + 1]);
                magnitudes[h + 1] = magnitudes[h];
            }
        }
        const F highest = f_highest_of_each(magnitudes);
        // A block of subnormal values would overflow the reciprocal; it counts as zero.
        alignas(64) float inverses[kHalves];
        f_store(inverses, f_where_above(highest, f_set(1e-30F), f_div(f_set(127.0F), highest)));
        alignas(64) float scales[kHalves];
        const F poison = f_sub(highest, highest);  // 0, or NaN if any value is not finite
        const F scale = f_add(f_div(highest, f_set(127.0F)), poison);
        f_store(scales, scale);
        I codes[kHalves];
        for (int h = 0; h < kHalves; ++h) {
            // What is no number becomes the limit, as rounding it has no defined result.
            const F scaled = f_max(f_mul(values[h], f_set(inverses[h])), f_set(-127.0F));
            codes[h] = i_round(scaled);
        }
        const I sums = i_sum_of_each(codes);
        alignas(64) int32_t all_sums[kHalves];
        i_store(all_sums, sums);
        alignas(64) float scaled_sums[kHalves];
        f_store(scaled_sums, f_mul(scale, f_from_i(sums)));
        const int count = halves - first < kHalves ? halves - first : kHalves;
        for (int h = 0; h < count; h += 2) {
            const size_t at = static_cast<size_t>((first + h) / 2) * group.rows + row;
            i_store_i8(group.q + at * kBlockColumns, codes[h]);
            i_store_i8(group.q + at * kBlockColumns + 16, codes[h + 1]);
            if (group.fine) {
                group.scale[2 * at] = scales[h];
                group.scale[2 * at + 1] = scales[h + 1];
            } else {
                group.scale[at] = scales[h];
            }
            group.scaled_sum[at] = scaled_sums[h] + scaled_sums[h + 1];
            int32_t* block_sums = group.sums + at * 4;
            block_sums[0] = all_sums[h];
            block_sums[1] = all_sums[h + 1];
            block_sums[2] = all_sums[h] + all_sums[h + 1];
        }
    }
}

static void spread_row(const float* x, int columns, const RowGroup& group, int row) {
    const int padded = (columns + kBlockColumns - 1) / kBlockColumns * kBlockColumns;
    for (int c = 0; c < padded; ++c)
        group.values[static_cast<size_t>(c) * group.rows + row] = c < columns ? x[c] : 0.0F;
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
