/* SPDX-License-Identifier: Apache-2.0
 *
 * AVX2 with FMA. 8 float32 or 4 float64 a vector; tails are copied into zeros.
 *
 * Sums: 32 lanes are four float32 or eight float64 accumulators, enough to hide the latency of an addition.
 * k-means: a tile of 16 points by 6 centroids keeps 12 of 16 registers as accumulators over the whole dimension. */
#include "bits.h"
#include "codes.h"
#include "isa.h"
#include "layers.h"
#include "stream.h"
#include "products_ymm.h"

#define LOAD(p) _mm256_loadu_ps(p)

INLINE __m256 magnitude(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

INLINE void add_magnitudes(__m256 acc[4], const float *x) {
    for (int v = 0; v < 4; v++) acc[v] = _mm256_add_ps(acc[v], magnitude(LOAD(x + 8 * v)));
}

static double abs_chunk(const float *x, size_t n) {
    __m256 acc[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    float buffer[32];
    size_t i = 0;
    for (; i + 32 <= n; i += 32) add_magnitudes(acc, x + i);
    if (i < n) add_magnitudes(acc, padded(buffer, x + i, n - i));
    __m256d t[8];
    for (int v = 0; v < 4; v++) {
        t[2 * v] = _mm256_cvtps_pd(_mm256_castps256_ps128(acc[v]));
        t[2 * v + 1] = _mm256_cvtps_pd(_mm256_extractf128_ps(acc[v], 1));
    }
    return fold_ymm(t);
}

INLINE uint32_t max_lane(__m256i v) {
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

INLINE __m256i bits(const float *x) { return _mm256_castps_si256(magnitude(LOAD(x))); }

static uint32_t abs_max(const float *x, size_t n) {
    __m256i a = _mm256_setzero_si256(), b = a;
    float buffer[32];
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        a = _mm256_max_epu32(_mm256_max_epu32(a, bits(x + i)), bits(x + i + 8));
        b = _mm256_max_epu32(_mm256_max_epu32(b, bits(x + i + 16)), bits(x + i + 24));
    }
    if (i < n) {
        const float *t = padded(buffer, x + i, n - i);
        for (int v = 0; v < 32; v += 8) a = _mm256_max_epu32(a, bits(t + v));
    }
    return max_lane(_mm256_max_epu32(a, b));
}

/* The sum of lanes that counted down. */
INLINE int64_t counted(__m256i v) {
    __m128i m = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return -(int64_t)_mm_cvtsi128_si32(m);
}

static void select_codes(float *v, const float *x, size_t n, float one, float two, float small, int64_t counts[2]) {
    __m256 c1 = _mm256_set1_ps(one), c2 = _mm256_set1_ps(two), s = _mm256_set1_ps(small);
    __m256i n1 = _mm256_setzero_si256(), n2 = n1;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 m = magnitude(LOAD(x + i)), k1 = _mm256_cmp_ps(m, c1, _CMP_GT_OQ), k2 = _mm256_cmp_ps(m, c2, _CMP_GT_OQ);
        _mm256_storeu_ps(v + i, _mm256_blendv_ps(_mm256_and_ps(k1, _mm256_mul_ps(s, m)), m, k2));
        n1 = _mm256_add_epi32(n1, _mm256_castps_si256(k1)); /* a chunk is far too short to overflow them */
        n2 = _mm256_add_epi32(n2, _mm256_castps_si256(k2));
    }
    counts[0] += counted(n1);
    counts[1] += counted(n2);
    if (i < n) setun_isa_ref.select(v + i, x + i, n - i, one, two, small, counts);
}

/* (x > cut) - (x < -cut) for 8 values. */
INLINE __m256i codes8(__m256 x, __m256 cut, __m256 minus) {
    return _mm256_sub_epi32(_mm256_castps_si256(_mm256_cmp_ps(x, minus, _CMP_LT_OQ)), _mm256_castps_si256(_mm256_cmp_ps(x, cut, _CMP_GT_OQ)));
}

/* Codes of 32 values to bytes in their order: the packs work within halves. */
INLINE void store32(int8_t *out, const __m256i c[4]) {
    __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3]));
    _mm256_storeu_si256((__m256i *)out, _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

static void ternary(int8_t *out, const float *x, size_t n, float cut) {
    __m256 p = _mm256_set1_ps(cut), m = _mm256_set1_ps(-cut);
    __m256i c[4];
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        for (int v = 0; v < 4; v++) c[v] = codes8(LOAD(x + i + 8 * v), p, m);
        store32(out + i, c);
    }
    if (i < n) setun_isa_ref.ternary(out + i, x + i, n - i, cut);
}

static void quinary(int8_t *out, const float *x, size_t n, float one, float two) {
    __m256 p1 = _mm256_set1_ps(one), m1 = _mm256_set1_ps(-one), p2 = _mm256_set1_ps(two), m2 = _mm256_set1_ps(-two);
    __m256i c[4];
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        for (int v = 0; v < 4; v++) {
            __m256 u = LOAD(x + i + 8 * v);
            c[v] = _mm256_add_epi32(codes8(u, p1, m1), codes8(u, p2, m2));
        }
        store32(out + i, c);
    }
    if (i < n) setun_isa_ref.quinary(out + i, x + i, n - i, one, two);
}

INLINE __m256i plus1(const int8_t *codes) { return _mm256_add_epi8(_mm256_loadu_si256((const __m256i *)codes), _mm256_set1_epi8(1)); }

static void pack2(uint8_t *out, const int8_t *codes, size_t blocks) {
    for (; blocks > 0; blocks--, out += 64, codes += 256)
        for (int h = 0; h < 64; h += 32) {
            __m256i v = plus1(codes + 192 + h);
            for (int p = 2; p >= 0; p--) /* v stays below 64 before a shift, so no bit crosses a byte */
                v = _mm256_add_epi8(_mm256_slli_epi16(v, 2), plus1(codes + 64 * p + h));
            _mm256_storeu_si256((__m256i *)(out + h), v);
        }
}

/* floor((13 v + 242) / 243) for 16-bit v <= 242: 16 * 4316 / 2^24 is 1/243 closely enough. */
INLINE __m256i carry3(__m256i v) {
    __m256i y = _mm256_add_epi16(_mm256_mullo_epi16(v, _mm256_set1_epi16(208)), _mm256_set1_epi16(3872));
    return _mm256_srli_epi16(_mm256_mulhi_epu16(y, _mm256_set1_epi16(4316)), 8);
}

static void pack3(uint8_t *out, const int8_t *codes, size_t blocks) {
    __m256i zero = _mm256_setzero_si256();
    for (; blocks > 0; blocks--, out += 64, codes += 320)
        for (int h = 0; h < 64; h += 32) {
            __m256i v = plus1(codes + h);
            for (int p = 1; p < 5; p++) v = _mm256_add_epi8(_mm256_add_epi8(v, _mm256_add_epi8(v, v)), plus1(codes + 64 * p + h));
            __m256i c = _mm256_packus_epi16(carry3(_mm256_unpacklo_epi8(v, zero)), carry3(_mm256_unpackhi_epi8(v, zero)));
            _mm256_storeu_si256((__m256i *)(out + h), _mm256_add_epi8(v, c));
        }
}

static void scale(float *out, const float *x, size_t n, double f) {
    __m256d k = _mm256_set1_pd(f);
    __m256i exponent = _mm256_set1_epi32((int)SETUN_INF_BITS), sign = _mm256_set1_epi32((int)~SETUN_ABS_MASK);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128 lo = _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(x + i)), k));
        __m128 hi = _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(x + i + 4)), k));
        __m256i r = _mm256_castps_si256(_mm256_set_m128(hi, lo));
        __m256i small = _mm256_cmpeq_epi32(_mm256_and_si256(r, exponent), _mm256_setzero_si256());
        r = _mm256_and_si256(r, _mm256_or_si256(sign, _mm256_andnot_si256(small, _mm256_set1_epi32(-1))));
        _mm256_storeu_si256((__m256i *)(out + i), r);
    }
    if (i < n) setun_isa_ref.scale(out + i, x + i, n - i, f);
}

static uint32_t range(const float *x, size_t n, size_t d, float *low, float *high) {
    __m256i worst = _mm256_setzero_si256();
    uint32_t tail = 0;
    for (size_t i = 0; i < n; i++, x += d) {
        size_t j = 0;
        for (; j + 8 <= d; j += 8) {
            __m256 v = LOAD(x + j);
            worst = _mm256_max_epu32(worst, _mm256_castps_si256(magnitude(v)));
            _mm256_storeu_ps(low + j, _mm256_min_ps(v, LOAD(low + j)));
            _mm256_storeu_ps(high + j, _mm256_max_ps(v, LOAD(high + j)));
        }
        if (j < d) {
            uint32_t u = setun_isa_ref.range(x + j, 1, d - j, low + j, high + j);
            tail = u > tail ? u : tail;
        }
    }
    uint32_t u = max_lane(worst);
    return u > tail ? u : tail;
}

/* ---- k-means ------------------------------------------------------------------------------------------------------ */

#define VEC __m256
#define IVEC __m256i
#define LANES 8
#define GROUP 6
#define SPREAD(p) _mm256_broadcast_ss(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define LOAD_INT(p) _mm256_loadu_si256((const __m256i *)(p))
#define STORE_INT(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define SPREAD_INT(n) _mm256_set1_epi32(n)
#define NEXT_INT(v) _mm256_add_epi32(v, _mm256_set1_epi32(1))
#define BETTER(best, index, s, j)                                                                                                                              \
    do {                                                                                                                                                       \
        __m256 gt = _mm256_cmp_ps(s, best, _CMP_GT_OQ);                                                                                                        \
        best = _mm256_blendv_ps(best, s, gt);                                                                                                                  \
        index = _mm256_blendv_epi8(index, j, _mm256_castps_si256(gt));                                                                                         \
    } while (0)
#define AHEAD(p) __builtin_prefetch(p, 0, 2)
#include "nearest.h"
#include "panel_ymm.h"

INLINE void centre_row(float *out, const float *x, size_t d, const float *unit, const float *mean, const float *c) {
    __m256 u = _mm256_set1_ps(unit ? *unit : 1);
    size_t p = 0;
    for (; p + 8 <= d; p += 8) {
        __m256 v = _mm256_sub_ps(_mm256_mul_ps(LOAD(x + p), u), LOAD(mean + p));
        _mm256_storeu_ps(out + p, c ? _mm256_sub_ps(v, LOAD(c + p)) : v);
    }
    if (p < d) setun_isa_ref.centre(out + p, x + p, 1, d - p, unit, mean + p, c ? &(const float *){c + p} : 0);
}

static void centre(float *out, const float *x, size_t n, size_t d, const float *unit, const float *mean, const float *const *c) {
    for (size_t r = 0; r < n; r++)
        if (c)
            centre_row(out + r * d, x + r * d, d, unit ? unit + r : 0, mean, c[r]);
        else
            centre_row(out + r * d, x + r * d, d, unit ? unit + r : 0, mean, 0);
}

INLINE void add_row(int64_t *sums, const float *x, size_t d, const double *scales, const float *weight) {
    __m256d magic = _mm256_set1_pd(SETUN_ROUNDER), w = _mm256_set1_pd(weight ? *weight : 1);
    size_t p = 0;
    for (; p + 4 <= d; p += 4) {
        __m256d v = _mm256_cvtps_pd(_mm_loadu_ps(x + p));
        if (weight) v = _mm256_mul_pd(v, w);
        __m256i q = _mm256_castpd_si256(_mm256_fmadd_pd(v, _mm256_loadu_pd(scales + p), magic));
        _mm256_storeu_si256((__m256i *)(sums + p), _mm256_add_epi64(q, _mm256_loadu_si256((const __m256i *)(sums + p))));
    }
    if (p < d) setun_isa_ref.add_rows(sums + p, 0, x + p, 1, d - p, scales + p, weight);
}

#include "rows.h"

/* ---- matmul ----
 *
 * A block of 6 rows by 16 columns: 12 accumulators, two panel loads and 6 broadcasts for 12 multiply-adds. */

enum { GEMM_ROWS = 6, GEMM_COLS = 16 };

INLINE void gemm_block(const float *a, const float *b, size_t step, size_t k, float *c, size_t ldc, const int rows, int fresh) {
    __m256 s[GEMM_ROWS], t[GEMM_ROWS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        s[r] = fresh ? _mm256_setzero_ps() : LOAD(c + (size_t)r * ldc);
        t[r] = fresh ? _mm256_setzero_ps() : LOAD(c + (size_t)r * ldc + 8);
    }
    for (size_t p = 0; p < k; p++, a += GEMM_ROWS, b += step) {
        __m256 u = LOAD(b), v = LOAD(b + 8);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m256 x = _mm256_broadcast_ss(a + r);
            s[r] = _mm256_fmadd_ps(x, u, s[r]);
            t[r] = _mm256_fmadd_ps(x, v, t[r]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(c + (size_t)r * ldc, s[r]);
        _mm256_storeu_ps(c + (size_t)r * ldc + 8, t[r]);
    }
}

static void gemm(const float *a, const float *b, size_t step, size_t k, float *c, size_t ldc, size_t rows, int fresh) {
    switch (rows) { /* a block of fewer rows costs less */
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

/* Turns 8 rows of 8 into 8 columns. */
INLINE void transpose(__m256 r[8]) {
    __m256 t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int h = 0; h < 2; h++) {
            r[i + 2 * h] = _mm256_shuffle_ps(t[i + h], t[i + h + 2], 0x44);
            r[i + 2 * h + 1] = _mm256_shuffle_ps(t[i + h], t[i + h + 2], 0xee);
        }
    for (int c = 0; c < 4; c++) {
        t[c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
        t[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
    }
    memcpy(r, t, sizeof t);
}

/* 8 rows and 8 columns at a time; what is left over goes to the plain loop. */
static void interleave(float *out, size_t width, const float *x, size_t ld, size_t rows, size_t k) {
    size_t p = 0;
    for (; p + 8 <= k && rows == width; p += 8) {
        size_t r = 0;
        for (; r < width; r += 8) {
            __m256 t[8];
            for (size_t i = 0; i < 8; i++) t[i] = r + i < width ? LOAD(x + (r + i) * ld + p) : _mm256_setzero_ps();
            transpose(t);
            for (size_t i = 0; i < 8; i++) {
                float *to = out + (p + i) * width + r;
                if (width - r >= 8) {
                    _mm256_storeu_ps(to, t[i]);
                } else { /* 6 */
                    _mm_storeu_ps(to, _mm256_castps256_ps128(t[i]));
                    _mm_storel_pi((__m64 *)(to + 4), _mm256_extractf128_ps(t[i], 1));
                }
            }
        }
    }
    setun_isa_ref.interleave(out + p * width, width, x + p, ld, rows, k - p);
}

static __m128i four(const float *x, __m256d f) { return _mm256_cvtpd_epi32(_mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(x)), f)); }

static void bytes(int8_t *out, const float *x, size_t n, double f) {
    const __m256d v = _mm256_set1_pd(f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i low = _mm_packs_epi32(four(x + i, v), four(x + i + 4, v)), high = _mm_packs_epi32(four(x + i + 8, v), four(x + i + 12, v));
        _mm_storeu_si128((__m128i *)(out + i), _mm_packs_epi16(low, high));
    }
    setun_isa_ref.bytes(out + i, x + i, n - i, f);
}

SETUN_ISA(setun_isa_avx2, "avx2", .layers = &setun_layers_avx2, SETUN_ISA_KMEANS(16, GROUP), SETUN_ISA_MATMUL, SETUN_ISA_CODES(setun_codes_avx2));
