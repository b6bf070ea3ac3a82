/* SPDX-License-Identifier: Apache-2.0
 *
 * layers_ref.c: the reference of layers.h. Plain loops, any machine, no libm but its square root. */
#include "layers.h"
#include "bits.h"
#include "isa.h"

#include <math.h>

static void add(float *out, const float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = x[i] + y[i];
}

static void normalise(float *out, const float *x, const float *gain, size_t n, float r) {
    for (size_t i = 0; i < n; i++) out[i] = gain ? x[i] * r * gain[i] : x[i] * r;
}

static double norm_chunk(float *part, const float *x, const float *dy, const float *gain, size_t n, float r) {
    double lane[32] = {0};
    for (size_t i = 0; i < n; i++) {
        float t = dy[i] * (x[i] * r);
        part[i] += t;
        lane[i % 32] += (double)t * (double)gain[i];
    }
    return setun_fold(lane);
}

static void norm_gradient(float *out, const float *x, const float *dy, const float *gain, size_t n, float r, float a, int add) {
    for (size_t i = 0; i < n; i++) {
        float e = gain ? dy[i] * gain[i] : dy[i], d = r * (e - x[i] * r * a);
        out[i] = add ? out[i] + d : d;
    }
}

static float greatest(const float *x, size_t n) {
    float g = x[0];
    for (size_t i = 1; i < n; i++) g = x[i] > g ? x[i] : g;
    return g + 0.0f;
}

static float exp32(float x) {
    if (x < -104) return 0;
    if (x > 89) return __builtin_inff();
    const double round = SETUN_ROUNDER + 1023; /* with the bias of exponents, so that a shift makes 2^k */
    double t = (double)x * 1.4426950408889634 + round, r = (double)x - (t - round) * 0x1.62e42fefa39efp-1, s = r * r;
    double y = 1 + r + s * ((0.5 + r * (1.0 / 6)) + s * ((1.0 / 24 + r * (1.0 / 120)) + s * ((r + 7) * (1.0 / 5040))));
    uint64_t u;
    memcpy(&u, &t, sizeof u);
    u <<= 52;
    memcpy(&t, &u, sizeof t);
    return (float)(y * t);
}

static double exp_chunk(float *x, size_t n, float scale, float offset) {
    double lane[32] = {0};
    for (size_t i = 0; i < n; i++) {
        x[i] = exp32((x[i] - offset) * scale);
        lane[i % 32] += (double)x[i];
    }
    return setun_fold(lane);
}

static void softmax(float *x, size_t cols, const size_t *n, size_t rows, float scale, double factor, float *g, double *s) {
    for (size_t r = 0; r < rows; r++, x += cols) {
        g[r] = greatest(x, n[r]);
        s[r] = exp_chunk(x, n[r], scale, g[r]);
        normalise(x, x, 0, n[r], (float)(factor / s[r]));
        memset(x + n[r], 0, (cols - n[r]) * sizeof *x);
    }
}

static void slope(float *x, const float *p, size_t n, float scale, float s) {
    for (size_t i = 0; i < n; i++) x[i] = scale * p[i] * (x[i] - s);
}

static void softmax_gradient(float *x, const float *p, size_t cols, const size_t *n, size_t rows, float scale) {
    for (size_t r = 0; r < rows; r++, x += cols, p += cols) {
        slope(x, p, n[r], scale, (float)setun_isa_ref.dot_chunk(p, x, n[r]));
        memset(x + n[r], 0, (cols - n[r]) * sizeof *x);
    }
}

static float positive(float x) { return x > 0 ? x : 0; }

static void relu2(float *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = x[i] * positive(x[i]);
}

static void relu2_gradient(float *out, const float *x, const float *dy, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float m = positive(x[i]);
        out[i] = dy[i] * (m + m);
    }
}

static void swiglu(float *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float g = x[i], s = 1 / (1 + exp32(-g));
        out[i] = g * s * x[n + i];
    }
}

static void swiglu_gradient(float *out, const float *x, const float *dy, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float g = x[i], u = x[n + i], s = 1 / (1 + exp32(-g));
        out[i] = (dy[i] * u) * (s * (1 + g * (1 - s)));
        out[n + i] = dy[i] * (g * s);
    }
}

/* +0 for what is less than the smallest normal number in magnitude: subnormal moments would stay so and slow every step down. */
static float flush(float x) { return setun_abs(x) < 0x1p-126f ? 0 : x; }

static void adamw(const setun_update *a, size_t at, size_t n) {
    const double b1 = a->beta1, b2 = a->beta2, c1 = 1 - b1, c2 = 1 - b2;
    for (size_t i = at; i < at + n; i++) {
        double g = (double)a->grad[i], m, v;
        a->m[i] = flush((float)(b1 * (double)a->m[i] + c1 * g));
        a->v[i] = flush((float)(b2 * (double)a->v[i] + c2 * (g * g)));
        m = (double)a->m[i], v = (double)a->v[i];
        a->delta[i] = (float)(-a->rate * (m * a->unbias1 / (sqrt(v * a->unbias2) + a->epsilon) + a->decay * (double)a->value[i]));
    }
}

static void momentum(const setun_update *a, size_t at, size_t n) {
    for (size_t i = at; i < at + n; i++) {
        a->m[i] = flush((float)(a->beta1 * (double)a->m[i] + (double)a->grad[i]));
        a->delta[i] = (float)(-a->rate * ((double)a->m[i] + a->decay * (double)a->value[i]));
    }
}

SETUN_LAYERS(setun_layers_ref);
