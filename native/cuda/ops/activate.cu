// SPDX-License-Identifier: Apache-2.0
//
// activate.cu: the functions between two products of a feed-forward, and their gradients, which may lie where x is: a thread has read what it overwrites.
#include "codes.h"
#include "kernels.h"
#include "layers.h"

SETUN_DEVICE float setun_positive(float x) { return x > 0 ? x : 0.0f; }
SETUN_DEVICE float setun_relu2(float x) { return x * setun_positive(x); }
SETUN_DEVICE float setun_relu2_gradient(float x, float dy) {
    float m = setun_positive(x);
    return dy * (m + m);
}

extern "C" __global__ void __launch_bounds__(256) relu2(const float *x, float *out, int64_t n) {
    int64_t step = (int64_t)gridDim.x * blockDim.x, at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, vectors = 0;
    if ((((uint64_t)x | (uint64_t)out) & 15) == 0) {
        vectors = n / 4;
        for (int64_t i = at; i < vectors; i += step) {
            float4 v = ((const float4 *)x)[i];
            ((float4 *)out)[i] = {setun_relu2(v.x), setun_relu2(v.y), setun_relu2(v.z), setun_relu2(v.w)};
        }
    }
    for (int64_t i = 4 * vectors + at; i < n; i += step) out[i] = setun_relu2(x[i]);
}

extern "C" __global__ void __launch_bounds__(256) relu2_gradient(const float *x, const float *dy, float *out, int64_t n) {
    int64_t step = (int64_t)gridDim.x * blockDim.x, at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, vectors = 0;
    if ((((uint64_t)x | (uint64_t)dy | (uint64_t)out) & 15) == 0) {
        vectors = n / 4;
        for (int64_t i = at; i < vectors; i += step) {
            float4 v = ((const float4 *)x)[i], d = ((const float4 *)dy)[i];
            ((float4 *)out)[i] = {setun_relu2_gradient(v.x, d.x), setun_relu2_gradient(v.y, d.y), setun_relu2_gradient(v.z, d.z),
                                  setun_relu2_gradient(v.w, d.w)};
        }
    }
    for (int64_t i = 4 * vectors + at; i < n; i += step) out[i] = setun_relu2_gradient(x[i], dy[i]);
}

SETUN_DEVICE float setun_sigmoid(float x) { return 1 / (1 + setun_exp32(-x)); }
SETUN_DEVICE float setun_gated(float g, float u) { return g * setun_sigmoid(g) * u; }
/* Of the gate, and of what it lets through. */
SETUN_DEVICE float2 setun_gated_gradient(float g, float u, float dy) {
    float s = setun_sigmoid(g);
    return {(dy * u) * (s * (1 + g * (1 - s))), dy * (g * s)};
}

/* A row of x holds cols gates, then as many values. A thread has four of each at a time. */
extern "C" __global__ void __launch_bounds__(256) swiglu(const float *x, float *out, int64_t rows, int64_t cols) {
    bool wide = (((uint64_t)x | (uint64_t)out) & 15) == 0 && (cols & 3) == 0;
    setun_units(rows, (cols - 1) / 4 + 1, [&](int64_t row, int64_t unit) {
        const float *g = x + 2 * row * cols, *u = g + cols;
        float *to = out + row * cols;
        if (wide) {
            float4 a = ((const float4 *)g)[unit], b = ((const float4 *)u)[unit];
            ((float4 *)to)[unit] = {setun_gated(a.x, b.x), setun_gated(a.y, b.y), setun_gated(a.z, b.z), setun_gated(a.w, b.w)};
            return;
        }
        int64_t end = setun_least(4 * unit + 4, cols);
        for (int64_t i = 4 * unit; i < end; i++) to[i] = setun_gated(g[i], u[i]);
    });
}

extern "C" __global__ void __launch_bounds__(256) swiglu_gradient(const float *x, const float *dy, float *out, int64_t rows, int64_t cols) {
    bool wide = (((uint64_t)x | (uint64_t)dy | (uint64_t)out) & 15) == 0 && (cols & 3) == 0;
    setun_units(rows, (cols - 1) / 4 + 1, [&](int64_t row, int64_t unit) {
        const float *g = x + 2 * row * cols, *u = g + cols, *d = dy + row * cols;
        float *dg = out + 2 * row * cols, *du = dg + cols;
        if (wide) {
            float4 a = ((const float4 *)g)[unit], b = ((const float4 *)u)[unit], c = ((const float4 *)d)[unit];
            float2 p = setun_gated_gradient(a.x, b.x, c.x), q = setun_gated_gradient(a.y, b.y, c.y), r = setun_gated_gradient(a.z, b.z, c.z),
                   s = setun_gated_gradient(a.w, b.w, c.w);
            ((float4 *)dg)[unit] = {p.x, q.x, r.x, s.x};
            ((float4 *)du)[unit] = {p.y, q.y, r.y, s.y};
            return;
        }
        int64_t end = setun_least(4 * unit + 4, cols);
        for (int64_t i = 4 * unit; i < end; i++) {
            float2 p = setun_gated_gradient(g[i], u[i], d[i]);
            dg[i] = p.x, du[i] = p.y;
        }
    });
}
