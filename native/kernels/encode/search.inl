// kernels/encode/search.inl: what the searches for scales share; included inside an instruction
// set's namespace.
//
// Sixteen lanes are sixteen candidates: each lane has its own scale, all lanes see the same value
// at the same time, and no sum crosses lanes. Products and sums are rounded one by one (no f_fma),
// so that every instruction set writes the same bytes.

constexpr int kLanes = 16;
constexpr int kMostBlock = 256;
constexpr float kTiny = 1e-30F;  // below it a divisor counts as zero
constexpr float kHuge = 3e38F;

// Rounds to the nearest integer, ties to even; |x| must be below 2^22.
static inline F f_round(const F& x) {
    const F magic = f_set(12582912.0F);
    return f_sub(f_add(x, magic), magic);
}

static inline F f_clamp(const F& x, const F& low, const F& high) {
    return f_min(f_max(x, low), high);
}

// first, first + step, ...
static inline F ascending(float first, float step) {
    float values[kLanes];
    for (int i = 0; i < kLanes; ++i) values[i] = first + step * static_cast<float>(i);
    return f_load(values);
}

static inline float lane(const F& x, int index) {
    float values[kLanes];
    f_store(values, x);
    return values[index];
}

// The lane with the lowest value; the first of equals. NaN is never the lowest.
static inline int lowest_lane(const F& x) {
    float values[kLanes];
    f_store(values, x);
    int best = 0;
    float lowest = kHuge;
    for (int i = 0; i < kLanes; ++i) {
        if (values[i] < lowest) {
            lowest = values[i];
            best = i;
        }
    }
    return best;
}

// Each lane rounded to a float16.
static inline F f_as_half(const F& x) {
    uint16_t halves[kLanes];
    f_to_half(halves, x);
    return f_from_half(halves);
}

static inline float rounded_to_half(float x) { return half_to_float(float_to_half(x)); }

// The float16 for the scale of scales. Subnormal ones have large steps: where the nearest is so
// much smaller that the largest whole scale could not reach what is wanted, the next larger one.
static inline float unit_as_half(float x) {
    const uint16_t bits = float_to_half(x);
    const float nearest = half_to_float(bits);
    const bool too_small = __builtin_fabsf(nearest) * (1.0F + 1.0F / 256.0F) < __builtin_fabsf(x);
    return too_small && (bits & 0x7C00) == 0 ? half_to_float(static_cast<uint16_t>(bits + 1))
                                             : nearest;
}

static inline void write_half(uint8_t* out, float x) {
    const uint16_t bits = float_to_half(x);
    __builtin_memcpy(out, &bits, sizeof bits);
}

static inline float sum_of_squares(const float* x, int count) {
    F sum = f_zero();
    for (int i = 0; i < count; i += kLanes) {
        const F v = f_load(x + i);
        sum = f_add(sum, f_mul(v, v));
    }
    return f_sum(sum);
}

// What an error of each value weighs. The importance of a column tells how large the activations
// are that it meets; the root lets large weights count for more, as they stand for outliers that a
// coarse scale would otherwise sacrifice.
static inline void weigh(const float* x, const float* importance, float mean_square, int count,
                         float* weights) {
    for (int i = 0; i < count; i += kLanes) {
        const F v = f_load(x + i);
        const F root = f_sqrt(f_add(f_set(mean_square), f_mul(v, v)));
        f_store(weights + i, f_mul(f_load(importance + i), root));
    }
}

// The same without importance: the typical size of 32 neighbours instead, plus the size itself.
static inline void weigh_alone(const float* x, int count, float* weights) {
    for (int i = 0; i < count; i += 32) {
        const F root = f_set(__builtin_sqrtf(sum_of_squares(x + i, 32) / 32.0F));
        f_store(weights + i, f_add(root, f_abs(f_load(x + i))));
        f_store(weights + i + 16, f_add(root, f_abs(f_load(x + i + 16))));
    }
}

static inline void multiply(const float* a, const float* b, int count, float* out) {
    for (int i = 0; i < count; i += kLanes) f_store(out + i, f_mul(f_load(a + i), f_load(b + i)));
}

// The first value with the largest magnitude, with its sign.
static inline float extreme_of(const float* x, int count) {
    float extreme = 0.0F;
    float highest = 0.0F;
    for (int i = 0; i < count; ++i) {
        const float magnitude = __builtin_fabsf(x[i]);
        if (magnitude > highest) {
            highest = magnitude;
            extreme = x[i];
        }
    }
    return extreme;
}

static inline void range_of(const float* x, int count, float* low, float* high) {
    F least = f_load(x);
    F most = least;
    for (int i = kLanes; i < count; i += kLanes) {
        least = f_min(least, f_load(x + i));
        most = f_max(most, f_load(x + i));
    }
    *low = -f_highest(f_sub(f_zero(), least));
    *high = f_highest(most);
    // Zero has two signs, which end up in the file: that of the first one.
    for (int i = 0; i < count && *low == 0.0F; ++i) {
        if (x[i] == 0.0F) {
            *low = x[i];
            break;
        }
    }
}

// Codes of `count` values: round((x - minimum) / scale), from `low` to `high`.
static inline void codes_of(const float* x, int count, float scale, float minimum, float low,
                            float high, float* codes) {
    const F inverse = f_set(__builtin_fabsf(scale) > kTiny ? 1.0F / scale : 0.0F);
    for (int i = 0; i < count; i += kLanes) {
        const F y = f_mul(f_sub(f_load(x + i), f_set(minimum)), inverse);
        f_store(codes + i, f_round(f_clamp(y, f_set(low), f_set(high))));
    }
}

// 32 codes as nibbles: byte i holds code i and code i + 16.
static inline void write_nibbles(const uint8_t* codes, uint8_t* out) {
    for (int i = 0; i < 16; ++i)
        out[i] = static_cast<uint8_t>((codes[i] & 15) | (codes[i + 16] & 15) << 4);
}

// The fifth bits of 32 codes.
static inline void write_fifth_bits(const uint8_t* codes, uint8_t* out) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; ++i) bits |= static_cast<uint32_t>(codes[i] >> 4 & 1) << i;
    __builtin_memcpy(out, &bits, sizeof bits);
}

// Codes that are whole floats, plus an offset, as bytes.
static inline void to_bytes(const float* codes, int count, float offset, uint8_t* out) {
    for (int i = 0; i < count; ++i) out[i] = static_cast<uint8_t>(codes[i] + offset);
}
