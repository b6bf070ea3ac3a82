/* SPDX-License-Identifier: Apache-2.0
 *
 * naive.c: docs/numerics.md word by word, with arrays where the library streams and fmaf where it emulates. Speed and memory do not
 * matter here; being another way to the same number does. */
#include "test.h"

#include <math.h>
#include <stdio.h>

static void *must(void *p) {
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return p;
}

/* Lane w and above added to those below, until lane 0 has all. */
static double fold(double *lane, int width) {
    for (int l = 0; l < width / 2; l++) lane[l] += lane[l + width / 2];
    return width > 1 ? fold(lane, width / 2) : lane[0];
}

static double chunk64(const double *v, size_t n) {
    double lane[32] = {0};
    for (size_t i = 0; i < n; i++) lane[i % 32] += v[i];
    return fold(lane, 32);
}

static double chunk32(const double *v, size_t n) {
    float lane[32] = {0};
    for (size_t i = 0; i < n; i++) lane[i % 32] += (float)v[i];
    double wide[32];
    for (int l = 0; l < 32; l++) wide[l] = (double)lane[l];
    return fold(wide, 32);
}

/* S(v), or A(v) with narrow set. Uses v up. */
static double sum(double *v, size_t n, int narrow) {
    while (n > 1 || narrow) {
        size_t m = 0;
        for (size_t i = 0; i < n; i += 4096, m++) {
            size_t len = n - i < 4096 ? n - i : 4096;
            double s = narrow ? chunk32(v + i, len) : chunk64(v + i, len);
            v[m] = isfinite(s) ? s : chunk64(v + i, len);
        }
        n = m;
        narrow = 0;
    }
    return n ? v[0] : 0;
}

double naive_dot(const float *x, const float *y, size_t n) {
    double *v = must(malloc(n * sizeof *v));
    for (size_t i = 0; i < n; i++) v[i] = (double)x[i] * (double)y[i];
    double s = sum(v, n, 0);
    free(v);
    return s + 0.0; /* a lane begins at +0, so a single -0 becomes +0 */
}

double naive_magnitudes(const float *x, size_t n) {
    double *v = must(malloc(n * sizeof *v));
    for (size_t i = 0; i < n; i++) v[i] = fabs((double)x[i]);
    double s = sum(v, n, 1);
    free(v);
    return s;
}

/* ---- quantize ----------------------------------------------------------------------------------------------------- */

static int8_t code(uint32_t levels, float s, float x) {
    float m = fabsf(x);
    int c;
    if (levels == SETUN_TERNARY)
        c = m > s / 2 ? 1 : 0;
    else
        c = m > 0.75f * s ? 2 : m > s / 4 ? 1 : 0;
    return (int8_t)(x < 0 ? -c : c);
}

static int size(int8_t c) { return c < 0 ? -c : c; }

/* The least-squares scale of codes, and their n1 + 4 n2 in *weight. */
static float fit(uint32_t levels, const float *x, size_t n, const int8_t *codes, double *weight) {
    float *v = must(malloc(n * sizeof *v));
    size_t count[3] = {0};
    for (size_t i = 0; i < n; i++) {
        int c = size(codes[i]);
        count[c]++;
        v[i] = c == 0 ? 0 : levels == SETUN_QUINARY && c == 1 ? fabsf(x[i]) / 2 : fabsf(x[i]);
    }
    double a = naive_magnitudes(v, n);
    free(v);
    *weight = (double)count[1] + 4 * (double)count[2];
    return levels == SETUN_TERNARY ? (float)(a / (double)count[1]) : (float)(4 * a / *weight);
}

void naive_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3], k = key[0], l = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p = 0xD2511F53ull * a, q = 0xCD9E8D57ull * c;
        uint32_t a2 = (uint32_t)(q >> 32) ^ b ^ k, c2 = (uint32_t)(p >> 32) ^ d ^ l;
        b = (uint32_t)q, d = (uint32_t)p, a = a2, c = c2;
        k += 0x9E3779B9u, l += 0xBB67AE85u;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

static int8_t draw(uint32_t levels, float s, float x, uint64_t seed, uint64_t index) {
    if (s == 0) return 0;
    uint32_t counter[4] = {(uint32_t)(index / 4), (uint32_t)(index / 4 >> 32), 1, 0}, key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, words[4];
    naive_philox(counter, key, words);
    double v = fabs((double)x) / (double)s * (levels == SETUN_TERNARY ? 1 : 2), whole = floor(v);
    int c = (int)whole + ((double)words[index % 4] < floor((v - whole) * 0x1p32));
    return (int8_t)(x < 0 ? -c : c);
}

float naive_group(uint32_t rule, uint32_t levels, uint64_t seed, const float *x, size_t n, uint64_t index, int8_t *codes) {
    float s = 0;
    if (rule == SETUN_ABSMAX || rule == SETUN_STOCHASTIC)
        for (size_t i = 0; i < n; i++) s = fmaxf(s, fabsf(x[i]));
    else
        s = (float)(naive_magnitudes(x, n) / (double)n);
    for (size_t i = 0; i < n; i++) codes[i] = rule == SETUN_STOCHASTIC ? draw(levels, s, x[i], seed, index + i) : code(levels, s, x[i]);
    if (rule != SETUN_LEAST_SQUARES && rule != SETUN_MAGNITUDE) return s;

    double weight = 0;
    for (int round = 0; round < 16; round++) {
        float t = fit(levels, x, n, codes, &weight);
        if (weight == 0) break;
        s = t;
        int changed = 0;
        for (size_t i = 0; i < n; i++) {
            int8_t c = code(levels, s, x[i]);
            changed |= c != codes[i];
            codes[i] = c;
        }
        if (!changed) break;
    }
    if (rule == SETUN_LEAST_SQUARES) return s;
    fit(levels, x, n, codes, &weight); /* Q counts the codes of s itself, also when 16 rounds were too few */
    double q = levels == SETUN_TERNARY ? weight : weight / 4;
    return q == 0 ? s : (float)sqrt(naive_dot(x, x, n) / q);
}

size_t naive_pack(uint32_t format, uint8_t *out, const int8_t *codes, size_t n) {
    if (format == SETUN_INT8) {
        memcpy(out, codes, n);
        return n;
    }
    size_t planes = format == SETUN_2BIT ? 4 : 5, done = 0;
    for (size_t i = 0; i < n; i += 64 * planes) {
        size_t r = n - i < 64 * planes ? n - i : 64 * planes, m = (r + planes - 1) / planes;
        for (size_t b = 0; b < m; b++) {
            unsigned t[5], v = 0;
            for (size_t p = 0; p < planes; p++) t[p] = b + p * m < r ? (unsigned)(codes[i + b + p * m] + 1) : 1;
            if (planes == 4)
                v = t[0] | t[1] << 2 | t[2] << 4 | t[3] << 6;
            else
                v = (unsigned)ceil(256.0 * (81 * t[0] + 27 * t[1] + 9 * t[2] + 3 * t[3] + t[4]) / 243);
            out[done++] = (uint8_t)v;
        }
    }
    return done;
}

/* ---- constrain, kmeans -------------------------------------------------------------------------------------------- */

float naive_scaled(float x, double f) {
    float r = (float)((double)x * f);
    return fabsf(r) < 0x1p-126f ? copysignf(0, x) : r;
}

float naive_chain(float a, const float *u, const float *v, size_t d) {
    for (size_t p = 0; p < d; p++) a = fmaf(u[p], v[p], a);
    return a;
}

/* ---- softmax, activate ---------------------------------------------------------------------------------------------- */

float naive_exp(float x) {
    if (isnan(x)) return x;
    if (x < -104) return 0;
    if (x > 89) return INFINITY;
    double k = rint((double)x * 1.4426950408889634), part = k * 0.693147180559945309417232121458176568, r = (double)x - part, s = r * r;
    double a = r * (1.0 / 6) + 0.5, b = r * (1.0 / 120), c = (r + 7) * (1.0 / 5040), d = s * c, e, f, g;
    b += 1.0 / 24;
    e = b + d;
    f = s * e;
    f += a;
    g = s * f;
    return (float)ldexp((1 + r) + g, (int)k);
}
