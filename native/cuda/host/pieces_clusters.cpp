// SPDX-License-Identifier: Apache-2.0
//
// pieces_clusters.cpp: constrain by clusters in pieces, in two passes: sums, then values. Those of chunks, or of rows, wait on the device until all are there:
// the tree over a cluster's is that of a call that was not cut. So are the factors, one a cluster.
#include "clusters.h"

#include <stdlib.h>

namespace setun {

namespace {

/* What both passes have of the whole: the factors, and behind them a word that says whether a sum is not finite. */
struct Clusters {
    Pieces &pieces;
    setun_clusters *a;
    double *factors = nullptr;
    unsigned bad = 0;

    Clusters(Pieces &p, setun_clusters *args) : pieces(p), a(args) {}
    unsigned *flag() const { return reinterpret_cast<unsigned *>(factors + a->k); }
    bool begin() { return !pieces.writes_buffer(a->dst) && (factors = pieces.buffer<double>(a->k + 1)); }

    /* Norms and factors from sums, the cluster c having those from begin[c] to begin[c + 1]; at most so many. */
    int32_t find(Lane &lane, double *sums, const int64_t *begin, int64_t most) {
        double *radii = lane.scratch<double>(a->k), *norms = lane.scratch<double>(a->k);
        int64_t *all_begin = lane.scratch<int64_t>(a->k + 1);
        lane.send(radii, a->radii, a->k * int64_t(sizeof *radii));
        lane.send(all_begin, begin, (a->k + 1) * int64_t(sizeof *all_begin));
        lane.zero(flag(), sizeof bad);
        SETUN_LAUNCH(lane, cluster_norms, lane.blocks(a->k, 1), tree_threads(most), sums, all_begin, a->k, radii, norms, factors, flag());
        lane.fetch(&bad, flag(), sizeof bad);
        lane.fetch(a->norms, norms, a->k * int64_t(sizeof *norms));
        return lane.finish();
    }
    /* Whether there is something to write: in place nothing is where all clusters are inside. */
    bool moves() const {
        bool outside = a->x != a->dst;
        for (int64_t c = 0; c < a->k && !outside; c++) outside = a->norms[c] > a->radii[c];
        return outside;
    }
    int32_t not_finite() {
        const int32_t rc = find_not_finite(pieces, a->x, a->n);
        return rc == SETUN_OK ? int32_t(SETUN_ENONFINITE) : rc;
    }
};

/* ---- Segments: pieces are values, from chunk to chunk of the array, in which those of clusters lie anyhow ---------------- */

struct Segments {
    setun_call call;
    const float *x;
    float *dst;
    int64_t n, first;
    const Clusters *all;
    const int64_t *before; /* chunks before each cluster */
    double *sums;          /* of all chunks */

    /* The last cluster that begins at or before a value, so it has that. */
    int64_t cluster_of(int64_t at) const {
        int64_t low = 0, high = all->a->k;
        while (high - low > 1) {
            const int64_t mid = low + (high - low) / 2;
            (all->a->offsets[mid] <= at ? low : high) = mid;
        }
        return low;
    }
    /* Where the first chunk begins that does so at a value or behind it. */
    int64_t chunk_from(int64_t at) const {
        if (at >= all->a->n) return all->a->n;
        const int64_t c = cluster_of(at), begin = all->a->offsets[c], end = all->a->offsets[c + 1];
        const int64_t next = begin + (at - begin + CHUNK - 1) / CHUNK * CHUNK;
        return next < end ? next : end;
    }
};

/* The parts of clusters from one value to another as segments of their own, on the device. */
struct Parts {
    int64_t cluster, k, chunks; /* the first, how many, and chunks in them */
    int64_t *offsets, *before;

    /* false: no memory of the host's */
    bool take(Lane &lane, const Segments *s, int64_t from, int64_t to) {
        cluster = s->cluster_of(from), k = s->cluster_of(to - 1) + 1 - cluster, chunks = 0;
        int64_t *words = static_cast<int64_t *>(malloc(size_t(2 * (k + 1)) * sizeof *words));
        if (!words) return false;
        for (int64_t c = 0; c <= k; c++) {
            const int64_t at = s->all->a->offsets[cluster + c];
            words[c] = (at < from ? from : at < to ? at : to) - s->first;
            if (c > 0 && words[c] > words[c - 1]) chunks += chunks_of(words[c] - words[c - 1]);
            words[k + 1 + c] = chunks;
        }
        offsets = lane.scratch<int64_t>(2 * (k + 1));
        before = offsets + k + 1;
        lane.send(offsets, words, 2 * (k + 1) * int64_t(sizeof *words));
        free(words);
        return true;
    }
};

/* The sums of all chunks that begin in the piece; the last may end behind it. */
int32_t squares_of(Lane &lane, Segments *s) {
    const int64_t from = s->chunk_from(s->first), to = s->chunk_from(s->first + s->n);
    if (from == to) return SETUN_OK;
    const float *x = lane.in(s->x, to - s->first);
    Parts p;
    if (!p.take(lane, s, from, to)) return SETUN_ENOMEM;
    const int64_t at = s->before[p.cluster] + (from - s->all->a->offsets[p.cluster]) / CHUNK;
    SETUN_LAUNCH(lane, segment_squares, lane.blocks(p.chunks, 8), 256, x, p.offsets, p.before, p.k, p.chunks, s->sums + at);
    return lane.finish();
}

int32_t project_segments(Lane &lane, Segments *s) {
    const bool in_place = s->all->a->x == s->all->a->dst;
    float *dst = in_place ? lane.inout(s->dst, s->n) : lane.out(s->dst, s->n);
    const float *x = in_place ? dst : lane.in(s->x, s->n);
    Parts p;
    if (!p.take(lane, s, s->first, s->first + s->n)) return SETUN_ENOMEM;
    SETUN_LAUNCH(lane, segment_project, lane.blocks(p.chunks, 8), 256, dst, x, p.offsets, p.before, p.k, p.chunks, s->all->factors + p.cluster, s->all->flag());
    return lane.finish();
}

int32_t by_segment(Clusters &c, int64_t *before) {
    const int64_t most = chunks_before(c.a, before), chunks = before[c.a->k];
    double *sums = c.pieces.buffer<double>(chunks);
    if (!sums) return SETUN_ENOMEM;
    Segments s = {{}, c.a->x, c.a->dst, c.a->n, 0, &c, before, sums};
    Cut squares(s, &s.n, CHUNK);
    int32_t rc = c.pieces.pass<Segments, squares_of>(squares.index(s.first).in(s.x, 4));
    if (rc == SETUN_OK) rc = c.pieces.once([&](Lane &lane) { return c.find(lane, sums, before, most); });
    if (rc != SETUN_OK) return rc;
    if (c.bad) return c.not_finite();
    if (!c.moves()) return SETUN_OK;
    Cut values(s, &s.n, CHUNK);
    values.index(s.first);
    if (c.a->x == c.a->dst)
        values.inout(s.dst, 4, 4 * c.a->n);
    else
        values.in(s.x, 4).out(s.dst, 4);
    return c.pieces.pass<Segments, project_segments>(values);
}

/* ---- Labels: pieces are rows -------------------------------------------------------------------------------------------- */

struct Rows {
    setun_call call;
    const float *x;
    float *dst;
    const int32_t *labels;
    int64_t rows, cols;
    const Clusters *all;
    double *sums; /* of each row's chunks; then of rows, where the first is */
};

int32_t squares_of_rows(Lane &lane, Rows *r) {
    const float *x = lane.in(r->x, r->rows * r->cols);
    const int64_t chunks = chunks_of(r->cols);
    SETUN_LAUNCH(lane, group_squares, lane.blocks(r->rows * chunks, 8), 256, x, r->rows, r->cols, r->cols, r->sums);
    if (chunks > 1) SETUN_LAUNCH(lane, row_trees, lane.blocks(r->rows, 1), tree_threads(chunks), r->sums, r->rows, chunks);
    return lane.finish();
}

int32_t project_rows(Lane &lane, Rows *r) {
    const bool in_place = r->all->a->x == r->all->a->dst;
    const int64_t n = r->rows * r->cols;
    float *dst = in_place ? lane.inout(r->dst, n) : lane.out(r->dst, n);
    const float *x = in_place ? dst : lane.in(r->x, n);
    const int32_t *labels = lane.in(r->labels, r->rows);
    SETUN_LAUNCH(lane, row_project, lane.blocks(r->rows * ((r->cols - 1) / 4 + 1), 256), 256, dst, x, r->rows, r->cols, labels, r->all->factors,
                 r->all->flag());
    return lane.finish();
}

/* Brings the rows' sums in the order of their clusters, on the host: rows may be so short that the device has no room for more than one number each. bad: one
 * is not finite, also of a row without a cluster. */
int32_t sort_rows(const Clusters &c, double *sums, int64_t chunks, const int64_t *places, unsigned *bad) {
    const int64_t rows = c.a->rows;
    double *all = static_cast<double *>(malloc(size_t(rows * chunks + rows) * sizeof *all)), *sorted = all + rows * chunks;
    if (!all) return SETUN_ENOMEM;
    int32_t rc = c.pieces.once([&](Lane &lane) {
        lane.fetch(all, sums, rows * chunks * int64_t(sizeof *all));
        return lane.finish();
    });
    int64_t placed = 0;
    for (int64_t r = 0; r < rows && rc == SETUN_OK; r++) {
        const double s = all[r * chunks];
        if (s - s != 0) *bad = 1;
        if (places[r] >= 0) sorted[places[r]] = s, placed++;
    }
    if (rc == SETUN_OK && placed > 0)
        rc = c.pieces.once([&](Lane &lane) {
            lane.send(sums, sorted, placed * int64_t(sizeof *sorted));
            return lane.finish();
        });
    free(all);
    return rc;
}

int32_t by_label(Clusters &c, int64_t *begin) {
    const int64_t rows = c.a->rows, cols = c.a->n / rows, chunks = chunks_of(cols);
    /* As in a call that is not cut: labels, then places. */
    int32_t *copy = static_cast<int32_t *>(c.a->scratch);
    int64_t *places = static_cast<int64_t *>(c.a->scratch) + rows;
    const int32_t *labels = c.a->labels;
    int32_t rc = SETUN_OK;
    if (c.pieces.writes_buffer(labels)) {
        rc = c.pieces.once([&](Lane &lane) {
            lane.fetch(copy, labels, rows * int64_t(sizeof *copy));
            return lane.finish();
        });
        if (rc != SETUN_OK) return rc;
        labels = copy;
    }
    const int64_t most = order_rows(c.a, labels, places, begin);
    double *sums = c.pieces.buffer<double>(rows * chunks);
    if (!sums) return SETUN_ENOMEM;
    Rows r = {{}, c.a->x, c.a->dst, c.a->labels, rows, cols, &c, sums};
    Cut squares(r, &r.rows, 1, cols);
    rc = c.pieces.pass<Rows, squares_of_rows>(squares.in(r.x, 4 * cols).own(r.sums, 8 * chunks));
    if (rc == SETUN_OK) rc = sort_rows(c, sums, chunks, places, &c.bad);
    if (rc == SETUN_OK && !c.bad) rc = c.pieces.once([&](Lane &lane) { return c.find(lane, sums, begin, most); });
    if (rc != SETUN_OK) return rc;
    if (c.bad) return c.not_finite();
    if (!c.moves()) return SETUN_OK;
    Cut values(r, &r.rows, 1, cols);
    values.in(r.labels, 4);
    if (c.a->x == c.a->dst)
        values.inout(r.dst, 4 * cols, 4 * c.a->n);
    else
        values.in(r.x, 4 * cols).out(r.dst, 4 * cols);
    return c.pieces.pass<Rows, project_rows>(values);
}

} // namespace

int32_t cut_clusters(Pieces &pieces, setun_clusters *a) {
    Clusters c(pieces, a);
    if (!c.begin()) return SETUN_ENOMEM;
    int64_t *words = static_cast<int64_t *>(malloc(size_t(a->k + 1) * sizeof *words));
    if (!words) return SETUN_ENOMEM;
    const int32_t rc = a->offsets ? by_segment(c, words) : by_label(c, words);
    free(words);
    return rc;
}

} // namespace setun
