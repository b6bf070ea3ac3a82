/* SPDX-License-Identifier: Apache-2.0
 *
 * AVX-512 (F, BW, DQ, VL). 16 float32 or 8 float64 a vector; tails by masks.
 *
 * Sums: 32 lanes are two float32 accumulators; float64 lanes are those of products_ymm.h.
 * k-means: a tile of 32 points by 12 centroids keeps 24 accumulators in registers over the whole dimension and needs two panel loads and
 * 12 broadcasts for 24 multiply-adds, so the FMA units are the limit: one 512-bit multiply-add a cycle on Zen 4. */
#include "bits.h"
#include "codes.h"
#include "isa.h"
#include "layers.h"
#include "screen.h"
#include "stream.h"
#include "products_ymm.h"

#define LOAD(p) _mm512_loadu_ps(p)

/* The first n of 16 lanes. */
INLINE __mmask16 first16(size_t n) { return (__mmask16)((1u << n) - 1); }

/* The fold of 32 float64 lanes in rising order. */
INLINE double fold(__m512d a, __m512d b, __m512d c, __m512d d) {
    a = _mm512_add_pd(_mm512_add_pd(a, c), _mm512_add_pd(b, d));
    __m256d e = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d f = _mm_add_pd(_mm256_castpd256_pd128(e), _mm256_extractf128_pd(e, 1));
    return _mm_cvtsd_f64(_mm_add_sd(f, _mm_unpackhi_pd(f, f)));
}

static double abs_chunk(const float *x, size_t n) {
    __m512 a = _mm512_setzero_ps(), b = a;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        a = _mm512_add_ps(a, _mm512_abs_ps(LOAD(x + i)));
        b = _mm512_add_ps(b, _mm512_abs_ps(LOAD(x + i + 16)));
    }
    if (n - i >= 16) {
        a = _mm512_add_ps(a, _mm512_abs_ps(LOAD(x + i)));
        b = _mm512_add_ps(b, _mm512_abs_ps(_mm512_maskz_loadu_ps(first16(n - i - 16), x + i + 16)));
    } else if (i < n) {
        a = _mm512_add_ps(a, _mm512_abs_ps(_mm512_maskz_loadu_ps(first16(n - i), x + i)));
    }
    return fold(_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)), _mm512_cvtps_pd(_mm512_castps512_ps256(b)),
                _mm512_cvtps_pd(_mm512_extractf32x8_ps(b, 1)));
}

static uint32_t abs_max(const float *x, size_t n) {
    __m512i mask = _mm512_set1_epi32((int)SETUN_ABS_MASK), a = _mm512_setzero_si512(), b = a;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        a = _mm512_max_epu32(a, _mm512_and_si512(mask, _mm512_loadu_si512(x + i)));
        b = _mm512_max_epu32(b, _mm512_and_si512(mask, _mm512_loadu_si512(x + i + 16)));
    }
    for (; i < n; i += 16) {
        __mmask16 k = n - i < 16 ? first16(n - i) : 0xffff;
        a = _mm512_max_epu32(a, _mm512_and_si512(mask, _mm512_maskz_loadu_epi32(k, x + i)));
    }
    return _mm512_reduce_max_epu32(_mm512_max_epu32(a, b));
}

static void select_codes(float *v, const float *x, size_t n, float one, float two, float small, int64_t counts[2]) {
    __m512 c1 = _mm512_set1_ps(one), c2 = _mm512_set1_ps(two), s = _mm512_set1_ps(small);
    __m512i n1 = _mm512_setzero_si512(), n2 = n1, unit = _mm512_set1_epi32(1);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) { /* counts stay in lanes: a chunk is far too short to overflow them */
        __m512 m = _mm512_abs_ps(LOAD(x + i));
        __mmask16 k1 = _mm512_cmp_ps_mask(m, c1, _CMP_GT_OQ), k2 = _mm512_cmp_ps_mask(m, c2, _CMP_GT_OQ);
        _mm512_storeu_ps(v + i, _mm512_mask_mov_ps(_mm512_maskz_mul_ps(k1, s, m), k2, m));
        n1 = _mm512_mask_add_epi32(n1, k1, n1, unit);
        n2 = _mm512_mask_add_epi32(n2, k2, n2, unit);
    }
    if (i < n) {
        __mmask16 k = first16(n - i);
        __m512 m = _mm512_abs_ps(_mm512_maskz_loadu_ps(k, x + i));
        __mmask16 k1 = _mm512_mask_cmp_ps_mask(k, m, c1, _CMP_GT_OQ), k2 = _mm512_mask_cmp_ps_mask(k, m, c2, _CMP_GT_OQ);
        _mm512_mask_storeu_ps(v + i, k, _mm512_mask_mov_ps(_mm512_maskz_mul_ps(k1, s, m), k2, m));
        n1 = _mm512_mask_add_epi32(n1, k1, n1, unit);
        n2 = _mm512_mask_add_epi32(n2, k2, n2, unit);
    }
    counts[0] += _mm512_reduce_add_epi32(n1);
    counts[1] += _mm512_reduce_add_epi32(n2);
}

/* Packs saturate, so they keep signs: bytes in the order of 64 values whose signs are those of the 32-bit values. */
INLINE __m512i signs64(const __m512i v[4]) {
    __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15); /* the packs work within quarters */
    return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3])));
}

/* Magnitudes compare like their bits: |x| > cut where the bits of cut minus those of |x| are negative. */
INLINE __mmask64 above64(const __m512i v[4], __m512i cut) {
    __m512i diff[4];
    for (int i = 0; i < 4; i++) diff[i] = _mm512_sub_epi32(cut, _mm512_and_si512(v[i], _mm512_set1_epi32((int)SETUN_ABS_MASK)));
    return _mm512_movepi8_mask(signs64(diff));
}

/* 1, or -1 where the value is negative. */
INLINE __m512i units64(const __m512i v[4]) { return _mm512_or_si512(_mm512_movm_epi8(_mm512_movepi8_mask(signs64(v))), _mm512_set1_epi8(1)); }

INLINE __m512i ternary64(const float *x, __m512i cut) {
    __m512i v[4];
    for (int i = 0; i < 4; i++) v[i] = _mm512_loadu_si512(x + 16 * i);
    return _mm512_maskz_mov_epi8(above64(v, cut), units64(v));
}

INLINE __m512i quinary64(const float *x, __m512i one, __m512i two) {
    __m512i v[4];
    for (int i = 0; i < 4; i++) v[i] = _mm512_loadu_si512(x + 16 * i);
    __m512i u = units64(v), c = _mm512_maskz_mov_epi8(above64(v, one), u);
    return _mm512_mask_add_epi8(c, above64(v, two), u, u);
}

static void ternary(int8_t *out, const float *x, size_t n, float cut) {
    __m512i c = _mm512_set1_epi32((int)setun_bits(cut));
    size_t i = 0;
    for (; i + 64 <= n; i += 64) _mm512_storeu_si512(out + i, ternary64(x + i, c));
    if (i < n) {
        float tail[64] = {0};
        memcpy(tail, x + i, (n - i) * sizeof *x);
        _mm512_mask_storeu_epi8(out + i, (1ull << (n - i)) - 1, ternary64(tail, c));
    }
}

static void quinary(int8_t *out, const float *x, size_t n, float one, float two) {
    __m512i c1 = _mm512_set1_epi32((int)setun_bits(one)), c2 = _mm512_set1_epi32((int)setun_bits(two));
    size_t i = 0;
    for (; i + 64 <= n; i += 64) _mm512_storeu_si512(out + i, quinary64(x + i, c1, c2));
    if (i < n) {
        float tail[64] = {0};
        memcpy(tail, x + i, (n - i) * sizeof *x);
        _mm512_mask_storeu_epi8(out + i, (1ull << (n - i)) - 1, quinary64(tail, c1, c2));
    }
}

static void pack2(uint8_t *out, const int8_t *codes, size_t blocks) {
    __m512i one = _mm512_set1_epi8(1);
    for (; blocks > 0; blocks--, out += 64, codes += 256) {
        __m512i v = _mm512_add_epi8(_mm512_loadu_si512(codes + 192), one);
        for (int p = 2; p >= 0; p--) /* v stays below 64 before a shift, so no bit crosses a byte */
            v = _mm512_add_epi8(_mm512_slli_epi16(v, 2), _mm512_add_epi8(_mm512_loadu_si512(codes + 64 * p), one));
        _mm512_storeu_si512(out, v);
    }
}

/* ceil(256 v / 243) = v + floor((13 v + 242) / 243); 16 * 4316 / 2^24 is 1/243 closely enough for 13 v + 242 <= 3388. */
INLINE __m512i carry3(__m512i v) {
    return _mm512_srli_epi16(
        _mm512_mulhi_epu16(_mm512_add_epi16(_mm512_mullo_epi16(v, _mm512_set1_epi16(208)), _mm512_set1_epi16(3872)), _mm512_set1_epi16(4316)), 8);
}

static void pack3(uint8_t *out, const int8_t *codes, size_t blocks) {
    __m512i one = _mm512_set1_epi8(1), zero = _mm512_setzero_si512();
    for (; blocks > 0; blocks--, out += 64, codes += 320) {
        __m512i v = _mm512_add_epi8(_mm512_loadu_si512(codes), one);
        for (int p = 1; p < 5; p++) v = _mm512_add_epi8(_mm512_add_epi8(v, _mm512_add_epi8(v, v)), _mm512_add_epi8(_mm512_loadu_si512(codes + 64 * p), one));
        __m512i c = _mm512_packus_epi16(carry3(_mm512_unpacklo_epi8(v, zero)), carry3(_mm512_unpackhi_epi8(v, zero)));
        _mm512_storeu_si512(out, _mm512_add_epi8(v, c));
    }
}

INLINE __m512i scaled16(__m512 v, __m512d k) {
    __m256 lo = _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(v)), k));
    __m256 hi = _mm512_cvtpd_ps(_mm512_mul_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)), k));
    __m512i r = _mm512_castps_si512(_mm512_insertf32x8(_mm512_castps256_ps512(lo), hi, 1));
    return _mm512_mask_and_epi32(r, _mm512_testn_epi32_mask(r, _mm512_set1_epi32((int)SETUN_INF_BITS)), r, _mm512_set1_epi32((int)~SETUN_ABS_MASK));
}

static void scale(float *out, const float *x, size_t n, double f) {
    __m512d k = _mm512_set1_pd(f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) _mm512_storeu_si512(out + i, scaled16(LOAD(x + i), k));
    if (i < n) _mm512_mask_storeu_epi32(out + i, first16(n - i), scaled16(_mm512_maskz_loadu_ps(first16(n - i), x + i), k));
}

static uint32_t range(const float *x, size_t n, size_t d, float *low, float *high) {
    __m512i worst = _mm512_setzero_si512(), mask = _mm512_set1_epi32((int)SETUN_ABS_MASK);
    for (size_t i = 0; i < n; i++, x += d) {
        size_t j = 0;
        for (; j + 16 <= d; j += 16) { /* not masked: the next row could not take its bounds from a masked store before it is in the cache */
            __m512 v = LOAD(x + j);
            worst = _mm512_max_epu32(worst, _mm512_and_si512(mask, _mm512_castps_si512(v)));
            _mm512_storeu_ps(low + j, _mm512_min_ps(v, LOAD(low + j)));
            _mm512_storeu_ps(high + j, _mm512_max_ps(v, LOAD(high + j)));
        }
        if (j < d) {
            __mmask16 k = first16(d - j);
            __m512 v = _mm512_maskz_loadu_ps(k, x + j);
            worst = _mm512_max_epu32(worst, _mm512_and_si512(mask, _mm512_castps_si512(v)));
            _mm512_mask_storeu_ps(low + j, k, _mm512_min_ps(v, _mm512_maskz_loadu_ps(k, low + j)));
            _mm512_mask_storeu_ps(high + j, k, _mm512_max_ps(v, _mm512_maskz_loadu_ps(k, high + j)));
        }
    }
    return _mm512_reduce_max_epu32(worst);
}

/* ---- k-means ------------------------------------------------------------------------------------------------------ */

#define VEC __m512
#define IVEC __m512i
#define LANES 16
#define GROUP 12
#define SPREAD(p) _mm512_set1_ps(*(p))
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define LOAD_INT(p) _mm512_loadu_si512(p)
#define STORE_INT(p, v) _mm512_storeu_si512(p, v)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define SPREAD_INT(n) _mm512_set1_epi32(n)
#define NEXT_INT(v) _mm512_add_epi32(v, _mm512_set1_epi32(1))
#define BETTER(best, index, s, j)                                                                                                                              \
    do {                                                                                                                                                       \
        __mmask16 gt = _mm512_cmp_ps_mask(s, best, _CMP_GT_OQ);                                                                                                \
        best = _mm512_mask_mov_ps(best, gt, s);                                                                                                                \
        index = _mm512_mask_mov_epi32(index, gt, j);                                                                                                           \
    } while (0)
#define AHEAD(p) __builtin_prefetch(p, 0, 2)
#include "nearest.h"
#include "panel_ymm.h"

INLINE void centre_row(float *out, const float *x, size_t d, __m512 unit, const float *mean, const float *c) {
    size_t p = 0;
    for (; p + 16 <= d; p += 16) {
        __m512 v = _mm512_sub_ps(_mm512_mul_ps(LOAD(x + p), unit), LOAD(mean + p));
        _mm512_storeu_ps(out + p, c ? _mm512_sub_ps(v, LOAD(c + p)) : v);
    }
    if (p < d) {
        __mmask16 k = first16(d - p);
        __m512 v = _mm512_sub_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(k, x + p), unit), _mm512_maskz_loadu_ps(k, mean + p));
        _mm512_mask_storeu_ps(out + p, k, c ? _mm512_sub_ps(v, _mm512_maskz_loadu_ps(k, c + p)) : v);
    }
}

static void centre(float *out, const float *x, size_t n, size_t d, const float *unit, const float *mean, const float *const *c) {
    for (size_t r = 0; r < n; r++) {
        __m512 u = _mm512_set1_ps(unit ? unit[r] : 1);
        if (c)
            centre_row(out + r * d, x + r * d, d, u, mean, c[r]);
        else
            centre_row(out + r * d, x + r * d, d, u, mean, 0);
    }
}

INLINE void add_row(int64_t *sums, const float *x, size_t d, const double *scales, const float *weight) {
    __m512d magic = _mm512_set1_pd(SETUN_ROUNDER), w = _mm512_set1_pd(weight ? *weight : 1);
    size_t p = 0;
    for (; p + 8 <= d; p += 8) {
        __m512d v = _mm512_cvtps_pd(_mm256_loadu_ps(x + p));
        if (weight) v = _mm512_mul_pd(v, w);
        __m512i q = _mm512_castpd_si512(_mm512_fmadd_pd(v, _mm512_loadu_pd(scales + p), magic));
        _mm512_storeu_si512(sums + p, _mm512_add_epi64(q, _mm512_loadu_si512(sums + p)));
    }
    if (p < d) {
        __mmask8 m = (__mmask8)first16(d - p);
        __m512d v = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, x + p));
        if (weight) v = _mm512_mul_pd(v, w);
        __m512i q = _mm512_castpd_si512(_mm512_fmadd_pd(v, _mm512_maskz_loadu_pd(m, scales + p), magic));
        _mm512_mask_storeu_epi64(sums + p, m, _mm512_add_epi64(q, _mm512_maskz_loadu_epi64(m, sums + p)));
    }
}

#include "rows.h"

/* ---- matmul ----
 *
 * A block of 14 rows by 32 columns: 28 accumulators, two panel loads and 14 broadcasts, which are operands in memory, for 28 multiply-adds. */

enum { GEMM_ROWS = 14, GEMM_COLS = 32 };

INLINE void gemm_block(const float *a, const float *b, size_t step, size_t k, float *c, size_t ldc, const int rows, int fresh) {
    __m512 s[GEMM_ROWS], t[GEMM_ROWS];
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        s[r] = fresh ? _mm512_setzero_ps() : LOAD(c + (size_t)r * ldc);
        t[r] = fresh ? _mm512_setzero_ps() : LOAD(c + (size_t)r * ldc + 16);
    }
    for (size_t p = 0; p < k; p++, a += GEMM_ROWS, b += step) {
        __m512 u = LOAD(b), v = LOAD(b + 16);
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
            __m512 x = _mm512_set1_ps(a[r]);
            s[r] = _mm512_fmadd_ps(x, u, s[r]);
            t[r] = _mm512_fmadd_ps(x, v, t[r]);
        }
    }
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(c + (size_t)r * ldc, s[r]);
        _mm512_storeu_ps(c + (size_t)r * ldc + 16, t[r]);
    }
}

static void gemm(const float *a, const float *b, size_t step, size_t k, float *c, size_t ldc, size_t rows, int fresh) {
    switch (rows) { /* a block of fewer rows costs less */
    case 14:
        gemm_block(a, b, step, k, c, ldc, 14, fresh);
        return;
    case 13:
        gemm_block(a, b, step, k, c, ldc, 13, fresh);
        return;
    case 12:
        gemm_block(a, b, step, k, c, ldc, 12, fresh);
        return;
    case 11:
        gemm_block(a, b, step, k, c, ldc, 11, fresh);
        return;
    case 10:
        gemm_block(a, b, step, k, c, ldc, 10, fresh);
        return;
    case 9:
        gemm_block(a, b, step, k, c, ldc, 9, fresh);
        return;
    case 8:
        gemm_block(a, b, step, k, c, ldc, 8, fresh);
        return;
    case 7:
        gemm_block(a, b, step, k, c, ldc, 7, fresh);
        return;
    case 6:
        gemm_block(a, b, step, k, c, ldc, 6, fresh);
        return;
    case 5:
        gemm_block(a, b, step, k, c, ldc, 5, fresh);
        return;
    case 4:
        gemm_block(a, b, step, k, c, ldc, 4, fresh);
        return;
    case 3:
        gemm_block(a, b, step, k, c, ldc, 3, fresh);
        return;
    case 2:
        gemm_block(a, b, step, k, c, ldc, 2, fresh);
        return;
    case 1:
        gemm_block(a, b, step, k, c, ldc, 1, fresh);
        return;
    }
}

/* Turns 16 rows of 16 into 16 columns. */
INLINE void transpose(__m512 r[16]) {
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; h++) {
            __m512d u = _mm512_castps_pd(t[i + h]), v = _mm512_castps_pd(t[i + h + 2]);
            r[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(u, v));
            r[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(u, v));
        }
    for (int c = 0; c < 4; c++) { /* r[4g + c] holds, in each quarter q, column 4q + c of rows 4g .. 4g+3 */
        t[c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
        t[4 + c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
        t[8 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
        t[12 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    }
    for (int c = 0; c < 4; c++) {
        r[c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0x88);
        r[8 + c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0xdd);
        r[4 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0x88);
        r[12 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0xdd);
    }
}

/* 16 rows and 16 columns at a time, and what is left over by masks. */
static void interleave(float *out, size_t width, const float *x, size_t ld, size_t rows, size_t k) {
    for (size_t r = 0; r < width; r += 16) {
        __mmask16 w = width - r < 16 ? first16(width - r) : 0xffff;
        for (size_t p = 0; p < k; p += 16) {
            __mmask16 m = k - p < 16 ? first16(k - p) : 0xffff;
            __m512 t[16];
            for (size_t i = 0; i < 16; i++) t[i] = r + i < rows ? _mm512_maskz_loadu_ps(m, x + (r + i) * ld + p) : _mm512_setzero_ps();
            transpose(t);
            for (size_t i = 0; i < 16 && p + i < k; i++) _mm512_mask_storeu_ps(out + (p + i) * width + r, w, t[i]);
        }
    }
}

static void bytes(int8_t *out, const float *x, size_t n, double f) {
    const __m512d v = _mm512_set1_pd(f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i low = _mm512_cvtpd_epi32(_mm512_mul_pd(_mm512_cvtps_pd(_mm256_loadu_ps(x + i)), v));
        __m256i high = _mm512_cvtpd_epi32(_mm512_mul_pd(_mm512_cvtps_pd(_mm256_loadu_ps(x + i + 8)), v));
        _mm_storeu_si128((__m128i *)(out + i), _mm512_cvtepi32_epi8(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1)));
    }
    setun_isa_ref.bytes(out + i, x + i, n - i, f);
}

SETUN_ISA(setun_isa_avx512, "avx512", .layers = &setun_layers_avx512, SETUN_ISA_KMEANS(32, GROUP), SETUN_ISA_MATMUL, SETUN_ISA_CODES(setun_codes_avx2));
SETUN_ISA(setun_isa_avx512vnni, "avx512vnni", SETUN_ISA_KMEANS(32, GROUP), SETUN_ISA_MATMUL, SETUN_ISA_CODES(setun_codes_vnni), .screen = &setun_screen_vnni);
SETUN_ISA(setun_isa_avx512vbmi, "avx512vbmi", SETUN_ISA_CODES(setun_codes_vbmi));
