// kernels/rows.inl: work on single rows: quantising, norms, rotary embedding, sums. Widths are
// padded to 16, and the padding is zero.

// A value that is NaN or infinite makes the scale of its block NaN, so that it is not lost: as a
// code it would look like any number.
static void quantise_row(const float* x, int columns, const RowGroup& group, int row) {
    const int blocks = (columns + kBlockColumns - 1) / kBlockColumns;
    for (int b = 0; b < blocks; ++b, x += kBlockColumns) {
        const bool whole = (b + 1) * kBlockColumns - columns < kTileRows;
        const F halves[2] = {f_load(x), whole ? f_load(x + 16) : f_zero()};
        float highest[2] = {f_highest(f_abs(halves[0])), f_highest(f_abs(halves[1]))};
        if (!group.fine) {
            highest[0] = highest[0] > highest[1] ? highest[0] : highest[1];
            highest[1] = highest[0];
        }
        // 0, or NaN if any value is not finite.
        const F differences = f_add(f_sub(halves[0], halves[0]), f_sub(halves[1], halves[1]));
        const float poison = f_sum(differences);
        const size_t at = static_cast<size_t>(b) * group.rows + row;
        int32_t* sums = group.sums + at * 4;
        float scaled_sum = 0.0F;
        for (int half = 0; half < 2; ++half) {
            // A block of subnormal values would overflow the reciprocal; it counts as zero.
            const F inverse = f_set(highest[half] > 1e-30F ? 127.0F / highest[half] : 0.0F);
            // What is not finite has no code; the scale says so.
            const I codes = poison == 0.0F ? i_round(f_mul(halves[half], inverse)) : i_zero();
            i_store_i8(group.q + at * kBlockColumns + 16 * half, codes);
            sums[half] = i_sum(codes);
            const float scale = highest[half] / 127.0F + poison;
            group.scale[group.fine ? 2 * at + half : at] = scale;
            scaled_sum += scale * static_cast<float>(sums[half]);
        }
        sums[2] = sums[0] + sums[1];
        group.scaled_sum[at] = scaled_sum;
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
    for (int i = 0; i < task.pairs; ++i) {
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
