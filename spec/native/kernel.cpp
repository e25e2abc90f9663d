// What Python calls: products with weights kept in 16 bits, and forwards of Llama-shaped models over few slots.

#include "layers.h"

extern "C" void widened_linear(const float* x, const void* w, const float* bias, float* y, int64_t rows, int64_t in, int64_t out, int64_t stride,
                               int is_bfloat, int threads) {
    multiply(x, Linear{w, bias, in, out, is_bfloat ? BFLOAT : HALF}, y, rows, stride, threads);
}

// Returns an Outcome; what `call` points to is complete after DONE alone.
extern "C" int64_t decoder_forward(const Model* model, const Call* call) { return forward(*model, *call); }
