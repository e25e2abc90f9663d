// What a processor computes with at once: some floats, by AVX-512, AVX2 or NEON.

#pragma once
#include <cstdint>
#include <cstring>

#if defined(__aarch64__)
#include <arm_neon.h>
#else
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
using Vec = __m512;
#define MANY
constexpr long LANES = 16, REGISTERS = 32;
inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec load(const float* at) { return _mm512_loadu_ps(at); }
inline void store(float* at, Vec v) { _mm512_storeu_ps(at, v); }
inline Vec all(float number) { return _mm512_set1_ps(number); }
inline Vec multiply_add(Vec a, Vec b, Vec sum) { return _mm512_fmadd_ps(a, b, sum); }
inline float total(Vec v) { return _mm512_reduce_add_ps(v); }
inline Vec half(const uint16_t* at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)at)); }
inline Vec bfloat(const uint16_t* at) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)at)), 16));
}
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
using Vec = __m256;
constexpr long LANES = 8, REGISTERS = 16;
inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec load(const float* at) { return _mm256_loadu_ps(at); }
inline void store(float* at, Vec v) { _mm256_storeu_ps(at, v); }
inline Vec all(float number) { return _mm256_set1_ps(number); }
inline Vec multiply_add(Vec a, Vec b, Vec sum) { return _mm256_fmadd_ps(a, b, sum); }
inline float total(Vec v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline Vec half(const uint16_t* at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)at)); }
inline Vec bfloat(const uint16_t* at) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)at)), 16));
}
#elif defined(__aarch64__)
using Vec = float32x4_t;
#define MANY
constexpr long LANES = 4, REGISTERS = 32;
inline Vec zero() { return vdupq_n_f32(0); }
inline Vec load(const float* at) { return vld1q_f32(at); }
inline void store(float* at, Vec v) { vst1q_f32(at, v); }
inline Vec all(float number) { return vdupq_n_f32(number); }
inline Vec multiply_add(Vec a, Vec b, Vec sum) { return vfmaq_f32(sum, a, b); }
inline float total(Vec v) { return vaddvq_f32(v); }
inline Vec half(const uint16_t* at) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at))); }
inline Vec bfloat(const uint16_t* at) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(at), 16)); }
#else
#error "no kernel for this processor"
#endif

// How weights are kept.
enum Kind : int64_t { HALF, BFLOAT, FULL };

template <Kind KIND>
struct Kept {
    using Number = uint16_t;
};
template <>
struct Kept<FULL> {
    using Number = float;
};

template <Kind KIND>
inline Vec widen(const typename Kept<KIND>::Number* at) {
    if constexpr (KIND == BFLOAT) return bfloat(at);
    else if constexpr (KIND == HALF) return half(at);
    else return load(at);
}

template <typename Number>
struct Padded {  // the last numbers of a row, and zeros
    Number numbers[LANES] = {};
    Padded(const Number* at, long count) { std::memcpy(numbers, at, count * sizeof(Number)); }
};

}  // namespace
