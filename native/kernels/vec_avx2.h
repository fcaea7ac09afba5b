// kernels/vec_avx2.h: sixteen lanes as two halves on AVX2 with FMA and F16C. The contract is in
// vec_scalar.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace nextn::avx2 {

struct F {
    __m256 a, b;
};
struct I {
    __m256i a, b;
};
struct B {
    __m256i a, b;
};

#define NEXTN_INLINE static inline __attribute__((always_inline))

NEXTN_INLINE F f_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
NEXTN_INLINE F f_set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
NEXTN_INLINE F f_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
NEXTN_INLINE void f_store(float* p, F x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
NEXTN_INLINE F f_add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
NEXTN_INLINE F f_sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
NEXTN_INLINE F f_mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
NEXTN_INLINE F f_div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
NEXTN_INLINE F f_max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
NEXTN_INLINE F f_min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
NEXTN_INLINE F f_abs(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
NEXTN_INLINE F f_sqrt(F x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
NEXTN_INLINE F f_where_above(F x, F y, F amount) {
    return {_mm256_and_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), amount.a),
            _mm256_and_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ), amount.b)};
}
NEXTN_INLINE F f_fma(F x, F y, F z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
NEXTN_INLINE float f_sum(F x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
NEXTN_INLINE float f_highest(F x) {
    const __m256 eight = _mm256_max_ps(x.a, x.b);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}
// Joins the lanes of eight vectors: lane i is that of x[i]. Each round halves the vectors.
template <class Join>
NEXTN_INLINE __m256i join_each(const __m256i* x, Join join) {
    __m256i quads[2];
    for (int q = 0; q < 2; ++q) {
        const __m256i* four = x + 4 * q;
        const __m256i first =
            join(_mm256_unpacklo_epi32(four[0], four[1]), _mm256_unpackhi_epi32(four[0], four[1]));
        const __m256i second =
            join(_mm256_unpacklo_epi32(four[2], four[3]), _mm256_unpackhi_epi32(four[2], four[3]));
        quads[q] = join(_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second));
    }
    return join(_mm256_permute2x128_si256(quads[0], quads[1], 0x20),
                _mm256_permute2x128_si256(quads[0], quads[1], 0x31));
}
NEXTN_INLINE __m256i higher_bits(__m256i a, __m256i b) { return _mm256_max_epi32(a, b); }
NEXTN_INLINE __m256 higher_eight(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(higher_bits(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
// Of floats that are not negative the bits are in order, too.
NEXTN_INLINE F f_higher(F x, F y) { return {higher_eight(x.a, y.a), higher_eight(x.b, y.b)}; }
NEXTN_INLINE F f_highest_of_each(const F* x) {
    __m256i bits[16];
    for (int i = 0; i < 16; ++i) bits[i] = _mm256_castps_si256(higher_eight(x[i].a, x[i].b));
    return {_mm256_castsi256_ps(join_each(bits, higher_bits)),
            _mm256_castsi256_ps(join_each(bits + 8, higher_bits))};
}
NEXTN_INLINE F f_sum_of_each(const F* x) {
    __m256i bits[16];
    for (int i = 0; i < 16; ++i) bits[i] = _mm256_castps_si256(_mm256_add_ps(x[i].a, x[i].b));
    const auto add = [](__m256i a, __m256i b) {
        return _mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
    };
    return {_mm256_castsi256_ps(join_each(bits, add)),
            _mm256_castsi256_ps(join_each(bits + 8, add))};
}

NEXTN_INLINE F f_from_half(const void* p) {
    const __m128i* halves = static_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
NEXTN_INLINE void f_to_half(void* p, F x) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    __m128i* halves = static_cast<__m128i*>(p);
    _mm_storeu_si128(halves, _mm256_cvtps_ph(x.a, kNearest));
    _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(x.b, kNearest));
}
NEXTN_INLINE F f_from_bfloat(const void* p) {
    const __m128i* halves = static_cast<const __m128i*>(p);
    const __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128(halves));
    const __m256i b = _mm256_cvtepu16_epi32(_mm_loadu_si128(halves + 1));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}
NEXTN_INLINE F f_from_u8(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}
NEXTN_INLINE F f_from_i8(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
NEXTN_INLINE F f_from_low_u4(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m128i low = _mm_and_si128(bytes, _mm_set1_epi8(15));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(low, 8)))};
}
NEXTN_INLINE F f_from_high_u4(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(high, 8)))};
}
// The same fields as in a half, whose exponent has one bit more and a bias of 15 instead of 7.
NEXTN_INLINE F f_half_of_e4m3(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m256i halves = _mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes), 7);
    const __m256 factor = _mm256_set1_ps(128.0F);
    return {_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), factor),
            _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)), factor)};
}
// For n < 2 the second number is the larger one: the bits of a subnormal.
NEXTN_INLINE __m256 eight_of_e8m0(__m128i bytes) {
    const __m256i n = _mm256_cvtepu8_epi32(bytes);
    const __m256i one = _mm256_set1_epi32(1);
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_slli_epi32(_mm256_sub_epi32(n, one), 23),
                                                _mm256_slli_epi32(_mm256_add_epi32(n, one), 21)));
}
NEXTN_INLINE F f_half_of_e8m0(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return {eight_of_e8m0(bytes), eight_of_e8m0(_mm_srli_si128(bytes, 8))};
}

NEXTN_INLINE I i_zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
NEXTN_INLINE I i_set(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
NEXTN_INLINE I i_add(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
NEXTN_INLINE F f_from_i(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
NEXTN_INLINE I i_round(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
NEXTN_INLINE int32_t i_sum(I x) {
    const __m256i eight = _mm256_add_epi32(x.a, x.b);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}
NEXTN_INLINE I i_sum_of_each(const I* x) {
    const auto add = [](__m256i a, __m256i b) { return _mm256_add_epi32(a, b); };
    __m256i values[16];
    for (int i = 0; i < 16; ++i) values[i] = add(x[i].a, x[i].b);
    return {join_each(values, add), join_each(values + 8, add)};
}
NEXTN_INLINE void i_store(int32_t* p, I x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
}
NEXTN_INLINE void i_store_i8(void* p, I x) {
    // Packing works within 128-bit lanes; the permutation puts the quarters back in order.
    __m256i words = _mm256_packs_epi32(x.a, x.b);
    words = _mm256_permute4x64_epi64(words, 0xD8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(static_cast<__m128i*>(p), bytes);
}
NEXTN_INLINE F f_power_of_two(I n) {
    const __m256i bias = _mm256_set1_epi32(127);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.a, bias), 23)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n.b, bias), 23))};
}

NEXTN_INLINE B b_load(const void* p) {
    const __m256i* halves = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
}
NEXTN_INLINE B b_low_nibbles(B x) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
NEXTN_INLINE B b_high_nibbles(B x) {
    return b_low_nibbles({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)});
}
template <int kShift, int kMask>
NEXTN_INLINE B b_extract(B plane) {
    const __m256i mask = _mm256_set1_epi8(static_cast<char>(kMask));
    return {_mm256_and_si256(_mm256_srli_epi16(plane.a, kShift), mask),
            _mm256_and_si256(_mm256_srli_epi16(plane.b, kShift), mask)};
}
NEXTN_INLINE B b_repeat(const uint8_t* sixteen) {
    const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen));
    return {_mm256_broadcastsi128_si256(table), _mm256_broadcastsi128_si256(table)};
}
NEXTN_INLINE B b_look_up(B table, B x) {
    return {_mm256_shuffle_epi8(table.a, x.a), _mm256_shuffle_epi8(table.b, x.b)};
}
template <int kShift, int kMask>
NEXTN_INLINE B b_insert(B base, B plane) {
    const __m256i mask = _mm256_set1_epi8(static_cast<char>(kMask));
    __m256i a, b;
    if constexpr (kShift >= 0) {
        a = _mm256_slli_epi16(plane.a, kShift);
        b = _mm256_slli_epi16(plane.b, kShift);
    } else {
        a = _mm256_srli_epi16(plane.a, -kShift);
        b = _mm256_srli_epi16(plane.b, -kShift);
    }
    return {_mm256_or_si256(base.a, _mm256_and_si256(a, mask)),
            _mm256_or_si256(base.b, _mm256_and_si256(b, mask))};
}

template <bool kWide>
NEXTN_INLINE __m256i dot4_half(__m256i sum, __m256i codes, __m256i four) {
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (kWide) {
        // Pairs of codes up to 255 would saturate 16 bits: even and odd columns go separately.
        const __m256i even = _mm256_set1_epi16(255);
        const __m256i low = _mm256_maddubs_epi16(_mm256_and_si256(codes, even), four);
        const __m256i high = _mm256_maddubs_epi16(_mm256_andnot_si256(even, codes), four);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low, ones));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(high, ones));
    }
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, four), ones));
}
template <bool kWide>
NEXTN_INLINE I dot4(I sum, B codes, const int8_t* four) {
    int32_t word;
    __builtin_memcpy(&word, four, sizeof word);
    const __m256i broadcast = _mm256_set1_epi32(word);
    return {dot4_half<kWide>(sum.a, codes.a, broadcast),
            dot4_half<kWide>(sum.b, codes.b, broadcast)};
}

NEXTN_INLINE void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}
// For what is read once: it takes no place in the larger caches.
NEXTN_INLINE void prefetch_passing(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_NTA);
}

#undef NEXTN_INLINE

}  // namespace nextn::avx2
