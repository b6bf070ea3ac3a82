/* SPDX-License-Identifier: Apache-2.0
 *
 * panel_ymm.h: rows turned into columns, for AVX2 and AVX-512. Blocks of 8 by 8: halves of two rows are joined as they are loaded, so two rounds of
 * shuffles are left. In 256 bits, because Zen 4 does two such shuffles a cycle and one of 512 (0.25 ns a value with blocks of 16 by 16, half of it so). */
#ifndef SETUN_PANEL_YMM_H
#define SETUN_PANEL_YMM_H

/* Eight rows from x on, d apart, less the mean, to eight values each at out, out + rows, ... */
INLINE void turn8(float *out, const float *x, size_t d, size_t rows, const float *mean) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++, x += 4, out += 4 * rows) {
        __m256 r[4], t[4];
        for (int i = 0; i < 4; i++)
            r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x + (size_t)i * d)), _mm_loadu_ps(x + (size_t)(i + 4) * d), 1);
        if (mean) {
            __m256 m = _mm256_broadcast_ps((const __m128 *)(mean + 4 * half));
            for (int i = 0; i < 4; i++) r[i] = _mm256_sub_ps(r[i], m);
        }
        t[0] = _mm256_unpacklo_ps(r[0], r[1]);
        t[1] = _mm256_unpackhi_ps(r[0], r[1]);
        t[2] = _mm256_unpacklo_ps(r[2], r[3]);
        t[3] = _mm256_unpackhi_ps(r[2], r[3]);
        for (int i = 0; i < 2; i++) {
            __m256d u = _mm256_castps_pd(t[i]), v = _mm256_castps_pd(t[i + 2]);
            _mm256_storeu_ps(out + (size_t)(2 * i) * rows, _mm256_castpd_ps(_mm256_unpacklo_pd(u, v)));
            _mm256_storeu_ps(out + (size_t)(2 * i + 1) * rows, _mm256_castpd_ps(_mm256_unpackhi_pd(u, v)));
        }
    }
}

INLINE void turn_all(float *out, const float *x, size_t n, size_t d, const float *mean) {
    enum { ROWS = 2 * LANES };
    for (size_t h = 0; h < ROWS; h += 8) {
        size_t p = 0;
        if (n >= h + 8)
            for (; p + 8 <= d; p += 8) turn8(out + p * ROWS + h, x + h * d + p, d, ROWS, mean ? mean + p : 0);
        for (; p < d; p++)
            for (size_t i = h; i < h + 8; i++) out[p * ROWS + i] = i < n ? x[i * d + p] - (mean ? mean[p] : 0) : 0;
    }
}

static void panel(float *out, const float *x, size_t n, size_t d, const float *mean) {
    if (mean)
        turn_all(out, x, n, d, mean);
    else
        turn_all(out, x, n, d, 0);
}

#endif
