/* SPDX-License-Identifier: Apache-2.0
 *
 * codes_avx2.c: packed ternary codes with AVX2, which multiplies unsigned by signed bytes and adds them up in twos of 16 bits: a pair is at most
 * 2*2*128 in magnitude, four times that where codes stay in the upper half of their nibble; sums go on to 32 bits before they can overflow. */
#include "codes.h"
#include "tile.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define EACH(r) for (size_t r = 0; r < rows; r++)
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(p), v)

INLINE __m256i load(const void *p) { return _mm256_loadu_si256(p); }
INLINE __m256i byte(int v) { return _mm256_set1_epi8((char)v); }
INLINE __m256i codes_of(__m256i digits) { return _mm256_sub_epi8(digits, byte(1)); }
/* 16-bit sums to 32-bit ones. */
INLINE __m256i widen(__m256i acc, __m256i sums) { return _mm256_add_epi32(acc, _mm256_madd_epi16(sums, _mm256_set1_epi16(1))); }

INLINE int32_t total(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

static void unpack2(int8_t *codes, const uint8_t *in, size_t blocks) {
    for (; blocks > 0; blocks--, in += 64, codes += 256)
        for (int h = 0; h < 64; h += 32) {
            __m256i v = load(in + h), three = byte(3);
            STORE(codes + h, codes_of(_mm256_and_si256(v, three)));
            STORE(codes + h + 64, codes_of(_mm256_and_si256(_mm256_srli_epi16(v, 2), three)));
            STORE(codes + h + 128, codes_of(_mm256_and_si256(_mm256_srli_epi16(v, 4), three)));
            STORE(codes + h + 192, codes_of(_mm256_and_si256(_mm256_srli_epi16(v, 6), three)));
        }
}

INLINE __m256i at_least(__m256i v, int low) { return _mm256_cmpeq_epi8(_mm256_max_epu8(v, byte(low)), v); } /* -1 where it is */
INLINE __m256i triple(__m256i v) { return _mm256_add_epi8(v, _mm256_add_epi8(v, v)); }
/* The carry out of 3 v: 0, 1 from 256/3 on, 2 from 512/3 on. */
INLINE __m256i digit(__m256i v) { return _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(at_least(v, 86), at_least(v, 171))); }

static void unpack3(int8_t *codes, const uint8_t *in, size_t blocks) {
    for (; blocks > 0; blocks--, in += 64, codes += 320)
        for (int h = 0; h < 64; h += 32) {
            __m256i v = load(in + h);
            for (int p = 0; p < 5; p++, v = triple(v)) STORE(codes + h + 64 * p, codes_of(digit(v)));
        }
}

/* Bits of a word to bytes of 0 or -1. */
INLINE __m256i spread(uint32_t bits) {
    const __m256i which = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303),
                  bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i v = _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)bits), which);
    return _mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit);
}

/* Code + 1 at position p of each number, when the first sign is plus. */
INLINE void tables(__m256i plus[4]) {
    for (int p = 0; p < 4; p++) plus[p] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)setun_digits5[p]));
}

/* Numbers and signs of the places 32h .. 32h+31 of a block. */
INLINE void places(const uint8_t *block, int h, __m256i *number, __m256i *sign) {
    __m256i v = load(block);
    uint32_t bits;
    memcpy(&bits, block + 32 + 4 * h, sizeof bits);
    *number = _mm256_and_si256(h ? _mm256_srli_epi16(v, 4) : v, byte(15));
    *sign = spread(bits);
}

INLINE __m256i pattern(__m256i number, __m256i sign, __m256i plus) {
    __m256i t = _mm256_shuffle_epi8(plus, number);
    return _mm256_blendv_epi8(t, _mm256_sub_epi8(byte(2), t), sign);
}

static void unpack5(int8_t *codes, const uint8_t *in, size_t blocks) {
    __m256i plus[4], number, sign;
    tables(plus);
    for (; blocks > 0; blocks--, in += 40, codes += 256)
        for (int h = 0; h < 2; h++) {
            places(in, h, &number, &sign);
            for (int p = 0; p < 4; p++) STORE(codes + 64 * p + 32 * h, codes_of(pattern(number, sign, plus[p])));
        }
}

/* Both planes of the next 32 codes: bits where a code is not 0, and where it is negative. The signs are spread to their places by PDEP. */
INLINE uint32_t negative(uint32_t some, const uint8_t *signs, size_t *at) {
    uint32_t minus = (uint32_t)_pdep_u64(setun_signs(signs, *at), some);
    *at += (size_t)_mm_popcnt_u32(some);
    return minus;
}

static void unpack1(int8_t *codes, const uint8_t *mask, const uint8_t *signs, size_t *at, size_t words) {
    for (size_t i = 0; i < 2 * words; i++) {
        uint32_t some;
        memcpy(&some, mask + 4 * i, sizeof some);
        __m256i minus = spread(negative(some, signs, at)); /* -1 - 2 * -1 = 1 */
        STORE(codes + 32 * i, _mm256_sub_epi8(_mm256_add_epi8(minus, minus), spread(some)));
    }
}

/* 16 blocks of 8 products of pairs of at most 2*2*128 are less than 2^15, and so are 3 of those in the upper half of a nibble. */
INLINE void dot2_rows(int32_t *sums, const uint8_t *w, size_t stride, const size_t rows, const int8_t *a, size_t blocks) {
    __m256i low[SETUN_DOT_ROWS], high[SETUN_DOT_ROWS];
    EACH(r) low[r] = high[r] = _mm256_setzero_si256();
    for (; blocks > 0; blocks--, w += 64, a += 256) {
        __m256i l[SETUN_DOT_ROWS], h[SETUN_DOT_ROWS];
        EACH(r) l[r] = h[r] = _mm256_setzero_si256();
        for (int half = 0; half < 64; half += 32) {
            __m256i x0 = load(a + half), x1 = load(a + half + 64), x2 = load(a + half + 128), x3 = load(a + half + 192);
            EACH(r) {
                _mm_prefetch((const char *)w + (r + rows) * stride + half, _MM_HINT_T0); /* what the same row of the next group has there */
                __m256i v = load(w + r * stride + half), u = _mm256_srli_epi16(v, 4);
                l[r] = _mm256_add_epi16(l[r], _mm256_maddubs_epi16(_mm256_and_si256(v, byte(3)), x0));
                h[r] = _mm256_add_epi16(h[r], _mm256_maddubs_epi16(_mm256_and_si256(v, byte(12)), x1));
                l[r] = _mm256_add_epi16(l[r], _mm256_maddubs_epi16(_mm256_and_si256(u, byte(3)), x2));
                h[r] = _mm256_add_epi16(h[r], _mm256_maddubs_epi16(_mm256_and_si256(u, byte(12)), x3));
            }
        }
        EACH(r) {
            low[r] = widen(low[r], l[r]);
            high[r] = widen(high[r], h[r]);
        }
    }
    EACH(r) sums[r] = total(low[r]) + total(_mm256_srai_epi32(high[r], 2));
}

INLINE void dot3_rows(int32_t *sums, const uint8_t *w, size_t stride, const size_t rows, const int8_t *a, size_t blocks) {
    __m256i acc[SETUN_DOT_ROWS];
    EACH(r) acc[r] = _mm256_setzero_si256();
    for (; blocks > 0; blocks--, w += 64, a += 320) {
        __m256i s[SETUN_DOT_ROWS];
        EACH(r) s[r] = _mm256_setzero_si256();
        for (int half = 0; half < 64; half += 32) {
            __m256i v[SETUN_DOT_ROWS];
            EACH(r) {
                _mm_prefetch((const char *)w + (r + rows) * stride + half, _MM_HINT_T0);
                v[r] = load(w + r * stride + half);
            }
            for (int i = 0; i < 5; i++) {
                __m256i x = load(a + half + 64 * i);
                EACH(r) {
                    s[r] = _mm256_add_epi16(s[r], _mm256_maddubs_epi16(digit(v[r]), x));
                    v[r] = triple(v[r]);
                }
            }
        }
        EACH(r) acc[r] = widen(acc[r], s[r]);
    }
    EACH(r) sums[r] = total(acc[r]);
}

INLINE void dot5_rows(int32_t *sums, const uint8_t *w, size_t stride, const size_t rows, const int8_t *a, size_t blocks) {
    __m256i plus[4], acc[SETUN_DOT_ROWS];
    tables(plus);
    EACH(r) acc[r] = _mm256_setzero_si256();
    for (; blocks > 0; blocks--, w += 40, a += 256)
        for (int h = 0; h < 2; h++) EACH(r) {
                _mm_prefetch((const char *)w + (r + rows) * stride, _MM_HINT_T0);
                __m256i number, sign, s = _mm256_setzero_si256();
                places(w + r * stride, h, &number, &sign);
                for (int p = 0; p < 4; p++) s = _mm256_add_epi16(s, _mm256_maddubs_epi16(pattern(number, sign, plus[p]), load(a + 64 * p + 32 * h)));
                acc[r] = widen(acc[r], s);
            }
    EACH(r) sums[r] = total(acc[r]);
}

/* The number of rows is a constant to the compiler, so that accumulators stay in registers. */
#define ROWS(name, most)                                                                                                                                       \
    static void name(int32_t *sums, const uint8_t *w, size_t stride, size_t rows, const int8_t *a, size_t blocks) {                                            \
        size_t r = 0;                                                                                                                                          \
        for (; r + (most) <= rows; r += (most)) name##_rows(sums + r, w + r * stride, stride, most, a, blocks);                                                \
        for (; r < rows; r++) name##_rows(sums + r, w + r * stride, stride, 1, a, blocks);                                                                     \
    }
ROWS(dot2, 2)
ROWS(dot3, 4)
ROWS(dot5, 2)

static int32_t dot1(const uint8_t *mask, const uint8_t *signs, size_t *at, const int8_t *a, size_t words) {
    __m256i acc = _mm256_setzero_si256();
    for (size_t i = 0; i < 2 * words; i++) {
        uint32_t some;
        memcpy(&some, mask + 4 * i, sizeof some);
        __m256i x = load(a + 32 * i), keep = spread(some), minus = spread(negative(some, signs, at));
        __m256i plus = _mm256_maddubs_epi16(_mm256_andnot_si256(minus, _mm256_and_si256(keep, byte(1))), x),
                less = _mm256_maddubs_epi16(_mm256_and_si256(minus, byte(1)), x);
        acc = widen(acc, _mm256_sub_epi16(plus, less));
    }
    return total(acc);
}

static int32_t dot8(const int8_t *codes, const int8_t *a, size_t n) {
    __m256i acc = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int h = 0; h < 32; h += 16) {
            __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(codes + i + h))),
                    x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(a + i + h)));
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(w, x));
        }
    int32_t sum = total(acc);
    for (; i < n; i++) sum += codes[i] * a[i];
    return sum;
}

const setun_codes setun_codes_avx2 = {unpack2, unpack3, unpack5, unpack1, dot2, dot3, dot5, dot1, dot8, &setun_tile_avx2};
