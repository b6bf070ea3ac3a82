// SPDX-License-Identifier: Apache-2.0
//
// clusters.cpp: constrain, each cluster of a step on the ball of its own radius. The host makes what the kernels find their way by: how many chunks lie before
// each segment, or where each row comes in the order of the clusters.
#include "clusters.h"

#include <stdlib.h>

namespace setun {

int64_t chunks_before(const setun_clusters *a, int64_t *before) {
    int64_t chunks = 0, most = 0;
    for (int64_t c = 0; c < a->k; c++) {
        const int64_t n = a->offsets[c + 1] - a->offsets[c], own = n > 0 ? chunks_of(n) : 0;
        before[c] = chunks;
        chunks += own;
        most = own > most ? own : most;
    }
    before[a->k] = chunks;
    return most;
}

int64_t order_rows(const setun_clusters *a, const int32_t *labels, int64_t *places, int64_t *begin) {
    int64_t most = 0, sum = 0;
    for (int64_t c = 0; c < a->k; c++) begin[c] = 0;
    for (int64_t r = 0; r < a->rows; r++)
        if (labels[r] >= 0) begin[labels[r]]++;
    for (int64_t c = 0; c < a->k; c++) {
        int64_t rows = begin[c];
        begin[c] = sum;
        sum += rows;
        most = rows > most ? rows : most;
    }
    for (int64_t r = 0; r < a->rows; r++) places[r] = labels[r] >= 0 ? begin[labels[r]]++ : -1;
    for (int64_t c = a->k; c > 0; c--) begin[c] = begin[c - 1]; /* they had moved to where each ends */
    begin[0] = 0;
    return most;
}

namespace {

/* The device's side of a call. */
struct Work {
    Lane &lane;
    setun_clusters *a;
    float *dst;
    const float *x;
    const double *radii;
    double *norms, *factors;
    unsigned *bad;

    Work(Lane &l, setun_clusters *args) : lane(l), a(args) {
        bool in_place = a->x == a->dst;
        dst = in_place ? lane.inout(a->dst, a->n) : nullptr;
        x = in_place ? dst : lane.in(a->x, a->n);
        if (!in_place) dst = lane.out(a->dst, a->n);
        double *r = lane.scratch<double>(a->k);
        norms = lane.scratch<double>(a->k), factors = lane.scratch<double>(a->k);
        bad = lane.scratch<unsigned>(1);
        lane.send(r, a->radii, a->k * int64_t(sizeof *r));
        lane.zero(bad, sizeof *bad);
        radii = r;
    }
    template <class T> T *sent(const T *p, int64_t n) {
        T *at = lane.scratch<T>(n);
        lane.send(at, p, n * int64_t(sizeof *p));
        return at;
    }
    void find_norms(double *sums, const int64_t *begin, int64_t most) {
        SETUN_LAUNCH(lane, cluster_norms, lane.blocks(a->k, 1), tree_threads(most), sums, begin, a->k, radii, norms, factors, bad);
    }
    int32_t finish() {
        unsigned found = 0;
        lane.fetch(&found, bad, sizeof found);
        lane.fetch(a->norms, norms, a->k * int64_t(sizeof *norms));
        int32_t rc = lane.wait();
        if (rc != SETUN_OK) return rc;
        if (found) {
            a->call.bad_index = find_not_finite(lane, x, a->n);
            return lane.abandon(SETUN_ENONFINITE);
        }
        if (a->x == a->dst) { /* where nothing was written there is nothing to copy back */
            int64_t c = 0;
            while (c < a->k && !(a->norms[c] > a->radii[c])) c++;
            if (c == a->k) lane.keep(a->dst);
        }
        return lane.finish();
    }
};

int32_t by_segment(Lane &lane, setun_clusters *a) {
    int64_t *before = static_cast<int64_t *>(malloc(size_t(a->k + 1) * sizeof *before));
    if (!before) return SETUN_ENOMEM;
    const int64_t most = chunks_before(a, before);
    int64_t chunks = before[a->k];
    Work w(lane, a);
    const int64_t *offsets = w.sent(a->offsets, a->k + 1), *first = most > 1 ? w.sent(before, a->k + 1) : nullptr;
    free(before);
    if (!first) chunks = a->k; /* one each, empty ones too */
    double *sums = lane.scratch<double>(chunks);
    SETUN_LAUNCH(lane, segment_squares, lane.blocks(chunks, 8), 256, w.x, offsets, first, a->k, chunks, sums);
    w.find_norms(sums, first, most);
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    SETUN_LAUNCH(lane, segment_project, lane.blocks(chunks, 8), 256, w.dst, w.x, offsets, first, a->k, chunks, w.factors, w.bad);
    return w.finish();
}

int32_t by_label(Lane &lane, setun_clusters *a) {
    int64_t rows = a->rows, cols = a->n / rows, chunks = chunks_of(cols);
    /* The call's scratch has room for two words a row and one a cluster: labels, then places. */
    int32_t *copy = static_cast<int32_t *>(a->scratch);
    int64_t *places = static_cast<int64_t *>(a->scratch) + rows;
    const int32_t *labels = a->labels;
    if (lane.resident(labels)) {
        lane.fetch(copy, lane.in(labels, rows), rows * int64_t(sizeof *copy));
        int32_t rc = lane.wait();
        if (rc != SETUN_OK) return rc;
        labels = copy;
    }
    for (int64_t r = 0; r < rows; r++)
        if (labels[r] < -1 || labels[r] >= a->k) return invalid(&a->call, "clusters: a label is not within -1..k-1");
    int64_t *begin = static_cast<int64_t *>(malloc(size_t(a->k + 1) * sizeof *begin));
    if (!begin) return SETUN_ENOMEM;
    int64_t most = order_rows(a, labels, places, begin);
    Work w(lane, a);
    const int32_t *all_labels = lane.in(a->labels, rows);
    const int64_t *all_places = w.sent(places, rows), *all_begin = w.sent(begin, a->k + 1);
    free(begin);
    double *sums = lane.scratch<double>(rows * chunks), *sorted = lane.scratch<double>(rows);
    SETUN_LAUNCH(lane, group_squares, lane.blocks(rows * chunks, 8), 256, w.x, rows, cols, cols, sums);
    if (chunks > 1) SETUN_LAUNCH(lane, row_trees, lane.blocks(rows, 1), tree_threads(chunks), sums, rows, chunks);
    SETUN_LAUNCH(lane, row_order, lane.blocks(rows, 256), 256, sums, rows, chunks, all_places, sorted, w.bad);
    w.find_norms(sorted, all_begin, most);
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    SETUN_LAUNCH(lane, row_project, lane.blocks(rows * ((cols - 1) / 4 + 1), 256), 256, w.dst, w.x, rows, cols, all_labels, w.factors, w.bad);
    return w.finish();
}

} // namespace

int32_t op_clusters(Lane &lane, setun_clusters *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return invalid(c, "clusters: the argument block is too small");
    if (!a->x || !a->dst || !a->radii || !a->norms || a->n < 1 || a->k < 1) return invalid(c, "clusters: a pointer is null, or n or k < 1");
    for (int64_t i = 0; i < a->k; i++)
        if (!(a->radii[i] >= 0)) return invalid(c, "clusters: a radius is negative or not a number");
    if (a->offsets) {
        if (a->offsets[0] != 0 || a->offsets[a->k] != a->n) return invalid(c, "clusters: the offsets do not go from 0 to n");
        for (int64_t i = 0; i < a->k; i++)
            if (a->offsets[i] > a->offsets[i + 1]) return invalid(c, "clusters: the offsets fall");
        return by_segment(lane, a);
    }
    if (!a->labels || !a->scratch || a->rows < 1 || a->n % a->rows != 0) return invalid(c, "clusters: labels or scratch is null, or n is not rows of values");
    return by_label(lane, a);
}

} // namespace setun
