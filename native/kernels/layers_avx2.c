/* SPDX-License-Identifier: Apache-2.0
 *
 * layers_avx2.c: layers.h with AVX2: 8 float32 or 4 float64 a vector. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 8
typedef float V __attribute__((vector_size(4 * LANES)));
typedef double D __attribute__((vector_size(4 * LANES)));

INLINE V load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void store(float *p, V v) { _mm256_storeu_ps(p, v); }
INLINE V load_part(const float *p, size_t m) {
    static const int32_t edge[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)(edge + 8 - m)));
}
/* Not by a mask: Zen 4 does such a store in some 40 operations. */
INLINE void store_part(float *p, V v, size_t m) {
    __m128 t = _mm256_castps256_ps128(v);
    if (m & 4) {
        _mm_storeu_ps(p, t);
        t = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (m & 2) {
        _mm_storel_pi((__m64 *)(void *)p, t);
        t = _mm_movehl_ps(t, t);
        p += 2;
    }
    if (m & 1) _mm_store_ss(p, t);
}
INLINE V spread(float x) { return _mm256_set1_ps(x); }
INLINE D spread_wide(double x) { return _mm256_set1_pd(x); }
INLINE D low(V v) { return _mm256_cvtps_pd(_mm256_castps256_ps128(v)); }
INLINE D high(V v) { return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)); }
INLINE V narrow(D l, D h) { return _mm256_set_m128(_mm256_cvtpd_ps(h), _mm256_cvtpd_ps(l)); }
INLINE V at_least(V a, V b) { return _mm256_max_ps(a, b); }
INLINE V at_most(V a, V b) { return _mm256_min_ps(a, b); }
INLINE float top(V v) {
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}
INLINE D root(D v) { return _mm256_sqrt_pd(v); }
INLINE double total(D v) {
    __m128d t = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(t, _mm_unpackhi_pd(t, t)));
}

#include "lanes.h"

SETUN_LAYERS(setun_layers_avx2);
