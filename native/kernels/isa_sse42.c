/* SPDX-License-Identifier: Apache-2.0
 *
 * SSE4.2. 4 float32 or 2 float64 a vector; tails go to the reference.
 *
 * Sums: 32 lanes are eight float32 accumulators, or sixteen float64 ones in two passes over a chunk that is in the first cache.
 * k-means: there is no fused multiply-add, so it is emulated in float64 (docs/numerics.md, float32 chains): a tile of 2 rows by
 * 4 centroids has four independent chains. */
#include "bits.h"
#include "isa.h"

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

static uint32_t range(const float *x, size_t n, size_t d, float *low, float *high) {
    __m128i worst = _mm_setzero_si128();
    uint32_t tail = 0;
    for (size_t i = 0; i < n; i++, x += d) {
        size_t j = 0;
        for (; j + 4 <= d; j += 4) {
            __m128 v = LOAD(x + j);
            worst = _mm_max_epu32(worst, _mm_castps_si128(magnitude(v)));
            _mm_storeu_ps(low + j, _mm_min_ps(v, LOAD(low + j)));
            _mm_storeu_ps(high + j, _mm_max_ps(v, LOAD(high + j)));
        }
        if (j < d) {
            uint32_t u = setun_isa_ref.range(x + j, 1, d - j, low + j, high + j);
            tail = u > tail ? u : tail;
        }
    }
    uint32_t u = max_lane(worst);
    return u > tail ? u : tail;
}

static void add_row(int64_t *sums, const float *x, const double *scales, double w, size_t d) {
    __m128d k = _mm_set1_pd(w), rounder = _mm_set1_pd(SETUN_ROUNDER);
    size_t j = 0;
    for (; j + 2 <= d; j += 2) {
        __m128d v = _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(const void *)(x + j))));
        v = _mm_mul_pd(_mm_mul_pd(k, v), _mm_loadu_pd(scales + j));
        /* The rounded integer sits in the low bits: v + rounder and rounder differ by it as bit patterns. */
        __m128i q = _mm_sub_epi64(_mm_castpd_si128(_mm_add_pd(v, rounder)), _mm_castpd_si128(rounder));
        _mm_storeu_si128((__m128i *)(sums + j), _mm_add_epi64(q, _mm_loadu_si128((const __m128i *)(sums + j))));
    }
    if (j < d) setun_isa_ref.add_row(sums + j, x + j, scales + j, w, d - j);
}

static uint32_t centre(float *out, const float *x, const float *mean, size_t d) {
    /* One less than the magnitude bits: 0 becomes the greatest of all, so the minimum passes over zeros. */
    __m128i low = _mm_set1_epi32(-1);
    size_t j = 0;
    for (; j + 4 <= d; j += 4) {
        __m128 v = _mm_sub_ps(LOAD(x + j), LOAD(mean + j));
        _mm_storeu_ps(out + j, v);
        low = _mm_min_epu32(low, _mm_sub_epi32(_mm_castps_si128(magnitude(v)), _mm_set1_epi32(1)));
    }
    uint32_t t = setun_isa_ref.centre(out + j, x + j, mean + j, d - j);
    low = _mm_min_epu32(low, _mm_shuffle_epi32(low, 0x4e));
    low = _mm_min_epu32(low, _mm_shuffle_epi32(low, 0xb1));
    uint32_t u = (uint32_t)_mm_cvtsi128_si32(low);
    return u < t - 1 ? u + 1 : t;
}

/* a = fma32(x, c, a) in two lanes, where a tie between two float32 values is left to the caller. */
INLINE __m128d step(__m128d x, __m128d c, __m128d a, __m128i *ties) {
    __m128d s = _mm_add_pd(_mm_mul_pd(x, c), a);
    __m128i low = _mm_and_si128(_mm_castpd_si128(s), _mm_set1_epi64x(0x1fffffff));
    *ties = _mm_or_si128(*ties, _mm_cmpeq_epi64(low, _mm_set1_epi64x(0x10000000)));
    return _mm_cvtps_pd(_mm_cvtpd_ps(s));
}

INLINE __m128d careful(__m128d x, __m128d c, __m128d a) {
    double u[2], v[2], w[2];
    _mm_storeu_pd(u, x);
    _mm_storeu_pd(v, c);
    _mm_storeu_pd(w, a);
    return _mm_setr_pd((double)setun_fma32((float)u[0], (float)v[0], (float)w[0]), (double)setun_fma32((float)u[1], (float)v[1], (float)w[1]));
}

static void tile(const float *rows, size_t d, const float *panel, const float *bias, int32_t base, float *best, int32_t *index) {
    __m128 b = LOAD(bias);
    __m128d a[2][2], u = _mm_cvtps_pd(b), v = _mm_cvtps_pd(_mm_movehl_ps(b, b));
    for (int r = 0; r < 2; r++) {
        a[r][0] = u;
        a[r][1] = v;
    }
    for (size_t p = 0; p < d; p++, panel += 4) {
        __m128 c = LOAD(panel);
        __m128d c0 = _mm_cvtps_pd(c), c1 = _mm_cvtps_pd(_mm_movehl_ps(c, c));
        __m128d x0 = _mm_set1_pd((double)rows[p]), x1 = _mm_set1_pd((double)rows[d + p]);
        __m128i ties = _mm_setzero_si128();
        __m128d n00 = step(x0, c0, a[0][0], &ties), n01 = step(x0, c1, a[0][1], &ties);
        __m128d n10 = step(x1, c0, a[1][0], &ties), n11 = step(x1, c1, a[1][1], &ties);
        if (!_mm_testz_si128(ties, ties)) {
            n00 = careful(x0, c0, a[0][0]);
            n01 = careful(x0, c1, a[0][1]);
            n10 = careful(x1, c0, a[1][0]);
            n11 = careful(x1, c1, a[1][1]);
        }
        a[0][0] = n00;
        a[0][1] = n01;
        a[1][0] = n10;
        a[1][1] = n11;
    }
    __m128i j = _mm_add_epi32(_mm_set1_epi32(base), _mm_setr_epi32(0, 1, 2, 3));
    for (int r = 0; r < 2; r++) {
        __m128 s = _mm_movelh_ps(_mm_cvtpd_ps(a[r][0]), _mm_cvtpd_ps(a[r][1])), old = LOAD(best + 4 * r), m = _mm_cmpgt_ps(s, old);
        __m128i i = _mm_loadu_si128((const __m128i *)(index + 4 * r));
        _mm_storeu_ps(best + 4 * r, _mm_blendv_ps(old, s, m));
        _mm_storeu_si128((__m128i *)(index + 4 * r), _mm_blendv_epi8(i, j, _mm_castps_si128(m)));
    }
}

static int32_t winner(const float *best, const int32_t *index) {
    int w = 0;
    for (int l = 1; l < 4; l++)
        if (best[l] > best[w] || (best[l] == best[w] && index[l] < index[w])) w = l;
    return index[w];
}

/* Four rows side by side. Sums in float32's subnormal range are careful too: nothing is known of the granule here. */
static void squares4(const float *t, size_t d, float *out) {
    __m128d a = _mm_setzero_pd(), b = a, zero = a, normal = _mm_set1_pd(0x1p-126);
    for (size_t p = 0; p < d; p++) {
        __m128d x = _mm_setr_pd((double)t[p], (double)t[d + p]), y = _mm_setr_pd((double)t[2 * d + p], (double)t[3 * d + p]);
        __m128d s = _mm_add_pd(_mm_mul_pd(x, x), a), u = _mm_add_pd(_mm_mul_pd(y, y), b);
        __m128d low = _mm_or_pd(_mm_and_pd(_mm_cmplt_pd(s, normal), _mm_cmpgt_pd(s, zero)), _mm_and_pd(_mm_cmplt_pd(u, normal), _mm_cmpgt_pd(u, zero)));
        __m128i ties = _mm_castpd_si128(low);
        s = step(x, x, a, &ties);
        u = step(y, y, b, &ties);
        if (!_mm_testz_si128(ties, ties)) {
            s = careful(x, x, a);
            u = careful(y, y, b);
        }
        a = s;
        b = u;
    }
    _mm_storeu_ps(out, _mm_movelh_ps(_mm_cvtpd_ps(a), _mm_cvtpd_ps(b)));
}

static void squares(const float *t, size_t n, size_t d, float *out) {
    float all[SETUN_MAX_TILE];
    for (size_t r = 0; r < n; r += 4) squares4(t + r * d, d, all + r);
    memcpy(out, all, n * sizeof *out);
}

/* ---- matmul: 2 rows by 4 columns at a time, four chains in two registers each; the packed block has more rows only to load fewer panels ---- */

enum { GEMM_ROWS = 8, GEMM_COLS = 4 };

static void gemm(const float *a, const float *b, size_t stride, size_t k, float *c, size_t ldc, size_t rows, int fresh) {
    float spare[GEMM_COLS] = {0}; /* the row beyond an odd number of rows; its values of a are zeros */
    for (size_t r = 0; r < rows; r += 2, a += 2, c += 2 * ldc) {
        float *d = r + 1 < rows ? c + ldc : spare;
        __m128 u = fresh ? _mm_setzero_ps() : LOAD(c), v = fresh ? _mm_setzero_ps() : LOAD(d);
        __m128d s[2][2] = {{_mm_cvtps_pd(u), _mm_cvtps_pd(_mm_movehl_ps(u, u))}, {_mm_cvtps_pd(v), _mm_cvtps_pd(_mm_movehl_ps(v, v))}};
        for (size_t p = 0; p < k; p++) {
            __m128 w = LOAD(b + p * stride);
            __m128d w0 = _mm_cvtps_pd(w), w1 = _mm_cvtps_pd(_mm_movehl_ps(w, w));
            __m128d x0 = _mm_set1_pd((double)a[p * GEMM_ROWS]), x1 = _mm_set1_pd((double)a[p * GEMM_ROWS + 1]);
            __m128i ties = _mm_setzero_si128();
            __m128d n00 = step(x0, w0, s[0][0], &ties), n01 = step(x0, w1, s[0][1], &ties);
            __m128d n10 = step(x1, w0, s[1][0], &ties), n11 = step(x1, w1, s[1][1], &ties);
            if (!_mm_testz_si128(ties, ties)) {
                n00 = careful(x0, w0, s[0][0]);
                n01 = careful(x0, w1, s[0][1]);
                n10 = careful(x1, w0, s[1][0]);
                n11 = careful(x1, w1, s[1][1]);
            }
            s[0][0] = n00;
            s[0][1] = n01;
            s[1][0] = n10;
            s[1][1] = n11;
        }
        _mm_storeu_ps(c, _mm_movelh_ps(_mm_cvtpd_ps(s[0][0]), _mm_cvtpd_ps(s[0][1])));
        _mm_storeu_ps(d, _mm_movelh_ps(_mm_cvtpd_ps(s[1][0]), _mm_cvtpd_ps(s[1][1])));
    }
}

SETUN_ISA(setun_isa_sse42, "sse42", .tile_rows = 2, .width = 4, .lanes = 4, .tile_needs_granule = 1, .gemm_rows = GEMM_ROWS, .gemm_cols = GEMM_COLS,
          .interleave = setun_interleave_ref);
