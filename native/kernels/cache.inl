// kernels/cache.inl: how keys and values are written into a cache block. The layouts are described
// at AttendTask in kernels.h.

// Values beyond the range of float16 are clamped to it: an infinity in the cache would reach rows
// that may not even look at it (zero times infinity is not zero).
static inline F cacheable(const float* x) {
    return f_min(f_max(f_load(x), f_set(-65504.0F)), f_set(65504.0F));
}

// The 32 codes of one scale's elements, and the scale as float16.
static void quantise_cached(const float* x, int8_t* codes, uint16_t* scale) {
    const F first = cacheable(x);
    const F second = cacheable(x + 16);
    const float highest = f_highest(f_max(f_abs(first), f_abs(second)));
    // A block of subnormal values would overflow the reciprocal; it counts as zero.
    const F inverse = f_set(highest > 1e-30F ? 127.0F / highest : 0.0F);
    i_store_i8(codes, i_round(f_mul(first, inverse)));
    i_store_i8(codes + 16, i_round(f_mul(second, inverse)));
    alignas(64) uint16_t halves[16];
    f_to_half(halves, f_set(highest / 127.0F));
    *scale = halves[0];
}

static void store_key(CacheType type, const float* key, int head_width, int token, uint8_t* block) {
    const size_t group = static_cast<size_t>(token / kKeyLanes);
    const size_t lane = static_cast<size_t>(token % kKeyLanes);
    const size_t width = static_cast<size_t>(head_width);
    uint8_t* part = block + group * cache_part_bytes(type, head_width) / 2;
    if (type == CacheType::F16) {
        alignas(64) uint16_t halves[kMaxHeadWidth];
        uint16_t* out = reinterpret_cast<uint16_t*>(part) + lane;
        for (size_t d = 0; d < width; d += 16) f_to_half(halves + d, cacheable(key + d));
        for (size_t d = 0; d < width; ++d) out[d * kKeyLanes] = halves[d];
        return;
    }
    uint16_t* scales = reinterpret_cast<uint16_t*>(part + width * kKeyLanes);
    for (size_t b = 0; b < width / kCacheScaleColumns; ++b) {
        int8_t codes[kCacheScaleColumns];
        quantise_cached(key + b * kCacheScaleColumns, codes, scales + b * kKeyLanes + lane);
        for (size_t four = 0; four < kCacheScaleColumns / 4; ++four) {
            uint32_t word;
            __builtin_memcpy(&word, codes + 4 * four, sizeof word);
            word ^= 0x80808080;  // code + 128, without a sign
            const size_t row = b * (kCacheScaleColumns / 4) + four;
            __builtin_memcpy(part + (row * kKeyLanes + lane) * 4, &word, sizeof word);
        }
    }
}

static void store_value(CacheType type, const float* value, int head_width, int token,
                        uint8_t* block) {
    const size_t width = static_cast<size_t>(head_width);
    uint8_t* part = block + cache_part_bytes(type, head_width);
    if (type == CacheType::F16) {
        uint16_t* out = reinterpret_cast<uint16_t*>(part) + static_cast<size_t>(token) * width;
        for (size_t d = 0; d < width; d += 16) f_to_half(out + d, cacheable(value + d));
        return;
    }
    int8_t* codes = reinterpret_cast<int8_t*>(part) + static_cast<size_t>(token) * width;
    uint16_t* scales = reinterpret_cast<uint16_t*>(part + width * kCacheBlockTokens);
    for (size_t b = 0; b < width / kCacheScaleColumns; ++b) {
        quantise_cached(value + b * kCacheScaleColumns, codes + b * kCacheScaleColumns,
                        scales + b * kCacheBlockTokens + static_cast<size_t>(token));
    }
}
