/* SPDX-License-Identifier: Apache-2.0
 *
 * layers_neon.c: layers.h with NEON on arm64: 4 float32 or 2 float64 a vector. */
#include <arm_neon.h>
#include <stddef.h>

#define INLINE static inline __attribute__((always_inline))
#define LANES 4
typedef float V __attribute__((vector_size(4 * LANES)));
typedef double D __attribute__((vector_size(4 * LANES)));

INLINE V load(const float *p) { return vld1q_f32(p); }
INLINE void store(float *p, V v) { vst1q_f32(p, v); }
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
INLINE V spread(float x) { return vdupq_n_f32(x); }
INLINE D spread_wide(double x) { return vdupq_n_f64(x); }
INLINE D low(V v) { return vcvt_f64_f32(vget_low_f32(v)); }
INLINE D high(V v) { return vcvt_high_f64_f32(v); }
INLINE V narrow(D l, D h) { return vcvt_high_f32_f64(vcvt_f32_f64(l), h); }
INLINE V at_least(V a, V b) { return vmaxq_f32(a, b); } /* a NaN of either comes through */
INLINE V at_most(V a, V b) { return vminq_f32(a, b); }
INLINE float top(V v) { return vmaxvq_f32(v); }
INLINE D root(D v) { return vsqrtq_f64(v); }
INLINE double total(D v) { return vaddvq_f64(v); }

#include "lanes.h"

SETUN_LAYERS(setun_layers_neon);
