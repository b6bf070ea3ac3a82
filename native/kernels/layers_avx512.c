/* SPDX-License-Identifier: Apache-2.0
 *
 * layers_avx512.c: layers.h with AVX-512 (F, DQ): 16 float32 or 8 float64 a vector, parts of one loaded by masks. */
#include <immintrin.h>
#include <stddef.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 16
typedef float V __attribute__((vector_size(4 * LANES)));
typedef double D __attribute__((vector_size(4 * LANES)));

INLINE V load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void store(float *p, V v) { _mm512_storeu_ps(p, v); }
INLINE __mmask16 mask(size_t m) { return (__mmask16)((1u << m) - 1); }
INLINE V load_part(const float *p, size_t m) { return _mm512_maskz_loadu_ps(mask(m), p); }
/* Not by a mask: a load from what lies behind the row, such as the next row, would wait for such a store (softmax of rows of 15 values: 34 against 19 ns a
 * row). */
INLINE void store_part(float *p, V v, size_t m) {
    __m256 t = _mm512_castps512_ps256(v);
    if (m & 8) {
        _mm256_storeu_ps(p, t);
        t = _mm512_extractf32x8_ps(v, 1);
        p += 8;
    }
    __m128 u = _mm256_castps256_ps128(t);
    if (m & 4) {
        _mm_storeu_ps(p, u);
        u = _mm256_extractf128_ps(t, 1);
        p += 4;
    }
    if (m & 2) {
        _mm_storel_pi((__m64 *)(void *)p, u);
        u = _mm_movehl_ps(u, u);
        p += 2;
    }
    if (m & 1) _mm_store_ss(p, u);
}
INLINE V spread(float x) { return _mm512_set1_ps(x); }
INLINE D spread_wide(double x) { return _mm512_set1_pd(x); }
INLINE D low(V v) { return _mm512_cvtps_pd(_mm512_castps512_ps256(v)); }
INLINE D high(V v) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)); }
INLINE V narrow(D l, D h) { return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(l)), _mm512_cvtpd_ps(h), 1); }
INLINE V at_least(V a, V b) { return _mm512_max_ps(a, b); }
INLINE V at_most(V a, V b) { return _mm512_min_ps(a, b); }
INLINE float top(V v) { return _mm512_reduce_max_ps(v); }
INLINE D root(D v) { return _mm512_sqrt_pd(v); }
INLINE double total(D v) {
    __m256d a = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    __m128d t = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(t, _mm_unpackhi_pd(t, t)));
}

#include "lanes.h"

SETUN_LAYERS(setun_layers_avx512);
