/* SPDX-License-Identifier: Apache-2.0
 *
 * codes_ref.c: the plain loops of codes.h, which are the truth. */
#include "codes.h"

static void unpack2(int8_t *codes, const uint8_t *in, size_t blocks) {
    for (; blocks > 0; blocks--, in += 64, codes += 256)
        for (int i = 0; i < 256; i++) codes[i] = (int8_t)((in[i % 64] >> 2 * (i / 64) & 3) - 1);
}

static void unpack3(int8_t *codes, const uint8_t *in, size_t blocks) {
    for (; blocks > 0; blocks--, in += 64, codes += 320)
        for (int i = 0; i < 320; i++) codes[i] = (int8_t)(setun_digit3(in[i % 64], i / 64) - 1);
}

/* Code + 1 at position p of place b. */
static int code5(const uint8_t *block, int b, int p) {
    int t = setun_digit5(block[b % 32] >> 4 * (b / 32) & 15, p);
    return block[32 + b / 8] >> b % 8 & 1 ? 2 - t : t;
}

static void unpack5(int8_t *codes, const uint8_t *in, size_t blocks) {
    for (; blocks > 0; blocks--, in += 40, codes += 256)
        for (int i = 0; i < 256; i++) codes[i] = (int8_t)(code5(in, i % 64, i / 64) - 1);
}

static void unpack1(int8_t *codes, const uint8_t *mask, const uint8_t *signs, size_t *at, size_t words) {
    for (size_t i = 0; i < 64 * words; i++) {
        codes[i] = 0;
        if (mask[i / 8] >> i % 8 & 1) {
            codes[i] = signs[*at / 8] >> *at % 8 & 1 ? -1 : 1;
            ++*at;
        }
    }
}

static void dot2(int32_t *sums, const uint8_t *w, size_t stride, size_t rows, const int8_t *a, size_t blocks) {
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *in = w + r * stride;
        sums[r] = 0;
        for (size_t i = 0; i < 256 * blocks; i++) sums[r] += (in[i / 256 * 64 + i % 64] >> 2 * (i % 256 / 64) & 3) * a[i];
    }
}

static void dot3(int32_t *sums, const uint8_t *w, size_t stride, size_t rows, const int8_t *a, size_t blocks) {
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *in = w + r * stride;
        sums[r] = 0;
        for (size_t i = 0; i < 320 * blocks; i++) sums[r] += setun_digit3(in[i / 320 * 64 + i % 64], (int)(i % 320 / 64)) * a[i];
    }
}

static void dot5(int32_t *sums, const uint8_t *w, size_t stride, size_t rows, const int8_t *a, size_t blocks) {
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *in = w + r * stride;
        sums[r] = 0;
        for (size_t i = 0; i < 256 * blocks; i++) sums[r] += code5(in + i / 256 * 40, (int)(i % 64), (int)(i % 256 / 64)) * a[i];
    }
}

static int32_t dot1(const uint8_t *mask, const uint8_t *signs, size_t *at, const int8_t *a, size_t words) {
    int32_t sum = 0;
    for (size_t i = 0; i < 64 * words; i++)
        if (mask[i / 8] >> i % 8 & 1) {
            sum += signs[*at / 8] >> *at % 8 & 1 ? -a[i] : a[i];
            ++*at;
        }
    return sum;
}

static int32_t dot8(const int8_t *codes, const int8_t *a, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += codes[i] * a[i];
    return sum;
}

const setun_codes setun_codes_ref = {unpack2, unpack3, unpack5, unpack1, dot2, dot3, dot5, dot1, dot8, 0};
