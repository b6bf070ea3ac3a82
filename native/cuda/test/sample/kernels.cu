// SPDX-License-Identifier: Apache-2.0
//
// kernels.cu: see kernels.h beside it.
#include "port.h"
#define SETUN_KERNEL extern "C" __global__
#include "kernels.h"

extern "C" __global__ void __launch_bounds__(256) add(float *x, float v, int64_t n) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] += v;
}

extern "C" __global__ void __launch_bounds__(128) total(const float *x, int64_t n, double *out) {
    SETUN_SHARED(double, warps, [4]);
    double s = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) s += (double)x[i];
    for (int o = 16; o > 0; o /= 2) s += __shfl_down_sync(0xffffffffu, s, (unsigned)o);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x == 0) out[0] = warps[0] + warps[1] + warps[2] + warps[3];
}

extern "C" __global__ void overrun(float *x, int64_t at) { x[at] = 1; }

extern "C" __global__ void diverge(float *x) {
    if (threadIdx.x > 0) __syncthreads();
    x[0] = 0;
}

extern "C" __global__ void parameters(double *out, sample_pair p, char c, short s) {
    double sum = p.a + c + s;
    for (int i = 0; i < 13; i++) sum += p.b[i];
    out[0] = sum;
}

extern "C" __global__ void dynamic(float *out, int n) {
    SETUN_DYNAMIC(float, memory);
    int count = 0;
    for (int i = 0; i < n; i++) count += memory[i] != memory[i];
    out[0] = (float)count;
}
