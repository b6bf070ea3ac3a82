// SPDX-License-Identifier: Apache-2.0
//
// kmeans_move.cu: what lies between two assignments: whether to go on, and where the centroids are now. So a run of iterations stays on the device. Kernels
// that leave something behind do nothing once record[0], why the run stopped, is set: the host may have started them before it knew.
#include "kmeans.h"

/* The sum S of value(p) for p < d, by all threads of a block, to all of them. part: room for the sums of the chunks. */
template <class Value> SETUN_DEVICE double setun_block_sum(double *part, int d, Value value) {
    const int chunks = (d - 1) / SETUN_CHUNK + 1;
    for (int c = threadIdx.x / 32; c < chunks; c += blockDim.x / 32) {
        double t = 0;
        const int first = c * SETUN_CHUNK, end = (int)setun_least(d, (int64_t)first + SETUN_CHUNK);
        for (int p = first + setun_lane(); p < end; p += 32) t += value(p);
        t = setun_fold(t);
        if (setun_lane() == 0) part[c] = t;
    }
    __syncthreads();
    const double s = setun_block_tree(part, chunks);
    __syncthreads(); /* part may be used again */
    return s;
}

SETUN_DEVICE void setun_look(const int64_t *mass, int k, const unsigned long long *changed, unsigned long long *record) {
    SETUN_SHARED(unsigned, empty, );
    if (threadIdx.x == 0) empty = 0;
    __syncthreads();
    for (int j = threadIdx.x; j < k; j += SETUN_KMEANS_THREADS)
        if (mass[j] == 0) atomicOr(&empty, 1u);
    __syncthreads();
    if (threadIdx.x > 0 || record[0] != 0) return;
    record[1]++;
    if (*changed == 0)
        record[0] = SETUN_STOP_SETTLED;
    else if (empty)
        record[0] = SETUN_STOP_UNMOVED;
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)
    kmeans_look(const int64_t *mass, int k, const unsigned long long *changed, unsigned long long *record) {
    setun_look(mass, k, changed, record);
}

SETUN_DEVICE void setun_move(const int64_t *sums, const int64_t *mass, const double *scale, double weight_scale, const float *mean, int sphere, int k, int d,
                             float *centroids, float *before, float *bias, double *parts, const unsigned long long *record) {
    if (sums && record[0] != 0) return;
    const int chunks = (d - 1) / SETUN_CHUNK + 1;
    for (int64_t j = blockIdx.x; j < k; j += gridDim.x) {
        float *c = centroids + j * d, *was = before + j * d;
        double *part = parts + j * chunks;
        if (sums) {
            const double w = (double)mass[j];
            for (int p = threadIdx.x; p < d; p += SETUN_KMEANS_THREADS) {
                was[p] = c[p];
                c[p] = (float)((double)sums[j * d + p] / w * (weight_scale / scale[p])); /* powers of two: exact */
            }
            __syncthreads();
        }
        if (sums && sphere) {
            auto place = [&](int p) { return (double)c[p] + (double)mean[p]; };
            const double norm = sqrt(setun_block_sum(part, d, [&](int p) {
                const double v = place(p);
                return v * v;
            }));
            for (int p = threadIdx.x; p < d; p += SETUN_KMEANS_THREADS) c[p] = norm >= 0x1p-100 ? (float)(place(p) / norm - (double)mean[p]) : was[p];
            __syncthreads();
        }
        const double s = setun_block_sum(part, d, [&](int p) { return (double)c[p] * (double)c[p]; });
        if (threadIdx.x == 0) bias[j] = (float)(-0.5 * s);
    }
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)
    kmeans_move(const int64_t *sums, const int64_t *mass, const double *scale, double weight_scale, const float *mean, int sphere, int k, int d,
                float *centroids, float *before, float *bias, double *parts, const unsigned long long *record) {
    setun_move(sums, mass, scale, weight_scale, mean, sphere, k, d, centroids, before, bias, parts, record);
}

SETUN_DEVICE void setun_shift(const float *centroids, const float *before, int64_t n, double *parts, const unsigned long long *record) {
    if (record[0] != 0) return;
    const int64_t chunks = (n - 1) / SETUN_CHUNK + 1;
    for (int64_t c = setun_warp(); c < chunks; c += setun_warps()) {
        double t = 0;
        const int64_t end = setun_least(n, (c + 1) * SETUN_CHUNK);
        for (int64_t i = c * SETUN_CHUNK + setun_lane(); i < end; i += 32) {
            const double v = (double)centroids[i] - (double)before[i];
            t += v * v;
        }
        t = setun_fold(t);
        if (setun_lane() == 0) parts[c] = t;
    }
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)
    kmeans_shift(const float *centroids, const float *before, int64_t n, double *parts, const unsigned long long *record) {
    setun_shift(centroids, before, n, parts, record);
}

SETUN_DEVICE void setun_still(double *parts, int64_t chunks, double limit, unsigned long long *record) {
    if (record[0] != 0) return;
    const double s = setun_block_tree(parts, chunks);
    __syncthreads(); /* all have looked at the record */
    if (threadIdx.x == 0 && s <= limit) record[0] = SETUN_STOP_STILL;
}

extern "C" __global__ void __launch_bounds__(1024) kmeans_still(double *parts, int64_t chunks, double limit, unsigned long long *record) {
    setun_still(parts, chunks, limit, record);
}
