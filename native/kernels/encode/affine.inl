// kernels/encode/affine.inl: formats of value = scale * code + minimum: Q4_K and Q5_K, and Q4_1 and
// Q5_1 when columns have an importance.

struct Affine {
    float scale;
    float minimum;
};

// Scales and minima, good ones in all lanes.
struct AffineLanes {
    F scale;
    F minimum;
    float sum_w;  // of the weights
};

// Scales and minima for codes 0 .. most with small weighted squared errors. `kBelowZero` says that
// the minimum must not be above zero. As fit_symmetric_lanes, with two unknowns.
template <bool kBelowZero>
static AffineLanes fit_affine_lanes(const float* x, const float* w, int count, float most) {
    constexpr int kPasses = 3;
    float low;
    float high;
    range_of(x, count, &low, &high);
    if (kBelowZero && low > 0.0F) low = 0.0F;
    if (!(high - low > kTiny)) return {f_zero(), f_set(low), 0.0F};
    float wx[32];
    multiply(w, x, count, wx);
    F parts_w = f_zero();
    F parts_x = f_zero();
    for (int i = 0; i < count; i += kLanes) {
        parts_w = f_add(parts_w, f_load(w + i));
        parts_x = f_add(parts_x, f_load(wx + i));
    }
    const F sum_w = f_set(f_sum(parts_w));
    const F sum_x = f_set(f_sum(parts_x));
    const F tiny = f_set(kTiny);
    const F top = f_set(most);
    F minimum = f_set(low);
    F inverse = f_div(f_add(top, ascending(-1.2F, 0.2F)), f_set(high - low));
    F scale = f_zero();
    for (int pass = 0; pass < kPasses; ++pass) {
        F sum_l = f_zero();
        F sum_ll = f_zero();
        F sum_xl = f_zero();
        for (int i = 0; i < count; ++i) {
            const F y = f_mul(f_sub(f_set(x[i]), minimum), inverse);
            const F code = f_round(f_clamp(y, f_zero(), top));
            const F weighted = f_mul(f_set(w[i]), code);
            sum_l = f_add(sum_l, weighted);
            sum_ll = f_add(sum_ll, f_mul(weighted, code));
            sum_xl = f_add(sum_xl, f_mul(f_set(wx[i]), code));
        }
        // The normal equations of two unknowns. If all codes are equal, their determinant is zero
        // but for rounding, and a minimum of zero is as good as any.
        const F product_wl = f_mul(sum_w, sum_ll);
        const F determinant = f_sub(product_wl, f_mul(sum_l, sum_l));
        const F numerator = f_sub(f_mul(sum_ll, sum_x), f_mul(sum_l, sum_xl));
        const F noise = f_max(f_mul(product_wl, f_set(1e-5F)), tiny);
        minimum = f_div(f_where_above(determinant, noise, numerator), f_max(determinant, noise));
        if (kBelowZero) minimum = f_min(minimum, f_zero());
        scale = f_div(f_sub(sum_xl, f_mul(minimum, sum_l)), f_max(sum_ll, tiny));
        inverse = f_div(f_set(1.0F), f_max(scale, tiny));
    }
    return {scale, minimum, lane(sum_w, 0)};
}

// The best of 32 values' scales and minima by the error itself. The gain would not do: where an
// exact fit is possible, as for weights that were quantised before, rounding hides it among others
// that are near. `kHalf` rounds them first to the float16 that they become; otherwise they will be
// one of 64 steps, and of equal fits, whose codes differ by one everywhere, that with the smaller
// minimum loses less by it.
template <bool kBelowZero, bool kHalf>
static Affine fit_affine(const float* x, const float* w, float most) {
    const AffineLanes fits = fit_affine_lanes<kBelowZero>(x, w, 32, most);
    const F scale = kHalf ? f_as_half(fits.scale) : fits.scale;
    const F minimum = kHalf ? f_as_half(fits.minimum) : fits.minimum;
    const F inverse = f_div(f_set(1.0F), f_max(scale, f_set(kTiny)));
    F error = f_zero();
    for (int i = 0; i < 32; ++i) {
        const F shifted = f_sub(f_set(x[i]), minimum);
        const F code = f_round(f_clamp(f_mul(shifted, inverse), f_zero(), f_set(most)));
        const F rest = f_sub(shifted, f_mul(scale, code));
        error = f_add(error, f_mul(f_set(w[i]), f_mul(rest, rest)));
    }
    if (!kHalf) {
        // The variance of rounding to such steps, if this minimum is the largest of its block.
        const F spread = f_set(fits.sum_w / (12.0F * 63.0F * 63.0F));
        error = f_add(error, f_mul(spread, f_mul(minimum, minimum)));
    }
    const int best = lowest_lane(error);
    return {lane(scale, best), lane(minimum, best)};
}

template <int kLevels>
static void encode_affine(const float* x, const float* importance, float mean_square,
                          uint8_t* out) {
    const float most = static_cast<float>(kLevels - 1);
    float w[32];
    weigh(x, importance, mean_square, 32, w);
    const Affine fit = fit_affine<false, true>(x, w, most);
    float codes[32];
    uint8_t bytes[32];
    codes_of(x, 32, fit.scale, fit.minimum, 0.0F, most, codes);
    to_bytes(codes, 32, 0.0F, bytes);
    write_half(out, fit.scale);
    write_half(out + 2, fit.minimum);
    if (kLevels == 32) write_fifth_bits(bytes, out + 4);
    write_nibbles(bytes, out + (kLevels == 32 ? 8 : 4));
}

// A Q4_K or Q5_K block on its way: x = d * scales[j] * codes - dmin * minima[j], j of 8 of 32.
struct KBlock {
    float d;
    float dmin;
    float scales[8];
    float minima[8];
    float codes[256];
    float error;
};

static inline float ratio_of(float value, float unit) {
    const float ratio = unit > kTiny ? value / unit : 0.0F;
    return ratio < 63.0F ? (ratio > 0.0F ? ratio : 0.0F) : 63.0F;
}

// Chooses each part's whole scale and minimum near the wanted ones by the true error: four of each,
// around the exact quotient, in sixteen lanes.
static void settle_k(const float* x, const float* w, const Affine* wanted, float most,
                     KBlock* block) {
    float scale_steps[kLanes];
    float minimum_steps[kLanes];
    for (int i = 0; i < kLanes; ++i) {
        scale_steps[i] = static_cast<float>(i % 4 - 1);
        minimum_steps[i] = static_cast<float>(i / 4 - 1);
    }
    const F top = f_set(most);
    const F zero = f_zero();
    const F largest = f_set(63.0F);
    block->error = 0.0F;
    for (int j = 0; j < 8; ++j) {
        const float* xs = x + 32 * j;
        const int whole_scale = static_cast<int>(ratio_of(wanted[j].scale, block->d));
        const int whole_minimum = static_cast<int>(ratio_of(-wanted[j].minimum, block->dmin));
        const F scales = f_clamp(f_add(f_set(static_cast<float>(whole_scale)), f_load(scale_steps)),
                                 zero, largest);
        const F minima = f_clamp(
            f_add(f_set(static_cast<float>(whole_minimum)), f_load(minimum_steps)), zero, largest);
        const F scale = f_mul(f_set(block->d), scales);
        const F minimum = f_mul(f_set(block->dmin), minima);
        const F inverse = f_div(f_set(1.0F), f_max(scale, f_set(kTiny)));
        F error = f_zero();
        for (int i = 0; i < 32; ++i) {
            const F shifted = f_add(f_set(xs[i]), minimum);
            const F code = f_round(f_clamp(f_mul(shifted, inverse), zero, top));
            const F rest = f_sub(shifted, f_mul(scale, code));
            error = f_add(error, f_mul(f_set(w[32 * j + i]), f_mul(rest, rest)));
        }
        const int best = lowest_lane(error);
        block->scales[j] = lane(scales, best);
        block->minima[j] = lane(minima, best);
        block->error += lane(error, best);
        codes_of(xs, 32, lane(scale, best), -lane(minimum, best), 0.0F, most,
                 block->codes + 32 * j);
    }
}

// The best d and dmin for the block's whole scales, minima and codes.
static Affine refit_k(const float* x, const float* w, const KBlock& block) {
    F aa = f_zero();
    F ab = f_zero();
    F bb = f_zero();
    F xa = f_zero();
    F xb = f_zero();
    for (int i = 0; i < 256; i += kLanes) {
        const F v = f_load(x + i);
        const F weight = f_load(w + i);
        const F a = f_mul(f_set(block.scales[i / 32]), f_load(block.codes + i));
        const F b = f_set(block.minima[i / 32]);
        const F wa = f_mul(weight, a);
        const F wb = f_mul(weight, b);
        aa = f_add(aa, f_mul(wa, a));
        ab = f_add(ab, f_mul(wa, b));
        bb = f_add(bb, f_mul(wb, b));
        xa = f_add(xa, f_mul(wa, v));
        xb = f_add(xb, f_mul(wb, v));
    }
    // x = d * a - dmin * b.
    const float saa = f_sum(aa);
    const float sab = f_sum(ab);
    const float sbb = f_sum(bb);
    const float sxa = f_sum(xa);
    const float sxb = f_sum(xb);
    const float determinant = saa * sbb - sab * sab;
    if (!(determinant > 1e-6F * saa * sbb)) {
        return {saa > kTiny ? (sxa + block.dmin * sab) / saa : block.d, block.dmin};
    }
    const float d = (sxa * sbb - sab * sxb) / determinant;
    const float dmin = (sab * sxa - saa * sxb) / determinant;
    return {d, dmin};
}

template <int kBits>
static void write_k(const KBlock& block, uint8_t* out) {
    uint8_t codes[256];
    uint8_t scales[8];
    uint8_t minima[8];
    to_bytes(block.codes, 256, 0.0F, codes);
    to_bytes(block.scales, 8, 0.0F, scales);
    to_bytes(block.minima, 8, 0.0F, minima);
    write_half(out, block.d);
    write_half(out + 2, block.dmin);
    pack_k_scales(scales, minima, out + 4);
    uint8_t* nibbles = out + (kBits == 5 ? 48 : 16);
    for (int pair = 0; pair < 4; ++pair) {
        const uint8_t* c = codes + 64 * pair;
        for (int i = 0; i < 32; ++i)
            nibbles[32 * pair + i] = static_cast<uint8_t>((c[i] & 15) | (c[i + 32] & 15) << 4);
    }
    if (kBits == 5) {
        for (int i = 0; i < 32; ++i) {
            int bits = 0;
            for (int j = 0; j < 8; ++j) bits |= (codes[32 * j + i] >> 4) << j;
            out[16 + i] = static_cast<uint8_t>(bits);
        }
    }
}

template <int kBits>
static void encode_k(const float* x, const float* importance, uint8_t* out) {
    constexpr int kRounds = 3;
    const float most = static_cast<float>((1 << kBits) - 1);
    float w[256];
    if (importance != nullptr) {
        weigh(x, importance, 2.0F * sum_of_squares(x, 256) / 256.0F, 256, w);
    } else {
        weigh_alone(x, 256, w);
    }
    Affine fits[8];
    float highest_scale = 0.0F;
    float highest_minimum = 0.0F;
    for (int j = 0; j < 8; ++j) {
        fits[j] = fit_affine<true, false>(x + 32 * j, w + 32 * j, most);
        if (fits[j].scale > highest_scale) highest_scale = fits[j].scale;
        if (-fits[j].minimum > highest_minimum) highest_minimum = -fits[j].minimum;
    }
    KBlock best;
    best.d = unit_as_half(highest_scale / 63.0F);
    best.dmin = unit_as_half(highest_minimum / 63.0F);
    settle_k(x, w, fits, most, &best);
    for (int round = 1; round < kRounds; ++round) {
        const Affine refitted = refit_k(x, w, best);
        KBlock next;
        next.d = unit_as_half(refitted.scale);
        next.dmin = unit_as_half(refitted.minimum);
        if (!(next.d >= 0.0F) || !(next.dmin >= 0.0F)) break;
        if (next.d == best.d && next.dmin == best.dmin) break;
        settle_k(x, w, fits, most, &next);
        if (!(next.error < best.error)) break;
        best = next;
    }
    write_k<kBits>(best, out);
}
