// kernels/vec_scalar.h: sixteen lanes in portable C++; the contract of every vec_*.h.
//
//   F  sixteen float32          I  sixteen int32
//   B  sixty-four uint8, lane r of F and I belonging to bytes 4r .. 4r + 3
//
// A new instruction set is a new header with these functions; the kernels stay as they are.
#pragma once

#include <cstdint>
#include <cstring>

#include "formats/block_formats.h"

namespace nextn::scalar {

struct F {
    float v[16];
};
struct I {
    int32_t v[16];
};
struct B {
    uint8_t v[64];
};

template <class Result, class Function>
static inline Result lanes(Function function) {
    Result result;
    for (int i = 0; i < 16; ++i) result.v[i] = function(i);
    return result;
}

static inline F f_set(float x) {
    return lanes<F>([=](int) { return x; });
}
static inline F f_zero() { return f_set(0.0F); }
static inline F f_load(const float* p) {
    return lanes<F>([=](int i) { return p[i]; });
}
static inline void f_store(float* p, const F& x) { std::memcpy(p, x.v, sizeof x.v); }
static inline F f_add(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.v[i] + b.v[i]; });
}
static inline F f_sub(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.v[i] - b.v[i]; });
}
static inline F f_mul(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.v[i] * b.v[i]; });
}
static inline F f_div(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.v[i] / b.v[i]; });
}
static inline F f_max(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
static inline F f_min(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
static inline F f_abs(const F& a) {
    return lanes<F>([&](int i) { return __builtin_fabsf(a.v[i]); });
}
static inline F f_sqrt(const F& a) {
    return lanes<F>([&](int i) { return __builtin_sqrtf(a.v[i]); });
}
// `amount` where a > b, else 0.
static inline F f_where_above(const F& a, const F& b, const F& amount) {
    return lanes<F>([&](int i) { return a.v[i] > b.v[i] ? amount.v[i] : 0.0F; });
}
// a * b + c, here with two roundings.
static inline F f_fma(const F& a, const F& b, const F& c) {
    return lanes<F>([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
static inline float f_sum(const F& x) {
    float part[8];
    for (int i = 0; i < 8; ++i) part[i] = x.v[i] + x.v[i + 8];
    for (int i = 0; i < 4; ++i) part[i] += part[i + 4];
    return (part[0] + part[2]) + (part[1] + part[3]);
}
static inline float f_highest(const F& x) {
    float highest = x.v[0];
    for (int i = 1; i < 16; ++i) highest = x.v[i] > highest ? x.v[i] : highest;
    return highest;
}
// The higher ones of numbers that are not negative; NaN is higher than any.
static inline F f_higher(const F& a, const F& b) {
    return lanes<F>([&](int i) { return a.v[i] > b.v[i] || a.v[i] != a.v[i] ? a.v[i] : b.v[i]; });
}
// Lane i is the highest lane of x[i]; as f_higher.
static inline F f_highest_of_each(const F* x) {
    return lanes<F>([=](int i) {
        float highest = x[i].v[0];
        for (int k = 1; k < 16; ++k) {
            const float other = x[i].v[k];
            highest = other > highest || other != other ? other : highest;
        }
        return highest;
    });
}
// Lane i is the sum of the lanes of x[i].
static inline F f_sum_of_each(const F* x) {
    return lanes<F>([=](int i) { return f_sum(x[i]); });
}

static inline F f_from_half(const void* p) {
    uint16_t bits[16];
    std::memcpy(bits, p, sizeof bits);
    return lanes<F>([&](int i) { return half_to_float(bits[i]); });
}
static inline void f_to_half(void* p, const F& x) {
    uint16_t bits[16];
    for (int i = 0; i < 16; ++i) bits[i] = float_to_half(x.v[i]);
    std::memcpy(p, bits, sizeof bits);
}
static inline F f_from_bfloat(const void* p) {
    uint16_t bits[16];
    std::memcpy(bits, p, sizeof bits);
    F result;
    for (int i = 0; i < 16; ++i) {
        const uint32_t word = static_cast<uint32_t>(bits[i]) << 16;
        std::memcpy(&result.v[i], &word, sizeof word);
    }
    return result;
}
static inline F f_from_u8(const void* p) {
    const uint8_t* bytes = static_cast<const uint8_t*>(p);
    return lanes<F>([=](int i) { return static_cast<float>(bytes[i]); });
}
static inline F f_from_i8(const void* p) {
    const int8_t* bytes = static_cast<const int8_t*>(p);
    return lanes<F>([=](int i) { return static_cast<float>(bytes[i]); });
}
// The low and the high nibbles of sixteen bytes.
static inline F f_from_low_u4(const void* p) {
    const uint8_t* bytes = static_cast<const uint8_t*>(p);
    return lanes<F>([=](int i) { return static_cast<float>(bytes[i] & 15); });
}
static inline F f_from_high_u4(const void* p) {
    const uint8_t* bytes = static_cast<const uint8_t*>(p);
    return lanes<F>([=](int i) { return static_cast<float>(bytes[i] >> 4); });
}
// Half of sixteen 8-bit floats E4M3 (bias 7) without sign and NaN: bytes 0 to 126. Exact.
static inline F f_half_of_e4m3(const void* p) {
    const uint8_t* bytes = static_cast<const uint8_t*>(p);
    return lanes<F>([=](int i) { return half_of_e4m3(bytes[i]); });
}
// Half of 2^(n - 127), for sixteen bytes n from 0 to 254. Exact, subnormal ones too.
static inline F f_half_of_e8m0(const void* p) {
    const uint8_t* bytes = static_cast<const uint8_t*>(p);
    return lanes<F>([=](int i) { return half_of_e8m0(bytes[i]); });
}

static inline I i_set(int32_t x) {
    return lanes<I>([=](int) { return x; });
}
static inline I i_zero() { return i_set(0); }
static inline I i_add(const I& a, const I& b) {
    return lanes<I>([&](int i) { return a.v[i] + b.v[i]; });
}
static inline F f_from_i(const I& x) {
    return lanes<F>([&](int i) { return static_cast<float>(x.v[i]); });
}
// Rounds to the nearest integer, ties to even; |x| must be below 2^22.
static inline I i_round(const F& x) {
    return lanes<I>([&](int i) {
        const float shifted = x.v[i] + 12582912.0F;
        int32_t bits;
        std::memcpy(&bits, &shifted, sizeof bits);
        return bits - 0x4B400000;
    });
}
static inline int32_t i_sum(const I& x) {
    int32_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += x.v[i];
    return sum;
}
// Lane i is the sum of the lanes of x[i].
static inline I i_sum_of_each(const I* x) {
    return lanes<I>([=](int i) { return i_sum(x[i]); });
}
static inline void i_store(int32_t* p, const I& x) { std::memcpy(p, x.v, sizeof x.v); }
static inline void i_store_i8(void* p, const I& x) {
    int8_t* bytes = static_cast<int8_t*>(p);
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<int8_t>(x.v[i]);
}
// 2^n for -126 <= n <= 127.
static inline F f_power_of_two(const I& n) {
    F result;
    for (int i = 0; i < 16; ++i) {
        const int32_t bits = (n.v[i] + 127) * (1 << 23);
        std::memcpy(&result.v[i], &bits, sizeof bits);
    }
    return result;
}

static inline B b_load(const void* p) {
    B result;
    std::memcpy(result.v, p, sizeof result.v);
    return result;
}
static inline B b_low_nibbles(const B& x) {
    B result;
    for (int i = 0; i < 64; ++i) result.v[i] = x.v[i] & 15;
    return result;
}
static inline B b_high_nibbles(const B& x) {
    B result;
    for (int i = 0; i < 64; ++i) result.v[i] = x.v[i] >> 4;
    return result;
}
// (plane >> shift) & mask.
template <int kShift, int kMask>
static inline B b_extract(const B& plane) {
    B result;
    for (int i = 0; i < 64; ++i) result.v[i] = static_cast<uint8_t>(plane.v[i] >> kShift & kMask);
    return result;
}
// Four copies of 16 bytes.
static inline B b_repeat(const uint8_t* sixteen) {
    B result;
    for (int i = 0; i < 64; ++i) result.v[i] = sixteen[i % 16];
    return result;
}
// Looks bytes from 0 to 15 up in a repeated table.
static inline B b_look_up(const B& table, const B& x) {
    B result;
    for (int i = 0; i < 64; ++i) result.v[i] = table.v[x.v[i]];
    return result;
}
// base | ((plane << shift) & mask); a negative shift goes right.
template <int kShift, int kMask>
static inline B b_insert(const B& base, const B& plane) {
    B result;
    for (int i = 0; i < 64; ++i) {
        const int moved = kShift >= 0 ? plane.v[i] << (kShift & 7) : plane.v[i] >> (-kShift & 7);
        result.v[i] = static_cast<uint8_t>(base.v[i] | (moved & kMask));
    }
    return result;
}

// Adds to each lane the product of its four codes with the same four activations. `kWide` says
// that codes may exceed 127, which matters where pairs are summed in 16 bits.
template <bool kWide>
static inline I dot4(const I& sum, const B& codes, const int8_t* four) {
    I result = sum;
    for (int i = 0; i < 16; ++i) {
        for (int k = 0; k < 4; ++k) result.v[i] += codes.v[4 * i + k] * four[k];
    }
    return result;
}

static inline void prefetch(const void*) {}
static inline void prefetch_passing(const void*) {}

}  // namespace nextn::scalar
