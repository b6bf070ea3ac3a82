// SPDX-License-Identifier: Apache-2.0
//
// reduce.cu: dot and norm2.
#include "kernels.h"
#include "sum.h"

extern "C" __global__ void __launch_bounds__(256) sum_squares(const float *x, int64_t n, double *sums) {
    int64_t chunks = (n - 1) / SETUN_CHUNK + 1;
    for (int64_t c = setun_warp(); c < chunks; c += setun_warps()) {
        double s = setun_square_chunk(x + c * SETUN_CHUNK, (int)setun_least(n - c * SETUN_CHUNK, SETUN_CHUNK));
        if (setun_lane() == 0) sums[c] = s;
    }
}

extern "C" __global__ void __launch_bounds__(256) sum_products(const float *x, const float *y, int64_t n, double *sums) {
    int64_t chunks = (n - 1) / SETUN_CHUNK + 1;
    for (int64_t c = setun_warp(); c < chunks; c += setun_warps()) {
        const float *p = x + c * SETUN_CHUNK, *q = y + c * SETUN_CHUNK;
        int m = (int)setun_least(n - c * SETUN_CHUNK, SETUN_CHUNK), i = setun_lane();
        double t = 0;
        for (; i + 7 * 32 < m; i += 8 * 32) {
            float v[8], w[8];
            SETUN_UNROLL
            for (int u = 0; u < 8; u++) v[u] = p[i + u * 32], w[u] = q[i + u * 32];
            SETUN_UNROLL
            for (int u = 0; u < 8; u++) t += (double)v[u] * (double)w[u];
        }
        for (; i < m; i += 32) t += (double)p[i] * (double)q[i];
        t = setun_fold(t);
        if (setun_lane() == 0) sums[c] = t;
    }
}

extern "C" __global__ void __launch_bounds__(1024) sum_tree(double *sums, int64_t n, double *out) {
    double s = setun_block_tree(sums, n);
    if (threadIdx.x == 0) out[0] = s;
}

extern "C" __global__ void __launch_bounds__(256) find_bad(const float *x, int64_t n, unsigned long long *bad) {
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        if (x[i] - x[i] != 0) {
            atomicMin(bad, (unsigned long long)i);
            return; /* the thread's later ones are no lower */
        }
}
