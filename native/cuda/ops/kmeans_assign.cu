// SPDX-License-Identifier: Apache-2.0
//
// kmeans_assign.cu: the nearest centroid of each point, and the sums of clusters.
//
// A block has 128 points and goes over all centroids, a tile of COLUMNS at a time, so the best of each point is known without a word to other blocks. A thread
// has 8 points by COLUMNS/16 centroids in registers; each score is one chain that starts from the bias. Slices of 8 columns come through two buffers in shared
// memory: the next one is under way while this one is used.
#include "kmeans.h"

#define SETUN_NEAREST_ROWS 128
#define SETUN_NEAREST_SLICE 8

/* Thread (down, across) of the 16 x 16 that share a tile. Those of a warp are 4 x 8, so that a warp reads as little of either side as can be. */
SETUN_DEVICE int setun_down(int t) { return t / 64 * 4 + t % 32 / 8; }
SETUN_DEVICE int setun_across(int t) { return t / 32 % 2 * 8 + t % 8; }
SETUN_DEVICE int setun_thread(int down, int across) { return down / 4 * 64 + across / 8 * 32 + down % 4 * 8 + across % 8; }

/* The columns of a tile that a thread has, in rising order: quads 64 apart, or a pair. */
template <int COLUMNS> SETUN_DEVICE int setun_column(int across, int c) { return c / 4 * 64 + across * (COLUMNS < 64 ? 2 : 4) + c % 4; }

template <int COLUMNS> SETUN_DEVICE void setun_columns(float *to, const float *row, int across) {
    if constexpr (COLUMNS < 64) {
        float2 v = ((const float2 *)row)[across];
        to[0] = v.x, to[1] = v.y;
    } else {
        SETUN_UNROLL
        for (int c = 0; c < COLUMNS / 16; c += 4) {
            float4 v = ((const float4 *)row)[across + c * 4];
            to[c] = v.x, to[c + 1] = v.y, to[c + 2] = v.z, to[c + 3] = v.w;
        }
    }
}

/* turned: of each tile the slices, [SLICE][COLUMNS], and one slice more that is read and not used. There are zeros where there is no value or no centroid; the
 * bias of those is NaN, and so are their scores, which are greater than none. */
template <int COLUMNS, bool VECTOR>
SETUN_DEVICE void setun_nearest(const float *x, int64_t n, int d, const float *unit, const float *mean, const float *turned, int columns, const float *bias,
                                int32_t *labels) {
    constexpr int ROWS = SETUN_NEAREST_ROWS, SLICE = SETUN_NEAREST_SLICE, MINE = COLUMNS / 16, QUADS = COLUMNS / 4;
    constexpr int PITCH = ROWS / 4 + 1; /* quads from a column of points to the next: one more puts the stores of a warp on 32 banks */
    SETUN_SHARED(float4, points, [2][SLICE][PITCH]);
    SETUN_SHARED(float4, centroids, [2][SLICE][QUADS]);
    SETUN_SHARED(float, best, [8][SETUN_KMEANS_THREADS]); /* of each thread's points; looked at once a tile, so no place for registers */
    SETUN_SHARED(int, who, [8][SETUN_KMEANS_THREADS]);
    const int t = threadIdx.x, down = setun_down(t), across = setun_across(t);
    const int64_t first = (int64_t)blockIdx.x * ROWS;
    SETUN_UNROLL
    for (int i = 0; i < 8; i++) best[i][t] = -__uint_as_float(0x7f800000u), who[i][t] = 0x7fffffff;

    /* What a thread brings of a slice: four values of a point and, if there are as many, of a row of centroids. */
    const int point = t / 2, quad = t % 2 * 4, corner = quad * PITCH * 4 + point;
    const int64_t from = setun_least(first + point, n - 1);
    const float *row = x + from * d;
    const float u = unit ? unit[from] : 1.0f;
    const bool brings = QUADS * SLICE >= SETUN_KMEANS_THREADS || t < QUADS * SLICE;
    const float4 *source = (const float4 *)turned + t;
    float p[4], c[4] = {0, 0, 0, 0};
    auto ask = [&](int slice) {
        /* Past the end of a row any values will do that are finite: they meet zeros. */
        setun_unpack(p, VECTOR ? *(const float4 *)(row + (slice + quad < d ? slice + quad : 0)) : setun_quad<false>(row, slice + quad, d));
        if (brings) setun_unpack(c, *source);
        source += SLICE * QUADS;
    };
    auto put = [&](int at, int slice) {
        const float4 v = {p[0], p[1], p[2], p[3]}, w = setun_centred(v, u, *(const float4 *)(mean + slice + quad)), b = {c[0], c[1], c[2], c[3]};
        float *to = (float *)&points[at][0][0] + corner;
        to[0] = w.x, to[PITCH * 4] = w.y, to[PITCH * 8] = w.z, to[PITCH * 12] = w.w;
        if (brings) (&centroids[at][0][0])[t] = b;
    };
    ask(0);
    put(0, 0);
    __syncthreads();
    int at = 0;
    for (int tile = 0; tile < columns; tile += COLUMNS) {
        float s[8][MINE];
        setun_columns<COLUMNS>(s[0], bias + tile, across);
        SETUN_UNROLL
        for (int i = 1; i < 8; i++) {
            SETUN_UNROLL
            for (int j = 0; j < MINE; j++) s[i][j] = s[0][j];
        }
        for (int slice = 0; slice < d; slice += SLICE) {
            const int next = slice + SLICE < d ? slice + SLICE : 0; /* no branch at the very end, which would delay the loads */
            ask(next);
            SETUN_UNROLL
            for (int k = 0; k < SLICE; k++) {
                const float4 a = points[at][k][down], b = points[at][k][16 + down];
                const float v[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
                float w[MINE];
                setun_columns<COLUMNS>(w, (const float *)centroids[at][k], across);
                SETUN_UNROLL
                for (int i = 0; i < 8; i++) {
                    SETUN_UNROLL
                    for (int j = 0; j < MINE; j++) s[i][j] = fmaf(v[i], w[j], s[i][j]);
                }
            }
            at ^= 1;
            put(at, next);
            __syncthreads();
        }
        SETUN_UNROLL
        for (int i = 0; i < 8; i++) {
            float top = best[i][t];
            int label = who[i][t];
            SETUN_UNROLL
            for (int j = 0; j < MINE; j++)
                if (s[i][j] > top) top = s[i][j], label = tile + setun_column<COLUMNS>(across, j);
            best[i][t] = top, who[i][t] = label;
        }
    }
    __syncthreads();
    if (t >= ROWS || first + t >= n) return;
    const int i = t / 64 * 4 + t % 4, of = t % 64 / 4;
    float top = -__uint_as_float(0x7f800000u);
    int label = 0;
    for (int a = 0; a < 16; a++) {
        const int other = setun_thread(of, a);
        const float s = best[i][other];
        const int l = who[i][other];
        if (s > top || (s == top && l < label)) top = s, label = l;
    }
    labels[first + t] = label;
}

#define SETUN_NEAREST(name, COLUMNS, VECTOR)                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS, 2)                                                                                      \
        name(const float *x, int64_t n, int d, const float *unit, const float *mean, const float *turned, int columns, const float *bias, int32_t *labels) {   \
        setun_nearest<COLUMNS, VECTOR>(x, n, d, unit, mean, turned, columns, bias, labels);                                                                    \
    }
SETUN_NEAREST(kmeans_nearest_32, 32, true)
SETUN_NEAREST(kmeans_nearest_64, 64, true)
SETUN_NEAREST(kmeans_nearest_128, 128, true)
SETUN_NEAREST(kmeans_nearest_any_32, 32, false)
SETUN_NEAREST(kmeans_nearest_any_64, 64, false)
SETUN_NEAREST(kmeans_nearest_any_128, 128, false)
#undef SETUN_NEAREST

SETUN_DEVICE void setun_turn(const float *c, int k, int d, float *turned, int columns, int lines, int tile) {
    SETUN_SHARED(float, square, [32][33]);
    const int x = threadIdx.x % 32, y = threadIdx.x / 32, wide = columns / 32;
    const int64_t squares = (int64_t)wide * ((lines - 1) / 32 + 1);
    for (int64_t i = blockIdx.x; i < squares; i += gridDim.x) {
        const int64_t p = i / wide * 32, j = i % wide * 32;
        for (int r = y; r < 32; r += 8) square[r][x] = j + r < k && p + x < d ? c[(j + r) * d + p + x] : 0;
        __syncthreads();
        float *to = turned + j / tile * tile * lines + j % tile + x;
        for (int r = y; r < 32; r += 8)
            if (p + r < lines) to[(p + r) * tile] = square[x][r];
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS) kmeans_turn(const float *c, int k, int d, float *turned, int columns, int lines, int tile) {
    setun_turn(c, k, d, turned, columns, lines, tile);
}

SETUN_DEVICE void setun_add_rows(const float *x, int64_t n, int d, int width, const float *unit, const float *mean, const double *scale, const float *weights,
                                 const int32_t *labels, const int32_t *before, int k, int64_t *sums, int shared, const unsigned long long *record) {
    if (record && record[0] != 0) return;
    SETUN_DYNAMIC(unsigned, cluster_table); /* nvcc wants one type for a name in all of the image */
    enum { AHEAD = 4 };
    const int groups = SETUN_KMEANS_THREADS / width, group = threadIdx.x / width, lane = threadIdx.x % width;
    const int64_t step = (int64_t)gridDim.x * groups;
    const int entries = shared ? k * width : 0;
    unsigned *high = cluster_table + entries;
    for (int first = blockIdx.y * width; first < d; first += gridDim.y * width) {
        const int column = first + lane;
        for (int e = threadIdx.x; e < 2 * entries; e += SETUN_KMEANS_THREADS) cluster_table[e] = 0;
        __syncthreads();
        const bool works = group < groups && column < d;
        const float m = works ? mean[column] : 0;
        const double f = works ? scale[column] : 0;
        for (int64_t row = (int64_t)blockIdx.x * groups + group; works && row < n; row += AHEAD * step) {
            int to[AHEAD], from[AHEAD];
            float v[AHEAD];
            SETUN_UNROLL
            for (int a = 0; a < AHEAD; a++) {
                const int64_t r = row + a * step;
                to[a] = r < n ? labels[r] : -1;
                from[a] = before && r < n ? before[r] : -1;
                if (from[a] == to[a]) to[a] = -1;
            }
            SETUN_UNROLL
            for (int a = 0; a < AHEAD; a++) v[a] = to[a] >= 0 ? x[(row + a * step) * d + column] : 0;
            SETUN_UNROLL
            for (int a = 0; a < AHEAD; a++) {
                if (to[a] < 0) continue;
                const int64_t r = row + a * step;
                const float c = v[a] * (unit ? unit[r] : 1.0f) - m;
                const long long q = setun_integer((double)(weights ? weights[r] : 1.0f) * (double)c * f);
                const bool leaves = (unsigned)from[a] < (unsigned)k;
                if (shared) {
                    setun_add(cluster_table + to[a] * width + lane, high + to[a] * width + lane, q);
                    if (leaves) setun_add(cluster_table + from[a] * width + lane, high + from[a] * width + lane, -q);
                } else {
                    setun_add(sums + (int64_t)to[a] * d + column, q);
                    if (leaves) setun_add(sums + (int64_t)from[a] * d + column, -q);
                }
            }
        }
        __syncthreads();
        for (int e = threadIdx.x; e < entries; e += SETUN_KMEANS_THREADS) {
            const long long q = setun_joined(cluster_table[e], high[e]);
            if (q != 0) setun_add(sums + (int64_t)(e / width) * d + first + e % width, q); /* past the last column nothing was added */
        }
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)
    kmeans_add(const float *x, int64_t n, int d, int width, const float *unit, const float *mean, const double *scale, const float *weights,
               const int32_t *labels, const int32_t *before, int k, int64_t *sums, int shared, const unsigned long long *record) {
    setun_add_rows(x, n, d, width, unit, mean, scale, weights, labels, before, k, sums, shared, record);
}

SETUN_DEVICE void setun_relabel(const int32_t *fresh, int32_t *labels, int64_t n, int k, const float *weights, double weight_scale, int moved, int64_t *counts,
                                int64_t *weight_sums, unsigned long long *changed, const unsigned long long *record) {
    if (record && record[0] != 0) return;
    enum { TABLE = 1024 };
    SETUN_SHARED(unsigned, table, [3][TABLE]); /* rows, and the two halves of weights */
    const bool shared = counts && k <= TABLE;
    for (int e = threadIdx.x; shared && e < k; e += SETUN_KMEANS_THREADS) table[0][e] = table[1][e] = table[2][e] = 0;
    __syncthreads();
    const int64_t step = (int64_t)gridDim.x * SETUN_KMEANS_THREADS;
    long long moves = 0;
    for (int64_t i = (int64_t)blockIdx.x * SETUN_KMEANS_THREADS + threadIdx.x; i < n; i += step) {
        const int to = fresh[i], from = labels[i];
        const long long q = counts && weights ? setun_integer((double)weights[i] * weight_scale) : 0;
        if (to != from) labels[i] = to, moves++;
        if (!counts || (moved && to == from)) continue;
        const bool leaves = moved && (unsigned)from < (unsigned)k;
        if (shared) {
            atomicAdd(&table[0][to], 1u);
            if (leaves) atomicAdd(&table[0][from], ~0u);
            if (q != 0) setun_add(&table[1][to], &table[2][to], q);
            if (q != 0 && leaves) setun_add(&table[1][from], &table[2][from], -q);
        } else {
            setun_add(counts + to, 1);
            if (leaves) setun_add(counts + from, -1);
            if (q != 0) setun_add(weight_sums + to, q);
            if (q != 0 && leaves) setun_add(weight_sums + from, -q);
        }
    }
    for (int w = 16; w > 0; w /= 2) moves += __shfl_down_sync(SETUN_ALL, moves, w);
    if (setun_lane() == 0 && moves > 0) atomicAdd(changed, (unsigned long long)moves);
    __syncthreads();
    for (int e = threadIdx.x; shared && e < k; e += SETUN_KMEANS_THREADS) {
        if (table[0][e] != 0) setun_add(counts + e, (int)table[0][e]); /* a block has fewer than 2^31 rows */
        const long long q = setun_joined(table[1][e], table[2][e]);
        if (q != 0) setun_add(weight_sums + e, q);
    }
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)
    kmeans_relabel(const int32_t *fresh, int32_t *labels, int64_t n, int k, const float *weights, double weight_scale, int moved, int64_t *counts,
                   int64_t *weight_sums, unsigned long long *changed, const unsigned long long *record) {
    setun_relabel(fresh, labels, n, k, weights, weight_scale, moved, counts, weight_sums, changed, record);
}
