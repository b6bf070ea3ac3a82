/* SPDX-License-Identifier: Apache-2.0
 *
 * codes_vnni.c: packed ternary codes with AVX-512 VNNI, which multiplies 64 unsigned by signed bytes and adds them up in fours.
 *
 * 2 bits: the codes stay where they are in their byte: what the mask 0x0c leaves is four times the code, and so on; four accumulators whose sums are exact
 * multiples. Two operations for 64 codes.
 *
 * base 3: with b_0 the byte and b_{n+1} = 3 b_n mod 256, digit n is (3 b_n - b_{n+1}) / 256. So the sum of digit n times activation is
 * (3 P - Q) / 256, where P sums b_n times the activation of its digit and Q b_{n+1}: no digit is ever formed. Four operations for 64 codes.
 *
 * four5: a table of the 16 numbers for either sign, looked up by a shuffle of bytes; or with AVX-512 VBMI one of all 32 patterns. planes: the signs are spread
 * to their places by PDEP. */
#include "codes.h"
#include "tile.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define EACH(r) for (size_t r = 0; r < rows; r++)

INLINE __m512i load(const void *p) { return _mm512_loadu_si512(p); }
/* A load, and a request for what the same row of the next group of rows has there: rows are short streams, and the machine's own prefetching begins anew with
 * each. */
INLINE __m512i fetch(const uint8_t *p, size_t ahead) {
    _mm_prefetch((const char *)p + ahead, _MM_HINT_T0);
    return load(p);
}
INLINE __m512i codes_of(__m512i digits) { return _mm512_sub_epi8(digits, _mm512_set1_epi8(1)); }

static void unpack2(int8_t *codes, const uint8_t *in, size_t blocks) {
    const __m512i three = _mm512_set1_epi8(3);
    for (; blocks > 0; blocks--, in += 64, codes += 256) {
        __m512i v = load(in);
        _mm512_storeu_si512(codes, codes_of(_mm512_and_si512(v, three)));
        _mm512_storeu_si512(codes + 64, codes_of(_mm512_and_si512(_mm512_srli_epi16(v, 2), three)));
        _mm512_storeu_si512(codes + 128, codes_of(_mm512_and_si512(_mm512_srli_epi16(v, 4), three)));
        _mm512_storeu_si512(codes + 192, codes_of(_mm512_and_si512(_mm512_srli_epi16(v, 6), three)));
    }
}

/* The carries out of 3 v, less 1: -1 below 256/3, 0, or 1 from 512/3 on. */
INLINE __m512i carry(__m512i v) {
    __mmask64 one = _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8(86)), two = _mm512_cmpge_epu8_mask(v, _mm512_set1_epi8((char)171));
    return _mm512_mask_sub_epi8(_mm512_maskz_set1_epi8(two, 1), ~one, _mm512_setzero_si512(), _mm512_set1_epi8(1));
}

static void unpack3(int8_t *codes, const uint8_t *in, size_t blocks) {
    for (; blocks > 0; blocks--, in += 64, codes += 320) {
        __m512i v = load(in);
        for (int p = 0; p < 5; p++, v = _mm512_add_epi8(v, _mm512_add_epi8(v, v))) _mm512_storeu_si512(codes + 64 * p, carry(v));
    }
}

/* Code + 1 at position p of each number, for either first sign. */
INLINE void tables(__m512i plus[4], __m512i minus[4]) {
    for (int p = 0; p < 4; p++) {
        plus[p] = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)setun_digits5[p]));
        minus[p] = _mm512_sub_epi8(_mm512_set1_epi8(2), plus[p]);
    }
}

INLINE __m512i pattern(__m512i number, __mmask64 sign, __m512i plus, __m512i minus) {
    return _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(plus, number), sign, minus, number);
}

/* The numbers of a block's 64 places. */
INLINE __m512i halves(const uint8_t *block) {
    __m512i both = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)block));
    return _mm512_and_si512(_mm512_mask_srli_epi16(both, 0xffff0000u, both, 4), _mm512_set1_epi8(15));
}

static void unpack5(int8_t *codes, const uint8_t *in, size_t blocks) {
    __m512i plus[4], minus[4];
    tables(plus, minus);
    for (; blocks > 0; blocks--, in += 40, codes += 256) {
        __m512i number = halves(in);
        __mmask64 sign = setun_load64(in + 32);
        for (int p = 0; p < 4; p++) _mm512_storeu_si512(codes + 64 * p, codes_of(pattern(number, sign, plus[p], minus[p])));
    }
}

static void unpack1(int8_t *codes, const uint8_t *mask, const uint8_t *signs, size_t *at, size_t words) {
    size_t bit = *at;
    for (size_t i = 0; i < words; i++) {
        uint64_t some = setun_load64(mask + 8 * i), minus = _pdep_u64(setun_signs(signs, bit), some);
        bit += (size_t)_mm_popcnt_u64(some);
        _mm512_storeu_si512(codes + 64 * i, _mm512_mask_set1_epi8(_mm512_maskz_set1_epi8(some, 1), minus, -1));
    }
    *at = bit;
}

INLINE void dot2_rows(int32_t *sums, const uint8_t *w, size_t stride, const size_t rows, const int8_t *a, size_t blocks) {
    __m512i acc[4][SETUN_DOT_ROWS];
    for (int p = 0; p < 4; p++) EACH(r) acc[p][r] = _mm512_setzero_si512();
    for (; blocks > 0; blocks--, w += 64, a += 256) {
        __m512i v[SETUN_DOT_ROWS];
        EACH(r) v[r] = fetch(w + r * stride, rows * stride);
        for (int p = 0; p < 4; p++) {
            __m512i x = load(a + 64 * p), mask = _mm512_set1_epi8((char)(3 << 2 * p));
            EACH(r) acc[p][r] = _mm512_dpbusd_epi32(acc[p][r], _mm512_and_si512(v[r], mask), x);
        }
    }
    EACH(r) {
        __m512i low = _mm512_add_epi32(acc[0][r], _mm512_srai_epi32(acc[1][r], 2)), high = _mm512_add_epi32(acc[2][r], _mm512_srai_epi32(acc[3][r], 2));
        sums[r] = _mm512_reduce_add_epi32(_mm512_add_epi32(low, _mm512_srai_epi32(high, 4)));
    }
}

INLINE void dot3_rows(int32_t *sums, const uint8_t *w, size_t stride, const size_t rows, const int8_t *a, size_t blocks) {
    __m512i p[SETUN_DOT_ROWS], q[SETUN_DOT_ROWS];
    EACH(r) p[r] = q[r] = _mm512_setzero_si512();
    for (; blocks > 0; blocks--, w += 64, a += 320) {
        __m512i v[SETUN_DOT_ROWS];
        EACH(r) v[r] = fetch(w + r * stride, rows * stride);
        for (int i = 0; i < 5; i++) {
            __m512i x = load(a + 64 * i);
            EACH(r) {
                p[r] = _mm512_dpbusd_epi32(p[r], v[r], x);
                v[r] = _mm512_add_epi8(v[r], _mm512_add_epi8(v[r], v[r]));
                q[r] = _mm512_dpbusd_epi32(q[r], v[r], x);
            }
        }
    }
    EACH(r)
    sums[r] = _mm512_reduce_add_epi32(
        _mm512_srai_epi32(_mm512_sub_epi32(_mm512_add_epi32(p[r], _mm512_add_epi32(p[r], p[r])), q[r]), 8)); /* each lane is a multiple */
}

INLINE void dot5_rows(int32_t *sums, const uint8_t *w, size_t stride, const size_t rows, const int8_t *a, size_t blocks) {
    __m512i plus[4], minus[4], acc[SETUN_DOT_ROWS];
    tables(plus, minus);
    EACH(r) acc[r] = _mm512_setzero_si512();
    for (; blocks > 0; blocks--, w += 40, a += 256) {
        __m512i number[SETUN_DOT_ROWS];
        __mmask64 sign[SETUN_DOT_ROWS];
        EACH(r) {
            _mm_prefetch((const char *)w + (r + rows) * stride, _MM_HINT_T0);
            number[r] = halves(w + r * stride);
            sign[r] = setun_load64(w + r * stride + 32);
        }
        for (int p = 0; p < 4; p++) {
            __m512i x = load(a + 64 * p);
            EACH(r) acc[r] = _mm512_dpbusd_epi32(acc[r], pattern(number[r], sign[r], plus[p], minus[p]), x);
        }
    }
    EACH(r) sums[r] = _mm512_reduce_add_epi32(acc[r]);
}

#define VBMI __attribute__((target("avx512vbmi")))

/* Code + 1 at position p of each of 32 patterns, the second 16 those of the other first sign. */
VBMI INLINE void all_tables(__m512i table[4]) {
    for (int p = 0; p < 4; p++) {
        __m512i plus = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)setun_digits5[p]));
        table[p] = _mm512_mask_sub_epi8(plus, 0xffff0000ffff0000u, _mm512_set1_epi8(2), plus);
    }
}

/* The patterns of a block's 64 places. */
VBMI INLINE __m512i patterns(const uint8_t *block) {
    __m512i number = halves(block);
    return _mm512_mask_add_epi8(number, (__mmask64)setun_load64(block + 32), number, _mm512_set1_epi8(16));
}

VBMI static void unpack5_vbmi(int8_t *codes, const uint8_t *in, size_t blocks) {
    __m512i table[4];
    all_tables(table);
    for (; blocks > 0; blocks--, in += 40, codes += 256) {
        __m512i which = patterns(in);
        for (int p = 0; p < 4; p++) _mm512_storeu_si512(codes + 64 * p, codes_of(_mm512_permutexvar_epi8(which, table[p])));
    }
}

VBMI INLINE void dot5_vbmi_rows(int32_t *sums, const uint8_t *w, size_t stride, const size_t rows, const int8_t *a, size_t blocks) {
    __m512i table[4], acc[2][SETUN_DOT_ROWS]; /* two chains of additions a row */
    all_tables(table);
    EACH(r) acc[0][r] = acc[1][r] = _mm512_setzero_si512();
    for (; blocks > 0; blocks--, w += 40, a += 256) {
        __m512i number[SETUN_DOT_ROWS];
        EACH(r) {
            _mm_prefetch((const char *)w + (r + rows) * stride, _MM_HINT_T0);
            number[r] = patterns(w + r * stride);
        }
        for (int p = 0; p < 4; p++) {
            __m512i x = load(a + 64 * p);
            EACH(r) acc[p % 2][r] = _mm512_dpbusd_epi32(acc[p % 2][r], _mm512_permutexvar_epi8(number[r], table[p]), x);
        }
    }
    EACH(r) sums[r] = _mm512_reduce_add_epi32(_mm512_add_epi32(acc[0][r], acc[1][r]));
}

/* The number of rows is a constant to the compiler, so that accumulators stay in registers. */
#define ROWS(name)                                                                                                                                             \
    static void name(int32_t *sums, const uint8_t *w, size_t stride, size_t rows, const int8_t *a, size_t blocks) {                                            \
        if (rows == SETUN_DOT_ROWS)                                                                                                                            \
            name##_rows(sums, w, stride, SETUN_DOT_ROWS, a, blocks);                                                                                           \
        else                                                                                                                                                   \
            for (size_t r = 0; r < rows; r++) name##_rows(sums + r, w + r * stride, stride, 1, a, blocks);                                                     \
    }
ROWS(dot2)
ROWS(dot3)
ROWS(dot5)
VBMI ROWS(dot5_vbmi)

    /* All that are not 0 count as plus, and those that are minus come off twice. */
    static int32_t dot1(const uint8_t *mask, const uint8_t *signs, size_t *at, const int8_t *a, size_t words) {
    const __m512i one = _mm512_set1_epi8(1);
    __m512i plus = _mm512_setzero_si512(), minus = plus;
    size_t bit = *at;
    for (size_t i = 0; i < words; i++) {
        uint64_t some = setun_load64(mask + 8 * i), negative = _pdep_u64(setun_signs(signs, bit), some);
        __m512i x = load(a + 64 * i);
        bit += (size_t)_mm_popcnt_u64(some);
        plus = _mm512_dpbusd_epi32(plus, _mm512_maskz_mov_epi8(some, one), x);
        minus = _mm512_dpbusd_epi32(minus, _mm512_maskz_mov_epi8(negative, one), x);
    }
    *at = bit;
    return _mm512_reduce_add_epi32(plus) - 2 * _mm512_reduce_add_epi32(minus);
}

static int32_t dot8(const int8_t *codes, const int8_t *a, size_t n) {
    const __m512i bias = _mm512_set1_epi8((char)128);
    __m512i acc = _mm512_setzero_si512(), sum = acc;
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 some = n - i < 64 ? ((__mmask64)1 << (n - i)) - 1 : ~(__mmask64)0;
        __m512i x = _mm512_maskz_loadu_epi8(some, a + i), w = _mm512_maskz_loadu_epi8(some, codes + i);
        acc = _mm512_dpbusd_epi32(acc, _mm512_xor_si512(w, bias), x); /* 128 more than the code */
        sum = _mm512_dpbusd_epi32(sum, bias, x);
    }
    return _mm512_reduce_add_epi32(_mm512_sub_epi32(acc, sum));
}

const setun_codes setun_codes_vnni = {unpack2, unpack3, unpack5, unpack1, dot2, dot3, dot5, dot1, dot8, &setun_tile_vnni};
const setun_codes setun_codes_vbmi = {unpack2, unpack3, unpack5_vbmi, unpack1, dot2, dot3, dot5_vbmi, dot1, dot8, &setun_tile_vnni};
