/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_vnni.c: many rows of activations with AVX-512 VNNI. Codes are the unsigned operand, 128 more than they are, so that any byte is right; activations are
 * read where they are, four of them broadcast for 32 rows of codes. 24 of 32 registers are sums: of 12 rows of activations, 24 products a step against 14
 * loads. */
#include "tile.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { ROWS = 32, BATCH = 12 };

INLINE __m512i load(const void *p) { return _mm512_loadu_si512(p); }

/* 16 rows of 16 steps at a time, turned. */
static void lay(uint8_t *panel, const int8_t *codes, size_t stride, size_t count) {
    for (size_t s = 0; s < count; s += 16, codes += 64, panel += 16 * ROWS * 4) {
        __m512i r[16], t[16];
        for (size_t i = 0; i < 16; i++) r[i] = _mm512_xor_si512(load(codes + i * stride), _mm512_set1_epi8((char)128));
        for (int i = 0; i < 16; i += 2) {
            t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
            t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        }
        for (int i = 0; i < 16; i += 4)
            for (int h = 0; h < 2; h++) {
                r[i + 2 * h] = _mm512_unpacklo_epi64(t[i + h], t[i + h + 2]);
                r[i + 2 * h + 1] = _mm512_unpackhi_epi64(t[i + h], t[i + h + 2]);
            }
        for (int c = 0; c < 4; c++) { /* r[4g + c] holds, in each quarter q, step 4q + c of rows 4g .. 4g+3 */
            __m512i even[2], odd[2];
            for (int h = 0; h < 2; h++) {
                even[h] = _mm512_shuffle_i32x4(r[8 * h + c], r[8 * h + 4 + c], 0x88);
                odd[h] = _mm512_shuffle_i32x4(r[8 * h + c], r[8 * h + 4 + c], 0xdd);
            }
            uint8_t *to = panel + c * ROWS * 4;
            _mm512_storeu_si512(to, _mm512_shuffle_i32x4(even[0], even[1], 0x88));
            _mm512_storeu_si512(to + 4 * ROWS * 4, _mm512_shuffle_i32x4(odd[0], odd[1], 0x88));
            _mm512_storeu_si512(to + 8 * ROWS * 4, _mm512_shuffle_i32x4(even[0], even[1], 0xdd));
            _mm512_storeu_si512(to + 12 * ROWS * 4, _mm512_shuffle_i32x4(odd[0], odd[1], 0xdd));
        }
    }
}

/* Written out, because GCC 12 copies every accumulator in a loop of the intrinsics, at half the speed. */
INLINE __m512i add_products(__m512i s, __m512i u, __m512i x) {
#ifdef __GNUC__
    __asm__("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(u), "v"(x));
    return s;
#else
    return _mm512_dpbusd_epi32(s, u, x);
#endif
}

INLINE __m512i four(const int8_t *x) {
    int32_t v;
    memcpy(&v, x, sizeof v);
    return _mm512_set1_epi32(v);
}

INLINE void products_of(const size_t batch, int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld) {
    __m512i a[BATCH], b[BATCH];
#pragma GCC unroll 12 /* else GCC 12 keeps a copy of them in memory, too */
    for (size_t t = 0; t < batch; t++) a[t] = b[t] = _mm512_setzero_si512();
    for (; steps > 0; steps--, panel += ROWS * 4, x += 4) {
        __m512i u = load(panel), v = load(panel + 64);
#pragma GCC unroll 12
        for (size_t t = 0; t < batch; t++) {
            __m512i w = four(x + t * ld);
            a[t] = add_products(a[t], u, w);
            b[t] = add_products(b[t], v, w);
        }
    }
#pragma GCC unroll 12
    for (size_t t = 0; t < batch; t++) {
        _mm512_storeu_si512(sums + t * ROWS, a[t]);
        _mm512_storeu_si512(sums + t * ROWS + 16, b[t]);
    }
}

/* One function for each number of rows. */
typedef void some_products(int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld);
#define PRODUCTS(n)                                                                                                                                            \
    static void products##n(int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld) { products_of(n, sums, panel, steps, x, ld); }
#define NAME(n) products##n,
#define SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
SIZES(PRODUCTS)
static some_products *const of_size[BATCH + 1] = {0, SIZES(NAME)};

static void products(int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld, size_t batch) { of_size[batch](sums, panel, steps, x, ld); }

static int32_t sum(const int8_t *x, size_t n) {
    const __m512i one = _mm512_set1_epi8(1);
    __m512i acc = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 64 <= n; i += 64) acc = _mm512_dpbusd_epi32(acc, one, load(x + i));
    if (i < n) acc = _mm512_dpbusd_epi32(acc, one, _mm512_maskz_loadu_epi8(((__mmask64)1 << (n - i)) - 1, x + i));
    return _mm512_reduce_add_epi32(acc);
}

static void scale(double *v, float *out, const int32_t *sums, int32_t less, const float *scales, double unit) {
    for (int r = 0; r < ROWS; r += 8) {
        __m256i s = _mm256_sub_epi32(_mm256_loadu_si256((const __m256i *)(sums + r)), _mm256_set1_epi32(less));
        __m512d p = _mm512_mul_pd(_mm512_cvtepi32_pd(s), _mm512_cvtps_pd(_mm256_loadu_ps(scales + r)));
        p = _mm512_add_pd(v ? _mm512_loadu_pd(v + r) : _mm512_setzero_pd(), p);
        if (v)
            _mm512_storeu_pd(v + r, p);
        else
            _mm256_storeu_ps(out + r, _mm512_cvtpd_ps(_mm512_mul_pd(p, _mm512_set1_pd(unit))));
    }
}

const setun_tile setun_tile_vnni = {
    .rows = ROWS, .batch = BATCH, .step = 4, .lines = 16, .more = 128, .reach = 128, .from = 4, .lay = lay, .products = products, .sum = sum, .scale = scale};
