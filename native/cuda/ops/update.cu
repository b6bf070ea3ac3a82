// SPDX-License-Identifier: Apache-2.0
//
// update.cu: moments and step of an optimiser, value by value in float64.
#include "kernels.h"
#include "sum.h"

/* +0 for what is less than the smallest normal number in magnitude. */
SETUN_DEVICE float setun_flushed(double v) {
    float x = (float)v;
    return __float_as_uint(x) & 0x7f800000u ? x : 0.0f;
}

struct SetunAdamW {
    double beta1, beta2, rest1, rest2, unbias1, unbias2, epsilon, decay, rate; /* rest: 1 - beta; rate: of the other sign */
    __device__ __forceinline__ float step(float value, float grad, float *m, float *v) const {
        double g = (double)grad;
        *m = setun_flushed(beta1 * (double)*m + rest1 * g);
        *v = setun_flushed(beta2 * (double)*v + rest2 * (g * g));
        return (float)(rate * ((double)*m * unbias1 / (sqrt((double)*v * unbias2) + epsilon) + decay * (double)value));
    }
};

extern "C" __global__ void __launch_bounds__(256)
    update_adamw(const float *value, const float *grad, float *m, float *v, float *delta, int64_t n, double beta1, double beta2, double rest1, double rest2,
                 double unbias1, double unbias2, double epsilon, double decay, double rate) {
    const SetunAdamW a = {beta1, beta2, rest1, rest2, unbias1, unbias2, epsilon, decay, rate};
    int64_t step = (int64_t)gridDim.x * blockDim.x, at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, vectors = 0;
    if ((((uint64_t)value | (uint64_t)grad | (uint64_t)m | (uint64_t)v | (uint64_t)delta) & 15) == 0) {
        vectors = n / 4;
        for (int64_t i = at; i < vectors; i += step) {
            float4 p = ((const float4 *)value)[i], g = ((const float4 *)grad)[i], b = ((const float4 *)m)[i], c = ((const float4 *)v)[i], d;
            d.x = a.step(p.x, g.x, &b.x, &c.x), d.y = a.step(p.y, g.y, &b.y, &c.y);
            d.z = a.step(p.z, g.z, &b.z, &c.z), d.w = a.step(p.w, g.w, &b.w, &c.w);
            ((float4 *)m)[i] = b, ((float4 *)v)[i] = c, ((float4 *)delta)[i] = d;
        }
    }
    for (int64_t i = 4 * vectors + at; i < n; i += step) {
        float b = m[i], c = v[i];
        delta[i] = a.step(value[i], grad[i], &b, &c);
        m[i] = b, v[i] = c;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    update_momentum(const float *value, const float *grad, float *m, float *delta, int64_t n, double beta, double decay, double rate) {
    auto next = [=](float old, float g) { return setun_flushed(beta * (double)old + (double)g); };
    auto move = [=](float u, float p) { return (float)(rate * ((double)u + decay * (double)p)); };
    int64_t step = (int64_t)gridDim.x * blockDim.x, at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, vectors = 0;
    if ((((uint64_t)value | (uint64_t)grad | (uint64_t)m | (uint64_t)delta) & 15) == 0) {
        vectors = n / 4;
        for (int64_t i = at; i < vectors; i += step) {
            float4 p = ((const float4 *)value)[i], g = ((const float4 *)grad)[i], b = ((const float4 *)m)[i];
            b = {next(b.x, g.x), next(b.y, g.y), next(b.z, g.z), next(b.w, g.w)};
            ((float4 *)m)[i] = b;
            ((float4 *)delta)[i] = {move(b.x, p.x), move(b.y, p.y), move(b.z, p.z), move(b.w, p.w)};
        }
    }
    for (int64_t i = 4 * vectors + at; i < n; i += step) {
        float u = next(m[i], grad[i]);
        delta[i] = move(u, value[i]);
        m[i] = u;
    }
}
