// SPDX-License-Identifier: Apache-2.0
//
// softmax.cu: rows of powers over their sum, in place, and the gradient of that. A lane writes and reads again its own values alone, so a row needs no barrier.
#include "kernels.h"
#include "layers.h"

enum { SETUN_HELD = 32 }; /* values that a lane holds in registers: a row of 1024 */

/* How many values of a row there are. */
SETUN_DEVICE int64_t setun_seen(int64_t row, int64_t cols, int64_t period) { return period ? cols - period + 1 + row % period : cols; }

SETUN_DEVICE float setun_least_float() { return __uint_as_float(0xff800000u); }
SETUN_DEVICE float setun_warp_most(float g) {
    for (int w = 16; w > 0; w /= 2) g = fmaxf(g, __shfl_xor_sync(SETUN_ALL, g, w));
    return g;
}
SETUN_DEVICE void setun_softmax_stats(double *stats, int64_t row, float g, double sum) {
    if (stats) stats[2 * row] = sum == sum ? (double)g : sum, stats[2 * row + 1] = sum;
}

/* Of a chunk: the greatest value, to all lanes; the powers, whose sum is in lane 0; the powers times f, zeros behind them. n may be 0. */
SETUN_DEVICE float setun_most_chunk(const float *x, int n) {
    float g = setun_least_float();
    setun_lane_values(x, n, [&](float v) { g = fmaxf(g, v); });
    return setun_warp_most(g) + 0.0f; /* never -0 */
}
SETUN_DEVICE double setun_exp_chunk(float *x, int n, float scale, float g) {
    float v[8];
    double t = 0;
    setun_lane_batches<8>(
        n, [&](int u, int i) { v[u] = x[i]; },
        [&](int u, int i) {
            float e = setun_exp32((v[u] - g) * scale);
            x[i] = e;
            t += (double)e;
        });
    return setun_fold(t);
}
SETUN_DEVICE void setun_times_chunk(float *x, int n, int room, float f) {
    float v[8];
    setun_lane_batches<8>(
        n, [&](int u, int i) { v[u] = x[i]; }, [&](int u, int i) { x[i] = v[u] * f; });
    for (int i = setun_lane(); i < room; i += 32)
        if (i >= n) x[i] = 0;
}
SETUN_DEVICE void setun_slope_chunk(const float *p, float *x, int n, int room, float scale, float s) {
    float v[8], w[8];
    setun_lane_batches<8>(
        n, [&](int u, int i) { v[u] = p[i], w[u] = x[i]; }, [&](int u, int i) { x[i] = scale * v[u] * (w[u] - s); });
    for (int i = setun_lane(); i < room; i += 32)
        if (i >= n) x[i] = 0;
}

/* Rows of at most 1024 values, which are read and written once. */
extern "C" __global__ void __launch_bounds__(128)
    softmax_short(float *x, int64_t rows, int64_t cols, int64_t period, float scale, double factor, double *stats) {
    for (int64_t row = setun_warp(); row < rows; row += setun_warps()) {
        float *p = x + row * cols, v[SETUN_HELD], g = setun_least_float();
        int n = (int)setun_seen(row, cols, period), me = setun_lane();
        SETUN_UNROLL
        for (int k = 0; k < SETUN_HELD; k++) v[k] = me + 32 * k < n ? p[me + 32 * k] : setun_least_float();
        SETUN_UNROLL
        for (int k = 0; k < SETUN_HELD; k++) g = fmaxf(g, v[k]);
        g = setun_warp_most(g) + 0.0f; /* never -0 */
        double t = 0;
        SETUN_UNROLL
        for (int k = 0; k < SETUN_HELD; k++)
            if (me + 32 * k < n) {
                v[k] = setun_exp32((v[k] - g) * scale);
                t += (double)v[k];
            }
        double sum = __shfl_sync(SETUN_ALL, setun_fold(t), 0);
        float f = (float)(factor / sum);
        SETUN_UNROLL
        for (int k = 0; k < SETUN_HELD; k++)
            if (me + 32 * k < cols) p[me + 32 * k] = me + 32 * k < n ? v[k] * f : 0.0f;
        if (me == 0) setun_softmax_stats(stats, row, g, sum);
    }
}

/* Rows of at most 4096. */
extern "C" __global__ void __launch_bounds__(128)
    softmax_rows(float *x, int64_t rows, int64_t cols, int64_t period, float scale, double factor, double *stats) {
    for (int64_t row = setun_warp(); row < rows; row += setun_warps()) {
        float *p = x + row * cols;
        int n = (int)setun_seen(row, cols, period);
        float g = setun_most_chunk(p, n);
        double sum = __shfl_sync(SETUN_ALL, setun_exp_chunk(p, n, scale, g), 0);
        setun_times_chunk(p, n, (int)cols, (float)(factor / sum));
        if (setun_lane() == 0) setun_softmax_stats(stats, row, g, sum);
    }
}

extern "C" __global__ void __launch_bounds__(128) softmax_gradient(const float *p, float *x, int64_t rows, int64_t cols, int64_t period, float scale) {
    for (int64_t row = setun_warp(); row < rows; row += setun_warps()) {
        int64_t at = row * cols;
        int n = (int)setun_seen(row, cols, period);
        double s = __shfl_sync(SETUN_ALL, setun_product_chunk(p + at, x + at, n), 0);
        setun_slope_chunk(p + at, x + at, n, (int)cols, scale, (float)s);
    }
}

/* ---- Long rows: chunk by chunk. A chunk behind the end of its row has the sum 0, which changes no other ---------------------- */

/* Calls body(place, row, where the chunk is, its values that are seen, all of them). */
template <class Body> SETUN_DEVICE void setun_seen_chunks(int64_t rows, int64_t cols, int64_t period, int64_t chunks, Body body) {
    setun_row_chunks(rows, chunks, [&](int64_t t, int64_t row, int64_t col) {
        int64_t n = setun_seen(row, cols, period) - col;
        int room = (int)setun_least(cols - col, SETUN_CHUNK);
        body(t, row, row * cols + col, n < 0 ? 0 : (int)setun_least(n, room), room);
    });
}

/* The float of setun_ordered, which is kmeans.cu's. */
SETUN_DEVICE float setun_unordered(unsigned u) { return __uint_as_float(u & 0x80000000u ? u & 0x7fffffffu : ~u); }

extern "C" __global__ void __launch_bounds__(256) softmax_most(const float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, unsigned *most) {
    setun_seen_chunks(rows, cols, period, chunks, [&](int64_t, int64_t row, int64_t at, int n, int) {
        float g = setun_most_chunk(x + at, n);
        if (setun_lane() == 0) atomicMax(most + row, setun_ordered(g));
    });
}
extern "C" __global__ void __launch_bounds__(256)
    softmax_powers(float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, float scale, const unsigned *most, double *sums) {
    setun_seen_chunks(rows, cols, period, chunks, [&](int64_t t, int64_t row, int64_t at, int n, int) {
        double s = setun_exp_chunk(x + at, n, scale, setun_unordered(most[row]));
        if (setun_lane() == 0) sums[t] = s;
    });
}
extern "C" __global__ void __launch_bounds__(256) softmax_divide(float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, double factor,
                                                                 const unsigned *most, const double *sums, double *stats) {
    setun_seen_chunks(rows, cols, period, chunks, [&](int64_t t, int64_t row, int64_t at, int n, int room) {
        double sum = sums[row * chunks];
        setun_times_chunk(x + at, n, room, (float)(factor / sum));
        if (t == row * chunks && setun_lane() == 0) setun_softmax_stats(stats, row, setun_unordered(most[row]), sum);
    });
}

extern "C" __global__ void __launch_bounds__(256)
    softmax_products(const float *p, const float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, double *sums) {
    setun_seen_chunks(rows, cols, period, chunks, [&](int64_t t, int64_t, int64_t at, int n, int) {
        double s = setun_product_chunk(p + at, x + at, n);
        if (setun_lane() == 0) sums[t] = s;
    });
}
extern "C" __global__ void __launch_bounds__(256)
    softmax_slope(const float *p, float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, float scale, const double *sums) {
    setun_seen_chunks(rows, cols, period, chunks,
                      [&](int64_t, int64_t row, int64_t at, int n, int room) { setun_slope_chunk(p + at, x + at, n, room, scale, (float)sums[row * chunks]); });
}
