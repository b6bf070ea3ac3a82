/* SPDX-License-Identifier: Apache-2.0
 *
 * bits.h: float bits and the scalar forms of small steps, for the tails of vector loops. */
#ifndef SETUN_BITS_H
#define SETUN_BITS_H

#include <stdint.h>
#include <string.h>

#define SETUN_ABS_MASK 0x7fffffffu
#define SETUN_INF_BITS 0x7f800000u
#define SETUN_ROUNDER 0x1.8p52 /* added and taken away, it rounds |v| <= 2^51 to an integer, ties to even */

static inline uint32_t setun_bits(float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static inline float setun_float(uint32_t u) {
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

static inline float setun_abs(float v) { return setun_float(setun_bits(v) & SETUN_ABS_MASK); }

static inline int64_t setun_rint(double v) { return (int64_t)((v + SETUN_ROUNDER) - SETUN_ROUNDER); }

static inline float setun_scaled(float x, double f) {
    uint32_t r = setun_bits((float)((double)x * f));
    return setun_float(r & SETUN_INF_BITS ? r : r & ~SETUN_ABS_MASK);
}

static inline uint8_t setun_byte3(uint32_t v) { return (uint8_t)((256 * v + 242) / 243); }

/* Halves 32 lanes until one is left. */
static inline double setun_fold(double *t) {
    for (int w = 16; w > 0; w /= 2)
        for (int l = 0; l < w; l++) t[l] += t[l + w];
    return t[0];
}

#endif
