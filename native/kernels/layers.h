/* SPDX-License-Identifier: Apache-2.0
 *
 * layers.h: what a level provides for the ops between products: rmsnorm, softmax, activate, update. The comment of each entry IS the loop that it must
 * equal, bit for bit; layers_ref.c is that loop in plain C. The other levels are lanes.h over the few vector operations of layers_*.c. No product is fused
 * into a sum, so every level has these. exp32 is Exp32 of internal/canon/exp.go; max(x, 0) is x > 0 ? x : +0. */
#ifndef SETUN_LAYERS_H
#define SETUN_LAYERS_H

#include <setun/backend.h>

#include <stddef.h>

enum { SETUN_TOGETHER = 8 };

typedef struct setun_layers {
    /* out[i] = x[i] + y[i]; out may be x or y. */
    void (*add)(float *out, const float *x, const float *y, size_t n);
    /* out[i] = x[i] * r * gain[i]; gain null: x[i] * r. out may be x. */
    void (*normalise)(float *out, const float *x, const float *gain, size_t n, float r);
    /* A chunk of at most SETUN_CHUNK values: t = dy[i] * (x[i] * r); part[i] += t; float64 lane[i % 32] += t * gain[i], then the fold. */
    double (*norm_chunk)(float *part, const float *x, const float *dy, const float *gain, size_t n, float r);
    /* d = r * (dy[i] * gain[i] - x[i] * r * a); out[i] = add ? out[i] + d : d; gain null: 1. out may be dy. */
    void (*norm_gradient)(float *out, const float *x, const float *dy, const float *gain, size_t n, float r, float a, int add);

    /* The greatest x[i], never -0; anything where there is a NaN. n is at least 1. */
    float (*greatest)(const float *x, size_t n);
    /* A chunk of at most SETUN_CHUNK values: x[i] = exp32((x[i] - offset) * scale); float64 lane[i % 32] += x[i], then the fold. */
    double (*exp_chunk)(float *x, size_t n, float scale, float offset);
    /* For each of at most SETUN_TOGETHER rows of cols <= SETUN_CHUNK values, of which the first n[r] count: g[r] = greatest(x, n[r]); s[r] = exp_chunk(x, n[r],
     * scale, g[r]); normalise(x, x, 0, n[r], factor / s[r]); the others are set to 0. One thing after another in each row depends on all before; rows side by
     * side do not. */
    void (*softmax)(float *x, size_t cols, const size_t *n, size_t rows, float scale, double factor, float *g, double *s);
    /* x[i] = scale * p[i] * (x[i] - s). */
    void (*slope)(float *x, const float *p, size_t n, float scale, float s);
    /* Likewise: slope(x, p, n[r], scale, s) with s = dot_chunk(p, x, n[r]); the others are set to 0. */
    void (*softmax_gradient)(float *x, const float *p, size_t cols, const size_t *n, size_t rows, float scale);
    /* out[i] = x[i] * max(x[i], 0). */
    void (*relu2)(float *out, const float *x, size_t n);
    /* m = max(x[i], 0); out[i] = dy[i] * (m + m). out may be x. */
    void (*relu2_gradient)(float *out, const float *x, const float *dy, size_t n);
    /* g = x[i], u = x[n + i], s = 1 / (1 + exp32(-g)); out[i] = g * s * u. */
    void (*swiglu)(float *out, const float *x, size_t n);
    /* out[i] = (dy[i] * u) * (s * (1 + g * (1 - s))); out[n + i] = dy[i] * (g * s). out may be x. */
    void (*swiglu_gradient)(float *out, const float *x, const float *dy, size_t n);

    /* The n values of an update from `at` on: backend.h and docs/numerics.md have the arithmetic. */
    void (*adamw)(const setun_update *a, size_t at, size_t n);
    void (*momentum)(const setun_update *a, size_t at, size_t n);
} setun_layers;

extern const setun_layers setun_layers_ref;
extern const setun_layers setun_layers_sse42;
extern const setun_layers setun_layers_avx2;
extern const setun_layers setun_layers_avx512;
extern const setun_layers setun_layers_neon;

/* The table of a file that has given its functions the names of the entries. */
#define SETUN_LAYERS(symbol)                                                                                                                                   \
    const setun_layers symbol = {.add = add,                                                                                                                   \
                                 .normalise = normalise,                                                                                                       \
                                 .norm_chunk = norm_chunk,                                                                                                     \
                                 .norm_gradient = norm_gradient,                                                                                               \
                                 .greatest = greatest,                                                                                                         \
                                 .exp_chunk = exp_chunk,                                                                                                       \
                                 .softmax = softmax,                                                                                                           \
                                 .slope = slope,                                                                                                               \
                                 .softmax_gradient = softmax_gradient,                                                                                         \
                                 .relu2 = relu2,                                                                                                               \
                                 .relu2_gradient = relu2_gradient,                                                                                             \
                                 .swiglu = swiglu,                                                                                                             \
                                 .swiglu_gradient = swiglu_gradient,                                                                                           \
                                 .adamw = adamw,                                                                                                               \
                                 .momentum = momentum}

#endif
