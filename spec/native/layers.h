// The forward of a Llama-shaped model over few slots: all of its decoder layers in one call, without an operator of torch between them.
//
// Every sum is taken in an order that does not depend on the slots and rows beside it, nor on how far the cache reaches behind what a slot sees. So the
// logits of a chain are, to the last bit, those of the same tokens one by one.

#pragma once
#include <cmath>
#include <cstdlib>
#include <limits>

#include "products.h"

namespace {

struct Norm {
    const float* weight;  // null: there is none
    double eps, offset;   // the offset is added to the weight
};

enum Gate : int64_t { SILU, GELU_TANH };

struct Layer {
    Norm before_attention, before_mlp, of_queries, of_keys;
    Linear qkv[3], out, gate_up[2], down;
    int64_t heads, groups;  // query heads, key heads
    double scale;           // of the scores
    Gate gate;
};

struct Model {
    const Layer* layers;
    int64_t num_layers, hidden, head_size;
    Norm last;
    Linear head, embedding;  // the embedding's rows are looked up: `out` of them
    double embedding_scale;
};

struct Slots {  // of one layer: [rows, key heads, capacity, head_size], the last two contiguous
    float *keys, *values;
    int64_t row_stride, head_stride;
};

struct Call {
    int64_t rows, slots, width, is_last_alone, num_places, token_stride, place_stride, mask_row_stride, mask_slot_stride, threads;
    const int64_t* tokens;     // [rows, slots]
    const float *cos, *sin;    // [num_places, head_size]; sin has the sign of the half that it is for
    const int64_t* places;     // [rows or 1, slots], into cos and sin
    const int64_t* starts;     // [rows]: where in the cache the first slot of a row is written
    const float* mask;         // [rows or 1, slots, width], additive; null: everything is seen
    const Slots* cache;        // by layer
    float *states, *logits;    // [rows, slots, hidden] after the last norm; [rows, slots or 1, vocabulary]
};

constexpr long BLOCK = 16;  // lanes of the sums below, whatever the processor

inline long blocks_of(long count) { return (count + BLOCK - 1) / BLOCK * BLOCK; }

// e^x within 2 units in the last place; 0 below -87, where float32 has hardly anything left. NaN stays NaN.
inline float exponential(float x) {
    const float bounded = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float twos = (bounded * 1.4426950408889634f + 12582912.0f) - 12582912.0f;  // rounded to a whole number
    const float rest = (bounded - twos * 0.693145751953125f) - twos * 1.428606820309417e-6f;
    float sum = 1.0f / 5040;
    sum = sum * rest + 1.0f / 720;
    sum = sum * rest + 1.0f / 120;
    sum = sum * rest + 1.0f / 24;
    sum = sum * rest + 1.0f / 6;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(twos) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : sum * power;
}

// The sum of value(0), ..., value(count - 1), in lanes; further zeros change nothing.
template <typename Value>
inline float sum_of(long count, Value value) {
    float lanes[BLOCK] = {};
    const long whole = count / BLOCK * BLOCK;
    for (long i = 0; i < whole; i += BLOCK)
        for (long lane = 0; lane < BLOCK; ++lane) lanes[lane] += value(i + lane);
    for (long i = whole; i < count; ++i) lanes[i - whole] += value(i);
    float sum = 0;
    for (float lane : lanes) sum += lane;
    return sum;
}

inline void normalize(const float* x, const Norm& norm, float* y, long count) {
    const float square = sum_of(count, [x](long i) { return x[i] * x[i]; });
    const float factor = 1.0f / std::sqrt(square / count + static_cast<float>(norm.eps)), offset = static_cast<float>(norm.offset);
    for (long i = 0; i < count; ++i) y[i] = x[i] * factor * (norm.weight[i] + offset);
}

// Turns a head's numbers by the angles of its place.
inline void turn(float* x, const float* cos, const float* sin, long size) {
    for (long i = 0, half = size / 2; i < half; ++i) {
        const float low = x[i], high = x[i + half];
        x[i] = low * cos[i] + high * sin[i];
        x[i + half] = high * cos[i + half] + low * sin[i + half];
    }
}

// The largest of some scores, in lanes; NaN is passed over here and comes back by its power.
inline float largest(const float* scores, long count) {
    float lanes[BLOCK], most = -std::numeric_limits<float>::infinity();
    for (float& lane : lanes) lane = most;
    const long whole = count / BLOCK * BLOCK;
    for (long i = 0; i < whole; i += BLOCK)
        for (long lane = 0; lane < BLOCK; ++lane) lanes[lane] = scores[i + lane] > lanes[lane] ? scores[i + lane] : lanes[lane];
    for (long i = whole; i < count; ++i) lanes[i - whole] = scores[i] > lanes[i - whole] ? scores[i] : lanes[i - whole];
    for (float lane : lanes) most = lane > most ? lane : most;
    return most;
}

// Scores to shares of one, over `width` of them; those behind, up to a whole block, become 0.
inline void softmax(float* scores, const float* mask, float scale, long width) {
    if (mask)
        for (long i = 0; i < width; ++i) scores[i] = scores[i] * scale + mask[i];
    else
        for (long i = 0; i < width; ++i) scores[i] = scores[i] * scale + 0.0f;
    const float most = largest(scores, width);
    for (long i = 0; i < width; ++i) scores[i] = exponential(scores[i] - most);
    for (long i = width; i < blocks_of(width); ++i) scores[i] = 0;
    const float factor = 1.0f / sum_of(blocks_of(width), [scores](long i) { return scores[i]; });
    for (long i = 0; i < width; ++i) scores[i] *= factor;
}

// Columns at, ..., at + CHUNKS * LANES - 1 of: y [ROWS, size] = shares [ROWS, stride] times values [width, size].
template <int ROWS, int CHUNKS>
void weigh_columns(const float* shares, long stride, const float* values, float* const* y, long width, long size, long at, long count) {
    Vec sums[ROWS][CHUNKS];
    UNROLLED
    for (int i = 0; i < ROWS; ++i) UNROLLED
        for (int j = 0; j < CHUNKS; ++j) sums[i][j] = zero();
    for (long k = 0; k < width; ++k) {
        const float* from = values + k * size + at;
        Vec value[CHUNKS];
        UNROLLED
        for (int j = 0; j < CHUNKS; ++j) value[j] = count >= LANES ? load(from + j * LANES) : load(Padded(from, count).numbers);
        UNROLLED
        for (int i = 0; i < ROWS; ++i) {
            const Vec share = all(shares[i * stride + k]);
            UNROLLED
            for (int j = 0; j < CHUNKS; ++j) sums[i][j] = multiply_add(share, value[j], sums[i][j]);
        }
    }
    for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < CHUNKS; ++j) {
            float made[LANES];
            store(made, sums[i][j]);
            std::memcpy(y[i] + at + j * LANES, made, std::min(LANES, count) * sizeof(float));
        }
}

template <int ROWS>
void weigh(const float* shares, long stride, const float* values, float* const* y, long width, long size) {
    for (long at = 0; at < size;) {
        const bool both = size - at >= 2 * LANES;
        (both ? weigh_columns<ROWS, 2> : weigh_columns<ROWS, 1>)(shares, stride, values, y, width, size, at, size - at);
        at += both ? 2 * LANES : LANES;
    }
}

// Memory that grows and is used again; what begins at a multiple of BLOCK is aligned for whole vectors, without which products take twice as long.
struct Scratch {
    float* memory = nullptr;
    long size = 0;
    ~Scratch() { std::free(memory); }
    float* of(long count) {  // null where there is none
        if (size < count) {
            std::free(memory);
            memory = static_cast<float*>(std::aligned_alloc(64, blocks_of(count) * sizeof(float)));
            size = memory ? count : 0;
        }
        return memory;
    }
};

// The attention of the query heads that share key head `group` of row `row`. qkv [rows, slots, packed] holds the turned queries first.
// False where there is no memory, as below.
bool attend(const Layer& layer, const Call& call, const Slots& cache, const float* qkv, float* seen, long packed, long size, long row, long group) {
    static thread_local Scratch scratch;
    const long folds = layer.heads / layer.groups, count = folds * call.slots, stride = blocks_of(call.width);
    float* queries = scratch.of(blocks_of(count * size) + count * stride);
    if (!queries) return false;
    float* scores = queries + blocks_of(count * size);
    const long offset = row * cache.row_stride + group * cache.head_stride;
    for (long fold = 0; fold < folds; ++fold)
        for (long slot = 0; slot < call.slots; ++slot)
            std::memcpy(queries + (fold * call.slots + slot) * size, qkv + (row * call.slots + slot) * packed + (group * folds + fold) * size,
                        size * sizeof(float));
    product<FULL>(queries, cache.keys + offset, nullptr, scores, Shape{count, size, call.width, stride}, 1);
    for (long i = 0; i < count; ++i) {
        const long slot = i % call.slots;
        const float* mask = call.mask ? call.mask + row * call.mask_row_stride + slot * call.mask_slot_stride : nullptr;
        softmax(scores + i * stride, mask, static_cast<float>(layer.scale), call.width);
    }
    constexpr long MANY_ROWS = 4;
    for (long i = 0; i < count; i += MANY_ROWS) {
        const long some = std::min(MANY_ROWS, count - i);
        float* into[MANY_ROWS];
        for (long j = 0; j < some; ++j) {
            const long fold = (i + j) / call.slots, slot = (i + j) % call.slots;
            into[j] = seen + ((row * call.slots + slot) * layer.heads + group * folds + fold) * size;
        }
        const float* shares = scores + i * stride;
        const float* values = cache.values + offset;
        if (some == 4) weigh<4>(shares, stride, values, into, call.width, size);
        if (some == 3) weigh<3>(shares, stride, values, into, call.width, size);
        if (some == 2) weigh<2>(shares, stride, values, into, call.width, size);
        if (some == 1) weigh<1>(shares, stride, values, into, call.width, size);
    }
    return true;
}

// Norms and turns the queries and keys of one slot, and writes its keys and values into the cache.
inline void place(const Layer& layer, const Call& call, const Slots& cache, float* packed, long size, long row, long slot) {
    const long at = call.places[row * call.place_stride + slot] * size;
    for (long head = 0; head < layer.heads + layer.groups; ++head) {
        const Norm& norm = head < layer.heads ? layer.of_queries : layer.of_keys;
        if (norm.weight) normalize(packed + head * size, norm, packed + head * size, size);
        turn(packed + head * size, call.cos + at, call.sin + at, size);
    }
    for (long group = 0; group < layer.groups; ++group) {
        const long into = row * cache.row_stride + group * cache.head_stride + (call.starts[row] + slot) * size;
        std::memcpy(cache.keys + into, packed + (layer.heads + group) * size, size * sizeof(float));
        std::memcpy(cache.values + into, packed + (layer.heads + layer.groups + group) * size, size * sizeof(float));
    }
}

inline void gated(const float* gate_up, float* y, long inner, Gate gate) {
    for (long i = 0; i < inner; ++i) {
        const float x = gate_up[i];
        const float steep = gate == SILU ? x : 1.5957691216057308f * (x + 0.044715f * x * x * x);
        y[i] = x / (1.0f + exponential(-steep)) * gate_up[inner + i];
    }
}

// Several layers' products with the same x beside each other.
inline void multiply_all(const float* x, const Linear* parts, int count, float* y, long rows, long stride, int threads) {
    for (int i = 0; i < count; ++i) {
        if (parts[i].out) multiply(x, parts[i], y, rows, stride, threads);
        y += parts[i].out;
    }
}

bool run_layer(const Layer& layer, const Call& call, const Slots& cache, float* x, float* memory, long hidden, long size) {
    const long num = call.rows * call.slots, packed = (layer.heads + 2 * layer.groups) * size, inner = layer.down.in;
    float* normed = memory;
    float* wide = normed + blocks_of(num * hidden);
    float* narrow = wide + blocks_of(num * std::max(packed, 2 * inner));
    for (long i = 0; i < num; ++i) normalize(x + i * hidden, layer.before_attention, normed + i * hidden, hidden);
    multiply_all(normed, layer.qkv, 3, wide, num, packed, call.threads);
    for (long i = 0; i < num; ++i) place(layer, call, cache, wide + i * packed, size, i / call.slots, i % call.slots);
    bool fits = true;
#pragma omp parallel for num_threads(call.threads) schedule(static) reduction(&& : fits) if (num * layer.heads * call.width * size > MUCH)
    for (long i = 0; i < call.rows * layer.groups; ++i)
        fits = attend(layer, call, cache, wide, narrow, packed, size, i / layer.groups, i % layer.groups) && fits;
    if (!fits) return false;
    multiply(narrow, layer.out, normed, num, hidden, call.threads);
    for (long i = 0; i < num * hidden; ++i) x[i] += normed[i];
    for (long i = 0; i < num; ++i) normalize(x + i * hidden, layer.before_mlp, normed + i * hidden, hidden);
    multiply_all(normed, layer.gate_up, 2, wide, num, 2 * inner, call.threads);
    for (long i = 0; i < num; ++i) gated(wide + i * 2 * inner, narrow + i * inner, inner, layer.gate);
    multiply(narrow, layer.down, normed, num, hidden, call.threads);
    for (long i = 0; i < num * hidden; ++i) x[i] += normed[i];
    return true;
}

template <Kind KIND>
void look_up(const Linear& table, long token, float scale, float* x) {
    const auto* row = static_cast<const typename Kept<KIND>::Number*>(table.weight) + token * table.in;
    float made[LANES];
    for (long i = 0; i < table.in; i += LANES) {
        const long count = std::min(LANES, table.in - i);
        store(made, count == LANES ? widen<KIND>(row + i) : widen<KIND>(Padded(row + i, count).numbers));
        for (long j = 0; j < count; ++j) x[i + j] = made[j] * scale;
    }
}

inline void embed(const Linear& table, long token, float scale, float* x) {
    if (table.kind == HALF) look_up<HALF>(table, token, scale, x);
    if (table.kind == BFLOAT) look_up<BFLOAT>(table, token, scale, x);
    if (table.kind == FULL) look_up<FULL>(table, token, scale, x);
}

enum Outcome : int64_t { DONE, NO_SUCH_PLACE, NO_SUCH_TOKEN, NO_MEMORY };

Outcome forward(const Model& model, const Call& call) {
    static thread_local Scratch scratch;
    const long num = call.rows * call.slots, hidden = model.hidden, size = model.head_size;
    for (long row = 0; row < call.rows; ++row)
        for (long slot = 0; slot < call.slots; ++slot) {
            const int64_t at = call.places[row * call.place_stride + slot];
            const int64_t token = call.tokens[row * call.token_stride + slot];
            if (at < 0 || at >= call.num_places) return NO_SUCH_PLACE;
            if (token < 0 || token >= model.embedding.out) return NO_SUCH_TOKEN;
        }
    long widest = 0;
    for (long i = 0; i < model.num_layers; ++i) {
        const Layer& layer = model.layers[i];
        const long packed = (layer.heads + 2 * layer.groups) * size, inner = layer.down.in;
        widest = std::max(widest, blocks_of(num * std::max(packed, 2 * inner)) + blocks_of(num * std::max(layer.heads * size, inner)));
    }
    float* x = scratch.of(2 * blocks_of(num * hidden) + widest);
    if (!x) return NO_MEMORY;
    float* memory = x + blocks_of(num * hidden);
    const float scale = static_cast<float>(model.embedding_scale);
    for (long i = 0; i < num; ++i) embed(model.embedding, call.tokens[i / call.slots * call.token_stride + i % call.slots], scale, x + i * hidden);
    for (long i = 0; i < model.num_layers; ++i)
        if (!run_layer(model.layers[i], call, call.cache[i], x, memory, hidden, size)) return NO_MEMORY;
    for (long i = 0; i < num; ++i) normalize(x + i * hidden, model.last, call.states + i * hidden, hidden);
    if (call.is_last_alone)
        for (long row = 0; row < call.rows; ++row) std::memcpy(x + row * hidden, call.states + ((row + 1) * call.slots - 1) * hidden, hidden * sizeof(float));
    const bool alone = call.is_last_alone;
    multiply(alone ? x : call.states, model.head, call.logits, alone ? call.rows : num, model.head.out, call.threads);
    return DONE;
}

}  // namespace
