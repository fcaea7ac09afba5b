// kernels/encode/symmetric.inl: formats of value = scale * code, with codes of both signs: Q6_K,
// and Q4_0 and Q5_0 when columns have an importance.

// Scales for codes -half .. half - 1 with small weighted squared errors.
//
// Each lane starts from a scale that puts the extreme near the last code of one side, and then
// alternates: codes for the scale, the best scale for the codes (Lloyd's method), which never makes
// the error larger.
static F fit_symmetric_lanes(const float* x, const float* w, int count, float half) {
    constexpr int kPasses = 3;
    const float extreme = extreme_of(x, count);
    if (!(__builtin_fabsf(extreme) > kTiny)) return f_zero();
    float starts[kLanes];
    for (int i = 0; i < 8; ++i) {
        const float shift = 0.3F * static_cast<float>(i) - 0.9F;
        starts[i] = -(half + shift) / extreme;
        starts[8 + i] = (half - 1.0F + shift) / extreme;
    }
    F inverse = f_load(starts);
    const F low = f_set(-half);
    const F high = f_set(half - 1.0F);
    F scale = f_zero();
    for (int pass = 0; pass < kPasses; ++pass) {
        F sum_xl = f_zero();
        F sum_ll = f_zero();
        for (int i = 0; i < count; ++i) {
            const F v = f_set(x[i]);
            const F code = f_round(f_clamp(f_mul(v, inverse), low, high));
            const F weighted = f_mul(f_set(w[i]), code);
            sum_xl = f_add(sum_xl, f_mul(weighted, v));
            sum_ll = f_add(sum_ll, f_mul(weighted, code));
        }
        scale = f_div(sum_xl, f_max(sum_ll, f_set(kTiny)));
        inverse = f_div(f_set(1.0F), scale);
    }
    return scale;
}

// The best of them by the error itself. What it is smaller than with zeros would not do: where an
// exact fit is possible, as for weights that were quantised before, rounding hides it among others
// that are near. `kHalf` rounds scales first to the float16 that they become.
template <bool kHalf>
static float fit_symmetric(const float* x, const float* w, int count, float half) {
    const F fits = fit_symmetric_lanes(x, w, count, half);
    const F scale = kHalf ? f_as_half(fits) : fits;
    const F inverse = f_div(f_set(1.0F), scale);
    F error = f_zero();
    for (int i = 0; i < count; ++i) {
        const F v = f_set(x[i]);
        const F code = f_round(f_clamp(f_mul(v, inverse), f_set(-half), f_set(half - 1.0F)));
        const F rest = f_sub(v, f_mul(scale, code));
        error = f_add(error, f_mul(f_set(w[i]), f_mul(rest, rest)));
    }
    return lane(scale, lowest_lane(error));
}

template <int kLevels>
static void encode_symmetric(const float* x, const float* importance, float mean_square,
                             uint8_t* out) {
    const float half = static_cast<float>(kLevels / 2);
    float w[32];
    weigh(x, importance, mean_square, 32, w);
    const float scale = fit_symmetric<true>(x, w, 32, half);
    float codes[32];
    uint8_t bytes[32];
    codes_of(x, 32, scale, 0.0F, -half, half - 1.0F, codes);
    to_bytes(codes, 32, half, bytes);
    write_half(out, scale);
    if (kLevels == 32) write_fifth_bits(bytes, out + 2);
    write_nibbles(bytes, out + (kLevels == 32 ? 6 : 2));
}

// A Q6_K block on its way: x = d * scales[j] * codes, j of 16 groups of 16.
struct Q6Block {
    float d;
    float scales[16];
    float codes[256];
    float error;
};

// Chooses each group's whole scale near `wanted[j]` by the true error, for a given d.
static void settle_q6(const float* x, const float* w, const float* wanted, Q6Block* block) {
    block->error = 0.0F;
    for (int j = 0; j < 16; ++j) {
        const float* xs = x + 16 * j;
        const float ratio = block->d != 0.0F ? wanted[j] / block->d : 0.0F;
        const F middle = f_round(f_clamp(f_set(ratio), f_set(-128.0F), f_set(127.0F)));
        const F whole =
            f_clamp(f_add(middle, ascending(-7.0F, 1.0F)), f_set(-128.0F), f_set(127.0F));
        const F scale = f_mul(f_set(block->d), whole);
        const F inverse = f_div(f_set(1.0F), scale);
        F error = f_zero();
        for (int i = 0; i < 16; ++i) {
            const F v = f_set(xs[i]);
            const F code = f_round(f_clamp(f_mul(v, inverse), f_set(-32.0F), f_set(31.0F)));
            const F rest = f_sub(v, f_mul(scale, code));
            error = f_add(error, f_mul(f_set(w[16 * j + i]), f_mul(rest, rest)));
        }
        const int best = lowest_lane(error);
        block->scales[j] = lane(whole, best);
        block->error += lane(error, best);
        codes_of(xs, 16, lane(scale, best), 0.0F, -32.0F, 31.0F, block->codes + 16 * j);
    }
}

// The best d for the block's scales and codes.
static float refit_q6(const float* x, const float* w, const Q6Block& block) {
    F sum_xa = f_zero();
    F sum_aa = f_zero();
    for (int j = 0; j < 16; ++j) {
        const F a = f_mul(f_set(block.scales[j]), f_load(block.codes + 16 * j));
        const F weighted = f_mul(f_load(w + 16 * j), a);
        sum_xa = f_add(sum_xa, f_mul(weighted, f_load(x + 16 * j)));
        sum_aa = f_add(sum_aa, f_mul(weighted, a));
    }
    const float all = f_sum(sum_aa);
    return all > kTiny ? f_sum(sum_xa) / all : block.d;
}

static void write_q6(const Q6Block& block, uint8_t* out) {
    uint8_t codes[256];
    to_bytes(block.codes, 256, 32.0F, codes);
    for (int half = 0; half < 2; ++half) {
        const uint8_t* c = codes + 128 * half;
        for (int l = 0; l < 32; ++l) {
            out[64 * half + l] = static_cast<uint8_t>((c[l] & 15) | (c[l + 64] & 15) << 4);
            out[64 * half + 32 + l] =
                static_cast<uint8_t>((c[l + 32] & 15) | (c[l + 96] & 15) << 4);
            out[128 + 32 * half + l] = static_cast<uint8_t>(
                c[l] >> 4 | c[l + 32] >> 4 << 2 | c[l + 64] >> 4 << 4 | c[l + 96] >> 4 << 6);
        }
    }
    for (int j = 0; j < 16; ++j)
        out[192 + j] = static_cast<uint8_t>(static_cast<int8_t>(block.scales[j]));
    write_half(out + 208, block.d);
}

static void encode_q6_k(const float* x, const float* importance, uint8_t* out) {
    float w[256];
    if (importance != nullptr) {
        for (int i = 0; i < 256; ++i) w[i] = importance[i];
    } else {
        weigh_alone(x, 256, w);
    }
    float wanted[16];
    for (int j = 0; j < 16; ++j)
        wanted[j] = fit_symmetric<false>(x + 16 * j, w + 16 * j, 16, 32.0F);
    Q6Block best;
    best.d = unit_as_half(extreme_of(wanted, 16) / -128.0F);
    settle_q6(x, w, wanted, &best);
    Q6Block next;
    next.d = unit_as_half(refit_q6(x, w, best));
    settle_q6(x, w, wanted, &next);
    write_q6(next.error < best.error ? next : best, out);
}
