// SPDX-License-Identifier: Apache-2.0
//
// kmeans_many.cu: the steps of k-means for many problems in one launch. blockIdx.z counts the problems of a list, whose blocks work on it as a grid of its own
// would. Only the points are each problem's own: arrays by column, centroid or cluster have those of all problems, one after another.
#include "kmeans.h"

#define SETUN_MANY extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)

SETUN_DEVICE const float *setun_units_of(const float *unit, const setun_part &p) { return unit ? unit + p.first : nullptr; }

SETUN_MANY many_pad(const float *in, int64_t rows, int d, int wide, float fill, float *out) {
    const int64_t step = (int64_t)gridDim.x * SETUN_KMEANS_THREADS;
    for (int64_t i = (int64_t)blockIdx.x * SETUN_KMEANS_THREADS + threadIdx.x; i < rows * wide; i += step)
        out[i] = i % wide < d ? in[i / wide * d + i % wide] : fill;
}

SETUN_MANY many_range(const setun_part *list, const float *x, int d, int width, const float *unit, unsigned *low, unsigned *high, unsigned *bad) {
    const setun_part p = list[blockIdx.z];
    setun_range(x + p.first * d, p.n, d, width, setun_units_of(unit, p), low + (int64_t)p.index * d, high + (int64_t)p.index * d, bad + p.index);
}

SETUN_MANY many_mean(const setun_part *list, const float *x, int d, int width, const float *unit, const double *scale, int64_t *sums) {
    const setun_part p = list[blockIdx.z];
    setun_mean(x + p.first * d, p.n, d, width, setun_units_of(unit, p), scale + (int64_t)p.index * d, sums + (int64_t)p.index * d);
}

#define SETUN_MANY_DISTANCE(name, VECTOR)                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(128, 4)                                                                                                       \
        name(const setun_part *list, const float *x, int d, const float *unit, const float *mean, int wide, const float *centroids, int64_t stride, int k,     \
             const int32_t *labels, int keep_min, float *distance) {                                                                                           \
        const setun_part p = list[blockIdx.z];                                                                                                                 \
        setun_distance<VECTOR>(x + p.first * d, p.n, d, setun_units_of(unit, p), mean + (int64_t)p.index * wide, centroids + p.index * stride, k,              \
                               labels ? labels + p.first : nullptr, keep_min, distance + p.first);                                                             \
    }
SETUN_MANY_DISTANCE(many_distance, true)
SETUN_MANY_DISTANCE(many_distance_any, false)
#undef SETUN_MANY_DISTANCE

SETUN_MANY many_top(const setun_part *list, const float *distance, unsigned long long *top) {
    const setun_part p = list[blockIdx.z];
    setun_top(distance + p.first, nullptr, p.n, top + p.index);
}

SETUN_MANY many_potential(const setun_part *list, const float *distance, const unsigned long long *top, int64_t chunks, int64_t *sums) {
    const setun_part p = list[blockIdx.z];
    setun_potential(distance + p.first, nullptr, p.n, top + p.index, p.bound, sums + p.index * chunks);
}

SETUN_MANY many_pick(const setun_part *list, const float *x, int d, const float *unit, const float *mean, int wide, const float *distance,
                     const unsigned long long *top, int64_t chunks, const int64_t *sums, uint64_t seed, int t, int k, uint8_t *taken, float *centroids) {
    const setun_part p = list[blockIdx.z];
    setun_pick(x + p.first * d, p.n, d, setun_units_of(unit, p), mean + (int64_t)p.index * wide, distance + p.first, nullptr, top + p.index, p.bound,
               sums ? sums + p.index * chunks : nullptr, seed, t, k, taken + (int64_t)p.index * k, centroids + ((int64_t)p.index * k + t) * d);
}

SETUN_MANY many_turn(const setun_part *list, const float *c, int k, int d, int64_t size, float *turned, int columns, int lines, int tile) {
    const int64_t index = list[blockIdx.z].index;
    setun_turn(c + index * k * d, k, d, turned + index * size, columns, lines, tile);
}

#define SETUN_MANY_NEAREST(name, COLUMNS, VECTOR)                                                                                                              \
    extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS, 2)                                                                                      \
        name(const setun_part *list, const float *x, int d, const float *unit, const float *mean, int wide, const float *turned, int64_t size, int columns,    \
             const float *bias, int32_t *labels) {                                                                                                             \
        const setun_part p = list[blockIdx.z];                                                                                                                 \
        if ((int64_t)blockIdx.x * SETUN_NEAREST_ROWS >= p.n) return;                                                                                           \
        setun_nearest<COLUMNS, VECTOR>(x + p.first * d, p.n, d, setun_units_of(unit, p), mean + (int64_t)p.index * wide, turned + p.index * size, columns,     \
                                       bias + (int64_t)p.index * columns, labels + p.first);                                                                   \
    }
SETUN_MANY_NEAREST(many_nearest_32, 32, true)
SETUN_MANY_NEAREST(many_nearest_64, 64, true)
SETUN_MANY_NEAREST(many_nearest_128, 128, true)
SETUN_MANY_NEAREST(many_nearest_any_32, 32, false)
SETUN_MANY_NEAREST(many_nearest_any_64, 64, false)
SETUN_MANY_NEAREST(many_nearest_any_128, 128, false)
#undef SETUN_MANY_NEAREST

SETUN_MANY many_add(const setun_part *list, const float *x, int d, int width, const float *unit, const float *mean, int wide, const double *scale,
                    const int32_t *labels, const int32_t *before, int first, int k, int64_t *sums, int shared, const setun_record *records) {
    const setun_part p = list[blockIdx.z];
    setun_add_rows(x + p.first * d, p.n, d, width, setun_units_of(unit, p), mean + (int64_t)p.index * wide, scale + (int64_t)p.index * d, nullptr,
                   labels + p.first, first && !p.moved ? nullptr : before + p.first, k, sums + (int64_t)p.index * k * d, shared, &records[p.index].stopped);
}

SETUN_MANY many_relabel(const setun_part *list, const int32_t *fresh, int32_t *labels, int first, int k, int64_t *counts, int iteration,
                        setun_record *records) {
    const setun_part p = list[blockIdx.z];
    setun_record *r = records + p.index;
    setun_relabel(fresh + p.first, labels + p.first, p.n, k, nullptr, 1, !first || p.moved, counts ? counts + (int64_t)p.index * k : nullptr, nullptr,
                  r->changed + iteration, &r->stopped);
}

SETUN_MANY many_look(const setun_part *list, const int64_t *counts, int k, int iteration, setun_record *records) {
    setun_record *r = records + list[blockIdx.z].index;
    setun_look(counts + (r - records) * k, k, r->changed + iteration, &r->stopped);
}

SETUN_MANY many_move(const setun_part *list, const int64_t *sums, const int64_t *counts, const double *scale, const float *mean, int wide, int sphere, int k,
                     int d, float *centroids, float *before, float *bias, int columns, double *parts, const setun_record *records) {
    const int64_t index = list[blockIdx.z].index, values = (int64_t)k * d;
    setun_move(sums ? sums + index * values : nullptr, counts + index * k, scale + index * d, 1, mean + index * wide, sphere, k, d, centroids + index * values,
               before + index * values, bias + index * columns, parts + index * k * ((d - 1) / SETUN_CHUNK + 1), &records[index].stopped);
}

SETUN_MANY many_shift(const setun_part *list, const float *centroids, const float *before, int64_t values, double *parts, const setun_record *records) {
    const int64_t index = list[blockIdx.z].index;
    setun_shift(centroids + index * values, before + index * values, values, parts + index * ((values - 1) / SETUN_CHUNK + 1), &records[index].stopped);
}

extern "C" __global__ void __launch_bounds__(1024) many_still(const setun_part *list, double *parts, int64_t chunks, setun_record *records) {
    const setun_part p = list[blockIdx.z];
    setun_still(parts + p.index * chunks, chunks, p.limit, &records[p.index].stopped);
}
