/* SPDX-License-Identifier: Apache-2.0
 *
 * tile_neon.c: many rows of activations with NEON. With the dot product of ARMv8.2 lanes are rows that add up four products of bytes, signed ones: nothing has
 * to come off afterwards. As every AArch64 has it, a lane is one code, products are added up in 16 bits (64 of 2*128 fit) and go on to 32 bits.
 * From how many rows of activations on this is worth while has not been measured: twice as many as on x86-64. */
#include "tile.h"

#include <arm_neon.h>

#define INLINE static inline __attribute__((always_inline))

enum { ROWS = 16, BATCH = 4, NARROW = 64 };

static int32_t sum(const int8_t *x, size_t n) { /* not asked for: panels hold the codes as they are */
    int32_t s = 0;
    for (size_t i = 0; i < n; i++) s += x[i];
    return s;
}

static void scale(double *v, float *out, const int32_t *sums, int32_t less, const float *scales, double unit) {
    for (int r = 0; r < ROWS; r += 2) {
        int32x2_t s = vsub_s32(vld1_s32(sums + r), vdup_n_s32(less));
        float64x2_t p = vmulq_f64(vcvtq_f64_s64(vmovl_s32(s)), vcvt_f64_f32(vld1_f32(scales + r)));
        p = vaddq_f64(v ? vld1q_f64(v + r) : vdupq_n_f64(0), p);
        if (v)
            vst1q_f64(v + r, p);
        else
            vst1_f32(out + r, vcvt_f32_f64(vmulq_n_f64(p, unit)));
    }
}

/* 16 rows of 16 codes at a time: four times the two halves of what there is are zipped. */
static void lay_plain(uint8_t *panel, const int8_t *codes, size_t stride, size_t count) {
    for (size_t s = 0; s < count; s += 16, codes += 16, panel += 16 * ROWS) {
        uint8x16_t r[16], t[16];
        for (size_t i = 0; i < 16; i++) r[i] = vreinterpretq_u8_s8(vld1q_s8(codes + i * stride));
        for (int round = 0; round < 4; round++) {
            for (int i = 0; i < 8; i++) {
                t[2 * i] = vzip1q_u8(r[i], r[i + 8]);
                t[2 * i + 1] = vzip2q_u8(r[i], r[i + 8]);
            }
            for (int i = 0; i < 16; i++) r[i] = t[i];
        }
        for (int i = 0; i < 16; i++) vst1q_u8(panel + i * ROWS, r[i]);
    }
}

INLINE void plain_of(const size_t batch, int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld) {
    int32x4_t wide[BATCH][4];
    for (size_t t = 0; t < batch; t++)
        for (int q = 0; q < 4; q++) wide[t][q] = vdupq_n_s32(0);
    while (steps > 0) {
        size_t some = steps < NARROW ? steps : NARROW;
        int16x8_t a[BATCH], b[BATCH];
        for (size_t t = 0; t < batch; t++) a[t] = b[t] = vdupq_n_s16(0);
        steps -= some;
        for (; some > 0; some--, panel += ROWS, x++) {
            int8x16_t u = vreinterpretq_s8_u8(vld1q_u8(panel));
#pragma GCC unroll 4
            for (size_t t = 0; t < batch; t++) {
                int8x16_t w = vld1q_dup_s8(x + t * ld);
                a[t] = vmlal_s8(a[t], vget_low_s8(u), vget_low_s8(w));
                b[t] = vmlal_high_s8(b[t], u, w);
            }
        }
        for (size_t t = 0; t < batch; t++) {
            wide[t][0] = vaddw_s16(wide[t][0], vget_low_s16(a[t]));
            wide[t][1] = vaddw_high_s16(wide[t][1], a[t]);
            wide[t][2] = vaddw_s16(wide[t][2], vget_low_s16(b[t]));
            wide[t][3] = vaddw_high_s16(wide[t][3], b[t]);
        }
    }
    for (size_t t = 0; t < batch; t++)
        for (int q = 0; q < 4; q++) vst1q_s32(sums + t * ROWS + 4 * q, wide[t][q]);
}

#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))

/* Four rows of four steps at a time. */
static void lay_fours(uint8_t *panel, const int8_t *codes, size_t stride, size_t count) {
    for (size_t s = 0; s < (count + SETUN_TILE_LAID - 1) / SETUN_TILE_LAID * SETUN_TILE_LAID; s += 4, codes += 16, panel += 4 * ROWS * 4) {
        uint32x4_t r[4];
        for (size_t i = 0; i < 4; i++) r[i] = vreinterpretq_u32_s8(vld1q_s8(codes + i * stride));
        uint32x4_t a = vzip1q_u32(r[0], r[2]), b = vzip2q_u32(r[0], r[2]), c = vzip1q_u32(r[1], r[3]), d = vzip2q_u32(r[1], r[3]);
        vst1q_u8(panel, vreinterpretq_u8_u32(vzip1q_u32(a, c)));
        vst1q_u8(panel + ROWS * 4, vreinterpretq_u8_u32(vzip2q_u32(a, c)));
        vst1q_u8(panel + 2 * ROWS * 4, vreinterpretq_u8_u32(vzip1q_u32(b, d)));
        vst1q_u8(panel + 3 * ROWS * 4, vreinterpretq_u8_u32(vzip2q_u32(b, d)));
    }
}

/* The products of a step, whose activations are a lane of w. */
#define STEP(lane)                                                                                                                                             \
    for (int q = 0; q < 4; q++) {                                                                                                                              \
        int8x16_t u = vreinterpretq_s8_u8(vld1q_u8(panel + 16 * q));                                                                                           \
        for (size_t t = 0; t < batch; t++) acc[t][q] = vdotq_laneq_s32(acc[t][q], u, w[t], lane);                                                              \
    }                                                                                                                                                          \
    panel += ROWS * 4;

DOTPROD INLINE void fours_of(const size_t batch, int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld) {
    int32x4_t acc[BATCH][4];
    int8x16_t w[BATCH];
    for (size_t t = 0; t < batch; t++)
        for (int q = 0; q < 4; q++) acc[t][q] = vdupq_n_s32(0);
    for (; steps >= 4; steps -= 4, x += 16) {
        for (size_t t = 0; t < batch; t++) w[t] = vld1q_s8(x + t * ld);
        STEP(0)
        STEP(1)
        STEP(2)
        STEP(3)
    }
    for (; steps > 0; steps--, x += 4) {
        for (size_t t = 0; t < batch; t++) {
            int32_t v;
            memcpy(&v, x + t * ld, sizeof v);
            w[t] = vreinterpretq_s8_s32(vdupq_n_s32(v));
        }
        STEP(0)
    }
    for (size_t t = 0; t < batch; t++)
        for (int q = 0; q < 4; q++) vst1q_s32(sums + t * ROWS + 4 * q, acc[t][q]);
}

/* The number of rows is a constant to the compiler, so that accumulators stay in registers. */
#define PRODUCTS(way, target)                                                                                                                                  \
    target static void products_##way(int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld, size_t batch) {                           \
        switch (batch) {                                                                                                                                       \
        case 4:                                                                                                                                                \
            way##_of(4, sums, panel, steps, x, ld);                                                                                                            \
            return;                                                                                                                                            \
        case 3:                                                                                                                                                \
            way##_of(3, sums, panel, steps, x, ld);                                                                                                            \
            return;                                                                                                                                            \
        case 2:                                                                                                                                                \
            way##_of(2, sums, panel, steps, x, ld);                                                                                                            \
            return;                                                                                                                                            \
        case 1:                                                                                                                                                \
            way##_of(1, sums, panel, steps, x, ld);                                                                                                            \
            return;                                                                                                                                            \
        }                                                                                                                                                      \
    }
PRODUCTS(plain, )
PRODUCTS(fours, DOTPROD)

const setun_tile setun_tile_neon = {.rows = ROWS,
                                    .batch = BATCH,
                                    .step = 1,
                                    .lines = 16,
                                    .more = 0,
                                    .reach = 2,
                                    .from = 8,
                                    .lay = lay_plain,
                                    .products = products_plain,
                                    .sum = sum,
                                    .scale = scale};
const setun_tile setun_tile_neondot = {.rows = ROWS,
                                       .batch = BATCH,
                                       .step = 4,
                                       .lines = 4,
                                       .more = 0,
                                       .reach = 128,
                                       .from = 8,
                                       .lay = lay_fours,
                                       .products = products_fours,
                                       .sum = sum,
                                       .scale = scale};
