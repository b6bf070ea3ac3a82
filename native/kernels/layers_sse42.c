/* SPDX-License-Identifier: Apache-2.0
 *
 * layers_sse42.c: layers.h with SSE4.2: 4 float32 or 2 float64 a vector. The lanes of a sum are more than its registers and lie in memory. */
#include <nmmintrin.h>
#include <stddef.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 4
typedef float V __attribute__((vector_size(4 * LANES)));
typedef double D __attribute__((vector_size(4 * LANES)));

INLINE V load(const float *p) { return _mm_loadu_ps(p); }
INLINE void store(float *p, V v) { _mm_storeu_ps(p, v); }
INLINE V load_part(const float *p, size_t m) {
    float t[4] = {0};
    for (size_t i = 0; i < m; i++) t[i] = p[i];
    return load(t);
}
INLINE void store_part(float *p, V v, size_t m) {
    float t[4];
    store(t, v);
    for (size_t i = 0; i < m; i++) p[i] = t[i];
}
INLINE V spread(float x) { return _mm_set1_ps(x); }
INLINE D spread_wide(double x) { return _mm_set1_pd(x); }
INLINE D low(V v) { return _mm_cvtps_pd(v); }
INLINE D high(V v) { return _mm_cvtps_pd(_mm_movehl_ps(v, v)); }
INLINE V narrow(D l, D h) { return _mm_movelh_ps(_mm_cvtpd_ps(l), _mm_cvtpd_ps(h)); }
INLINE V at_least(V a, V b) { return _mm_max_ps(a, b); }
INLINE V at_most(V a, V b) { return _mm_min_ps(a, b); }
INLINE float top(V v) {
    v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)));
}
INLINE D root(D v) { return _mm_sqrt_pd(v); }
INLINE double total(D v) { return _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v))); }

#include "lanes.h"

SETUN_LAYERS(setun_layers_sse42);
