// SPDX-License-Identifier: Apache-2.0
//
// reduce.cpp: dot, norm2 and constrain.
#include "lane.h"

#include <math.h>

namespace setun {

namespace {

const int64_t CHUNK = 4096;
int64_t chunks_of(int64_t n) { return (n - 1) / CHUNK + 1; }

int32_t reduce(Lane &lane, setun_reduce *a, bool products) {
    int64_t chunks = chunks_of(a->n);
    const float *x = lane.in(a->x, a->n), *y = products ? lane.in(a->y, a->n) : nullptr;
    double *sums = lane.scratch<double>(chunks), sum = 0;
    if (products)
        SETUN_LAUNCH(lane, sum_products, lane.blocks(chunks, 8), 256, x, y, a->n, sums);
    else
        SETUN_LAUNCH(lane, sum_squares, lane.blocks(chunks, 8), 256, x, a->n, sums);
    SETUN_LAUNCH(lane, sum_tree, 1, 1024, sums, chunks, sums);
    lane.fetch(&sum, sums, sizeof sum);
    int32_t rc = lane.wait();
    if (rc != SETUN_OK) return rc;
    if (sum - sum != 0) {
        a->call.bad_index = find_not_finite(lane, x, a->n);
        if (a->call.bad_index < 0 && y) a->call.bad_index = a->n + find_not_finite(lane, y, a->n);
        return lane.abandon(SETUN_ENONFINITE);
    }
    a->result = products ? sum : sqrt(sum);
    return lane.finish();
}

} // namespace

int64_t find_not_finite(Lane &lane, const float *x, int64_t n) {
    unsigned long long *at = lane.scratch<unsigned long long>(1), bad = ~0ull;
    lane.fill(at, 0xff, sizeof *at);
    SETUN_LAUNCH(lane, find_bad, lane.blocks(n, 256), 256, x, n, at);
    lane.fetch(&bad, at, sizeof bad);
    return lane.wait() == SETUN_OK && bad != ~0ull ? int64_t(bad) : -1;
}

int32_t op_dot(Lane &lane, setun_reduce *a) {
    if (a->call.size < sizeof *a) return invalid(&a->call, "dot: the argument block is too small");
    if (!a->x || !a->y || a->n < 1) return invalid(&a->call, "dot: x or y is null, or n < 1");
    return reduce(lane, a, true);
}

int32_t op_norm2(Lane &lane, setun_reduce *a) {
    if (a->call.size < sizeof *a) return invalid(&a->call, "norm2: the argument block is too small");
    if (!a->x || a->n < 1) return invalid(&a->call, "norm2: x is null, or n < 1");
    return reduce(lane, a, false);
}

int32_t op_constrain(Lane &lane, setun_constrain *a) {
    if (a->call.size < sizeof *a) return invalid(&a->call, "constrain: the argument block is too small");
    if (!a->x || !a->dst || a->n < 1) return invalid(&a->call, "constrain: x or dst is null, or n < 1");
    if (!(a->radius >= 0)) return invalid(&a->call, "constrain: the radius is negative or not a number");
    int64_t chunks = chunks_of(a->n);
    bool in_place = a->x == a->dst;
    float *dst = in_place ? lane.inout(a->dst, a->n) : nullptr;
    const float *x = in_place ? dst : lane.in(a->x, a->n);
    if (!in_place) dst = lane.out(a->dst, a->n);
    double *sums = lane.scratch<double>(chunks), *at = lane.scratch<double>(2), state[2] = {0, 0};
    SETUN_LAUNCH(lane, sum_squares, lane.blocks(chunks, 8), 256, x, a->n, sums);
    SETUN_LAUNCH(lane, ball, 1, 1024, sums, chunks, a->radius, at);
    SETUN_LAUNCH(lane, project, lane.blocks(a->n, 1024), 256, dst, x, a->n, at);
    lane.fetch(state, at, sizeof state);
    int32_t rc = lane.wait();
    if (rc != SETUN_OK) return rc;
    if (state[1] - state[1] != 0) {
        a->call.bad_index = find_not_finite(lane, x, a->n);
        return lane.abandon(SETUN_ENONFINITE);
    }
    a->norm = state[0];
    if (in_place && state[1] == 1) lane.keep(a->dst); /* nothing was written, and the bits stay */
    return lane.finish();
}

} // namespace setun
