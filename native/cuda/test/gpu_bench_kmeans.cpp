// SPDX-License-Identifier: Apache-2.0
//
// gpu_bench_kmeans.cpp: the steps of k-means, on one problem and on many.
#include "gpu_bench.h"

void kmeans(const float *x, const float *host, int64_t n, int64_t d, int64_t k) {
    std::vector<float> mean(size_t(d), 0.0f), centroids(host, host + k * d), bias(static_cast<size_t>(k)), low(size_t(d), INFINITY), high(size_t(d), -INFINITY);
    for (int64_t j = 0; j < k; j++) {
        double s = 0;
        for (int64_t p = 0; p < d; p++) s += double(centroids[size_t(j * d + p)]) * double(centroids[size_t(j * d + p)]);
        bias[size_t(j)] = float(-0.5 * s);
    }
    std::vector<double> scale(size_t(d), 0x1p30);
    std::vector<int64_t> sums(size_t(k * d)), counts(static_cast<size_t>(k));
    int32_t *labels = static_cast<int32_t *>(alloc(4 * n));
    float *distance = static_cast<float *>(alloc(4 * n));
    std::string shape = text("%ldx%ld k=%ld", long(n), long(d), long(k));
    char work[64] __attribute__((aligned(64)));
    setun_kmeans a = block<setun_kmeans>();
    a.x = x, a.n = n, a.d = d, a.k = k, a.mean = mean.data(), a.centroids = centroids.data(), a.bias = bias.data(), a.scale = scale.data(), a.labels = labels;
    a.distance = distance, a.low = low.data(), a.high = high.data(), a.weight_scale = 1, a.workspace = work, a.workspace_size = sizeof work;
    double flops = 2.0 * double(n) * double(d) * double(k), bytes = 4.0 * double(n) * double(d);
    auto run = [&](const char *what) { return [&a, what] { must(call(SETUN_OP_KMEANS, &a), what); }; };
    for (const char *kernel : {"cuda", "screen", "tensor"}) {
        auto assign = [&] { must(call(SETUN_OP_KMEANS, &a, kernel), kernel); };
        a.step = SETUN_KMEANS_ASSIGN, a.flags = 0, a.sums = nullptr;
        report(text("kmeans labels, %s", kernel).c_str(), shape, measure(assign), 0, flops);
        fprintf(stderr, "    %.2f %% of the scores in the canonical chain\n", 100.0 * double(a.exact) / double(n * k));
        a.sums = sums.data(), a.counts = counts.data();
        report(text("kmeans labels and sums, %s", kernel).c_str(), shape, measure(assign), 0, flops);
        a.flags = SETUN_KMEANS_MOVED;
        report(text("kmeans, nothing moves, %s", kernel).c_str(), shape, measure(assign), 0, flops);
        const int ROUNDS = 10;
        std::vector<float> moved(centroids.size());
        auto iterate = [&] {
            std::fill(sums.begin(), sums.end(), 0);
            std::fill(counts.begin(), counts.end(), 0);
            a.iterations = ROUNDS;
            must(call(SETUN_OP_KMEANS, &a, kernel), kernel);
        };
        a.step = SETUN_KMEANS_ITERATE, a.flags = 0, a.next = moved.data(), a.limit = -1;
        report(text("kmeans, ten iterations, %s", kernel).c_str(), shape, measure(iterate), 0, ROUNDS * flops);
        if (a.iterations != ROUNDS) fprintf(stderr, "    it stopped after %ld of them\n", long(a.iterations));
    }
    a.flags = SETUN_KMEANS_KEEP_MIN, a.sums = nullptr;
    a.step = SETUN_KMEANS_DISTANCE;
    report("kmeans distance", shape, measure(run("distance")), bytes + 12.0 * double(n), 0);
    a.step = SETUN_KMEANS_RANGE;
    report("kmeans range", shape, measure(run("range")), bytes, 0);
    a.step = SETUN_KMEANS_MEAN, a.sums = sums.data();
    report("kmeans mean", shape, measure(run("mean")), bytes, 0);
    release(labels);
    release(distance);
}

/* Ten iterations of each problem: all in one call, and the first in a call of its own, of which a list would take as many. */
void problems(const float *x, const float *host, int64_t count, int64_t each, int64_t d, int64_t k) {
    const int ROUNDS = 10;
    const int64_t n = count * each, values = k * d;
    std::vector<float> mean(size_t(count * d), 0.0f), centroids, next(size_t(count * values));
    for (int64_t i = 0; i < count; i++) centroids.insert(centroids.end(), host + i * each * d, host + i * each * d + values);
    std::vector<double> scale(size_t(count * d), 0x1p30);
    std::vector<int64_t> sums(size_t(count * values)), counts(size_t(count * k));
    std::vector<setun_problem> list(static_cast<size_t>(count));
    int32_t *labels = static_cast<int32_t *>(alloc(4 * n));
    setun_kmeans a = block<setun_kmeans>();
    a.step = SETUN_KMEANS_ITERATE, a.x = x, a.n = n, a.d = d, a.k = k, a.mean = mean.data(), a.centroids = centroids.data(), a.scale = scale.data();
    a.labels = labels, a.sums = sums.data(), a.counts = counts.data(), a.next = next.data(), a.limit = -1, a.weight_scale = 1;
    a.problems = list.data(), a.problem_count = uint32_t(count), a.problem_size = sizeof(setun_problem);
    auto reset = [&] {
        for (int64_t i = 0; i < count; i++) list[size_t(i)] = {i * each, each, 1, -1, ROUNDS, 0, 0, 0, 0};
    };
    reset();
    must(call(SETUN_OP_KMEANS, &a), "workspace");
    std::vector<char> work(static_cast<size_t>(a.workspace_size + 64));
    a.workspace = reinterpret_cast<void *>((reinterpret_cast<uintptr_t>(work.data()) + 63) / 64 * 64);
    int64_t done = 0;
    auto iterate = [&] {
        std::fill(sums.begin(), sums.end(), 0);
        std::fill(counts.begin(), counts.end(), 0);
        reset();
        a.iterations = ROUNDS;
        must(call(SETUN_OP_KMEANS, &a), "iterations");
        done = 0;
        for (const setun_problem &p : list) done += p.iterations;
    };
    const std::string shape = text("%ld of %ldx%ld k=%ld", long(count), long(each), long(d), long(k));
    const double flops = 2.0 * double(n) * double(values);
    iterate();
    report("kmeans, problems in one call", shape, measure(iterate), 0, double(done) / double(count) * flops);
    a.problems = nullptr, a.n = each, count = 1;
    iterate();
    report("kmeans, one of them alone", shape, measure(iterate), 0, double(a.iterations) * flops / double(n / each));
    release(labels);
}
