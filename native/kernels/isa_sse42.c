/* SPDX-License-Identifier: Apache-2.0
 *
 * SSE4.2. 4 float32 or 2 float64 a vector; tails go to the reference.
 *
 * Sums: 32 lanes are eight float32 accumulators, or sixteen float64 ones in two passes over a chunk that is in the first cache.
 * k-means is left to pure Go: without a fused multiply-add the exact chains ran at 2.8 GFLOP/s here, and Go, which screens, at 4. */
#include "bits.h"
#include "isa.h"
#include "layers.h"
#include "stream.h"

#include <nmmintrin.h>

#define LOAD(p) _mm_loadu_ps(p)
#define INLINE static inline __attribute__((always_inline))

INLINE __m128 magnitude(__m128 v) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), v); }

static double abs_chunk(const float *x, size_t n) {
    __m128 acc[8];
    for (int v = 0; v < 8; v++) acc[v] = _mm_setzero_ps();
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int v = 0; v < 8; v++) acc[v] = _mm_add_ps(acc[v], magnitude(LOAD(x + i + 4 * v)));
    float lane[32];
    double t[32];
    for (int v = 0; v < 8; v++) _mm_storeu_ps(lane + 4 * v, acc[v]);
    for (int l = 0; i < n; i++, l++) lane[l] += setun_abs(x[i]);
    for (int l = 0; l < 32; l++) t[l] = (double)lane[l];
    return setun_fold(t);
}

static double dot_chunk(const float *x, const float *y, size_t n) {
    double t[32];
    size_t whole = n & ~(size_t)31;
    for (int half = 0; half < 32; half += 16) {
        __m128d acc[8];
        for (int v = 0; v < 8; v++) acc[v] = _mm_setzero_pd();
        for (size_t i = (size_t)half; i < whole; i += 32)
            for (int v = 0; v < 4; v++) {
                __m128 a = LOAD(x + i + 4 * v), b = LOAD(y + i + 4 * v);
                acc[2 * v] = _mm_add_pd(acc[2 * v], _mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)));
                acc[2 * v + 1] = _mm_add_pd(acc[2 * v + 1], _mm_mul_pd(_mm_cvtps_pd(_mm_movehl_ps(a, a)), _mm_cvtps_pd(_mm_movehl_ps(b, b))));
            }
        for (int v = 0; v < 8; v++) _mm_storeu_pd(t + half + 2 * v, acc[v]);
    }
    for (size_t i = whole; i < n; i++) t[i - whole] += (double)x[i] * (double)y[i];
    return setun_fold(t);
}

static double square_chunk(const float *x, size_t n) { return dot_chunk(x, x, n); }

INLINE uint32_t max_lane(__m128i m) {
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static uint32_t abs_max(const float *x, size_t n) {
    __m128i a = _mm_setzero_si128(), b = a;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        a = _mm_max_epu32(a, _mm_castps_si128(magnitude(LOAD(x + i))));
        b = _mm_max_epu32(b, _mm_castps_si128(magnitude(LOAD(x + i + 4))));
    }
    uint32_t m = max_lane(_mm_max_epu32(a, b)), t = setun_isa_ref.abs_max(x + i, n - i);
    return m > t ? m : t;
}

static void select_codes(float *v, const float *x, size_t n, float one, float two, float small, int64_t counts[2]) {
    __m128 c1 = _mm_set1_ps(one), c2 = _mm_set1_ps(two), s = _mm_set1_ps(small);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m128 m = magnitude(LOAD(x + i)), k1 = _mm_cmpgt_ps(m, c1), k2 = _mm_cmpgt_ps(m, c2);
        _mm_storeu_ps(v + i, _mm_blendv_ps(_mm_and_ps(k1, _mm_mul_ps(s, m)), m, k2));
        counts[0] += __builtin_popcount((unsigned)_mm_movemask_ps(k1));
        counts[1] += __builtin_popcount((unsigned)_mm_movemask_ps(k2));
    }
    setun_isa_ref.select(v + i, x + i, n - i, one, two, small, counts);
}

/* Codes of 16 values: (x > cut) - (x < -cut). */
INLINE __m128i codes16(const float *x, __m128 cut, __m128 minus) {
    __m128i c[4];
    for (int v = 0; v < 4; v++) {
        __m128 u = LOAD(x + 4 * v);
        c[v] = _mm_sub_epi32(_mm_castps_si128(_mm_cmplt_ps(u, minus)), _mm_castps_si128(_mm_cmpgt_ps(u, cut)));
    }
    return _mm_packs_epi16(_mm_packs_epi32(c[0], c[1]), _mm_packs_epi32(c[2], c[3]));
}

static void ternary(int8_t *out, const float *x, size_t n, float cut) {
    __m128 c = _mm_set1_ps(cut), m = _mm_set1_ps(-cut);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) _mm_storeu_si128((__m128i *)(out + i), codes16(x + i, c, m));
    setun_isa_ref.ternary(out + i, x + i, n - i, cut);
}

static void quinary(int8_t *out, const float *x, size_t n, float one, float two) {
    __m128 c1 = _mm_set1_ps(one), m1 = _mm_set1_ps(-one), c2 = _mm_set1_ps(two), m2 = _mm_set1_ps(-two);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) _mm_storeu_si128((__m128i *)(out + i), _mm_add_epi8(codes16(x + i, c1, m1), codes16(x + i, c2, m2)));
    setun_isa_ref.quinary(out + i, x + i, n - i, one, two);
}

INLINE __m128i plus1(const int8_t *codes) { return _mm_add_epi8(_mm_loadu_si128((const __m128i *)codes), _mm_set1_epi8(1)); }

static void pack2(uint8_t *out, const int8_t *codes, size_t blocks) {
    for (; blocks > 0; blocks--, out += 64, codes += 256)
        for (int h = 0; h < 64; h += 16) {
            __m128i v = plus1(codes + 192 + h);
            for (int p = 2; p >= 0; p--) /* v stays below 64 before a shift, so no bit crosses a byte */
                v = _mm_add_epi8(_mm_slli_epi16(v, 2), plus1(codes + 64 * p + h));
            _mm_storeu_si128((__m128i *)(out + h), v);
        }
}

/* floor((13 v + 242) / 243) for 16-bit v <= 242: 16 * 4316 / 2^24 is 1/243 closely enough. */
INLINE __m128i carry3(__m128i v) {
    __m128i y = _mm_add_epi16(_mm_mullo_epi16(v, _mm_set1_epi16(208)), _mm_set1_epi16(3872));
    return _mm_srli_epi16(_mm_mulhi_epu16(y, _mm_set1_epi16(4316)), 8);
}

static void pack3(uint8_t *out, const int8_t *codes, size_t blocks) {
    __m128i zero = _mm_setzero_si128();
    for (; blocks > 0; blocks--, out += 64, codes += 320)
        for (int h = 0; h < 64; h += 16) {
            __m128i v = plus1(codes + h);
            for (int p = 1; p < 5; p++) v = _mm_add_epi8(_mm_add_epi8(v, _mm_add_epi8(v, v)), plus1(codes + 64 * p + h));
            __m128i c = _mm_packus_epi16(carry3(_mm_unpacklo_epi8(v, zero)), carry3(_mm_unpackhi_epi8(v, zero)));
            _mm_storeu_si128((__m128i *)(out + h), _mm_add_epi8(v, c));
        }
}

static void scale(float *out, const float *x, size_t n, double f) {
    __m128d k = _mm_set1_pd(f);
    __m128i exponent = _mm_set1_epi32((int)SETUN_INF_BITS), sign = _mm_set1_epi32((int)~SETUN_ABS_MASK);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m128 v = LOAD(x + i), lo = _mm_cvtpd_ps(_mm_mul_pd(_mm_cvtps_pd(v), k));
        __m128 hi = _mm_cvtpd_ps(_mm_mul_pd(_mm_cvtps_pd(_mm_movehl_ps(v, v)), k));
        __m128i r = _mm_castps_si128(_mm_movelh_ps(lo, hi));
        __m128i small = _mm_cmpeq_epi32(_mm_and_si128(r, exponent), _mm_setzero_si128());
        r = _mm_and_si128(r, _mm_or_si128(sign, _mm_andnot_si128(small, _mm_set1_epi32(-1))));
        _mm_storeu_si128((__m128i *)(out + i), r);
    }
    setun_isa_ref.scale(out + i, x + i, n - i, f);
}

SETUN_ISA(setun_isa_sse42, "sse42", .layers = &setun_layers_sse42);
