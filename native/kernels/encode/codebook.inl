// kernels/encode/codebook.inl: formats whose codes stand for uneven values: IQ4_NL, and the 4-bit
// floats of MXFP4 and NVFP4. Importance weighs errors in all of them.

// The nearest of the sixteen values of kIq4Values.
static inline F nearest_iq4(const F& y) {
    F value = f_set(static_cast<float>(kIq4Values[0]));
    for (int k = 0; k < 15; ++k) {
        const float low = static_cast<float>(kIq4Values[k]);
        const float high = static_cast<float>(kIq4Values[k + 1]);
        value = f_add(value, f_where_above(y, f_set(0.5F * (low + high)), f_set(high - low)));
    }
    return value;
}

// Twice the nearest 4-bit float of a magnitude, given twice the magnitude: whole up to 4, then 6, 8
// and 12.
static inline F nearest_fp4(const F& y) {
    F value = f_round(f_min(y, f_set(4.0F)));
    value = f_add(value, f_where_above(y, f_set(5.0F), f_set(2.0F)));
    value = f_add(value, f_where_above(y, f_set(7.0F), f_set(2.0F)));
    return f_add(value, f_where_above(y, f_set(10.0F), f_set(4.0F)));
}

// The scale for IQ4_NL; see fit_symmetric.
static float best_half_iq4(const float* x, const float* w) {
    constexpr int kPasses = 3;
    const float extreme = extreme_of(x, 32);
    if (!(__builtin_fabsf(extreme) > kTiny)) return 0.0F;
    float starts[kLanes];
    for (int i = 0; i < 8; ++i) {
        const float shift = 4.0F * static_cast<float>(i) - 12.0F;
        starts[i] = (static_cast<float>(kIq4Values[0]) - shift) / extreme;
        starts[8 + i] = (static_cast<float>(kIq4Values[15]) + shift) / extreme;
    }
    F inverse = f_load(starts);
    F scale = f_zero();
    for (int pass = 0; pass < kPasses; ++pass) {
        F sum_xl = f_zero();
        F sum_ll = f_zero();
        for (int i = 0; i < 32; ++i) {
            const F v = f_set(x[i]);
            const F value = nearest_iq4(f_mul(v, inverse));
            const F weighted = f_mul(f_set(w[i]), value);
            sum_xl = f_add(sum_xl, f_mul(weighted, v));
            sum_ll = f_add(sum_ll, f_mul(weighted, value));
        }
        scale = f_div(sum_xl, f_max(sum_ll, f_set(kTiny)));
        inverse = f_div(f_set(1.0F), scale);
    }
    scale = f_as_half(scale);
    inverse = f_div(f_set(1.0F), scale);
    F error = f_zero();
    for (int i = 0; i < 32; ++i) {
        const F v = f_set(x[i]);
        const F rest = f_sub(v, f_mul(scale, nearest_iq4(f_mul(v, inverse))));
        error = f_add(error, f_mul(f_set(w[i]), f_mul(rest, rest)));
    }
    return lane(scale, lowest_lane(error));
}

static void encode_iq4_nl(const float* x, const float* importance, float mean_square,
                          uint8_t* out) {
    float w[32];
    if (importance != nullptr) {
        weigh(x, importance, mean_square, 32, w);
    } else {
        weigh_alone(x, 32, w);
    }
    const float d = best_half_iq4(x, w);
    const float inverse = __builtin_fabsf(d) > kTiny ? 1.0F / d : 0.0F;
    int codes[32] = {};
    for (int k = 0; k < 15; ++k) {
        const float middle = 0.5F * static_cast<float>(kIq4Values[k] + kIq4Values[k + 1]);
        for (int i = 0; i < 32; ++i) codes[i] += x[i] * inverse > middle ? 1 : 0;
    }
    uint8_t bytes[32];
    for (int i = 0; i < 32; ++i) bytes[i] = static_cast<uint8_t>(codes[i]);
    write_half(out, d);
    write_nibbles(bytes, out + 2);
}

// The weighted squared error of `count` 4-bit floats, for each lane's scale; what a scale stands
// for is half of what multiplies the doubled values.
static inline F fp4_errors(const float* x, const float* w, int count, const F& scale) {
    const F inverse = f_div(f_set(1.0F), f_max(scale, f_set(kTiny)));
    F error = f_zero();
    for (int i = 0; i < count; ++i) {
        const F magnitude = f_set(__builtin_fabsf(x[i]));
        const F rest = f_sub(magnitude, f_mul(scale, nearest_fp4(f_mul(magnitude, inverse))));
        error = f_add(error, f_mul(f_set(w[i]), f_mul(rest, rest)));
    }
    return error;
}

// The codes of `count` values for a scale. What is nearest to zero has no sign.
static inline void fp4_codes(const float* x, int count, float scale, uint8_t* codes) {
    const float inverse = scale > kTiny ? 1.0F / scale : 0.0F;
    for (int i = 0; i < count; ++i) {
        const float y = __builtin_fabsf(x[i]) * inverse;
        int code = 0;
        for (int k = 0; k < 7; ++k) {
            const float middle = 0.5F * static_cast<float>(kFp4Values[k] + kFp4Values[k + 1]);
            code += y > middle ? 1 : 0;
        }
        codes[i] = static_cast<uint8_t>(x[i] < 0.0F && code != 0 ? code | 8 : code);
    }
}

static inline const float* or_ones(const float* importance) {
    static const float ones[64] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                   1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                   1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    return importance != nullptr ? importance : ones;
}

// The weighted squared error of 32 values with one scale: here the lanes are values.
static inline float mxfp4_error(const float* x, const float* w, float scale) {
    const F factor = f_set(scale);
    const F inverse = f_set(1.0F / scale);
    F error = f_zero();
    for (int i = 0; i < 32; i += kLanes) {
        const F magnitude = f_abs(f_load(x + i));
        const F rest = f_sub(magnitude, f_mul(factor, nearest_fp4(f_mul(magnitude, inverse))));
        error = f_add(error, f_mul(f_load(w + i), f_mul(rest, rest)));
    }
    return f_sum(error);
}

// Powers of two around the one that lets the largest magnitude reach the largest codes; a smaller
// one cuts it off, which is often better.
static void encode_mxfp4(const float* x, const float* importance, uint8_t* out) {
    const float* w = or_ones(importance);
    const float highest = f_highest(f_max(f_abs(f_load(x)), f_abs(f_load(x + 16))));
    uint32_t bits;
    __builtin_memcpy(&bits, &highest, sizeof bits);
    // 4 * 2^(byte - 127) is the power of two below the largest magnitude.
    const int middle = static_cast<int>(bits >> 23) - 2;
    int best = 0;
    float lowest = kHuge;
    const int powers[3] = {middle, middle + 1, middle - 1};
    for (const int power : powers) {
        // Reciprocals of the smallest and largest powers are subnormal or infinite.
        if (power < 2 || power >= kFirstBadPower) continue;
        const float error = mxfp4_error(x, w, half_of_e8m0(static_cast<uint8_t>(power)));
        if (error < lowest) {
            lowest = error;
            best = power;
        }
    }
    out[0] = static_cast<uint8_t>(best);
    uint8_t codes[32];
    fp4_codes(x, 32, best == 0 ? 0.0F : half_of_e8m0(static_cast<uint8_t>(best)), codes);
    write_nibbles(codes, out + 1);
}

// Sixteen neighbouring scales, from what puts the largest magnitude at the largest code downwards
// (cutting it off) and upwards (putting it at a smaller code).
static void encode_nvfp4(const float* x, const float* importance, uint8_t* out) {
    const float* w = or_ones(importance);
    for (int part = 0; part < 4; ++part) {
        const float* xs = x + 16 * part;
        const float wanted = __builtin_fabsf(extreme_of(xs, 16)) / 12.0F;
        int middle = 1;
        while (middle < 126 && half_of_e4m3(static_cast<uint8_t>(middle)) < wanted) ++middle;
        int bytes[kLanes];
        float scales[kLanes];
        for (int i = 0; i < kLanes; ++i) {
            const int byte = middle + i - 8;
            bytes[i] = byte < 1 ? 1 : (byte < 126 ? byte : 126);
            scales[i] = half_of_e4m3(static_cast<uint8_t>(bytes[i]));
        }
        const int best = lowest_lane(fp4_errors(xs, w + 16 * part, 16, f_load(scales)));
        uint8_t codes[16];
        fp4_codes(xs, 16, scales[best], codes);
        out[part] = static_cast<uint8_t>(wanted > 0.0F ? bytes[best] : 0);
        for (int i = 0; i < 8; ++i)
            out[4 + 8 * part + i] = static_cast<uint8_t>(codes[i] | codes[i + 8] << 4);
    }
}
