// SPDX-License-Identifier: Apache-2.0
//
// clusters.cu: constrain-clusters. A warp sums a chunk of a segment or of a row, a block brings the sums of a cluster together, and nothing is written before
// all is known to be finite. setun_scaled is constrain.cu's, and rows are summed by group_squares of quantize.cu.
#include "codes.h"
#include "kernels.h"

/* The last c of 0 .. k-1 with first[c] <= t; first[0] is 0. */
SETUN_DEVICE int64_t setun_cluster_of(const int64_t *first, int64_t k, int64_t t) {
    int64_t low = 0, high = k;
    while (high - low > 1) {
        int64_t mid = low + (high - low) / 2;
        if (first[mid] <= t)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* Calls body(cluster, chunk, where it begins, how many values) for the chunks of all segments; first null: each has one, be it empty. */
template <class Body> SETUN_DEVICE void setun_segment_chunks(const int64_t *offsets, const int64_t *first, int64_t k, int64_t chunks, Body body) {
    for (int64_t t = setun_warp(); t < chunks; t += setun_warps()) {
        int64_t c = first ? setun_cluster_of(first, k, t) : t, at = offsets[c] + (first ? t - first[c] : 0) * SETUN_CHUNK;
        body(c, t, at, (int)setun_least(offsets[c + 1] - at, SETUN_CHUNK));
    }
}

extern "C" __global__ void __launch_bounds__(256)
    segment_squares(const float *x, const int64_t *offsets, const int64_t *first, int64_t k, int64_t chunks, double *sums) {
    setun_segment_chunks(offsets, first, k, chunks, [&](int64_t, int64_t t, int64_t at, int n) {
        double s = setun_square_chunk(x + at, n);
        if (setun_lane() == 0) sums[t] = s;
    });
}

/* The sum of a row's chunks, where the first of them is. A block a row. */
extern "C" __global__ void __launch_bounds__(1024) row_trees(double *sums, int64_t rows, int64_t chunks) {
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) setun_block_tree(sums + r * chunks, chunks);
}

/* The rows' sums, chunks apart, in the order of their clusters; a row of no cluster has place -1. */
extern "C" __global__ void __launch_bounds__(256)
    row_order(const double *sums, int64_t rows, int64_t chunks, const int64_t *places, double *sorted, unsigned *bad) {
    for (int64_t r = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; r < rows; r += (int64_t)gridDim.x * blockDim.x) {
        double s = sums[r * chunks];
        if (s - s != 0) bad[0] = 1;
        if (places[r] >= 0) sorted[places[r]] = s;
    }
}

/* Norms and factors from the sums begin[c] .. begin[c+1]-1 of each cluster; begin null: it has one. A block a cluster. */
extern "C" __global__ void __launch_bounds__(1024)
    cluster_norms(double *sums, const int64_t *begin, int64_t k, const double *radii, double *norms, double *factors, unsigned *bad) {
    for (int64_t c = blockIdx.x; c < k; c += gridDim.x) {
        int64_t from = begin ? begin[c] : c, n = begin ? begin[c + 1] - from : 1;
        double norm = n == 0 ? 0 : sqrt(setun_block_tree(sums + from, n));
        if (threadIdx.x > 0) continue;
        norms[c] = norm;
        factors[c] = norm > radii[c] ? radii[c] / norm * (1 - 0x1p-23) : 1;
        if (norm - norm != 0) bad[0] = 1;
    }
}

extern "C" __global__ void __launch_bounds__(256) segment_project(float *dst, const float *x, const int64_t *offsets, const int64_t *first, int64_t k,
                                                                  int64_t chunks, const double *factors, const unsigned *bad) {
    if (bad[0]) return;
    setun_segment_chunks(offsets, first, k, chunks, [&](int64_t c, int64_t, int64_t at, int n) {
        double f = factors[c];
        bool inside = f == 1; /* a factor outside the ball is at most 1 - 2^-23 */
        if (inside && dst == x) return;
        const float *from = x + at;
        float *to = dst + at;
        int i = setun_lane();
        for (; i + 15 * 32 < n; i += 16 * 32) {
            float v[16];
            SETUN_UNROLL
            for (int u = 0; u < 16; u++) v[u] = from[i + u * 32];
            SETUN_UNROLL
            for (int u = 0; u < 16; u++) to[i + u * 32] = inside ? v[u] : setun_scaled(v[u], f);
        }
        for (; i < n; i += 32) to[i] = inside ? from[i] : setun_scaled(from[i], f);
    });
}

/* A thread has four values of a row at a time. */
extern "C" __global__ void __launch_bounds__(256)
    row_project(float *dst, const float *x, int64_t rows, int64_t cols, const int32_t *labels, const double *factors, const unsigned *bad) {
    if (bad[0]) return;
    bool wide = (((uint64_t)dst | (uint64_t)x) & 15) == 0 && (rows == 1 || (cols & 3) == 0);
    setun_units(rows, (cols - 1) / 4 + 1, [&](int64_t row, int64_t unit) {
        int32_t label = labels[row];
        double f = label >= 0 ? factors[label] : 1;
        bool inside = f == 1;
        if (inside && dst == x) return;
        const float *from = x + row * cols;
        float *to = dst + row * cols;
        if (wide && 4 * unit + 4 <= cols) {
            float4 v = *(const float4 *)(from + 4 * unit);
            if (!inside) v.x = setun_scaled(v.x, f), v.y = setun_scaled(v.y, f), v.z = setun_scaled(v.z, f), v.w = setun_scaled(v.w, f);
            *(float4 *)(to + 4 * unit) = v;
            return;
        }
        int64_t end = setun_least(4 * unit + 4, cols);
        for (int64_t i = 4 * unit; i < end; i++) to[i] = inside ? from[i] : setun_scaled(from[i], f);
    });
}
