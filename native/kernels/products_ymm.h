/* SPDX-License-Identifier: Apache-2.0
 *
 * products_ymm.h: sums of products in 32 float64 lanes, as eight accumulators of 256 bits. AVX2 and AVX-512 share it: on Zen 4 the
 * 512-bit form, four accumulators, reads 58 GB/s from cache where this one reads 87, because widening 16 floats at once is slow. */
#ifndef SETUN_PRODUCTS_YMM_H
#define SETUN_PRODUCTS_YMM_H

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* lanes 0-3, 4-7, ... 28-31. */
INLINE double fold_ymm(__m256d t[8]) {
    for (int w = 4; w > 0; w /= 2)
        for (int v = 0; v < w; v++) t[v] = _mm256_add_pd(t[v], t[v + w]);
    __m128d f = _mm_add_pd(_mm256_castpd256_pd128(t[0]), _mm256_extractf128_pd(t[0], 1));
    return _mm_cvtsd_f64(_mm_add_sd(f, _mm_unpackhi_pd(f, f)));
}

/* The last n < 32 values and zeros. */
INLINE const float *padded(float buffer[32], const float *x, size_t n) {
    memset(buffer, 0, 32 * sizeof *buffer);
    memcpy(buffer, x, n * sizeof *x);
    return buffer;
}

/* acc[v] += x[4v ..] * y[4v ..]; the products are exact, so the fused form is the same. */
INLINE void add_products(__m256d acc[8], const float *x, const float *y) {
    for (int v = 0; v < 8; v++) {
        __m256d u = _mm256_cvtps_pd(_mm_loadu_ps(x + 4 * v));
        acc[v] = _mm256_fmadd_pd(u, x == y ? u : _mm256_cvtps_pd(_mm_loadu_ps(y + 4 * v)), acc[v]);
    }
}

INLINE double products(const float *x, const float *y, size_t n) {
    __m256d acc[8];
    for (int v = 0; v < 8; v++) acc[v] = _mm256_setzero_pd();
    float u[32], w[32];
    size_t i = 0;
    for (; i + 32 <= n; i += 32) add_products(acc, x + i, y + i);
    if (i < n) add_products(acc, padded(u, x + i, n - i), padded(w, y + i, n - i));
    return fold_ymm(acc);
}

static double square_chunk(const float *x, size_t n) { return products(x, x, n); }
static double dot_chunk(const float *x, const float *y, size_t n) { return products(x, y, n); }

#endif
