// SPDX-License-Identifier: Apache-2.0
//
// norm.cu: rmsnorm and its gradient. The latter goes by blocks of 32 rows, a warp a row, so that the columns of a block can be added in their order while its
// values are at hand; out may lie where dy is, and each value is read before it is written.
#include "kernels.h"
#include "layers.h"

enum { SETUN_ROWS = 32, SETUN_TILE = 256 }; /* of a block of the gain's gradient: its rows, and columns at a time */

/* ---- Forward ----------------------------------------------------------------------------------------------------------- */

/* A chunk of S(u*u), u = x, or x + delta, which is stored; the answer is in lane 0. */
SETUN_DEVICE double setun_norm_squares(const float *x, const float *delta, float *sum, int n) {
    if (!delta) return setun_square_chunk(x, n);
    float v[8], w[8];
    double t = 0;
    setun_lane_batches<8>(
        n, [&](int u, int i) { v[u] = x[i], w[u] = delta[i]; },
        [&](int u, int i) {
            float s = v[u] + w[u];
            sum[i] = s;
            t += (double)s * (double)s;
        });
    return setun_fold(t);
}
SETUN_DEVICE float setun_norm_scale(double squares, int64_t cols, double epsilon) { return (float)(1 / sqrt(squares / (double)cols + epsilon)); }

/* out = u * r * gain of a chunk. */
SETUN_DEVICE void setun_normalise(const float *x, const float *gain, float *out, int n, float r) {
    float v[8], w[8];
    if (gain)
        setun_lane_batches<8>(
            n, [&](int u, int i) { v[u] = x[i], w[u] = gain[i]; }, [&](int u, int i) { out[i] = v[u] * r * w[u]; });
    else
        setun_lane_batches<8>(
            n, [&](int u, int i) { v[u] = x[i]; }, [&](int u, int i) { out[i] = v[u] * r; });
}

extern "C" __global__ void __launch_bounds__(128)
    norm_rows(const float *x, const float *delta, const float *gain, int64_t rows, int64_t cols, double epsilon, float *sum, float *scale, float *out) {
    for (int64_t row = setun_warp(); row < rows; row += setun_warps()) {
        int64_t at = row * cols;
        double s = setun_norm_squares(x + at, setun_at(delta, at), setun_at(sum, at), (int)cols);
        float r = setun_norm_scale(__shfl_sync(SETUN_ALL, s, 0), cols, epsilon);
        if (setun_lane() == 0) scale[row] = r;
        setun_normalise((delta ? sum : x) + at, gain, out + at, (int)cols, r); /* each lane reads what it wrote */
    }
}

/* Long rows: the sums of their chunks, the scale from those, and what it is for. */
extern "C" __global__ void __launch_bounds__(256)
    norm_squares(const float *x, const float *delta, int64_t rows, int64_t cols, int64_t chunks, float *sum, double *sums) {
    setun_row_chunks(rows, chunks, [&](int64_t t, int64_t row, int64_t col) {
        int64_t at = row * cols + col;
        double s = setun_norm_squares(x + at, setun_at(delta, at), setun_at(sum, at), (int)setun_least(cols - col, SETUN_CHUNK));
        if (setun_lane() == 0) sums[t] = s;
    });
}
extern "C" __global__ void __launch_bounds__(1024) norm_scales(double *sums, int64_t rows, int64_t cols, int64_t chunks, double epsilon, float *scale) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        double s = setun_block_tree(sums + row * chunks, chunks);
        if (threadIdx.x == 0) scale[row] = setun_norm_scale(s, cols, epsilon);
    }
}
extern "C" __global__ void __launch_bounds__(256)
    norm_apply(const float *x, const float *gain, const float *scale, int64_t rows, int64_t cols, int64_t chunks, float *out) {
    setun_row_chunks(rows, chunks, [&](int64_t, int64_t row, int64_t col) {
        int64_t at = row * cols + col;
        setun_normalise(x + at, setun_at(gain, col), out + at, (int)setun_least(cols - col, SETUN_CHUNK), scale[row]);
    });
}

/* ---- The gradient ------------------------------------------------------------------------------------------------------- */

/* A chunk of S(t*gain), or of S(dy*x) without gain; the answer is in lane 0. */
SETUN_DEVICE double setun_norm_products(const float *x, const float *gain, const float *dy, int n, float r) {
    if (!gain) return setun_product_chunk(dy, x, n);
    float v[8], w[8], g[8];
    double s = 0;
    setun_lane_batches<8>(
        n, [&](int u, int i) { v[u] = x[i], w[u] = dy[i], g[u] = gain[i]; },
        [&](int u, int) {
            float t = w[u] * (v[u] * r);
            s += (double)t * (double)g[u];
        });
    return setun_fold(s);
}
SETUN_DEVICE float setun_norm_mean(double products, bool gained, int64_t cols, float r) {
    return (float)((gained ? products : products * (double)r) / (double)cols);
}

/* Up to TILE columns of a block of rows, the gradient of a warp's own by the warp, and the sums of t over the rows in part. x, gain, dy and out are where the
 * warp's row has its first of n values; a warp without a row is not live. */
SETUN_DEVICE void setun_norm_tile(const float *x, const float *gain, const float *dy, float *out, int n, bool live, int rows, float r, float mean, bool add,
                                  float *part) {
    SETUN_SHARED(float, t, [SETUN_ROWS][SETUN_TILE]);
    float v[8], w[8], old[8];
    float *mine = t[threadIdx.x / 32];
    if (live)
        setun_lane_batches<8>(
            n, [&](int u, int i) { v[u] = x[i], w[u] = dy[i], old[u] = add ? out[i] : 0.0f; },
            [&](int u, int i) {
                float normed = v[u] * r, e = w[u];
                if (gain) mine[i] = e * normed, e = e * gain[i];
                float d = r * (e - normed * mean);
                out[i] = add ? old[u] + d : d;
            });
    if (!gain) return;
    __syncthreads();
    for (int c = threadIdx.x; c < n; c += blockDim.x) {
        float s = 0;
        for (int k = 0; k < rows; k++) s += t[k][c];
        part[c] = s;
    }
    __syncthreads(); /* all have been read */
}

/* One block of 1024 threads for each 32 rows. */
extern "C" __global__ void __launch_bounds__(1024)
    norm_gradient(const float *x, const float *gain, const float *dy, const float *scale, int64_t rows, int64_t cols, int add, float *out, float *parts) {
    int64_t blocks = (rows - 1) / SETUN_ROWS + 1;
    for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
        int64_t row = b * SETUN_ROWS + threadIdx.x / 32, at = row * cols;
        bool live = row < rows;
        float r = 0, mean = 0;
        if (live) {
            r = scale[row];
            double s = setun_norm_products(x + at, gain, dy + at, (int)cols, r);
            mean = setun_norm_mean(__shfl_sync(SETUN_ALL, s, 0), gain, cols, r);
        }
        for (int64_t col = 0; col < cols; col += SETUN_TILE)
            setun_norm_tile(x + at + col, setun_at(gain, col), dy + at + col, out + at + col, (int)setun_least(cols - col, SETUN_TILE), live,
                            (int)setun_least(rows - b * SETUN_ROWS, SETUN_ROWS), r, mean, add, setun_at(parts, b * cols + col));
    }
}

/* Long rows: the sums of their chunks, which row_trees of clusters.cu brings together, then tiles of all blocks of rows. */
extern "C" __global__ void __launch_bounds__(256)
    norm_products(const float *x, const float *gain, const float *dy, const float *scale, int64_t rows, int64_t cols, int64_t chunks, double *sums) {
    setun_row_chunks(rows, chunks, [&](int64_t t, int64_t row, int64_t col) {
        int64_t at = row * cols + col;
        double s = setun_norm_products(x + at, setun_at(gain, col), dy + at, (int)setun_least(cols - col, SETUN_CHUNK), scale[row]);
        if (setun_lane() == 0) sums[t] = s;
    });
}
extern "C" __global__ void __launch_bounds__(1024)
    norm_gradient_long(const float *x, const float *gain, const float *dy, const float *scale, const double *sums, int64_t rows, int64_t cols, int64_t chunks,
                       int add, float *out, float *parts) {
    int64_t blocks = (rows - 1) / SETUN_ROWS + 1, tiles = (cols - 1) / SETUN_TILE + 1;
    for (int64_t t = blockIdx.x; t < blocks * tiles; t += gridDim.x) {
        int64_t b = t / tiles, col = (t - b * tiles) * SETUN_TILE, row = b * SETUN_ROWS + threadIdx.x / 32, at = row * cols + col;
        bool live = row < rows;
        float r = live ? scale[row] : 0, mean = live ? setun_norm_mean(sums[row * chunks], gain, cols, r) : 0;
        setun_norm_tile(x + at, setun_at(gain, col), dy + at, out + at, (int)setun_least(cols - col, SETUN_TILE), live,
                        (int)setun_least(rows - b * SETUN_ROWS, SETUN_ROWS), r, mean, add, setun_at(parts, b * cols + col));
    }
}

/* A thread a column: the sums of the blocks in their order, loads ahead of the additions. */
extern "C" __global__ void __launch_bounds__(64) norm_gain(const float *parts, int64_t blocks, int64_t cols, float *dgain) {
    int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= cols) return;
    double s = 0;
    int64_t b = 0;
    for (; b + 32 <= blocks; b += 32) {
        float v[32];
        SETUN_UNROLL
        for (int u = 0; u < 32; u++) v[u] = parts[(b + u) * cols + c];
        SETUN_UNROLL
        for (int u = 0; u < 32; u++) s += (double)v[u];
    }
    for (; b < blocks; b++) s += (double)parts[b * cols + c];
    dgain[c] += (float)s;
}
