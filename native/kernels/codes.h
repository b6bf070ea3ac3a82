/* SPDX-License-Identifier: Apache-2.0
 *
 * codes.h: what a level provides for packed ternary codes: to unpack them, and to multiply them by int8 activations without unpacking. All sums are of
 * integers and so the same in any order. Blocks are full ones: an op copies the end of a row into a block of its own. The comment of an entry is what
 * codes_ref.c does.
 *
 *     format   block       place b of a block holds the codes
 *     2 bits   256 / 64 B  b, b+64, b+128, b+192: byte b = t0 + 4 t1 + 16 t2 + 64 t3, t = code + 1
 *     base 3   320 / 64 B  b, b+64, ..., b+256: byte b = ceil(256 v / 243), v = 81 t0 + 27 t1 + 9 t2 + 3 t3 + t4
 *     four5    256 / 40 B  b, b+64, b+128, b+192, one of them 0: its number in a half of byte b % 32, the first sign in bit b of the last 8 bytes
 *     planes   64 / 8 B    a bit for each code that is not 0; the signs of those follow each other elsewhere */
#ifndef SETUN_CODES_H
#define SETUN_CODES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    SETUN_DOT_ROWS = 4,       /* rows of codes that share the loads of activations */
    SETUN_DOT_BLOCKS = 512,   /* of a call at most: sums fit in 32 bits */
    SETUN_DOT_CODES = 1 << 16 /* of a call of dot8 at most */
};

/* sums[r] = the sum of (code + 1) * a over so many blocks of row r, whose codes begin at w + r*stride; rows <= SETUN_DOT_ROWS, blocks <= SETUN_DOT_BLOCKS. */
typedef void setun_dot(int32_t *sums, const uint8_t *w, size_t stride, size_t rows, const int8_t *a, size_t blocks);

typedef struct setun_codes {
    void (*unpack2)(int8_t *codes, const uint8_t *in, size_t blocks);
    void (*unpack3)(int8_t *codes, const uint8_t *in, size_t blocks);
    void (*unpack5)(int8_t *codes, const uint8_t *in, size_t blocks);
    /* Words of 64 codes; *at is the position of the first sign, in bits, and afterwards that behind the last one. Up to 8 bytes behind the last sign are read.
     */
    void (*unpack1)(int8_t *codes, const uint8_t *mask, const uint8_t *signs, size_t *at, size_t words);
    setun_dot *dot2, *dot3, *dot5;
    /* The sum of code * a over words of 64 codes, at most 4 * SETUN_DOT_BLOCKS. */
    int32_t (*dot1)(const uint8_t *mask, const uint8_t *signs, size_t *at, const int8_t *a, size_t words);
    /* The sum of code * a over n <= SETUN_DOT_CODES codes of a byte. */
    int32_t (*dot8)(const int8_t *codes, const int8_t *a, size_t n);
    const struct setun_tile *tile; /* for many rows of activations; may be null */
} setun_codes;

extern const setun_codes setun_codes_ref;
extern const setun_codes setun_codes_avx2;
extern const setun_codes setun_codes_vnni;
extern const setun_codes setun_codes_vbmi;
extern const setun_codes setun_codes_neon;
extern const setun_codes setun_codes_neondot;

/* A code of base 3 is the carry out of a fraction of 256 times 3. */
static inline int setun_digit3(uint8_t byte, int digit) {
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    return (uint8_t)(byte * power[digit]) * 3 >> 8;
}

/* Code + 1 of a number of four5 whose first sign is plus, at position p of four. */
static inline int setun_digit5(int number, int p) {
    int zero = number >> 2, n = p - (p > zero);
    if (p == zero) return 1;
    return n > 0 && number >> (2 - n) & 1 ? 0 : 2;
}

/* That of all numbers, position by position: computed by each call it takes as long as several blocks. */
#define SETUN_AFTER5(n, p) ((p) - ((p) > (n) >> 2))
#define SETUN_DIGIT5(n, p) ((p) == (n) >> 2 ? 1 : SETUN_AFTER5(n, p) > 0 && (n) >> ((2 - SETUN_AFTER5(n, p)) & 3) & 1 ? 0 : 2)
#define SETUN_FOUR(n, p) SETUN_DIGIT5(n, p), SETUN_DIGIT5(n + 1, p), SETUN_DIGIT5(n + 2, p), SETUN_DIGIT5(n + 3, p)
#define SETUN_SIXTEEN(p)                                                                                                                                       \
    { SETUN_FOUR(0, p), SETUN_FOUR(4, p), SETUN_FOUR(8, p), SETUN_FOUR(12, p) }
static const uint8_t setun_digits5[4][16] = {SETUN_SIXTEEN(0), SETUN_SIXTEEN(1), SETUN_SIXTEEN(2), SETUN_SIXTEEN(3)};

static inline uint64_t setun_load64(const uint8_t *p) { /* little-endian machines only, as all that have a level beside the reference */
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* 64 signs from bit `at` on. */
static inline uint64_t setun_signs(const uint8_t *signs, size_t at) {
    const uint8_t *p = signs + at / 8;
    unsigned shift = at % 8;
    return setun_load64(p) >> shift | (uint64_t)p[8] << 1 << (63 - shift);
}

#endif
