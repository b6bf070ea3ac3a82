/* SPDX-License-Identifier: Apache-2.0
 *
 * gpu_bench.h: what its parts share: the library under test, blocks, time, reports. */
#ifndef SETUN_CUDA_TEST_GPU_BENCH_H
#define SETUN_CUDA_TEST_GPU_BENCH_H

#include <setun/device.h>

#include <algorithm>
#include <chrono>
#include <dlfcn.h>
#include <functional>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

inline const setun_table *table;
inline const setun_device *device;
inline setun_ctx *ctx;
inline setun_device_info about;
inline char message[256];
inline bool once;
inline double copy_rate; /* of the device's memory, read and written */

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class Args> Args block() {
    Args a = {};
    setun_call *c = reinterpret_cast<setun_call *>(&a);
    c->size = sizeof a, c->message = message, c->message_size = sizeof message, c->bad_index = -1;
    return a;
}

inline void must(int32_t rc, const char *what) {
    if (rc == SETUN_OK) return;
    fprintf(stderr, "gpu_bench: %s: status %d: %s\n", what, rc, message);
    exit(1);
}

inline void *alloc(int64_t bytes) {
    setun_memory m = block<setun_memory>();
    m.bytes = bytes;
    must(device->alloc(ctx, &m), "alloc");
    return m.device;
}

inline void release(void *p) {
    setun_memory m = block<setun_memory>();
    m.device = p;
    must(device->free(ctx, &m), "free");
}

inline void upload(void *to, const void *from, int64_t bytes) {
    setun_memory m = block<setun_memory>();
    m.device = to, m.from = from, m.bytes = bytes;
    must(device->upload(ctx, &m), "upload");
}

template <class Args> int32_t call(setun_op op, Args *a, const char *kernel = "cuda") {
    for (uint32_t i = 0; i < table->kernel_count; i++)
        if (table->kernels[i].op == uint32_t(op) && strcmp(table->kernels[i].name, kernel) == 0) return table->kernels[i].run(ctx, a);
    snprintf(message, sizeof message, "the library has no kernel %s", kernel);
    return SETUN_EUNSUPPORTED;
}

/* Times f: until 0.4 s or 60 calls have passed, at least 5. Seconds: the fastest, the median, the slowest. */
struct Times {
    double least, median, most;
    size_t runs;
};
inline Times measure(const std::function<void()> &f) {
    std::vector<double> t;
    if (once) { /* for a sanitizer */
        f();
        return {1, 1, 1, 1};
    }
    f(), f(); /* scratch memory grows */
    for (double begun = now(); t.size() < 5 || (now() - begun < 0.4 && t.size() < 60);) {
        double at = now();
        f();
        t.push_back(now() - at);
    }
    std::sort(t.begin(), t.end());
    return {t.front(), t[t.size() / 2], t.back(), t.size()};
}

inline void report(const char *name, const std::string &shape, const Times &t, double bytes, double flops) {
    printf("{\"name\":\"%s\",\"shape\":\"%s\",\"ms\":%.4f,\"min_ms\":%.4f,\"max_ms\":%.4f,\"runs\":%zu", name, shape.c_str(), 1e3 * t.median, 1e3 * t.least,
           1e3 * t.most, t.runs);
    if (bytes > 0) printf(",\"gb_per_s\":%.1f", bytes / t.median / 1e9);
    if (bytes > 0 && copy_rate > 0) printf(",\"of_copy\":%.3f", bytes / t.median / copy_rate);
    if (flops > 0) printf(",\"tflop_per_s\":%.2f", flops / t.median / 1e12);
    printf("}\n");
    fflush(stdout);
    fprintf(stderr, "%-28s %-26s %9.4f ms  %8.1f GB/s  %7.2f TFLOP/s\n", name, shape.c_str(), 1e3 * t.median, bytes / t.median / 1e9, flops / t.median / 1e12);
}

inline std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));
inline std::string text(const char *format, ...) {
    char b[128];
    va_list v;
    va_start(v, format);
    vsnprintf(b, sizeof b, format, v);
    va_end(v);
    return b;
}

/* Steps of k-means on n points of d values with k clusters, and on problems of so many points each. */
void kmeans(const float *x, const float *host, int64_t n, int64_t d, int64_t k);
void problems(const float *x, const float *host, int64_t count, int64_t each, int64_t d, int64_t k);

#endif
