// kernels/encode/plain.inl: formats whose scale follows from the extremes of a block, as the
// formats' own definition has it, and plain floats.

static void encode_q8_0(const float* x, uint8_t* out) {
    F highest = f_max(f_abs(f_load(x)), f_abs(f_load(x + 16)));
    const float scale = f_highest(highest) / 127.0F;
    const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
    write_half(out, scale);
    for (int i = 0; i < 32; ++i) {
        // To the nearest, halves away from zero.
        const float y = x[i] * inverse;
        const float magnitude = __builtin_fabsf(y);
        const int whole = static_cast<int>(magnitude);
        const int code = whole + (magnitude - static_cast<float>(whole) >= 0.5F ? 1 : 0);
        out[2 + i] = static_cast<uint8_t>(y < 0.0F ? -code : code);
    }
}

// Codes 0 .. most of x * inverse + shift, which is not negative, cut to whole numbers.
static inline void cut(const float* x, float minimum, float inverse, float shift, int most,
                       uint8_t* codes) {
    for (int i = 0; i < 32; ++i) {
        const int code = static_cast<int>((x[i] - minimum) * inverse + shift);
        codes[i] = static_cast<uint8_t>(code < most ? code : most);
    }
}

static inline float inverse_of(float scale) {
    const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
    return __builtin_fabsf(inverse) < kHuge ? inverse : 0.0F;
}

// Q4_0 and Q5_0: the extreme is code 0, which stands for -8 or -16.
template <int kLevels>
static void encode_from_extreme(const float* x, uint8_t* out) {
    const float half = static_cast<float>(kLevels / 2);
    const float scale = extreme_of(x, 32) / -half;
    uint8_t codes[32];
    cut(x, 0.0F, inverse_of(scale), half + 0.5F, kLevels - 1, codes);
    write_half(out, scale);
    if (kLevels == 32) write_fifth_bits(codes, out + 2);
    write_nibbles(codes, out + (kLevels == 32 ? 6 : 2));
}

// Q4_1 and Q5_1: from the lowest to the highest.
template <int kLevels>
static void encode_from_range(const float* x, uint8_t* out) {
    float low;
    float high;
    range_of(x, 32, &low, &high);
    const float scale = (high - low) / static_cast<float>(kLevels - 1);
    uint8_t codes[32];
    cut(x, low, inverse_of(scale), 0.5F, kLevels - 1, codes);
    write_half(out, scale);
    write_half(out + 2, low);
    if (kLevels == 32) write_fifth_bits(codes, out + 4);
    write_nibbles(codes, out + (kLevels == 32 ? 8 : 4));
}

static void encode_f16(const float* x, int64_t columns, uint8_t* out) {
    int64_t i = 0;
    for (; i + kLanes <= columns; i += kLanes) f_to_half(out + 2 * i, f_load(x + i));
    for (; i < columns; ++i) write_half(out + 2 * i, x[i]);
}

// The upper half of a float32, rounded to the nearest, ties to even. NaN stays NaN.
static void encode_bf16(const float* x, int64_t columns, uint8_t* out) {
    for (int64_t i = 0; i < columns; ++i) {
        uint32_t bits;
        __builtin_memcpy(&bits, x + i, sizeof bits);
        const uint32_t quiet = (bits & 0xFFFF0000U) | 0x400000U;
        const uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);
        const uint32_t word = (bits & 0x7FFFFFFF) > 0x7F800000 ? quiet : rounded;
        const uint16_t upper = static_cast<uint16_t>(word >> 16);
        __builtin_memcpy(out + 2 * i, &upper, sizeof upper);
    }
}
