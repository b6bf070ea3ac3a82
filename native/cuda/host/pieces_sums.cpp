// SPDX-License-Identifier: Apache-2.0
//
// pieces_sums.cpp: dot, norm2 and constrain in pieces. Pieces have whole chunks, whose sums wait on the device until all are there: the tree over them is that
// of a call that was not cut.
#include "sums.h"

#include <math.h>

namespace setun {

namespace {

int32_t sums_of_piece(Lane &lane, ChunkSums *a) {
    const float *x = lane.in(a->x, a->n), *y = a->y ? lane.in(a->y, a->n) : nullptr;
    const int64_t chunks = chunks_of(a->n);
    if (y)
        SETUN_LAUNCH(lane, sum_products, lane.blocks(chunks, 8), 256, x, y, a->n, a->sums);
    else
        SETUN_LAUNCH(lane, sum_squares, lane.blocks(chunks, 8), 256, x, a->n, a->sums);
    return lane.finish();
}

struct Find {
    setun_call call;
    const float *x;
    int64_t n;
};
int32_t find_in_piece(Lane &lane, Find *a) {
    a->call.bad_index = find_not_finite(lane, lane.in(a->x, a->n), a->n);
    const int32_t rc = lane.finish();
    return rc == SETUN_OK && a->call.bad_index >= 0 ? int32_t(SETUN_ENONFINITE) : rc;
}

struct Project {
    setun_call call;
    float *dst;
    const float *x;
    int64_t n;
    const double *state;
};
int32_t project_piece(Lane &lane, Project *a) {
    const bool in_place = a->x == a->dst;
    float *dst = in_place ? lane.inout(a->dst, a->n) : lane.out(a->dst, a->n);
    const float *x = in_place ? dst : lane.in(a->x, a->n);
    SETUN_LAUNCH(lane, project, lane.blocks(a->n, 1024), 256, dst, x, a->n, a->state);
    return lane.finish();
}

int32_t reduce(Pieces &pieces, setun_reduce *a, const float *y) {
    const int64_t chunks = chunks_of(a->n);
    double *sums = pieces.buffer<double>(chunks), sum = 0;
    if (!sums) return SETUN_ENOMEM;
    int32_t rc = sum_chunks(pieces, {a->call, a->x, y, a->n, sums});
    if (rc != SETUN_OK) return rc;
    rc = pieces.once([&](Lane &lane) {
        SETUN_LAUNCH(lane, sum_tree, 1, 1024, sums, chunks, sums);
        lane.fetch(&sum, sums, sizeof sum);
        return lane.finish();
    });
    if (rc != SETUN_OK) return rc;
    if (sum - sum == 0) {
        a->result = y ? sum : sqrt(sum);
        return SETUN_OK;
    }
    rc = find_not_finite(pieces, a->x, a->n);
    if (rc != SETUN_OK || !y) return rc == SETUN_OK ? int32_t(SETUN_ENONFINITE) : rc;
    rc = find_not_finite(pieces, y, a->n);
    if (rc == SETUN_ENONFINITE) a->call.bad_index += a->n;
    return rc == SETUN_OK ? int32_t(SETUN_ENONFINITE) : rc;
}

} // namespace

int32_t sum_chunks(Pieces &pieces, ChunkSums a) {
    Cut cut(a, &a.n, CHUNK);
    return pieces.pass<ChunkSums, sums_of_piece>(cut.in(a.x, 4).in(a.y, 4).own(a.sums, sizeof *a.sums, CHUNK));
}

int32_t find_not_finite(Pieces &pieces, const float *x, int64_t n) {
    Find a = {{}, x, n};
    Cut cut(a, &a.n, CHUNK);
    return pieces.pass<Find, find_in_piece>(cut.in(a.x, 4));
}

int32_t find_ball(Pieces &pieces, const float *x, int64_t n, double radius, double *state, double found[2]) {
    const int64_t chunks = chunks_of(n);
    double *sums = pieces.buffer<double>(chunks);
    if (!sums) return SETUN_ENOMEM;
    int32_t rc = sum_chunks(pieces, {{}, x, nullptr, n, sums});
    if (rc != SETUN_OK) return rc;
    rc = pieces.once([&](Lane &lane) {
        SETUN_LAUNCH(lane, ball, 1, 1024, sums, chunks, radius, state);
        lane.fetch(found, state, 2 * int64_t(sizeof *found));
        return lane.finish();
    });
    if (rc != SETUN_OK || found[1] - found[1] == 0) return rc;
    rc = find_not_finite(pieces, x, n);
    return rc == SETUN_OK ? int32_t(SETUN_ENONFINITE) : rc;
}

int32_t cut_dot(Pieces &pieces, setun_reduce *a) { return reduce(pieces, a, a->y); }
int32_t cut_norm2(Pieces &pieces, setun_reduce *a) { return reduce(pieces, a, nullptr); }

int32_t cut_constrain(Pieces &pieces, setun_constrain *a) {
    if (pieces.writes_buffer(a->dst)) return SETUN_ENOMEM;
    double *state = pieces.buffer<double>(2), found[2] = {0, 0};
    if (!state) return SETUN_ENOMEM;
    int32_t rc = find_ball(pieces, a->x, a->n, a->radius, state, found);
    if (rc != SETUN_OK) return rc;
    const bool in_place = a->x == a->dst;
    if (!in_place || found[1] != 1) { /* inside the ball there is nothing to do in place */
        Project p = {{}, a->dst, a->x, a->n, state};
        Cut cut(p, &p.n, CHUNK);
        cut.in(p.x, 4);
        if (in_place)
            cut.inout(p.dst, 4, 4 * a->n);
        else
            cut.out(p.dst, 4);
        rc = pieces.pass<Project, project_piece>(cut);
    }
    if (rc == SETUN_OK) a->norm = found[0];
    return rc;
}

} // namespace setun
