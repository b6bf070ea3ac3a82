// SPDX-License-Identifier: Apache-2.0
//
// test_many.cpp: each step of k-means for many problems in one call gives what the same step gives for each of them alone, on arrays of the host's and with d
// and k of every kind; what cannot be is refused, and nothing is written then. On the stand-in for the driver: SETUN_CUDA_DRIVER.
#include <setun/backend.h>

#include "check.h"

#include <math.h>
#include <stdint.h>

#include <vector>

namespace {

const setun_table *table;
setun_ctx *context;
char message[256];
const int32_t MARK = 77;
uint64_t state = 1;

int64_t draw(int64_t below) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return int64_t((state >> 33) % uint64_t(below));
}
std::vector<float> floats(int64_t n) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float &v : x) v = float(draw(2001) - 1000) / 256;
    return x;
}

int32_t call(setun_kmeans *a) {
    std::vector<char> work;
    a->call = {};
    a->call.size = sizeof *a, a->call.message = message, a->call.message_size = sizeof message, a->call.bad_index = -1;
    a->workspace = nullptr;
    for (uint32_t i = 0; i < table->kernel_count; i++) {
        const setun_kernel &k = table->kernels[i];
        if (!(k.flags & SETUN_GATHERS)) continue;
        const int32_t rc = k.run(context, a);
        if (rc != SETUN_OK) return rc;
        work.resize(size_t(a->workspace_size) + 64);
        a->workspace = reinterpret_cast<void *>((reinterpret_cast<uintptr_t>(work.data()) + 63) / 64 * 64);
        return k.run(context, a);
    }
    return -1;
}

/* The arrays of problems, or of one of them. */
struct Arrays {
    int64_t d, k, count;
    std::vector<float> x, unit, mean, centroids, bias, low, high, distance;
    std::vector<double> scale;
    std::vector<int32_t> labels;
    std::vector<int64_t> sums, counts;
    std::vector<setun_problem> problems;

    int64_t added() const { return int64_t(sums.size()) / count; } /* sums of a problem */
    setun_kmeans block(uint32_t step, bool sphere) {
        setun_kmeans a = {};
        a.step = step, a.x = x.data(), a.n = int64_t(labels.size()), a.d = d, a.k = k, a.mean = mean.data(), a.centroids = centroids.data();
        a.low = low.data(), a.high = high.data(), a.distance = distance.data(), a.scale = scale.data(), a.next = centroids.data(), a.seed = 5;
        if (step == SETUN_KMEANS_ASSIGN) a.bias = bias.data();
        if (step != SETUN_KMEANS_SEED) a.labels = labels.data();
        if (step == SETUN_KMEANS_ITERATE || step == SETUN_KMEANS_MEAN) a.sums = sums.data(), a.counts = counts.data();
        if (sphere) a.unit = unit.data();
        return a;
    }
};

/* rows, columns, clusters: of the problem's own part. */
template <class T> void part(std::vector<T> &to, const std::vector<T> &from, int64_t first, int64_t n) {
    to.assign(from.begin() + first, from.begin() + first + n);
}
template <class T> bool same(const std::vector<T> &one, const std::vector<T> &all, int64_t first) {
    return memcmp(one.data(), all.data() + first, one.size() * sizeof(T)) == 0;
}

Arrays drawn(int64_t count, int64_t most, int64_t d, int64_t k) {
    Arrays all;
    all.d = d, all.k = k, all.count = count;
    int64_t rows = 3; /* that are nobody's */
    for (int64_t i = 0; i < count; i++) {
        setun_problem p = {};
        p.first = rows, p.n = k + draw(most), p.weight_scale = 0x1p45, p.limit = i % 2 ? -1.0 : 1e-3, p.iterations = 1 + draw(12);
        rows += p.n + draw(2);
        all.problems.push_back(p);
    }
    all.x = floats(rows * d);
    if (d == 1) /* fewer different rows than clusters */
        for (float &v : all.x) v = float(draw(3));
    all.unit = floats(rows), all.mean = floats(count * d), all.centroids = floats(count * k * d), all.bias = floats(count * k);
    all.low = floats(count * d), all.high = floats(count * d), all.distance = floats(rows);
    for (float &u : all.unit) u = fabsf(u) + 0.5f;
    all.scale.resize(size_t(count * d));
    for (double &v : all.scale) v = ldexp(1, int(20 + draw(10)));
    all.labels.assign(size_t(rows), -1);
    all.sums.assign(size_t(count * k * d), 0), all.counts.assign(size_t(count * k), 0);
    return all;
}

Arrays alone(const Arrays &all, int64_t i) {
    const setun_problem &p = all.problems[size_t(i)];
    const int64_t d = all.d, k = all.k;
    Arrays one;
    one.d = d, one.k = k, one.count = 1;
    part(one.x, all.x, p.first * d, p.n * d), part(one.unit, all.unit, p.first, p.n), part(one.mean, all.mean, i * d, d);
    part(one.centroids, all.centroids, i * k * d, k * d), part(one.bias, all.bias, i * k, k), part(one.low, all.low, i * d, d),
        part(one.high, all.high, i * d, d);
    part(one.distance, all.distance, p.first, p.n), part(one.scale, all.scale, i * d, d), part(one.labels, all.labels, p.first, p.n);
    part(one.sums, all.sums, i * all.added(), all.added()), part(one.counts, all.counts, i * k, k);
    return one;
}

void step(uint32_t kind, const char *name, int64_t count, int64_t most, int64_t d, int64_t k, bool sphere) {
    Arrays all = drawn(count, most, d, k);
    if (kind == SETUN_KMEANS_MEAN) all.sums.assign(size_t(count * d), 0);
    const Arrays before = all;
    setun_kmeans a = all.block(kind, sphere);
    if (kind == SETUN_KMEANS_DISTANCE && d % 2) a.labels = nullptr;
    if (kind == SETUN_KMEANS_DISTANCE && d % 2 == 0)
        for (int32_t &l : all.labels) l = int32_t(draw(k));
    if (kind == SETUN_KMEANS_ITERATE && d % 2)
        for (int64_t i = 0; i < count; i++) {
            setun_problem &p = all.problems[size_t(i)];
            for (int64_t r = 0; r < p.n; r++) all.labels[size_t(p.first + r)] = int32_t(draw(k));
            p.flags = i % 2 ? SETUN_KMEANS_MOVED : 0;
        }
    const std::vector<int32_t> labels = all.labels;
    const int64_t stride = a.labels ? k : 1; /* centroids of a problem, for DISTANCE */
    std::vector<float> packed;
    if (kind == SETUN_KMEANS_DISTANCE && stride == 1) {
        for (int64_t i = 0; i < count; i++) packed.insert(packed.end(), before.centroids.begin() + i * k * d, before.centroids.begin() + i * k * d + d);
        a.centroids = packed.data();
    }
    std::vector<uint32_t> flags;
    for (const setun_problem &p : all.problems) flags.push_back(p.flags);
    a.problems = all.problems.data(), a.problem_count = uint32_t(count), a.problem_size = sizeof(setun_problem);
    int32_t rc = call(&a);
    bool good = rc == SETUN_OK;
    std::vector<bool> whose(all.labels.size());
    for (int64_t i = 0; i < count && good; i++) {
        const setun_problem &p = all.problems[size_t(i)], &was = before.problems[size_t(i)];
        Arrays one = alone(before, i);
        part(one.labels, labels, p.first, p.n);
        setun_kmeans b = one.block(kind, sphere);
        if (!a.labels) b.labels = nullptr;
        b.weight_scale = was.weight_scale, b.limit = was.limit, b.iterations = was.iterations, b.flags = flags[size_t(i)];
        rc = call(&b);
        good = rc == SETUN_OK && same(one.centroids, all.centroids, i * k * d) && same(one.low, all.low, i * d) && same(one.high, all.high, i * d) &&
               same(one.labels, all.labels, p.first) && same(one.counts, all.counts, i * k);
        good = good && same(one.sums, all.sums, i * all.added());
        if (kind == SETUN_KMEANS_DISTANCE) good = good && same(one.distance, all.distance, p.first);
        if (kind == SETUN_KMEANS_ITERATE) good = good && p.iterations == b.iterations && p.stopped == b.stopped && p.changed == b.changed && p.exact == b.exact;
        if (kind == SETUN_KMEANS_ASSIGN) good = good && p.changed == b.changed && p.exact == b.exact;
        for (int64_t r = 0; r < p.n; r++) whose[size_t(p.first + r)] = true;
        if (!good) check(false, name, "problem %ld of %ldx%ld k=%ld: status %d: %s", long(i), long(p.n), long(d), long(k), rc, message);
    }
    for (size_t r = 0; r < whose.size() && good; r++) /* rows of no problem */
        good = whose[r] || (all.labels[r] == labels[r] && (kind == SETUN_KMEANS_SEED || all.distance[r] == before.distance[r]));
    check(good, name, "%ld problems, d=%ld, k=%ld%s (%d: %s)", long(count), long(d), long(k), sphere ? ", with units" : "", rc, rc ? message : "");
}

/* A value that is not finite is that of its problem. */
void not_finite() {
    Arrays all = drawn(4, 20, 3, 2);
    const Arrays before = all;
    all.x[size_t(all.problems[2].first * 3 + 4)] = NAN;
    setun_kmeans a = all.block(SETUN_KMEANS_RANGE, false);
    a.problems = all.problems.data(), a.problem_count = 4, a.problem_size = sizeof(setun_problem);
    const int32_t rc = call(&a);
    check(rc == SETUN_ENONFINITE && a.call.bad_index == all.problems[2].first * 3 + 4 && all.problems[2].stopped == 1 &&
              all.problems[0].stopped + all.problems[1].stopped + all.problems[3].stopped == 0 && all.low == before.low && all.high == before.high,
          "a NaN in one problem", "status %d", rc);
}

void refused() {
    const uint32_t kinds[] = {SETUN_KMEANS_RANGE, SETUN_KMEANS_MEAN, SETUN_KMEANS_ASSIGN, SETUN_KMEANS_DISTANCE, SETUN_KMEANS_ITERATE, SETUN_KMEANS_SEED};
    for (uint32_t kind : kinds)
        for (int i = 0; i < 16; i++) {
            Arrays all = drawn(3, 20, 4, 3);
            setun_kmeans a = all.block(kind, false);
            a.problems = all.problems.data(), a.problem_count = 3, a.problem_size = sizeof(setun_problem);
            for (int32_t &l : all.labels) l = MARK;
            const Arrays before = all;
            setun_problem &p = all.problems[1];
            int32_t want = SETUN_EINVAL;
            bool applies = true;
            switch (i) {
            case 0:
                p.first = -1;
                break;
            case 1:
                p.n = 0;
                break;
            case 2:
                p.n = a.n;
                break;
            case 3:
                p.first = INT64_MAX;
                break;
            case 4:
                a.problem_count = 0;
                break;
            case 5:
                a.problem_count = 65536;
                break;
            case 6:
                a.weights = all.unit.data();
                break;
            case 7:
                p.iterations = 0, applies = kind == SETUN_KMEANS_ITERATE;
                break;
            case 8:
                p.weight_scale = 0, applies = kind == SETUN_KMEANS_SEED;
                break;
            case 9:
                p.n = 2, applies = kind == SETUN_KMEANS_SEED;
                break;
            case 10:
                a.flags = SETUN_KMEANS_KEEP_MIN, applies = kind == SETUN_KMEANS_DISTANCE, want = SETUN_EUNSUPPORTED;
                break;
            case 11:
                a.problem_size = sizeof(setun_problem) - 8;
                break;
            case 12:
                a.problem_size = sizeof(setun_problem) + 4;
                break;
            case 13:
                a.d = INT64_MAX / 1024;
                break;
            case 14:
                a.k = INT64_MAX / 4096;
                break;
            default:
                a.sums = all.sums.data(), a.counts = all.counts.data(), applies = kind == SETUN_KMEANS_ASSIGN, want = SETUN_EUNSUPPORTED;
                break;
            }
            if (!applies) continue;
            message[0] = 0;
            const int32_t rc = call(&a);
            check(rc == want && (rc != SETUN_EINVAL || message[0]) && all.labels == before.labels && all.centroids == before.centroids &&
                      all.sums == before.sums && all.low == before.low && all.distance == before.distance,
                  "refused", "step %u, case %d: status %d: %s", kind, i, rc, message);
        }
}

} // namespace

int main() {
    table = setun_backend(SETUN_ABI);
    if (!table || table->open(&context, message, sizeof message) != SETUN_OK) {
        fprintf(stderr, "test_many: %s\n", message);
        return 1;
    }
    const int64_t shapes[][4] = {{5, 200, 6, 4}, {3, 40, 33, 17}, {4, 30, 8, 70},  {2, 300, 4, 130},
                                 {7, 10, 1, 1},  {6, 30, 1, 9},   {2, 20, 300, 3}, {1, 5000, 3, 2}};
    for (const int64_t *s : shapes)
        for (int sphere = 0; sphere < 2; sphere++) {
            step(SETUN_KMEANS_RANGE, "range", s[0], s[1], s[2], s[3], sphere);
            step(SETUN_KMEANS_MEAN, "mean", s[0], s[1], s[2], s[3], sphere);
            step(SETUN_KMEANS_ASSIGN, "assign", s[0], s[1], s[2], s[3], sphere);
            step(SETUN_KMEANS_DISTANCE, "distance", s[0], s[1], s[2], s[3], sphere);
            step(SETUN_KMEANS_ITERATE, "iterate", s[0], s[1], s[2], s[3], sphere);
            step(SETUN_KMEANS_SEED, "seed", s[0], s[1], s[2], s[3], sphere);
        }
    not_finite();
    refused();
    table->close(context);
    return summary();
}
