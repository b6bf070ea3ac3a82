// SPDX-License-Identifier: Apache-2.0
//
// many.cpp: the steps of k-means for many problems. Each kernel is started once for all of them, so a step takes as many launches as that of one problem, and a
// copy for each array.
#include "kmeans.h"

#include <string.h>

namespace setun {

namespace {

/* What the steps share. */
struct Many {
    Lane &lane;
    setun_kmeans *a;
    const int64_t count;
    const float *x, *unit;
    float *mean = nullptr;
    int wide;                    /* values of a mean, with zeros up to a multiple of 32 */
    int64_t most = 0, total = 0; /* rows of the largest problem, and of all */
    setun_part *parts;           /* the host's, in the workspace */
    setun_part *list;            /* the device's */
    int64_t listed = 0;          /* problems in it */
    setun_record *records;       /* behind the parts */

    Many(Lane &l, setun_kmeans *args) : lane(l), a(args), count(args->problem_count), wide(int(ceil_of(args->d, 32) * 32)) {
        x = points(lane, a), unit = optional(lane, a->unit, a->n);
        parts = static_cast<setun_part *>(a->workspace), records = reinterpret_cast<setun_record *>(parts + count);
        list = lane.scratch<setun_part>(count);
        for (int64_t i = 0; i < count; i++) {
            const setun_problem &p = problem(a, i);
            parts[i] = {p.first, p.n, p.weight_scale, p.limit, int(i), (p.flags & SETUN_KMEANS_MOVED) != 0};
            most = p.n > most ? p.n : most, total += p.n;
        }
        enlist(count);
    }

    /* The first n parts are those that work is for. */
    void enlist(int64_t n) {
        listed = n;
        lane.send(list, parts, n * int64_t(sizeof *parts));
    }

    /* Takes what the means need; pad starts the kernel, when the call has all its memory. */
    void take_mean() {
        given_ = sent(lane, a->mean, count * a->d);
        mean = lane.scratch<float>(count * wide);
    }
    void pad() { pad(given_, a->d, 0, wide, mean); }
    void pad(const float *from, int64_t n, float fill, int to_n, float *to) {
        SETUN_LAUNCH(lane, many_pad, lane.blocks(count * to_n, THREADS * 4), THREADS, from, count, int(n), to_n, fill, to);
    }

    /* Blocks for each problem, whose rows, or other items, are at most so many. */
    int64_t blocks(int64_t items, int64_t each, int waves = 16) const {
        const int64_t all = lane.blocks(items * listed, each, waves) / listed, enough = ceil_of(items, each);
        return all < 1 ? 1 : all < enough ? all : enough;
    }

    void distance(const float *centroids, int64_t stride, int64_t k, const int32_t *labels, bool keep_min, float *to) {
        if (in_quads(x, a->d))
            SETUN_LAUNCH3(lane, many_distance, blocks(most, 128), 1, listed, 128, list, x, int(a->d), unit, mean, wide, centroids, stride, int(k), labels,
                          keep_min, to);
        else
            SETUN_LAUNCH3(lane, many_distance_any, blocks(most, 128), 1, listed, 128, list, x, int(a->d), unit, mean, wide, centroids, stride, int(k), labels,
                          keep_min, to);
    }

  private:
    const float *given_ = nullptr;
};

/* Labels of all problems in the list. */
struct Nearest {
    Many &m;
    Tiles tiles;
    float *centroids, *bias, *turned; /* bias: NaN from k up to the columns of the tiles */
    int32_t *labels;

    explicit Nearest(Many &many) : m(many), tiles(tiles_of(many.a->d, many.a->k)) {
        const int64_t values = m.count * m.a->k * m.a->d;
        centroids = sent(m.lane, const_cast<float *>(m.a->centroids), values, values, 0);
        bias = m.lane.scratch<float>(m.count * tiles.columns);
        turned = m.lane.scratch<float>(m.count * tiles.size());
        labels = m.lane.scratch<int32_t>(m.a->n);
    }
    void find() {
        const int k = int(m.a->k), d = int(m.a->d), columns = int(tiles.columns), tile = tiles.tile;
        const int64_t squares = ceil_of(tiles.columns, 32) * ceil_of(tiles.lines, 32);
        SETUN_LAUNCH3(m.lane, many_turn, m.blocks(squares, 1), 1, m.listed, THREADS, m.list, centroids, k, d, tiles.size(), turned, columns, int(tiles.lines),
                      tile);
#define SETUN_NEAREST(name)                                                                                                                                    \
    SETUN_LAUNCH3(m.lane, name, ceil_of(m.most, 128), 1, m.listed, THREADS, m.list, m.x, d, m.unit, m.mean, m.wide, turned, tiles.size(), columns, bias, labels)
        if (in_quads(m.x, d)) {
            if (tile == 128) SETUN_NEAREST(many_nearest_128);
            if (tile == 64) SETUN_NEAREST(many_nearest_64);
            if (tile == 32) SETUN_NEAREST(many_nearest_32);
        } else {
            if (tile == 128) SETUN_NEAREST(many_nearest_any_128);
            if (tile == 64) SETUN_NEAREST(many_nearest_any_64);
            if (tile == 32) SETUN_NEAREST(many_nearest_any_32);
        }
#undef SETUN_NEAREST
    }
};

int32_t range(Many &m) {
    Lane &lane = m.lane;
    const int64_t columns = m.count * m.a->d;
    const Shape s = shape_of(m.a->d);
    unsigned *low = lane.scratch<unsigned>(columns), *high = lane.scratch<unsigned>(columns), *bad = lane.scratch<unsigned>(m.count);
    lane.fill(low, 0xff, columns * 4);
    lane.zero(high, columns * 4);
    lane.zero(bad, m.count * 4);
    SETUN_LAUNCH3(lane, many_range, m.blocks(m.most, s.rows * 16, 8), s.passes, m.listed, THREADS, m.list, m.x, s.d, s.width, m.unit, low, high, bad);
    uint32_t *least = reinterpret_cast<uint32_t *>(m.records), *greatest = least + columns, *which = greatest + columns;
    lane.fetch(least, low, columns * 4);
    lane.fetch(greatest, high, columns * 4);
    lane.fetch(which, bad, m.count * 4);
    int32_t rc = lane.finish();
    if (rc != SETUN_OK) return rc;
    int64_t bad_one = -1;
    for (int64_t i = m.count - 1; i >= 0; i--) {
        problem(m.a, i).stopped = which[i];
        if (which[i]) bad_one = i;
    }
    if (bad_one >= 0) {
        const setun_problem &p = problem(m.a, bad_one);
        const int64_t from = p.first * m.a->d, at = find_not_finite(lane, m.x + from, p.n * m.a->d);
        m.a->call.bad_index = at < 0 ? at : from + at;
        return lane.abandon(SETUN_ENONFINITE);
    }
    widen(least, greatest, columns, m.a->low, m.a->high);
    return rc;
}

int32_t mean(Many &m) {
    const int64_t columns = m.count * m.a->d;
    const Shape s = shape_of(m.a->d);
    const double *scale = sent(m.lane, m.a->scale, columns);
    int64_t *sums = m.lane.inout(m.a->sums, columns);
    SETUN_LAUNCH3(m.lane, many_mean, m.blocks(m.most, s.rows * 16, 8), s.passes, m.listed, THREADS, m.list, m.x, s.d, s.width, m.unit, scale, sums);
    return m.lane.finish();
}

int32_t distance(Many &m) {
    const setun_kmeans *a = m.a;
    const int64_t k = a->labels ? a->k : 1, values = m.count * k * a->d;
    if (a->flags & SETUN_KMEANS_KEEP_MIN) return m.lane.abandon(SETUN_EUNSUPPORTED);
    m.take_mean();
    const float *centroids = sent(m.lane, a->centroids, values);
    const int32_t *labels = optional(m.lane, a->labels, a->n);
    float *to = m.lane.inout(a->distance, a->n); /* rows may be none's */
    m.pad();
    m.distance(centroids, k * a->d, k, labels, false, to);
    return m.lane.finish();
}

int32_t seed(Many &m) {
    Lane &lane = m.lane;
    const setun_kmeans *a = m.a;
    const int d = int(a->d), k = int(a->k);
    const int64_t chunks = ceil_of(m.most, CHUNK), values = m.count * a->k * a->d;
    m.take_mean();
    float *distance = lane.resident(a->distance) ? lane.out(a->distance, a->n) : lane.scratch<float>(a->n), *centroids = lane.scratch<float>(values);
    int64_t *sums = lane.scratch<int64_t>(m.count * chunks);
    uint8_t *taken = lane.scratch<uint8_t>(m.count * a->k);
    unsigned long long *top = lane.scratch<unsigned long long>(m.count);
    m.pad();
    lane.zero(taken, m.count * a->k);
    for (int t = 0; t < k && lane.ok(); t++) {
        if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
        if (t > 0) {
            lane.zero(top, m.count * int64_t(sizeof *top));
            SETUN_LAUNCH3(lane, many_top, m.blocks(m.most, THREADS * 8, 4), 1, m.listed, THREADS, m.list, distance, top);
            SETUN_LAUNCH3(lane, many_potential, m.blocks(chunks, 1), 1, m.listed, THREADS, m.list, distance, top, chunks, sums);
        }
        SETUN_LAUNCH3(lane, many_pick, 1, 1, m.listed, THREADS, m.list, m.x, d, m.unit, m.mean, m.wide, distance, top, chunks, t > 0 ? sums : nullptr, a->seed,
                      t, k, taken, centroids);
        if (t + 1 == k) break;
        m.distance(centroids + int64_t(t) * d, a->k * a->d, 1, nullptr, t > 0, distance);
        if (t % 64 == 63 && lane.wait() != SETUN_OK) break; /* so that the host looks at cancel while the device works */
    }
    lane.fetch(a->next, centroids, values * int64_t(sizeof *a->next));
    return lane.finish();
}

int32_t assign(Many &m) {
    setun_kmeans *a = m.a;
    Lane &lane = m.lane;
    if (a->sums) return lane.abandon(SETUN_EUNSUPPORTED);
    m.take_mean();
    int32_t *labels = lane.inout(a->labels, a->n);
    Nearest nearest(m);
    const float *bias = sent(lane, a->bias, m.count * a->k);
    setun_record *records = lane.scratch<setun_record>(m.count);
    m.pad();
    m.pad(bias, a->k, __builtin_nanf(""), int(nearest.tiles.columns), nearest.bias);
    lane.zero(records, m.count * int64_t(sizeof *records));
    nearest.find();
    SETUN_LAUNCH3(lane, many_relabel, m.blocks(m.most, THREADS * 4, 8), 1, m.listed, THREADS, m.list, nearest.labels, labels, 1, int(a->k), nullptr, 0,
                  records);
    lane.fetch(m.records, records, m.count * int64_t(sizeof *records));
    int32_t rc = lane.finish();
    for (int64_t i = 0; rc == SETUN_OK && i < m.count; i++) {
        setun_problem &p = problem(a, i);
        p.changed = int64_t(m.records[i].changed[0]), p.exact = p.n * a->k;
    }
    return rc;
}

int32_t iterate(Many &m) {
    setun_kmeans *a = m.a;
    Lane &lane = m.lane;
    const int k = int(a->k), d = int(a->d), sphere = a->unit != nullptr;
    const int64_t values = a->k * a->d, chunks = ceil_of(values, CHUNK);
    m.take_mean();
    int32_t *labels = lane.inout(a->labels, a->n);
    Nearest nearest(m);
    const int columns = int(nearest.tiles.columns);
    const double *scale = sent(lane, a->scale, m.count * a->d);
    int64_t *sums = lane.inout(a->sums, m.count * values), *counts = lane.inout(a->counts, m.count * a->k);
    float *before = lane.scratch<float>(m.count * values);
    double *parts = lane.scratch<double>(m.count * a->k * ceil_of(a->d, CHUNK)), *shift = lane.scratch<double>(m.count * chunks);
    setun_record *records = lane.scratch<setun_record>(m.count);
    const Adding w = adding_of(lane, a->d, a->k);
    bool limited = false;
    for (int64_t i = 0; i < m.count; i++) limited = limited || problem(a, i).limit >= 0;
    auto move = [&](const int64_t *to) {
        SETUN_LAUNCH3(lane, many_move, m.blocks(k, 1), 1, m.listed, THREADS, m.list, to, counts, scale, m.mean, m.wide, sphere, k, d, nearest.centroids, before,
                      nearest.bias, columns, parts, records);
    };
    m.pad();
    lane.fill(nearest.bias, 0xff, m.count * columns * int64_t(sizeof *nearest.bias));
    lane.zero(records, m.count * int64_t(sizeof *records));
    move(nullptr); /* the biases of what is there */
    /* As many iterations are started as every problem still wants, and a thousandth of a second has; the host then goes on with the problems that are left. */
    int64_t *done = reinterpret_cast<int64_t *>(m.records + m.count);
    for (int64_t i = 0; i < m.count; i++) done[i] = 0;
    for (bool first = true; m.listed > 0 && lane.ok(); first = false) {
        int64_t now = (int64_t(1) << 34) / (m.total * nearest.tiles.columns * nearest.tiles.lines);
        now = now < 1 ? 1 : now < SETUN_AHEAD ? now : int64_t(SETUN_AHEAD);
        for (int64_t j = 0; j < m.listed; j++) {
            const int i = m.parts[j].index;
            const int64_t left = problem(a, i).iterations - done[i];
            if (left < now) now = left;
        }
        lane.zero(records, m.count * int64_t(sizeof *records));
        for (int64_t i = 0; i < now; i++) {
            if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
            const int fresh = first && i == 0;
            nearest.find();
            lane.launch3(KERNEL_many_add, static_cast<decltype(&::many_add)>(nullptr), m.blocks(m.most, w.each, w.shared ? 4 : 8), w.shape.passes, m.listed,
                         THREADS, w.bytes, m.list, m.x, d, w.shape.width, m.unit, m.mean, m.wide, scale, nearest.labels, labels, fresh, k, sums, w.shared,
                         records);
            SETUN_LAUNCH3(lane, many_relabel, m.blocks(m.most, THREADS * 4, 8), 1, m.listed, THREADS, m.list, nearest.labels, labels, fresh, k, counts, int(i),
                          records);
            SETUN_LAUNCH3(lane, many_look, 1, 1, m.listed, THREADS, m.list, counts, k, int(i), records);
            move(sums);
            if (!limited) continue;
            SETUN_LAUNCH3(lane, many_shift, m.blocks(chunks, 8), 1, m.listed, THREADS, m.list, nearest.centroids, before, values, shift, records);
            SETUN_LAUNCH3(lane, many_still, 1, 1, m.listed, 1024, m.list, shift, chunks, records);
        }
        lane.fetch(m.records, records, m.count * int64_t(sizeof *records));
        if (lane.wait() != SETUN_OK) break;
        int64_t left = 0;
        for (int64_t j = 0; j < m.listed; j++) {
            const setun_part part = m.parts[j];
            const setun_record &r = m.records[part.index];
            setun_problem &p = problem(a, part.index);
            done[part.index] += int64_t(r.begun);
            p.changed = int64_t(r.changed[r.begun - 1]), p.stopped = uint32_t(r.stopped);
            if (p.stopped == SETUN_RUN_ALL && done[part.index] < p.iterations) m.parts[left++] = part;
        }
        if (left < m.listed && left > 0) m.enlist(left);
        m.listed = left;
    }
    lane.fetch(a->next, nearest.centroids, m.count * values * int64_t(sizeof *a->next));
    int32_t rc = lane.finish();
    for (int64_t i = 0; rc == SETUN_OK && i < m.count; i++) {
        setun_problem &p = problem(a, i);
        p.iterations = done[i], p.exact = done[i] * p.n * a->k;
    }
    return rc;
}

} // namespace

int64_t many_workspace(const setun_kmeans *a) {
    const int64_t more = a->step == SETUN_KMEANS_RANGE ? (2 * a->d + 1) * 4 : int64_t(sizeof(setun_record) + sizeof(int64_t));
    return 64 + a->problem_count * (int64_t(sizeof(setun_part)) + more);
}

int32_t many(Lane &lane, setun_kmeans *a) {
    Many m(lane, a);
    switch (a->step) {
    case SETUN_KMEANS_RANGE:
        return range(m);
    case SETUN_KMEANS_MEAN:
        return mean(m);
    case SETUN_KMEANS_ASSIGN:
        return assign(m);
    case SETUN_KMEANS_ITERATE:
        return iterate(m);
    case SETUN_KMEANS_SEED:
        return seed(m);
    case SETUN_KMEANS_DISTANCE:
        return distance(m);
    default:
        return lane.abandon(SETUN_EUNSUPPORTED);
    }
}

} // namespace setun
