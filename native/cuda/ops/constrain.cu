// SPDX-License-Identifier: Apache-2.0
//
// constrain.cu: the projection on a ball. The norm never leaves the device between the sum and the scaling.
#include "kernels.h"
#include "sum.h"

/* |r| < 2^-126 becomes 0 of its sign. */
SETUN_DEVICE float setun_scaled(float x, double f) {
    unsigned r = __float_as_uint((float)((double)x * f));
    return __uint_as_float(r & 0x7f800000u ? r : r & 0x80000000u);
}

extern "C" __global__ void __launch_bounds__(1024) ball(double *sums, int64_t n, double radius, double *state) {
    double norm = sqrt(setun_block_tree(sums, n));
    if (threadIdx.x > 0) return;
    state[0] = norm;
    state[1] = norm - norm != 0 ? norm - norm : norm > radius ? radius / norm * (1 - 0x1p-23) : 1;
}

extern "C" __global__ void __launch_bounds__(256) project(float *dst, const float *x, int64_t n, const double *state) {
    double f = state[1];
    bool inside = f == 1; /* a factor outside the ball is at most 1 - 2^-23 */
    if (f - f != 0 || (inside && dst == x)) return;
    int64_t step = (int64_t)gridDim.x * blockDim.x, at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, vectors = 0;
    if ((((uint64_t)dst | (uint64_t)x) & 15) == 0) {
        vectors = n / 4;
        const float4 *from = (const float4 *)x;
        float4 *to = (float4 *)dst;
        for (int64_t i = at; i < vectors; i += step) {
            float4 v = from[i];
            if (!inside) v.x = setun_scaled(v.x, f), v.y = setun_scaled(v.y, f), v.z = setun_scaled(v.z, f), v.w = setun_scaled(v.w, f);
            to[i] = v;
        }
    }
    for (int64_t i = 4 * vectors + at; i < n; i += step) dst[i] = inside ? x[i] : setun_scaled(x[i], f);
}
