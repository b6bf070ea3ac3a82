/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_avx2.c: many rows of activations with AVX2. Codes are the unsigned operand of VPMADDUBSW, 2 more than they are: 0 to 4, so that a pair of products is
 * within -1024 .. 1016 and 32 of them fit in 16 bits; after as many steps sums go on to 32 bits, in the first cache. 12 of 16 registers are sums of 16 bits:
 * 408 GOP/s in long columns on a Zen 5 core, and 400 with 8 of them. */
#include "tile.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { ROWS = 16, BATCH = 6, NARROW = 32 };

INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void store(void *p, __m256i v) { _mm256_storeu_si256((__m256i *)p, v); }

/* 8 rows of 8 steps at a time, turned. */
static void lay(uint8_t *panel, const int8_t *codes, size_t stride, size_t count) {
    for (size_t s = 0; s < (count + SETUN_TILE_LAID - 1) / SETUN_TILE_LAID * SETUN_TILE_LAID; s += 8, codes += 32, panel += 8 * ROWS * 4) {
        __m256i r[8], t[8];
        for (size_t i = 0; i < 8; i++) r[i] = _mm256_add_epi8(load(codes + i * stride), _mm256_set1_epi8(2));
        for (int i = 0; i < 8; i += 2) {
            t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
            t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
        }
        for (int i = 0; i < 8; i += 4)
            for (int h = 0; h < 2; h++) {
                r[i + 2 * h] = _mm256_unpacklo_epi64(t[i + h], t[i + h + 2]);
                r[i + 2 * h + 1] = _mm256_unpackhi_epi64(t[i + h], t[i + h + 2]);
            }
        for (int c = 0; c < 4; c++) { /* r[c] and r[4 + c] hold, in each half h, step 4h + c of four rows */
            store(panel + c * ROWS * 4, _mm256_permute2x128_si256(r[c], r[4 + c], 0x20));
            store(panel + (4 + c) * ROWS * 4, _mm256_permute2x128_si256(r[c], r[4 + c], 0x31));
        }
    }
}

INLINE __m256i four(const int8_t *x) {
    int32_t v;
    memcpy(&v, x, sizeof v);
    return _mm256_set1_epi32(v);
}

INLINE __m256i widen(const int32_t *sums, __m256i narrow) { return _mm256_add_epi32(load(sums), _mm256_madd_epi16(narrow, _mm256_set1_epi16(1))); }

/* The sum written out, because GCC 12 copies every accumulator in a loop of the intrinsics. */
INLINE __m256i add_pairs(__m256i s, __m256i u, __m256i x) {
    __m256i p = _mm256_maddubs_epi16(u, x);
#ifdef __GNUC__
    __asm__("vpaddw %1, %0, %0" : "+x"(s) : "x"(p));
    return s;
#else
    return _mm256_add_epi16(s, p);
#endif
}

INLINE void products_of(const size_t batch, int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld) {
    memset(sums, 0, batch * ROWS * sizeof *sums);
    while (steps > 0) {
        size_t some = steps < NARROW ? steps : NARROW;
        __m256i a[BATCH], b[BATCH];
#pragma GCC unroll 6
        for (size_t t = 0; t < batch; t++) a[t] = b[t] = _mm256_setzero_si256();
        steps -= some;
        for (; some > 0; some--, panel += ROWS * 4, x += 4) {
            __m256i u = load(panel), v = load(panel + 32);
#pragma GCC unroll 6
            for (size_t t = 0; t < batch; t++) {
                __m256i w = four(x + t * ld);
                a[t] = add_pairs(a[t], u, w);
                b[t] = add_pairs(b[t], v, w);
            }
        }
#pragma GCC unroll 6
        for (size_t t = 0; t < batch; t++) {
            store(sums + t * ROWS, widen(sums + t * ROWS, a[t]));
            store(sums + t * ROWS + 8, widen(sums + t * ROWS + 8, b[t]));
        }
    }
}

static void products(int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld, size_t batch) {
    switch (batch) {
    case 6:
        products_of(6, sums, panel, steps, x, ld);
        return;
    case 5:
        products_of(5, sums, panel, steps, x, ld);
        return;
    case 4:
        products_of(4, sums, panel, steps, x, ld);
        return;
    case 3:
        products_of(3, sums, panel, steps, x, ld);
        return;
    case 2:
        products_of(2, sums, panel, steps, x, ld);
        return;
    case 1:
        products_of(1, sums, panel, steps, x, ld);
        return;
    }
}

static int32_t sum(const int8_t *x, size_t n) {
    __m256i acc = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) /* as unsigned bytes 128 more than they are */
        acc = _mm256_add_epi64(acc, _mm256_sad_epu8(_mm256_xor_si256(load(x + i), _mm256_set1_epi8((char)128)), _mm256_setzero_si256()));
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(acc), _mm256_extracti128_si256(acc, 1));
    int32_t s = _mm_cvtsi128_si32(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two))) - (int32_t)(128 * i);
    for (; i < n; i++) s += x[i];
    return s;
}

static void scale(double *v, float *out, const int32_t *sums, int32_t less, const float *scales, double unit) {
    for (int r = 0; r < ROWS; r += 4) {
        __m128i s = _mm_sub_epi32(_mm_loadu_si128((const __m128i *)(sums + r)), _mm_set1_epi32(less));
        __m256d p = _mm256_mul_pd(_mm256_cvtepi32_pd(s), _mm256_cvtps_pd(_mm_loadu_ps(scales + r)));
        p = _mm256_add_pd(v ? _mm256_loadu_pd(v + r) : _mm256_setzero_pd(), p);
        if (v)
            _mm256_storeu_pd(v + r, p);
        else
            _mm_storeu_ps(out + r, _mm256_cvtpd_ps(_mm256_mul_pd(p, _mm256_set1_pd(unit))));
    }
}

const setun_tile setun_tile_avx2 = {
    .rows = ROWS, .batch = BATCH, .step = 4, .lines = 8, .more = 2, .reach = 2, .from = 4, .lay = lay, .products = products, .sum = sum, .scale = scale};
