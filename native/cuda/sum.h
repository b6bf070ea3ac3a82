/* SPDX-License-Identifier: Apache-2.0
 *
 * sum.h: the rules S and A of docs/numerics.md on a device. A warp owns a chunk, and a lane of the warp is a lane of the rule: so loads are whole lines, and
 * the order of additions is that of every other backend. */
#ifndef SETUN_CUDA_SUM_H
#define SETUN_CUDA_SUM_H

#include "port.h"

#define SETUN_CHUNK 4096
#define SETUN_ALL 0xffffffffu
#define SETUN_DEVICE static __device__ __forceinline__

/* Lanes 16, 8, 4, 2, 1 apart are added; the answer is in lane 0. */
SETUN_DEVICE double setun_fold(double v) {
    for (int w = 16; w > 0; w /= 2) v += __shfl_down_sync(SETUN_ALL, v, w);
    return v;
}

SETUN_DEVICE int64_t setun_warp() { return ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32; }
SETUN_DEVICE int64_t setun_warps() { return (int64_t)gridDim.x * blockDim.x / 32; }
SETUN_DEVICE int setun_lane() { return threadIdx.x % 32; }
SETUN_DEVICE int64_t setun_least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Calls add(x[i]) in a lane's order for its values of a chunk of n, sixteen loads ahead of the additions. */
template <class T, class Add> SETUN_DEVICE void setun_lane_values(const T *x, int n, Add add) {
    int i = setun_lane();
    for (; i + 15 * 32 < n; i += 16 * 32) {
        T v[16];
        SETUN_UNROLL
        for (int u = 0; u < 16; u++) v[u] = x[i + u * 32];
        SETUN_UNROLL
        for (int u = 0; u < 16; u++) add(v[u]);
    }
    for (; i < n; i += 32) add(x[i]);
}

/* A chunk of S(x*x); the answer is in lane 0. */
SETUN_DEVICE double setun_square_chunk(const float *x, int n) {
    double t = 0;
    setun_lane_values(x, n, [&](float v) { t += (double)v * (double)v; });
    return setun_fold(t);
}

/* A chunk of the rule A: float32 lanes, or float64 lanes where those overflow. */
SETUN_DEVICE double setun_abs_chunk(const float *x, int n) {
    float t = 0;
    setun_lane_values(x, n, [&](float v) { t += fabsf(v); });
    double s = setun_fold((double)t);
    s = __shfl_sync(SETUN_ALL, s, 0);
    if (s - s == 0) return s;
    double w = 0;
    setun_lane_values(x, n, [&](float v) { w += (double)fabsf(v); });
    return setun_fold(w);
}

/* A chunk of sums. */
SETUN_DEVICE double setun_double_chunk(const double *x, int n) {
    double t = 0;
    setun_lane_values(x, n, [&](double v) { t += v; });
    return setun_fold(t);
}

/* The tree over n chunk sums, which are used up: by all threads of one block, to all threads. */
SETUN_DEVICE double setun_block_tree(double *sums, int64_t n) {
    for (; n > 1; n = (n - 1) / SETUN_CHUNK + 1) {
        int64_t chunks = (n - 1) / SETUN_CHUNK + 1, warps = blockDim.x / 32;
        /* A round of chunks is read before its sums are written where an earlier round was. */
        for (int64_t first = 0; first < chunks; first += warps) {
            int64_t c = first + threadIdx.x / 32;
            double s = c < chunks ? setun_double_chunk(sums + c * SETUN_CHUNK, (int)setun_least(n - c * SETUN_CHUNK, SETUN_CHUNK)) : 0;
            __syncthreads();
            if (c < chunks && setun_lane() == 0) sums[c] = s;
            __syncthreads();
        }
    }
    return sums[0];
}

#endif
