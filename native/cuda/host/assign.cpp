// SPDX-License-Identifier: Apache-2.0
//
// assign.cpp: labels and the sums of clusters, once or in a run of iterations. In a run nothing of the size of points, centroids or sums crosses the bus: the
// host is told why it stopped and how many labels changed, 80 bytes.
#include "kmeans.h"

namespace setun {

namespace {

static_assert(int(SETUN_STOP_SETTLED) == int(SETUN_RUN_SETTLED) && int(SETUN_STOP_UNMOVED) == int(SETUN_RUN_UNMOVED) &&
                  int(SETUN_STOP_STILL) == int(SETUN_RUN_STILL),
              "kernels and the host number the ends of runs alike");

/* All that an assignment needs of the device. */
struct Assignment {
    Operands o;
    const setun_kmeans *a;
    Chain chain;
    Screen screen;
    bool screens;
    const float *weights;
    const double *scale;
    int32_t *labels;
    int64_t *sums, *counts, *weight_sums;
    unsigned long long *record; /* of a run, or null */

    int32_t take(Lane &lane, setun_kmeans *args, Way way) {
        a = args;
        o = {points(lane, a), optional(lane, a->unit, a->n), sent_mean(lane, a), a->n, a->d, a->k, nullptr, nullptr, nullptr};
        labels = lane.inout(a->labels, a->n);
        o.labels = lane.scratch<int32_t>(a->n);
        weights = a->sums ? optional(lane, a->weights, a->n) : nullptr;
        o.centroids = sent(lane, a->centroids, a->k * a->d, a->k * a->d, 0);
        const int64_t wide = ceil_of(a->k, 128) * 128;
        o.bias = lane.scratch<float>(wide);
        lane.fill(o.bias, 0xff, wide * int64_t(sizeof *o.bias));
        screens = way != CHAIN && screen.fits(lane, o);
        if (screens) screen.take(lane, o, way == SCREEN);
        scale = nullptr, sums = counts = weight_sums = nullptr, record = nullptr;
        if (a->sums) {
            scale = sent(lane, a->scale, a->d);
            sums = lane.inout(a->sums, a->k * a->d);
            counts = lane.inout(a->counts, a->k);
            if (weights) weight_sums = lane.inout(a->weight_sums, a->k);
        }
        return chain.take(lane, o);
    }

    /* The nearest centroids, to o.labels. */
    int32_t find(Lane &lane, int64_t *exact) {
        if (screens) return screen.all(lane, o, chain, exact);
        *exact += a->n * a->k;
        return chain.all(lane, o);
    }

    /* Those labels to where they belong, counted where they differ, and the sums of all rows or of those that move. */
    void settle(Lane &lane, bool moved, unsigned long long *changed) const {
        const int k = int(a->k);
        if (sums) {
            const Adding w = adding_of(lane, a->d, a->k);
            lane.launch3(KERNEL_kmeans_add, static_cast<decltype(&::kmeans_add)>(nullptr), lane.blocks(a->n, w.each, w.shared ? 4 : 8), w.shape.passes, 1,
                         THREADS, w.bytes, o.x, a->n, w.shape.d, w.shape.width, o.unit, o.mean, scale, weights, o.labels, moved ? labels : nullptr, k, sums,
                         w.shared, record);
        }
        SETUN_LAUNCH(lane, kmeans_relabel, lane.blocks(a->n, THREADS * 4, 8), THREADS, o.labels, labels, a->n, k, weights, a->weight_scale, moved, counts,
                     weight_sums, changed, record);
    }
};

} // namespace

int32_t assign(Lane &lane, setun_kmeans *a, Way way) {
    Assignment s;
    int32_t rc = s.take(lane, a, way);
    if (rc != SETUN_OK) return lane.abandon(rc);
    unsigned long long *at = lane.scratch<unsigned long long>(1), changed = 0;
    lane.zero(at, sizeof changed);
    lane.send(s.o.bias, a->bias, a->k * int64_t(sizeof *a->bias));
    int64_t exact = 0;
    rc = s.find(lane, &exact);
    if (rc != SETUN_OK) return lane.abandon(rc);
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    s.settle(lane, (a->flags & SETUN_KMEANS_MOVED) != 0, at);
    lane.fetch(&changed, at, sizeof changed);
    rc = lane.finish();
    if (rc != SETUN_OK) return rc;
    a->changed = int64_t(changed);
    a->exact = exact;
    return rc;
}

int32_t iterate(Lane &lane, setun_kmeans *a, Way way) {
    Assignment s;
    int32_t rc = s.take(lane, a, way);
    if (rc != SETUN_OK) return lane.abandon(rc);
    const int64_t AHEAD = SETUN_AHEAD;
    setun_record record;
    const int k = int(a->k), d = int(a->d), sphere = a->unit != nullptr;
    const int64_t values = a->k * a->d, chunks = ceil_of(values, CHUNK);
    const int64_t *mass = s.weights ? s.weight_sums : s.counts;
    float *before = lane.scratch<float>(values);
    double *parts = lane.scratch<double>(a->k * ceil_of(a->d, CHUNK)), *shift = lane.scratch<double>(chunks);
    s.record = lane.scratch<unsigned long long>(sizeof record / sizeof record.stopped);
    auto move = [&](const int64_t *sums) {
        SETUN_LAUNCH(lane, kmeans_move, lane.blocks(a->k, 1), THREADS, sums, mass, s.scale, s.weights ? a->weight_scale : 1, s.o.mean, sphere, k, d,
                     s.o.centroids, before, s.o.bias, parts, s.record);
    };
    move(nullptr); /* the biases of what is there */
    /* How many iterations are started before the host looks whether the run has stopped: those after that would be for nothing, so a thousandth of a second's.
     */
    const int64_t most = s.screens ? 1 : (int64_t(1) << 34) / s.chain.work(a->n), ahead = most < 1 ? 1 : most < AHEAD ? most : AHEAD;
    int64_t done = 0, exact = 0;
    bool moved = (a->flags & SETUN_KMEANS_MOVED) != 0;
    record.stopped = SETUN_RUN_ALL, record.changed[0] = 0;
    while (lane.ok() && record.stopped == SETUN_RUN_ALL && done < a->iterations) {
        const int64_t now = a->iterations - done < ahead ? a->iterations - done : ahead;
        lane.zero(s.record, sizeof record);
        for (int64_t i = 0; i < now && rc == SETUN_OK; i++) {
            if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
            rc = s.find(lane, &exact);
            if (rc != SETUN_OK) return lane.abandon(rc);
            unsigned long long *changed = s.record + 2 + i;
            s.settle(lane, moved || i > 0, changed);
            SETUN_LAUNCH(lane, kmeans_look, 1, THREADS, mass, k, changed, s.record);
            move(s.sums);
            if (a->limit >= 0) {
                SETUN_LAUNCH(lane, kmeans_shift, lane.blocks(chunks, 8), THREADS, s.o.centroids, before, values, shift, s.record);
                SETUN_LAUNCH(lane, kmeans_still, 1, 1024, shift, chunks, a->limit, s.record);
            }
        }
        lane.fetch(&record, s.record, sizeof record);
        if (lane.wait() != SETUN_OK) break;
        done += int64_t(record.begun);
        record.changed[0] = record.changed[record.begun - 1];
        moved = 2 * int64_t(record.changed[0]) < a->n; /* a row that moves is added twice */
        if (!moved && record.stopped == SETUN_RUN_ALL && done < a->iterations) {
            lane.zero(s.sums, values * int64_t(sizeof *s.sums));
            lane.zero(s.counts, a->k * int64_t(sizeof *s.counts));
            if (s.weight_sums) lane.zero(s.weight_sums, a->k * int64_t(sizeof *s.weight_sums));
        }
    }
    lane.fetch(a->next, s.o.centroids, values * int64_t(sizeof *a->next));
    rc = lane.finish();
    if (rc != SETUN_OK) return rc;
    a->changed = int64_t(record.changed[0]);
    a->iterations = done;
    a->stopped = uint32_t(record.stopped);
    a->exact = s.screens ? exact : done * a->n * a->k; /* not of iterations that were started after the end */
    return rc;
}

/* Few sums are gathered a block first, where that is less work than to add each row's to memory: of all columns, or of 32 at a time. */
Adding adding_of(const Lane &lane, int64_t d, int64_t k) {
    const Shape shape = shape_of(d);
    Shape w = shape;
    if (k * w.width > (40 << 10) / 8 && w.width > 32 && d <= 32 * 65535) w = {shape.d, 32, ceil_of(d, 32), THREADS / 32};
    const int64_t room = lane.device.shared < 97 << 10 ? lane.device.shared - (1 << 10) : 96 << 10;
    const bool shared = k * w.width <= (w.width < shape.width ? room : 40 << 10) / 8;
    if (!shared) w = shape;
    return {w, shared, shared ? int(8 * k * w.width) : 0, w.rows * (shared && 4 * k > 16 ? 4 * k : 16)};
}

/* A narrow tile reads more for each product. */
Tiles tiles_of(int64_t d, int64_t k) {
    const int64_t cost[3] = {ceil_of(k, 128) * 128, ceil_of(k, 64) * 83, ceil_of(k, 32) * 58};
    const int tile = cost[0] <= cost[1] && cost[0] <= cost[2] ? 128 : cost[1] <= cost[2] ? 64 : 32;
    return {tile, ceil_of(k, tile) * tile, ceil_of(d, 8) * 8};
}

int32_t Chain::take(Lane &lane, const Operands &o) {
    tiles_ = tiles_of(o.d, o.k);
    if (tiles_.columns > INT32_MAX) return SETUN_EUNSUPPORTED;
    turned_ = lane.scratch<float>(tiles_.size());
    return SETUN_OK;
}

void Chain::turn(Lane &lane, const Operands &o) const {
    const int64_t squares = ceil_of(tiles_.columns, 32) * ceil_of(tiles_.lines, 32);
    SETUN_LAUNCH(lane, kmeans_turn, lane.blocks(squares, 1), THREADS, o.centroids, int(o.k), int(o.d), turned_, int(tiles_.columns), int(tiles_.lines),
                 tiles_.tile);
}

int32_t Chain::nearest(Lane &lane, const Operands &o, const float *x, int64_t n, const float *unit, int32_t *labels) const {
    /* Long work goes in pieces, so that a call can be cancelled. */
    const int64_t wave = int64_t(lane.device.units > 0 ? lane.device.units : 1) * 2 * 128; /* rows that the device has at a time */
    const int64_t rows = ceil_of((int64_t(1) << 40) / work(1) + 1, wave) * wave;           /* 2^41 operations, a twentieth of a second */
    const int d = int(o.d), wide = int(tiles_.columns), tile = tiles_.tile;
    for (int64_t row = 0, now; row < n; row += now) {
        now = n - row < rows ? n - row : rows;
        if (row > 0 && lane.wait() != SETUN_OK) break;
        if (lane.cancelled()) return SETUN_ECANCELLED;
        const float *from = x + row * o.d, *u = unit ? unit + row : nullptr;
        const int64_t blocks = ceil_of(now, 128);
#define SETUN_NEAREST(name) SETUN_LAUNCH(lane, name, blocks, THREADS, from, now, d, u, o.mean, turned_, wide, o.bias, labels + row)
        if (in_quads(x, o.d)) {
            if (tile == 128) SETUN_NEAREST(kmeans_nearest_128);
            if (tile == 64) SETUN_NEAREST(kmeans_nearest_64);
            if (tile == 32) SETUN_NEAREST(kmeans_nearest_32);
        } else {
            if (tile == 128) SETUN_NEAREST(kmeans_nearest_any_128);
            if (tile == 64) SETUN_NEAREST(kmeans_nearest_any_64);
            if (tile == 32) SETUN_NEAREST(kmeans_nearest_any_32);
        }
#undef SETUN_NEAREST
    }
    return SETUN_OK;
}

} // namespace setun
