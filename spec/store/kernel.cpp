// y = x W^T + bias, with x, bias and y in float32 and W [out, in] in float16 or bfloat16, each weight widened on its way into the sum.
//
// Widening is exact, so these are the products of the same weights in float32, for half of the memory's traffic. A tile multiplies some rows of x with
// some rows of W: a weight is widened once for all of these x. Each product is one sum over `in`, in the same order whatever the tile: what comes out
// for a row does not depend on the rows beside it, to the last bit.

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
#include <immintrin.h>
using Vec = __m512;
#define MANY
constexpr long LANES = 16, REGISTERS = 32;
inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec load(const float* at) { return _mm512_loadu_ps(at); }
inline Vec multiply_add(Vec a, Vec b, Vec sum) { return _mm512_fmadd_ps(a, b, sum); }
inline float total(Vec v) { return _mm512_reduce_add_ps(v); }
inline Vec half(const uint16_t* at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)at)); }
inline Vec bfloat(const uint16_t* at) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)at)), 16));
}
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
using Vec = __m256;
constexpr long LANES = 8, REGISTERS = 16;
inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec load(const float* at) { return _mm256_loadu_ps(at); }
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
#include <arm_neon.h>
using Vec = float32x4_t;
#define MANY
constexpr long LANES = 4, REGISTERS = 32;
inline Vec zero() { return vdupq_n_f32(0); }
inline Vec load(const float* at) { return vld1q_f32(at); }
inline Vec multiply_add(Vec a, Vec b, Vec sum) { return vfmaq_f32(sum, a, b); }
inline float total(Vec v) { return vaddvq_f32(v); }
inline Vec half(const uint16_t* at) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at))); }
inline Vec bfloat(const uint16_t* at) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(at), 16)); }
#else
#error "no kernel for this processor"
#endif

template <bool BFLOAT>
inline Vec widen(const uint16_t* at) {
    if constexpr (BFLOAT) return bfloat(at);
    return half(at);
}

// Sizes of a tile, so that its sums stay in registers. All these numbers of weight rows divide GROUP, which is what one thread does at a time.
constexpr int MOST_ROWS = REGISTERS == 32 ? 8 : 4;
constexpr int WEIGHT_ROWS[2][9] = {{0, 6, 4, 3, 2}, {0, 8, 8, 6, 4, 4, 4, 3, 3}};
constexpr long GROUP = 24;
constexpr long MUCH = 1 << 16;  // products above which threads pay

template <typename Number>
struct Padded {  // the last numbers of a row, and zeros
    Number numbers[LANES] = {};
    Padded(const Number* at, long count) { std::memcpy(numbers, at, count * sizeof(Number)); }
};

struct Shape {
    long rows, in, out, stride;  // stride: from one row of y to the next
};

template <bool BFLOAT, int ROWS, int WEIGHTS>
void tile(const float* x, const uint16_t* w, const float* bias, float* y, const Shape& shape) {
    Vec sums[WEIGHTS][ROWS], widened[WEIGHTS];
    for (int j = 0; j < WEIGHTS; ++j)
        for (int i = 0; i < ROWS; ++i) sums[j][i] = zero();
    const long whole = shape.in / LANES * LANES, rest = shape.in - whole;
    for (long k = 0; k < whole; k += LANES) {
        for (int j = 0; j < WEIGHTS; ++j) widened[j] = widen<BFLOAT>(w + j * shape.in + k);
        for (int i = 0; i < ROWS; ++i) {
            const Vec values = load(x + i * shape.in + k);
            for (int j = 0; j < WEIGHTS; ++j) sums[j][i] = multiply_add(widened[j], values, sums[j][i]);
        }
    }
    if (rest) {
        for (int j = 0; j < WEIGHTS; ++j) widened[j] = widen<BFLOAT>(Padded(w + j * shape.in + whole, rest).numbers);
        for (int i = 0; i < ROWS; ++i) {
            const Vec values = load(Padded(x + i * shape.in + whole, rest).numbers);
            for (int j = 0; j < WEIGHTS; ++j) sums[j][i] = multiply_add(widened[j], values, sums[j][i]);
        }
    }
    for (int j = 0; j < WEIGHTS; ++j)
        for (int i = 0; i < ROWS; ++i) y[i * shape.stride + j] = total(sums[j][i]) + (bias ? bias[j] : 0.0f);
}

// Some rows of x with `count` rows of W.
template <bool BFLOAT, int ROWS>
void tiles(const float* x, const uint16_t* w, const float* bias, float* y, const Shape& shape, long count) {
    constexpr int WIDE = WEIGHT_ROWS[REGISTERS == 32][ROWS];
    for (long j = 0; j < count;) {
        const bool whole = count - j >= WIDE;
        (whole ? tile<BFLOAT, ROWS, WIDE> : tile<BFLOAT, ROWS, 1>)(x, w + j * shape.in, bias ? bias + j : nullptr, y + j, shape);
        j += whole ? WIDE : 1;
    }
}

template <bool BFLOAT>
void product(const float* x, const uint16_t* w, const float* bias, float* y, const Shape& shape, int threads) {
    using Tiles = decltype(&tiles<BFLOAT, 1>);
    constexpr Tiles BY_ROWS[9] = {nullptr, tiles<BFLOAT, 1>, tiles<BFLOAT, 2>, tiles<BFLOAT, 3>, tiles<BFLOAT, 4>,
#if defined(MANY)
                                  tiles<BFLOAT, 5>, tiles<BFLOAT, 6>, tiles<BFLOAT, 7>, tiles<BFLOAT, 8>
#endif
    };
    const long blocks = (shape.rows + MOST_ROWS - 1) / MOST_ROWS, block = blocks ? (shape.rows + blocks - 1) / blocks : 0;
#pragma omp parallel for num_threads(threads) schedule(static) if (shape.rows * shape.in * shape.out > MUCH)
    for (long j = 0; j < shape.out; j += GROUP)
        for (long i = 0; i < shape.rows; i += block)
            BY_ROWS[std::min(block, shape.rows - i)](x + i * shape.in, w + j * shape.in, bias ? bias + j : nullptr, y + i * shape.stride + j, shape,
                                                     std::min(GROUP, shape.out - j));
}

}  // namespace

extern "C" void widened_linear(const float* x, const uint16_t* w, const float* bias, float* y, long rows, long in, long out, long stride, int bfloat,
                               int threads) {
    (bfloat ? product<true> : product<false>)(x, w, bias, y, Shape{rows, in, out, stride}, threads);
}
