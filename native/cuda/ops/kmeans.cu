// SPDX-License-Identifier: Apache-2.0
//
// kmeans.cu: the steps of k-means but the assignment: ranges, means, distances, potentials, lengths.
#include "kmeans.h"

/* Floats in the order of unsigned integers, and back. */
SETUN_DEVICE unsigned setun_ordered(float v) {
    unsigned u = __float_as_uint(v);
    return u ^ (u >> 31 ? ~0u : 0x80000000u);
}

SETUN_DEVICE void setun_range(const float *x, int64_t n, int d, int width, const float *unit, unsigned *low, unsigned *high, unsigned *bad) {
    SETUN_SHARED(unsigned, least, [SETUN_KMEANS_THREADS]);
    SETUN_SHARED(unsigned, most, [SETUN_KMEANS_THREADS]);
    const int groups = SETUN_KMEANS_THREADS / width, group = threadIdx.x / width, lane = threadIdx.x % width;
    const int64_t step = (int64_t)gridDim.x * groups;
    for (int first = blockIdx.y * width; first < d; first += gridDim.y * width) {
        const int column = first + lane;
        const bool works = group < groups && column < d;
        unsigned l = ~0u, h = 0;
        bool finite = true;
        auto take = [&](float v) {
            finite = finite && v - v == 0;
            const unsigned o = setun_ordered(v);
            l = o < l ? o : l;
            h = o > h ? o : h;
        };
        int64_t row = (int64_t)blockIdx.x * groups + group;
        for (; works && row + 7 * step < n; row += 8 * step) {
            float v[8];
            SETUN_UNROLL
            for (int a = 0; a < 8; a++) v[a] = x[(row + a * step) * d + column];
            SETUN_UNROLL
            for (int a = 0; a < 8; a++) take(unit ? v[a] * unit[row + a * step] : v[a]);
        }
        for (; works && row < n; row += step) take(x[row * d + column] * (unit ? unit[row] : 1.0f));
        least[threadIdx.x] = l, most[threadIdx.x] = h;
        if (!finite) *bad = 1;
        __syncthreads();
        if (group == 0 && column < d) {
            for (int g = 1; g < groups; g++) {
                const unsigned a = least[g * width + lane], b = most[g * width + lane];
                l = a < l ? a : l;
                h = b > h ? b : h;
            }
            atomicMin(low + column, l);
            atomicMax(high + column, h);
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)
    kmeans_range(const float *x, int64_t n, int d, int width, const float *unit, unsigned *low, unsigned *high, unsigned *bad) {
    setun_range(x, n, d, width, unit, low, high, bad);
}

SETUN_DEVICE void setun_mean(const float *x, int64_t n, int d, int width, const float *unit, const double *scale, int64_t *sums) {
    SETUN_SHARED(long long, part, [SETUN_KMEANS_THREADS]);
    const int groups = SETUN_KMEANS_THREADS / width, group = threadIdx.x / width, lane = threadIdx.x % width;
    const int64_t step = (int64_t)gridDim.x * groups;
    for (int first = blockIdx.y * width; first < d; first += gridDim.y * width) {
        const int column = first + lane;
        const bool works = group < groups && column < d;
        const double f = works ? scale[column] : 0;
        long long sum = 0;
        int64_t row = (int64_t)blockIdx.x * groups + group;
        for (; works && row + 7 * step < n; row += 8 * step) {
            float v[8];
            SETUN_UNROLL
            for (int a = 0; a < 8; a++) v[a] = x[(row + a * step) * d + column];
            SETUN_UNROLL
            for (int a = 0; a < 8; a++) sum += setun_integer((double)(unit ? v[a] * unit[row + a * step] : v[a]) * f);
        }
        for (; works && row < n; row += step) sum += setun_integer((double)(x[row * d + column] * (unit ? unit[row] : 1.0f)) * f);
        part[threadIdx.x] = sum;
        __syncthreads();
        if (group == 0 && column < d) {
            for (int g = 1; g < groups; g++) sum += part[g * width + lane];
            setun_add(sums + column, sum);
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)
    kmeans_mean(const float *x, int64_t n, int d, int width, const float *unit, const double *scale, int64_t *sums) {
    setun_mean(x, n, d, width, unit, scale, sums);
}

/* A warp has 32 rows, a lane's chain is that of a row. Rows come in tiles of 32 columns, eight lanes at a row for whole lines, and are turned in shared memory;
 * the next tile is under way meanwhile. */
template <bool VECTOR>
SETUN_DEVICE void setun_distance(const float *x, int64_t n, int d, const float *unit, const float *mean, const float *centroids, int k, const int32_t *labels,
                                 int keep_min, float *distance) {
    SETUN_SHARED(float4, turn, [4][32][9]); /* a quad more than 8, for the banks */
    float4(*tile)[9] = turn[threadIdx.x / 32];
    const int lane = setun_lane(), quad = lane % 8, above = lane / 8;
    const int64_t groups = (n - 1) / 32 + 1;
    for (int64_t g = setun_warp(); g < groups; g += setun_warps()) {
        const int64_t first = g * 32, mine = setun_least(first + lane, n - 1);
        const float u = unit ? unit[mine] : 1.0f;
        const int named = labels ? labels[mine] : 0, label = (unsigned)named < (unsigned)k ? named : 0;
        const int rows = (int)setun_least(n - first - above, 32); /* from a lane's first row on */
        const float *corner = x + (first + above) * d;
        float4 v[8];
        auto ask = [&](int p) {
            const float *row = corner;
            SETUN_UNROLL
            for (int i = 0; i < 8; i++, row += 4 * (int64_t)d) v[i] = setun_quad<VECTOR>(4 * i < rows ? row : x, p + 4 * quad, d);
        };
        ask(0);
        float sum = 0;
        for (int p = 0; p < d; p += 32) {
            const float4 m = *(const float4 *)(mean + p + 4 * quad);
            auto put = [&](int i, float4 c) {
                float4 w = setun_centred(v[i], __shfl_sync(SETUN_ALL, u, above + 4 * i), m);
                w.x -= c.x, w.y -= c.y, w.z -= c.z, w.w -= c.w;
                tile[above + 4 * i][quad] = w;
            };
            if (labels) {
                SETUN_UNROLL
                for (int half = 0; half < 8; half += 4) {
                    float4 c[4];
                    SETUN_UNROLL
                    for (int i = 0; i < 4; i++) {
                        const int64_t l = __shfl_sync(SETUN_ALL, label, above + 4 * (half + i));
                        c[i] = setun_quad<VECTOR>(centroids + l * d, p + 4 * quad, d);
                    }
                    SETUN_UNROLL
                    for (int i = 0; i < 4; i++) put(half + i, c[i]);
                }
            } else {
                const float4 c = setun_quad<VECTOR>(centroids, p + 4 * quad, d);
                SETUN_UNROLL
                for (int i = 0; i < 8; i++) put(i, c);
            }
            __syncwarp();
            if (p + 32 < d) ask(p + 32);
            SETUN_UNROLL
            for (int q = 0; q < 8; q++) {
                const float4 w = tile[lane][q];
                sum = fmaf(w.x, w.x, sum);
                sum = fmaf(w.y, w.y, sum);
                sum = fmaf(w.z, w.z, sum);
                sum = fmaf(w.w, w.w, sum);
            }
            __syncwarp();
        }
        if (first + lane < n && (!keep_min || sum < distance[mine])) distance[mine] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(128, 4) kmeans_distance(const float *x, int64_t n, int d, const float *unit, const float *mean,
                                                                     const float *centroids, int k, const int32_t *labels, int keep_min, float *distance) {
    setun_distance<true>(x, n, d, unit, mean, centroids, k, labels, keep_min, distance);
}

extern "C" __global__ void __launch_bounds__(128, 4) kmeans_distance_any(const float *x, int64_t n, int d, const float *unit, const float *mean,
                                                                         const float *centroids, int k, const int32_t *labels, int keep_min, float *distance) {
    setun_distance<false>(x, n, d, unit, mean, centroids, k, labels, keep_min, distance);
}

SETUN_DEVICE void setun_top(const float *distance, const float *weights, int64_t n, unsigned long long *top) {
    SETUN_SHARED(unsigned long long, part, [SETUN_KMEANS_THREADS / 32]);
    const int64_t step = (int64_t)gridDim.x * SETUN_KMEANS_THREADS;
    double most = 0; /* of magnitudes: their bits have their order */
    for (int64_t i = (int64_t)blockIdx.x * SETUN_KMEANS_THREADS + threadIdx.x; i < n; i += step) {
        const float far = distance ? distance[i] : 1.0f;
        const double v = weights ? (double)weights[i] * (double)far : (double)fabsf(far);
        if (v > most) most = v;
    }
    for (int w = 16; w > 0; w /= 2) {
        const double v = __shfl_down_sync(SETUN_ALL, most, w);
        if (v > most) most = v;
    }
    if (setun_lane() == 0) part[threadIdx.x / 32] = (unsigned long long)__double_as_longlong(most);
    __syncthreads();
    if (threadIdx.x > 0) return;
    unsigned long long of_block = 0;
    for (int w = 0; w < SETUN_KMEANS_THREADS / 32; w++) of_block = part[w] > of_block ? part[w] : of_block;
    atomicMax(top, of_block);
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS) kmeans_top(const float *distance, const float *weights, int64_t n, unsigned long long *top) {
    setun_top(distance, weights, n, top);
}

SETUN_DEVICE void setun_potential(const float *distance, const float *weights, int64_t n, const unsigned long long *top, double bound, int64_t *sums) {
    SETUN_SHARED(long long, part, [SETUN_KMEANS_THREADS / 32]);
    const double s = setun_potential_scale(*top, bound);
    const int64_t chunks = (n - 1) / SETUN_CHUNK + 1;
    for (int64_t c = blockIdx.x; c < chunks; c += gridDim.x) {
        const int64_t end = setun_least(n, (c + 1) * SETUN_CHUNK);
        long long sum = 0;
        for (int64_t i = c * SETUN_CHUNK + threadIdx.x; i < end; i += SETUN_KMEANS_THREADS)
            sum += setun_integer((double)(weights ? weights[i] : 1.0f) * (double)(distance ? distance[i] : 1.0f) * s);
        for (int w = 16; w > 0; w /= 2) sum += __shfl_down_sync(SETUN_ALL, sum, w);
        if (setun_lane() == 0) part[threadIdx.x / 32] = sum;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int w = 1; w < SETUN_KMEANS_THREADS / 32; w++) sum += part[w];
            sums[c] = sum;
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)
    kmeans_potential(const float *distance, const float *weights, int64_t n, const unsigned long long *top, double bound, int64_t *sums) {
    setun_potential(distance, weights, n, top, bound, sums);
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS) kmeans_unit(const float *x, int64_t n, int d, float *unit) {
    for (int64_t r = setun_warp(); r < n; r += setun_warps()) {
        const double s = setun_square_chunk(x + r * d, d);
        if (setun_lane() == 0) unit[r] = (float)(1 / sqrt(s));
    }
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS) kmeans_unit_long(const float *x, int64_t n, int64_t d, double *sums, float *unit) {
    const int64_t chunks = (d - 1) / SETUN_CHUNK + 1;
    for (int64_t r = blockIdx.x; r < n; r += gridDim.x) {
        double *row = sums + r * chunks;
        for (int64_t c = threadIdx.x / 32; c < chunks; c += SETUN_KMEANS_THREADS / 32) {
            const double s = setun_square_chunk(x + r * d + c * SETUN_CHUNK, (int)setun_least(d - c * SETUN_CHUNK, SETUN_CHUNK));
            if (setun_lane() == 0) row[c] = s;
        }
        __syncthreads();
        const double s = setun_block_tree(row, chunks);
        if (threadIdx.x == 0) unit[r] = (float)(1 / sqrt(s));
    }
}
