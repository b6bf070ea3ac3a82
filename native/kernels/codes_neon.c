/* SPDX-License-Identifier: Apache-2.0
 *
 * codes_neon.c: packed ternary codes with NEON. As every AArch64 has it, products of bytes are of 16 bits and go on to 32 bits in twos; with the dot
 * product of ARMv8.2 four of them are added up at once. */
#include "codes.h"
#include "tile.h"

#include <arm_neon.h>

#define INLINE static inline __attribute__((always_inline))

INLINE int8x16_t codes_of(uint8x16_t digits) { return vsubq_s8(vreinterpretq_s8_u8(digits), vdupq_n_s8(1)); }
INLINE uint8x16_t triple(uint8x16_t v) { return vaddq_u8(v, vaddq_u8(v, v)); }
/* The carry out of 3 v: comparisons are -1 where they hold. */
INLINE uint8x16_t digit(uint8x16_t v) { return vsubq_u8(vdupq_n_u8(0), vaddq_u8(vcgeq_u8(v, vdupq_n_u8(86)), vcgeq_u8(v, vdupq_n_u8(171)))); }

static void unpack2(int8_t *codes, const uint8_t *in, size_t blocks) {
    for (; blocks > 0; blocks--, in += 64, codes += 256)
        for (int b = 0; b < 64; b += 16) {
            uint8x16_t v = vld1q_u8(in + b), three = vdupq_n_u8(3);
            vst1q_s8(codes + b, codes_of(vandq_u8(v, three)));
            vst1q_s8(codes + b + 64, codes_of(vandq_u8(vshrq_n_u8(v, 2), three)));
            vst1q_s8(codes + b + 128, codes_of(vandq_u8(vshrq_n_u8(v, 4), three)));
            vst1q_s8(codes + b + 192, codes_of(vshrq_n_u8(v, 6)));
        }
}

static void unpack3(int8_t *codes, const uint8_t *in, size_t blocks) {
    for (; blocks > 0; blocks--, in += 64, codes += 320)
        for (int b = 0; b < 64; b += 16) {
            uint8x16_t v = vld1q_u8(in + b);
            for (int p = 0; p < 5; p++, v = triple(v)) vst1q_s8(codes + b + 64 * p, codes_of(digit(v)));
        }
}

INLINE uint8x16_t spread(const uint8_t *bits) { /* 16 bits to bytes of 0 or -1 */
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return vtstq_u8(vcombine_u8(vdup_n_u8(bits[0]), vdup_n_u8(bits[1])), vld1q_u8(bit));
}

INLINE void tables(uint8x16_t plus[4]) {
    for (int p = 0; p < 4; p++) plus[p] = vld1q_u8(setun_digits5[p]);
}

/* Code + 1 at position p of 16 places from b on. */
INLINE uint8x16_t pattern(const uint8_t *block, int b, uint8x16_t plus) {
    uint8x16_t v = vld1q_u8(block + b % 32), t = vqtbl1q_u8(plus, b < 32 ? vandq_u8(v, vdupq_n_u8(15)) : vshrq_n_u8(v, 4));
    return vbslq_u8(spread(block + 32 + b / 8), vsubq_u8(vdupq_n_u8(2), t), t);
}

static void unpack5(int8_t *codes, const uint8_t *in, size_t blocks) {
    uint8x16_t plus[4];
    tables(plus);
    for (; blocks > 0; blocks--, in += 40, codes += 256)
        for (int b = 0; b < 64; b += 16)
            for (int p = 0; p < 4; p++) vst1q_s8(codes + b + 64 * p, codes_of(pattern(in, b, plus[p])));
}

static void unpack1(int8_t *codes, const uint8_t *mask, const uint8_t *signs, size_t *at, size_t words) {
    setun_codes_ref.unpack1(codes, mask, signs, at, words);
}

/* All that multiplies, over a way to add up the products of 16 bytes. No instruction spreads the signs of planes: their codes are made first, a word at a time.
 */
#define DOTS(way, target, products)                                                                                                                            \
    target static void dot2_##way(int32_t *sums, const uint8_t *w, size_t stride, size_t rows, const int8_t *a, size_t blocks) {                               \
        for (size_t r = 0; r < rows; r++) {                                                                                                                    \
            int32x4_t acc = vdupq_n_s32(0);                                                                                                                    \
            const uint8_t *in = w + r * stride;                                                                                                                \
            const int8_t *x = a;                                                                                                                               \
            for (size_t i = 0; i < blocks; i++, in += 64, x += 256)                                                                                            \
                for (int b = 0; b < 64; b += 16) {                                                                                                             \
                    uint8x16_t v = vld1q_u8(in + b), three = vdupq_n_u8(3);                                                                                    \
                    acc = products(acc, vreinterpretq_s8_u8(vandq_u8(v, three)), vld1q_s8(x + b));                                                             \
                    acc = products(acc, vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 2), three)), vld1q_s8(x + b + 64));                                         \
                    acc = products(acc, vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 4), three)), vld1q_s8(x + b + 128));                                        \
                    acc = products(acc, vreinterpretq_s8_u8(vshrq_n_u8(v, 6)), vld1q_s8(x + b + 192));                                                         \
                }                                                                                                                                              \
            sums[r] = vaddvq_s32(acc);                                                                                                                         \
        }                                                                                                                                                      \
    }                                                                                                                                                          \
                                                                                                                                                               \
    target static void dot3_##way(int32_t *sums, const uint8_t *w, size_t stride, size_t rows, const int8_t *a, size_t blocks) {                               \
        for (size_t r = 0; r < rows; r++) {                                                                                                                    \
            int32x4_t acc = vdupq_n_s32(0);                                                                                                                    \
            const uint8_t *in = w + r * stride;                                                                                                                \
            const int8_t *x = a;                                                                                                                               \
            for (size_t i = 0; i < blocks; i++, in += 64, x += 320)                                                                                            \
                for (int b = 0; b < 64; b += 16) {                                                                                                             \
                    uint8x16_t v = vld1q_u8(in + b);                                                                                                           \
                    for (int p = 0; p < 5; p++, v = triple(v)) acc = products(acc, vreinterpretq_s8_u8(digit(v)), vld1q_s8(x + b + 64 * p));                   \
                }                                                                                                                                              \
            sums[r] = vaddvq_s32(acc);                                                                                                                         \
        }                                                                                                                                                      \
    }                                                                                                                                                          \
                                                                                                                                                               \
    target static void dot5_##way(int32_t *sums, const uint8_t *w, size_t stride, size_t rows, const int8_t *a, size_t blocks) {                               \
        uint8x16_t plus[4];                                                                                                                                    \
        tables(plus);                                                                                                                                          \
        for (size_t r = 0; r < rows; r++) {                                                                                                                    \
            int32x4_t acc = vdupq_n_s32(0);                                                                                                                    \
            const uint8_t *in = w + r * stride;                                                                                                                \
            const int8_t *x = a;                                                                                                                               \
            for (size_t i = 0; i < blocks; i++, in += 40, x += 256)                                                                                            \
                for (int b = 0; b < 64; b += 16)                                                                                                               \
                    for (int p = 0; p < 4; p++) acc = products(acc, vreinterpretq_s8_u8(pattern(in, b, plus[p])), vld1q_s8(x + b + 64 * p));                   \
            sums[r] = vaddvq_s32(acc);                                                                                                                         \
        }                                                                                                                                                      \
    }                                                                                                                                                          \
                                                                                                                                                               \
    target static int32_t dot8_##way(const int8_t *codes, const int8_t *a, size_t n) {                                                                         \
        int32x4_t acc = vdupq_n_s32(0);                                                                                                                        \
        size_t i = 0;                                                                                                                                          \
        for (; i + 16 <= n; i += 16) acc = products(acc, vld1q_s8(codes + i), vld1q_s8(a + i));                                                                \
        int32_t sum = vaddvq_s32(acc);                                                                                                                         \
        for (; i < n; i++) sum += codes[i] * a[i];                                                                                                             \
        return sum;                                                                                                                                            \
    }                                                                                                                                                          \
                                                                                                                                                               \
    target static int32_t dot1_##way(const uint8_t *mask, const uint8_t *signs, size_t *at, const int8_t *a, size_t words) {                                   \
        int32_t sum = 0;                                                                                                                                       \
        for (size_t i = 0; i < words; i++) {                                                                                                                   \
            int8_t codes[64];                                                                                                                                  \
            unpack1(codes, mask + 8 * i, signs, at, 1);                                                                                                        \
            sum += dot8_##way(codes, a + 64 * i, 64);                                                                                                          \
        }                                                                                                                                                      \
        return sum;                                                                                                                                            \
    }

INLINE int32x4_t in_twos(int32x4_t acc, int8x16_t w, int8x16_t x) {
    int16x8_t s = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    return vpadalq_s16(vpadalq_s16(acc, s), vmull_high_s8(w, x));
}
DOTS(plain, , in_twos)

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
DOTPROD INLINE int32x4_t in_fours(int32x4_t acc, int8x16_t w, int8x16_t x) { return vdotq_s32(acc, w, x); }
DOTS(fours, DOTPROD, in_fours)

const setun_codes setun_codes_neon = {unpack2, unpack3, unpack5, unpack1, dot2_plain, dot3_plain, dot5_plain, dot1_plain, dot8_plain, &setun_tile_neon};
const setun_codes setun_codes_neondot = {unpack2, unpack3, unpack5, unpack1, dot2_fours, dot3_fours, dot5_fours, dot1_fours, dot8_fours, &setun_tile_neondot};
