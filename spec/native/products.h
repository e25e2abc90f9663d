// y = x W^T + bias, with x, bias and y in float32 and W [out, in] in float16, bfloat16 or float32, each weight widened on its way into the sum.
//
// Widening is exact, so these are the products of the same weights in float32, for half of the memory's traffic. A tile multiplies some rows of x with
// some rows of W: a weight is widened once for all of these x. Each product is one sum over `in`, in the same order whatever the tile: what comes out
// for a row does not depend on the rows beside it, to the last bit.

#pragma once
#include <algorithm>

#include "vectors.h"

namespace {

// Sizes of a tile, so that its sums stay in registers. All these numbers of weight rows divide GROUP, which is what one thread does at a time.
constexpr int MOST_ROWS = REGISTERS == 32 ? 6 : 4;
constexpr int WEIGHT_ROWS[2][7] = {{0, 6, 4, 3, 2}, {0, 8, 8, 6, 6, 4, 4}};
constexpr long GROUP = 24;
constexpr long MUCH = 1 << 16;  // products above which threads pay

// Without it sums are kept in memory.
#define UNROLLED _Pragma("GCC unroll 16")

struct Shape {
    long rows, in, out, stride;  // stride: from one row of y to the next
};

template <Kind KIND, int ROWS, int WEIGHTS>
void tile(const float* x, const typename Kept<KIND>::Number* w, const float* bias, float* y, const Shape& shape) {
    Vec sums[WEIGHTS][ROWS], widened[WEIGHTS];
UNROLLED
    for (int j = 0; j < WEIGHTS; ++j)
UNROLLED
        for (int i = 0; i < ROWS; ++i) sums[j][i] = zero();
    const long whole = shape.in / LANES * LANES, rest = shape.in - whole;
    for (long k = 0; k < whole; k += LANES) {
UNROLLED
        for (int j = 0; j < WEIGHTS; ++j) widened[j] = widen<KIND>(w + j * shape.in + k);
UNROLLED
        for (int i = 0; i < ROWS; ++i) {
            const Vec values = load(x + i * shape.in + k);
UNROLLED
            for (int j = 0; j < WEIGHTS; ++j) sums[j][i] = multiply_add(widened[j], values, sums[j][i]);
        }
    }
    if (rest) {
UNROLLED
        for (int j = 0; j < WEIGHTS; ++j) widened[j] = widen<KIND>(Padded(w + j * shape.in + whole, rest).numbers);
UNROLLED
        for (int i = 0; i < ROWS; ++i) {
            const Vec values = load(Padded(x + i * shape.in + whole, rest).numbers);
UNROLLED
            for (int j = 0; j < WEIGHTS; ++j) sums[j][i] = multiply_add(widened[j], values, sums[j][i]);
        }
    }
UNROLLED
    for (int j = 0; j < WEIGHTS; ++j)
UNROLLED
        for (int i = 0; i < ROWS; ++i) y[i * shape.stride + j] = total(sums[j][i]) + (bias ? bias[j] : 0.0f);
}

// Some rows of x with `count` rows of W.
template <Kind KIND, int ROWS>
void tiles(const float* x, const typename Kept<KIND>::Number* w, const float* bias, float* y, const Shape& shape, long count) {
    constexpr int WIDE = WEIGHT_ROWS[REGISTERS == 32][ROWS];
    for (long j = 0; j < count;) {
        const bool whole = count - j >= WIDE;
        (whole ? tile<KIND, ROWS, WIDE> : tile<KIND, ROWS, 1>)(x, w + j * shape.in, bias ? bias + j : nullptr, y + j, shape);
        j += whole ? WIDE : 1;
    }
}

template <Kind KIND>
void product(const float* x, const typename Kept<KIND>::Number* w, const float* bias, float* y, const Shape& shape, int threads) {
    using Tiles = decltype(&tiles<KIND, 1>);
    constexpr Tiles BY_ROWS[7] = {nullptr, tiles<KIND, 1>, tiles<KIND, 2>, tiles<KIND, 3>, tiles<KIND, 4>,
#if defined(MANY)
                                  tiles<KIND, 5>, tiles<KIND, 6>
#endif
    };
    const long blocks = (shape.rows + MOST_ROWS - 1) / MOST_ROWS, block = blocks ? (shape.rows + blocks - 1) / blocks : 0;
#pragma omp parallel for num_threads(threads) schedule(static) if (shape.rows * shape.in * shape.out > MUCH)
    for (long j = 0; j < shape.out; j += GROUP)
        for (long i = 0; i < shape.rows; i += block)
            BY_ROWS[std::min(block, shape.rows - i)](x + i * shape.in, w + j * shape.in, bias ? bias + j : nullptr, y + i * shape.stride + j, shape,
                                                     std::min(GROUP, shape.out - j));
}

// A linear layer; `out` is 0 where there is none.
struct Linear {
    const void* weight;  // [out, in], contiguous
    const float* bias;   // [out], or null
    int64_t in, out;
    Kind kind;
};

inline void multiply(const float* x, const Linear& part, float* y, long rows, long stride, int threads) {
    const Shape shape{rows, part.in, part.out, stride};
    if (part.kind == HALF) product<HALF>(x, static_cast<const uint16_t*>(part.weight), part.bias, y, shape, threads);
    if (part.kind == BFLOAT) product<BFLOAT>(x, static_cast<const uint16_t*>(part.weight), part.bias, y, shape, threads);
    if (part.kind == FULL) product<FULL>(x, static_cast<const float*>(part.weight), part.bias, y, shape, threads);
}

}  // namespace

