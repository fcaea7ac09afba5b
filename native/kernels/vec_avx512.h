// kernels/vec_avx512.h: sixteen lanes on AVX-512 with VNNI. The contract is in vec_scalar.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace nextn::avx512 {

struct F {
    __m512 v;
};
struct I {
    __m512i v;
};
struct B {
    __m512i v;
};

#define NEXTN_INLINE static inline __attribute__((always_inline))

NEXTN_INLINE F f_zero() { return {_mm512_setzero_ps()}; }
NEXTN_INLINE F f_set(float x) { return {_mm512_set1_ps(x)}; }
NEXTN_INLINE F f_load(const float* p) { return {_mm512_loadu_ps(p)}; }
NEXTN_INLINE void f_store(float* p, F x) { _mm512_storeu_ps(p, x.v); }
NEXTN_INLINE F f_add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
NEXTN_INLINE F f_sub(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
NEXTN_INLINE F f_mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
NEXTN_INLINE F f_div(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
NEXTN_INLINE F f_max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
NEXTN_INLINE F f_min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
NEXTN_INLINE F f_abs(F a) { return {_mm512_abs_ps(a.v)}; }
NEXTN_INLINE F f_sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
NEXTN_INLINE F f_where_above(F a, F b, F amount) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), amount.v)};
}
NEXTN_INLINE F f_fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
NEXTN_INLINE float f_sum(F x) { return _mm512_reduce_add_ps(x.v); }
NEXTN_INLINE float f_highest(F x) { return _mm512_reduce_max_ps(x.v); }
// Joins the lanes of sixteen vectors: lane i is that of x[i]. Each round halves the vectors.
template <class Join>
NEXTN_INLINE __m512i join_each(const __m512i* x, Join join) {
    __m512i quads[4];
    for (int q = 0; q < 4; ++q) {
        const __m512i* four = x + 4 * q;
        const __m512i first =
            join(_mm512_unpacklo_epi32(four[0], four[1]), _mm512_unpackhi_epi32(four[0], four[1]));
        const __m512i second =
            join(_mm512_unpacklo_epi32(four[2], four[3]), _mm512_unpackhi_epi32(four[2], four[3]));
        quads[q] = join(_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
    }
    const __m512i first = join(_mm512_shuffle_i32x4(quads[0], quads[1], 0x88),
                               _mm512_shuffle_i32x4(quads[0], quads[1], 0xDD));
    const __m512i second = join(_mm512_shuffle_i32x4(quads[2], quads[3], 0x88),
                                _mm512_shuffle_i32x4(quads[2], quads[3], 0xDD));
    return join(_mm512_shuffle_i32x4(first, second, 0x88),
                _mm512_shuffle_i32x4(first, second, 0xDD));
}
// Of floats that are not negative the bits are in order, too.
NEXTN_INLINE F f_higher(F a, F b) {
    return {
        _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
}
NEXTN_INLINE F f_highest_of_each(const F* x) {
    __m512i bits[16];
    for (int i = 0; i < 16; ++i) bits[i] = _mm512_castps_si512(x[i].v);
    return {_mm512_castsi512_ps(
        join_each(bits, [](__m512i a, __m512i b) { return _mm512_max_epi32(a, b); }))};
}
NEXTN_INLINE F f_sum_of_each(const F* x) {
    __m512i bits[16];
    for (int i = 0; i < 16; ++i) bits[i] = _mm512_castps_si512(x[i].v);
    return {_mm512_castsi512_ps(join_each(bits, [](__m512i a, __m512i b) {
        return _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
    }))};
}

NEXTN_INLINE F f_from_half(const void* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
NEXTN_INLINE void f_to_half(void* p, F x) {
    _mm256_storeu_si256(static_cast<__m256i*>(p),
                        _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
NEXTN_INLINE F f_from_bfloat(const void* p) {
    const __m256i half = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
NEXTN_INLINE F f_from_u8(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))};
}
NEXTN_INLINE F f_from_i8(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))};
}
NEXTN_INLINE F f_from_low_u4(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m512i words = _mm512_cvtepu8_epi32(bytes);
    return {_mm512_cvtepi32_ps(_mm512_and_si512(words, _mm512_set1_epi32(15)))};
}
NEXTN_INLINE F f_from_high_u4(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return {_mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_cvtepu8_epi32(bytes), 4))};
}
// The same fields as in a half, whose exponent has one bit more and a bias of 15 instead of 7.
NEXTN_INLINE F f_half_of_e4m3(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m256i halves = _mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes), 7);
    return {_mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(128.0F))};
}
// For n < 2 the second number is the larger one: the bits of a subnormal.
NEXTN_INLINE F f_half_of_e8m0(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m512i n = _mm512_cvtepu8_epi32(bytes);
    const __m512i one = _mm512_set1_epi32(1);
    return {_mm512_castsi512_ps(_mm512_max_epi32(_mm512_slli_epi32(_mm512_sub_epi32(n, one), 23),
                                                 _mm512_slli_epi32(_mm512_add_epi32(n, one), 21)))};
}

NEXTN_INLINE I i_zero() { return {_mm512_setzero_si512()}; }
NEXTN_INLINE I i_set(int32_t x) { return {_mm512_set1_epi32(x)}; }
NEXTN_INLINE I i_add(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
NEXTN_INLINE F f_from_i(I x) { return {_mm512_cvtepi32_ps(x.v)}; }
NEXTN_INLINE I i_round(F x) { return {_mm512_cvtps_epi32(x.v)}; }
NEXTN_INLINE int32_t i_sum(I x) { return _mm512_reduce_add_epi32(x.v); }
NEXTN_INLINE I i_sum_of_each(const I* x) {
    __m512i values[16];
    for (int i = 0; i < 16; ++i) values[i] = x[i].v;
    return {join_each(values, [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); })};
}
NEXTN_INLINE void i_store(int32_t* p, I x) { _mm512_storeu_si512(p, x.v); }
NEXTN_INLINE void i_store_i8(void* p, I x) {
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.v));
}
NEXTN_INLINE F f_power_of_two(I n) {
    return {
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n.v, _mm512_set1_epi32(127)), 23))};
}

NEXTN_INLINE B b_load(const void* p) { return {_mm512_loadu_si512(p)}; }
NEXTN_INLINE B b_low_nibbles(B x) { return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))}; }
NEXTN_INLINE B b_high_nibbles(B x) {
    return {_mm512_and_si512(_mm512_srli_epi16(x.v, 4), _mm512_set1_epi8(15))};
}
template <int kShift, int kMask>
NEXTN_INLINE B b_extract(B plane) {
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(kMask));
    return {_mm512_and_si512(_mm512_srli_epi16(plane.v, kShift), mask)};
}
NEXTN_INLINE B b_repeat(const uint8_t* sixteen) {
    const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen));
    return {_mm512_broadcast_i32x4(table)};
}
NEXTN_INLINE B b_look_up(B table, B x) { return {_mm512_shuffle_epi8(table.v, x.v)}; }
template <int kShift, int kMask>
NEXTN_INLINE B b_insert(B base, B plane) {
    __m512i moved;
    if constexpr (kShift >= 0) {
        moved = _mm512_slli_epi16(plane.v, kShift);
    } else {
        moved = _mm512_srli_epi16(plane.v, -kShift);
    }
    // base | (moved & mask)
    return {
        _mm512_ternarylogic_epi32(base.v, moved, _mm512_set1_epi8(static_cast<char>(kMask)), 0xF8)};
}

template <bool kWide>
NEXTN_INLINE I dot4(I sum, B codes, const int8_t* four) {
    int32_t word;
    __builtin_memcpy(&word, four, sizeof word);
    return {_mm512_dpbusd_epi32(sum.v, codes.v, _mm512_set1_epi32(word))};
}

NEXTN_INLINE void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}
// For what is read once: it takes no place in the larger caches.
NEXTN_INLINE void prefetch_passing(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_NTA);
}

#undef NEXTN_INLINE

}  // namespace nextn::avx512
