/* SPDX-License-Identifier: Apache-2.0
 *
 * layers.h: what the ops between the products of a network share. A row of at most 4096 values is a chunk of its sum, so a warp does all of it; longer rows are
 * cut into chunks, which the whole grid shares. */
#ifndef SETUN_CUDA_LAYERS_H
#define SETUN_CUDA_LAYERS_H

#include "sum.h"

/* Exp32 of internal/canon/exp.go. At the ends of the range the series rounds to 0 and to infinity, so what lies beyond is moved there; a NaN stays one. */
SETUN_DEVICE float setun_exp32(float x) {
    x = x < -104 ? -104.0f : x > 89 ? 89.0f : x;
    const double round = 0x1.8p52 + 1023; /* with the bias of exponents, so that a shift makes 2^k */
    double v = (double)x, t = v * 1.4426950408889634 + round, r = v - (t - round) * 0x1.62e42fefa39efp-1, s = r * r;
    double y = 1 + r + s * ((0.5 + r * (1.0 / 6)) + s * ((1.0 / 24 + r * (1.0 / 120)) + s * ((r + 7) * (1.0 / 5040))));
    return (float)(y * __longlong_as_double((long long)((unsigned long long)__double_as_longlong(t) << 52)));
}

/* A place in an array that may be null. */
template <class T> SETUN_DEVICE T *setun_at(T *p, int64_t i) { return p ? p + i : p; }

/* load(u, i), then use(u, i), for a lane's values i of a chunk of n in rising order: u = 0 .. AHEAD-1 loads before the first use. */
template <int AHEAD, class Load, class Use> SETUN_DEVICE void setun_lane_batches(int n, Load load, Use use) {
    int i = setun_lane();
    for (; i + (AHEAD - 1) * 32 < n; i += AHEAD * 32) {
        SETUN_UNROLL
        for (int u = 0; u < AHEAD; u++) load(u, i + u * 32);
        SETUN_UNROLL
        for (int u = 0; u < AHEAD; u++) use(u, i + u * 32);
    }
    for (; i < n; i += 32) load(0, i), use(0, i);
}

/* A chunk of S(x*y); the answer is in lane 0. */
SETUN_DEVICE double setun_product_chunk(const float *x, const float *y, int n) {
    float v[8], w[8];
    double t = 0;
    setun_lane_batches<8>(
        n, [&](int u, int i) { v[u] = x[i], w[u] = y[i]; }, [&](int u, int) { t += (double)v[u] * (double)w[u]; });
    return setun_fold(t);
}

/* Calls body(place in the arrays of chunks, row, where in the row the chunk begins) for the chunks of all rows, a warp each. */
template <class Body> SETUN_DEVICE void setun_row_chunks(int64_t rows, int64_t chunks, Body body) {
    for (int64_t t = setun_warp(); t < rows * chunks; t += setun_warps()) {
        int64_t row = t / chunks;
        body(t, row, (t - row * chunks) * SETUN_CHUNK);
    }
}

#endif
