// SPDX-License-Identifier: Apache-2.0
//
// kmeans.cpp: the steps of k-means but those of assign.cpp. What has the size of the points stays where it is; what has the size of the columns or centroids
// goes up with each call, and the sums come back.
#include "kmeans.h"

#include <stddef.h>

namespace setun {

void widen(const uint32_t *least, const uint32_t *most, int64_t n, float *low, float *high) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits[2] = {least[i], most[i]};
        float v[2];
        for (uint32_t &u : bits) u ^= u >> 31 ? 0x80000000u : ~0u;
        static_assert(sizeof v == sizeof bits, "a float has 32 bits");
        __builtin_memcpy(v, bits, sizeof v);
        low[i] = (v[0] < low[i] ? v[0] : low[i]) + 0.0f; /* never -0 */
        high[i] = (v[1] > high[i] ? v[1] : high[i]) + 0.0f;
    }
}

namespace {

int32_t range(Lane &lane, setun_kmeans *a) {
    const Shape s = shape_of(a->d);
    const float *x = points(lane, a), *unit = optional(lane, a->unit, a->n);
    unsigned *low = lane.scratch<unsigned>(a->d), *high = lane.scratch<unsigned>(a->d), *at = lane.scratch<unsigned>(1), bad = 0;
    lane.fill(low, 0xff, a->d * 4);
    lane.zero(high, a->d * 4);
    lane.zero(at, sizeof bad);
    SETUN_LAUNCH3(lane, kmeans_range, lane.blocks(a->n, s.rows * 16, 8), s.passes, 1, THREADS, x, a->n, s.d, s.width, unit, low, high, at);
    lane.fetch(&bad, at, sizeof bad);
    int32_t rc = lane.wait();
    if (rc != SETUN_OK) return rc;
    if (bad) {
        a->call.bad_index = find_not_finite(lane, x, a->n * a->d);
        return lane.abandon(SETUN_ENONFINITE);
    }
    /* A piece at a time, through memory that the host has. */
    const int64_t PIECE = 1024;
    uint32_t bits[2][PIECE];
    for (int64_t j = 0, n; j < a->d; j += n) {
        n = a->d - j < PIECE ? a->d - j : PIECE;
        lane.fetch(bits[0], low + j, n * 4);
        lane.fetch(bits[1], high + j, n * 4);
        rc = lane.wait();
        if (rc != SETUN_OK) return rc;
        widen(bits[0], bits[1], n, a->low + j, a->high + j);
    }
    return lane.finish();
}

int32_t mean(Lane &lane, setun_kmeans *a) {
    const Shape s = shape_of(a->d);
    const float *x = points(lane, a), *unit = optional(lane, a->unit, a->n);
    const double *scale = sent(lane, a->scale, a->d);
    int64_t *sums = lane.inout(a->sums, a->d);
    SETUN_LAUNCH3(lane, kmeans_mean, lane.blocks(a->n, s.rows * 16, 8), s.passes, 1, THREADS, x, a->n, s.d, s.width, unit, scale, sums);
    return lane.finish();
}

int32_t distance(Lane &lane, setun_kmeans *a) {
    const float *x = points(lane, a), *unit = optional(lane, a->unit, a->n), *mean = sent_mean(lane, a);
    const int64_t k = a->labels ? a->k : 1;
    const float *centroids = sent(lane, a->centroids, k * a->d);
    const int32_t *labels = optional(lane, a->labels, a->n);
    const int keep_min = (a->flags & SETUN_KMEANS_KEEP_MIN) != 0;
    float *to = keep_min ? lane.inout(a->distance, a->n) : lane.out(a->distance, a->n);
    const int64_t blocks = lane.blocks(a->n, 128);
    if (in_quads(x, a->d))
        SETUN_LAUNCH(lane, kmeans_distance, blocks, 128, x, a->n, int(a->d), unit, mean, centroids, int(k), labels, keep_min, to);
    else
        SETUN_LAUNCH(lane, kmeans_distance_any, blocks, 128, x, a->n, int(a->d), unit, mean, centroids, int(k), labels, keep_min, to);
    return lane.finish();
}

int32_t potential(Lane &lane, setun_kmeans *a) {
    const int64_t chunks = ceil_of(a->n, CHUNK);
    const float *given = lane.in(a->distance, a->n), *weights = optional(lane, a->weights, a->n);
    int64_t *sums = lane.out(a->sums, chunks);
    unsigned long long *at = lane.scratch<unsigned long long>(1);
    double top = 0;
    lane.zero(at, sizeof *at);
    SETUN_LAUNCH(lane, kmeans_top, lane.blocks(a->n, THREADS * 8, 4), THREADS, given, weights, a->n, at);
    SETUN_LAUNCH(lane, kmeans_potential, lane.blocks(chunks, 1), THREADS, given, weights, a->n, at, a->weight_scale, sums);
    lane.fetch(&top, at, sizeof top);
    int32_t rc = lane.finish();
    if (rc != SETUN_OK) return rc;
    a->weight_scale = potential_scale(top, a->weight_scale);
    return rc;
}

int32_t unit(Lane &lane, setun_kmeans *a) {
    const float *x = points(lane, a);
    float *to = lane.out(a->distance, a->n);
    if (a->d <= CHUNK) {
        SETUN_LAUNCH(lane, kmeans_unit, lane.blocks(a->n, 8), THREADS, x, a->n, int(a->d), to);
    } else {
        double *sums = lane.scratch<double>(a->n * ceil_of(a->d, CHUNK));
        SETUN_LAUNCH(lane, kmeans_unit_long, lane.blocks(a->n, 1), THREADS, x, a->n, a->d, sums, to);
    }
    return lane.finish();
}

int32_t check_problems(const setun_kmeans *a) {
    const setun_call *c = &a->call;
    const int64_t count = a->problem_count, values = INT64_MAX / 512;
    if (a->weights || count < 1 || count > 65535 || a->problem_size < sizeof(setun_problem) || a->problem_size % alignof(setun_problem) != 0)
        return invalid(c, "kmeans: problems have weights, are none or too many, or their size is wrong");
    if (a->d > values / count || a->k > INT32_MAX - 127 || (a->k > 0 && a->k > values / count / a->d))
        return invalid(c, "kmeans: problems have too many columns or centroids");
    for (int64_t i = 0; i < count; i++) {
        const setun_problem &p = problem(a, i);
        if (p.first < 0 || p.n < 1 || p.n > a->n || p.first > a->n - p.n) return invalid(c, "kmeans: a problem's rows are none of those");
        if (a->step == SETUN_KMEANS_ITERATE && p.iterations < 1) return invalid(c, "kmeans: a problem has no iterations");
        if (a->step == SETUN_KMEANS_SEED && !(p.weight_scale > 0 && p.n >= a->k)) return invalid(c, "kmeans: a problem's weight_scale or rows do not do");
    }
    return SETUN_OK;
}

int32_t check(const setun_kmeans *a) {
    const setun_call *c = &a->call;
    const uint32_t end = offsetof(setun_kmeans, seed) + sizeof a->seed;
    const bool many = problems(a);
    if (c->size < offsetof(setun_kmeans, next) || (a->step >= SETUN_KMEANS_ITERATE && c->size < end))
        return invalid(c, "kmeans: the argument block is too small");
    if (!a->x || a->n < 1 || a->d < 1 || a->n > INT64_MAX / 64 / a->d) return invalid(c, "kmeans: x is null, n or d < 1, or too many values");
    if (many)
        if (int32_t rc = check_problems(a)) return rc;
    switch (a->step) {
    case SETUN_KMEANS_RANGE:
        return a->low && a->high ? SETUN_OK : invalid(c, "kmeans: low or high is null");
    case SETUN_KMEANS_MEAN:
        return a->scale && a->sums ? SETUN_OK : invalid(c, "kmeans: scale or sums is null");
    case SETUN_KMEANS_ASSIGN:
        if (!a->labels || !a->bias || (a->sums && (!a->counts || !a->scale || (a->weights && !a->weight_sums))))
            return invalid(c, "kmeans: labels, bias, scale or an array of sums is null");
        break;
    case SETUN_KMEANS_ITERATE:
        if (!a->labels || !a->next || !a->scale || !a->sums || !a->counts || (a->weights && !a->weight_sums) || (!many && a->iterations < 1))
            return invalid(c, "kmeans: labels, next, scale or an array of sums is null, or there are no iterations");
        break;
    case SETUN_KMEANS_SEED:
        return a->mean && a->next && a->distance && (many || a->weight_scale > 0) && a->k >= 1 && a->k <= a->n && a->n <= INT32_MAX
                   ? SETUN_OK
                   : invalid(c, "kmeans: mean, next or distance is null, weight_scale is not positive, or n or k is out of range");
    case SETUN_KMEANS_DISTANCE:
        if (!a->distance) return invalid(c, "kmeans: distance is null");
        break;
    case SETUN_KMEANS_POTENTIAL:
        return a->distance && a->sums && a->weight_scale > 0 ? SETUN_OK : invalid(c, "kmeans: distance or sums is null, or weight_scale is not positive");
    case SETUN_KMEANS_UNIT:
        return a->distance ? SETUN_OK : invalid(c, "kmeans: distance is null");
    default:
        return invalid(c, "kmeans: unknown step");
    }
    if (!a->mean || !a->centroids || a->k < 1 || a->k > INT32_MAX || a->k > INT64_MAX / 256 / a->d)
        return invalid(c, "kmeans: mean or centroids is null, or k is out of range");
    return SETUN_OK;
}

int32_t step(Lane &lane, setun_kmeans *a, Way way) {
    int32_t rc = check(a);
    if (rc != SETUN_OK) return rc;
    if (!a->workspace) {
        a->workspace_size = problems(a) ? many_workspace(a) : 64; /* all else is on the device */
        return SETUN_OK;
    }
    if (reinterpret_cast<uintptr_t>(a->workspace) % 64 != 0 || a->workspace_size < (problems(a) ? many_workspace(a) : 64))
        return invalid(&a->call, "kmeans: the workspace is too small or not aligned to 64 bytes");
    if (a->d > 1 << 30) return SETUN_EUNSUPPORTED; /* columns are counted in 32 bits */
    if (lane.cancelled()) return SETUN_ECANCELLED;
    a->changed = a->exact = 0;
    if (problems(a) && a->step != SETUN_KMEANS_UNIT) return way == CHAIN ? many(lane, a) : int32_t(SETUN_EUNSUPPORTED);
    switch (a->step) {
    case SETUN_KMEANS_RANGE:
        return range(lane, a);
    case SETUN_KMEANS_MEAN:
        return mean(lane, a);
    case SETUN_KMEANS_ASSIGN:
        return assign(lane, a, way);
    case SETUN_KMEANS_ITERATE:
        return iterate(lane, a, way);
    case SETUN_KMEANS_SEED:
        return seed(lane, a);
    case SETUN_KMEANS_DISTANCE:
        return distance(lane, a);
    case SETUN_KMEANS_POTENTIAL:
        return potential(lane, a);
    default:
        return unit(lane, a);
    }
}

} // namespace

int32_t op_kmeans(Lane &lane, setun_kmeans *a) { return step(lane, a, CHAIN); }
int32_t op_kmeans_screen(Lane &lane, setun_kmeans *a) { return step(lane, a, SCREEN); }
int32_t op_kmeans_tensor(Lane &lane, setun_kmeans *a) { return step(lane, a, TENSOR); }

} // namespace setun
