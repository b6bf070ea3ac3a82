// SPDX-License-Identifier: Apache-2.0
//
// test_leaks.cpp: opens and closes the CUDA library a thousand times on the stand-in driver, with a call of every kernel in each turn and buffers that nobody
// frees, and in some turns a driver that fails: nothing is left of it on the device, in pinned memory or in the host's. Linked with both libraries; the
// sanitizers' build looks for what is lost in the host's memory.
//
//     test_leaks LIBCUDA_FAKE [turns]
#include <setun/device.h>

#include "check.h"
#include "fake.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include <vector>

namespace {

const setun_table *table;
setun_ctx *context;
char message[256];
long calls, failures;
decltype(&cufake_launches) launches;

template <class Args> setun_call call_of() {
    setun_call c = {};
    c.size = sizeof(Args), c.message = message, c.message_size = sizeof message;
    return c;
}

/* The kernels of an op, each once; those with a workspace are asked for its size first. */
template <class Args> void each(uint32_t op, Args a) {
    for (uint32_t i = 0; i < table->kernel_count; i++) {
        const setun_kernel &k = table->kernels[i];
        if (k.op != op) continue;
        Args b = a;
        *reinterpret_cast<setun_call *>(&b) = call_of<Args>();
        const int32_t rc = k.run(context, &b);
        calls++;
        failures += rc != SETUN_OK;
    }
}

alignas(64) char workspace[4096];

void every_op() {
    const int n = 64, d = 4, k = 3, rows = n / d;
    std::vector<float> x(n), y(n), z(n), scales(n), delta(n), centroids(k * d), bias(k), mean(d), low(d), high(d);
    for (int i = 0; i < n; i++) x[size_t(i)] = float(i % 7) - 3, y[size_t(i)] = float(i % 5);
    for (int i = 0; i < k * d; i++) centroids[size_t(i)] = float(i);
    std::vector<double> radii(k, 1), norms(k), scratch(n), column(d, 1024);
    std::vector<int32_t> labels(rows, 1);
    std::vector<int64_t> sums(k * d), counts(k), offsets = {0, 10, 30, n};
    std::vector<int8_t> codes(n), eight(n);
    std::vector<uint8_t> packed(n);

    setun_quantize q = {};
    q.levels = SETUN_TERNARY, q.rule = SETUN_ABSMEAN, q.format = SETUN_INT8, q.x = x.data(), q.rows = rows, q.cols = d;
    q.out = codes.data(), q.scales = scales.data();
    each(SETUN_OP_QUANTIZE, q);

    setun_constrain c = {};
    c.x = y.data(), c.dst = y.data(), c.n = n, c.radius = 2;
    each(SETUN_OP_CONSTRAIN, c);

    setun_reduce r = {};
    r.x = x.data(), r.y = y.data(), r.n = n;
    each(SETUN_OP_DOT, r);
    each(SETUN_OP_NORM2, r);

    setun_kmeans m = {};
    m.step = SETUN_KMEANS_ASSIGN, m.x = x.data(), m.n = rows, m.d = d, m.k = k, m.mean = mean.data(), m.centroids = centroids.data(), m.bias = bias.data();
    m.scale = column.data(), m.labels = labels.data(), m.sums = sums.data(), m.counts = counts.data(), m.workspace = workspace;
    m.workspace_size = sizeof workspace;
    each(SETUN_OP_KMEANS, m);
    m.step = SETUN_KMEANS_ITERATE, m.next = centroids.data(), m.iterations = 3, m.limit = 0;
    each(SETUN_OP_KMEANS, m);
    m.step = SETUN_KMEANS_SEED, m.distance = z.data(), m.weight_scale = 0x1p40;
    each(SETUN_OP_KMEANS, m);

    setun_matmul p = {};
    p.m = 8, p.n = 8, p.k = 8, p.a = x.data(), p.b = y.data(), p.c = z.data(), p.lda = p.ldb = p.ldc = 8, p.batch = 1, p.workspace = workspace;
    p.workspace_size = sizeof workspace;
    each(SETUN_OP_MATMUL, p);

    setun_clusters s = {};
    s.x = x.data(), s.dst = x.data(), s.n = n, s.k = k, s.radii = radii.data(), s.norms = norms.data(), s.scratch = scratch.data();
    s.offsets = offsets.data();
    each(SETUN_OP_CONSTRAIN_CLUSTERS, s);
    s.offsets = nullptr, s.labels = labels.data(), s.rows = rows;
    each(SETUN_OP_CONSTRAIN_CLUSTERS, s);

    setun_step t = {};
    t.to = q, t.params = x.data(), t.delta = y.data(), t.radius = 1, t.scratch = scratch.data();
    each(SETUN_OP_STEP, t);

    setun_activations a = {};
    a.x = x.data(), a.rows = rows, a.cols = d, a.out = eight.data(), a.scales = scales.data();
    each(SETUN_OP_ACTIVATIONS, a);

    setun_ternary w = {};
    w.levels = SETUN_TERNARY, w.format = SETUN_INT8, w.codes = codes.data(), w.scales = scales.data(), w.rows = rows, w.cols = d;
    w.x = eight.data(), w.x_scales = scales.data(), w.batch = 2, w.out = z.data(), w.workspace = workspace, w.workspace_size = sizeof workspace;
    each(SETUN_OP_TERNARY_MATMUL, w);

    setun_recode o = {};
    o.from = SETUN_INT8, o.to = SETUN_2BIT, o.codes = codes.data(), o.rows = rows, o.cols = d, o.out = packed.data();
    each(SETUN_OP_RECODE, o);

    setun_rmsnorm f = {};
    f.rows = rows, f.cols = d, f.x = x.data(), f.gain = mean.data(), f.out = z.data(), f.scale = scales.data(), f.epsilon = 1e-5;
    each(SETUN_OP_RMSNORM, f);
    f.flags = SETUN_GRADIENT, f.dy = y.data(), f.dgain = low.data(), f.parts = high.data();
    each(SETUN_OP_RMSNORM, f);

    setun_softmax e = {};
    e.rows = rows, e.cols = d, e.x = z.data(), e.stats = scratch.data(), e.factor = 1, e.scale = 1;
    each(SETUN_OP_SOFTMAX, e);

    setun_activate g = {};
    g.kind = SETUN_SWIGLU, g.rows = rows, g.cols = d / 2, g.x = x.data(), g.out = z.data();
    each(SETUN_OP_ACTIVATE, g);

    setun_update u = {};
    u.method = SETUN_ADAMW, u.n = n, u.value = x.data(), u.grad = y.data(), u.m = z.data(), u.v = scales.data(), u.delta = delta.data();
    each(SETUN_OP_UPDATE, u);
}

/* Labels and sums of clusters in pieces, of small integers: they are what loops find, or as they were. So are potentials, whose scale is that of all rows. */
void kmeans_in_pieces(const std::vector<float> &x) {
    const int d = 8, n = int(x.size()) / d, k = 3;
    std::vector<float> mean(d), centroids(k * d), bias(k), weights(n), distance(n);
    std::vector<double> scale(d, 4);
    for (int j = 0; j < k * d; j++) centroids[size_t(j)] = float(j * 5 % 7 - 3), bias[size_t(j / d)] -= centroids[size_t(j)] * centroids[size_t(j)] / 2;
    for (int i = 0; i < n; i++) weights[size_t(i)] = float(i % 3), distance[size_t(i)] = float(i % 11 == 7 && i > n / 2 ? 1000 : i % 5);
    std::vector<int32_t> labels(n, 1), want_labels(n);
    std::vector<int64_t> all(k * d + 2 * k, 7), want = all, was = all; /* sums, counts, sums of weights */
    int64_t changed = 0;
    for (int i = 0; i < n; i++) {
        const float *row = &x[size_t(i * d)];
        float most = 0;
        int best = 0;
        for (int c = 0; c < k; c++) {
            float s = bias[size_t(c)];
            for (int j = 0; j < d; j++) s += row[j] * centroids[size_t(c * d + j)];
            if (c == 0 || s > most) most = s, best = c;
        }
        want_labels[size_t(i)] = best, changed += best != 1;
        for (int j = 0; j < d; j++) want[size_t(best * d + j)] += int64_t(weights[size_t(i)] * row[j] * 4);
        want[size_t(k * d + best)]++, want[size_t(k * d + k + best)] += int64_t(weights[size_t(i)] * 16);
    }
    for (uint32_t i = 0; i < table->kernel_count; i++) {
        const setun_kernel &kernel = table->kernels[i];
        if (kernel.op != SETUN_OP_KMEANS || (kernel.flags & SETUN_FAST)) continue;
        std::vector<int32_t> l = labels;
        std::vector<int64_t> s = all, potentials(size_t(n - 1) / 4096 + 1);
        setun_kmeans m = {};
        m.call = call_of<setun_kmeans>();
        m.step = SETUN_KMEANS_ASSIGN, m.x = x.data(), m.n = n, m.d = d, m.k = k, m.mean = mean.data(), m.centroids = centroids.data(), m.bias = bias.data();
        m.weights = weights.data(), m.weight_scale = 16, m.scale = scale.data(), m.labels = l.data(), m.workspace = workspace;
        m.workspace_size = sizeof workspace, m.sums = s.data(), m.counts = s.data() + k * d, m.weight_sums = m.counts + k;
        int32_t rc = kernel.run(context, &m);
        calls++, failures += rc != SETUN_OK;
        if (rc == SETUN_OK ? l != want_labels || s != want || m.changed != changed : l != labels || s != was)
            check(false, "labels in pieces are those of loops, or as they were", "%s: %d: %s", kernel.name, rc, message);
        m.step = SETUN_KMEANS_POTENTIAL, m.distance = distance.data(), m.sums = potentials.data(), m.weight_scale = 0x1p40;
        rc = kernel.run(context, &m);
        calls++, failures += rc != SETUN_OK;
        int64_t total = 0, expected = 0;
        for (int64_t v : potentials) total += v;
        for (int r = 0; r < n; r++) expected += int64_t(weights[size_t(r)] * distance[size_t(r)] * 0x1p29); /* the greatest is 2000 */
        if (rc == SETUN_OK && (total != expected || m.weight_scale != 0x1p29)) check(false, "potentials in pieces", "%s: %s", kernel.name, message);
    }
}

/* Calls that have twice the memory that the context may take, and more: they are done in pieces, by two threads. */
void in_pieces() {
    const long failed = failures;
    setun_memory m = {};
    m.call = call_of<setun_memory>(), m.bytes = 64 << 10;
    table->device->limit(context, &m);
    m.bytes *= 2, m.device = nullptr;
    if (table->device->alloc(context, &m) == SETUN_OK) check(false, "no more than the limit"); /* and lanes give up what they hold of other calls */
    const long begun = launches();
    const int n = 8 * 4096, cols = 64;
    std::vector<float> x(n), y(n), z(n), v(n), delta(n), scales(n / cols);
    for (int i = 0; i < n; i++) x[size_t(i)] = float(i % 7) - 3, y[size_t(i)] = float(i % 5), v[size_t(i)] = 1;
    std::vector<double> scratch(n / 4096);
    std::vector<uint8_t> packed(n);
    const std::vector<float> was = x;

    setun_reduce r = {};
    r.x = x.data(), r.y = y.data(), r.n = n;
    each(SETUN_OP_DOT, r);

    setun_quantize q = {};
    q.levels = SETUN_TERNARY, q.rule = SETUN_ABSMEAN, q.format = SETUN_2BIT, q.x = x.data(), q.rows = n / cols, q.cols = q.group = cols;
    q.out = packed.data(), q.scales = scales.data();
    each(SETUN_OP_QUANTIZE, q);
    q.group = 0;
    each(SETUN_OP_QUANTIZE, q);

    setun_update u = {};
    u.method = SETUN_ADAMW, u.n = n, u.value = x.data(), u.grad = y.data(), u.m = z.data(), u.v = v.data(), u.delta = delta.data();
    each(SETUN_OP_UPDATE, u);

    kmeans_in_pieces(x);
    std::vector<double> radii(2, 1), norms(2), words(2 * n / cols + 2);
    std::vector<int32_t> labels(n / cols, 1);
    const std::vector<int64_t> offsets = {0, 5000, n};
    std::vector<float> o = x;
    setun_clusters c = {};
    c.x = o.data(), c.dst = o.data(), c.n = n, c.k = 2, c.radii = radii.data(), c.norms = norms.data(), c.scratch = words.data();
    for (int way = 0; way < 2; way++) {
        c.offsets = way == 0 ? offsets.data() : nullptr, c.labels = labels.data(), c.rows = n / cols;
        o = x;
        const long others = failures;
        each(SETUN_OP_CONSTRAIN_CLUSTERS, c);
        double square = 0; /* of the second cluster, which is all but the first 5000 values, or all */
        for (int i = way == 0 ? 5000 : 0; i < n; i++) square += double(o[size_t(i)]) * double(o[size_t(i)]);
        if (failures == others ? square > 1 || square < 0.999 : o != x) check(false, "clusters in pieces are done, or nothing of them", "%s", message);
    }

    setun_step t = {};
    t.to = q, t.params = x.data(), t.delta = y.data(), t.radius = 1, t.scratch = scratch.data();
    const long before = failures;
    each(SETUN_OP_STEP, t);
    if ((failures == before) != (memcmp(x.data(), was.data(), sizeof(float) * n) != 0))
        check(false, "a step in pieces is done, or nothing of it", "%s", message);

    if (failures == failed && launches() - begun < 200) check(false, "calls in pieces run many kernels", "%ld", launches() - begun);
    m.call = call_of<setun_memory>(), m.bytes = 0;
    table->device->limit(context, &m);
}

/* cuBLAS, whose stand-in lies beside that for the driver. */
std::string cublas;
bool attach() {
    setun_library l = {};
    l.call = call_of<setun_library>(), l.kernel = "cublas", l.path = cublas.c_str();
    return table->device->attach(context, &l) == SETUN_OK;
}

/* Buffers, and memory that is pinned: one of two is given back. */
void memory() {
    const setun_device *d = table->device;
    for (int i = 0; i < 4; i++) {
        setun_memory m = {};
        m.call = call_of<setun_memory>(), m.bytes = 1000 * (i + 1);
        if (d->alloc(context, &m) == SETUN_OK && i % 2) d->free(context, &m);
        if (d->size < offsetof(setun_device, unpin) + sizeof d->unpin || !d->pin) continue;
        m.to = nullptr;
        if (d->pin(context, &m) == SETUN_OK && i % 2) d->unpin(context, &m);
    }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { KEPT = 1 }; /* the sanitizer keeps what is freed */
/* Its own strstr measures the image, which is a string of megabytes, each time that a kernel is looked up in it. */
extern "C" __attribute__((visibility("default"))) const char *__asan_default_options() { return "intercept_strstr=0"; }
#else
enum { KEPT = 0 };
#endif

/* Pages that the process has in memory. */
long resident() {
    long all = 0, here = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    const bool read = fscanf(f, "%ld %ld", &all, &here) == 2;
    fclose(f);
    return read ? here : 0;
}

/* What the driver does in a turn. */
const struct {
    const char *function;
    int code;
} faults[] = {{"cuMemAlloc_v2", 2},
              {"cuMemAllocHost_v2", 2},
              {"cuStreamCreate", 2},
              {"cuLaunchKernel", 701},
              {"cuLaunchKernel", 719},
              {"cuStreamQuery", 999},
              {"cuMemFree_v2", 1},
              {"cuCtxSetCurrent", 201},
              {"cuModuleLoadDataEx", 2},
              {"cuModuleGetFunction", 500},
              {"cuDeviceGetName", 1},
              {"cuMemsetD8Async", 700},
              {"cuMemcpyHtoDAsync_v2", 1},
              {"cuMemcpyDtoHAsync_v2", 1},
              {"cuDevicePrimaryCtxRetain", 2},
              {"cublasCreate_v2", 3},
              {"cublasSgemm_v2", 13},
              {"cublasDestroy_v2", 14},
              {"sgemm", 719}};

} // namespace

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    setenv("SETUN_CUDA_DRIVER", argv[1], 1);
    const int turns = argc > 2 ? atoi(argv[2]) : 1000, kinds = int(sizeof faults / sizeof *faults);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL); /* the library will have the same */
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    auto live = reinterpret_cast<decltype(&cufake_live)>(dlsym(library, "cufake_live"));
    launches = reinterpret_cast<decltype(&cufake_launches)>(dlsym(library, "cufake_launches"));
    auto fault = reinterpret_cast<decltype(&cufake_fault)>(dlsym(library, "cufake_fault"));
    table = setun_backend(SETUN_ABI);
    cublas = argv[1];
    cublas = cublas.substr(0, cublas.rfind('/') + 1) + "libcublas_fake.so";
    int opened = 0, left = 0;
    long settled = 0; /* pages after the first half */
    for (int i = 0; i < turns; i++) {
        const bool bad = i % 4 == 3;
        const char *name = faults[i / 4 % kinds].function;
        if (bad) fault(name, 1 + i / 4 / kinds % 3, faults[i / 4 % kinds].code);
        if (table->open(&context, message, sizeof message) == SETUN_OK) {
            opened++;
            setun_device_info info = {};
            info.call = call_of<setun_device_info>();
            table->device->info(context, &info);
            const long before = failures;
            if (!attach()) check(false, "attaching cuBLAS", "%s", message);
            every_op();
            memory();
            if (i % 8 == 0 || bad) in_pieces();
            if (!bad && failures != before) check(false, "a turn without a fault", "%s", message);
            table->close(context);
        } else if (!bad) {
            check(false, "opening", "%s", message);
        }
        fault(name, 0, 0);
        if (i == turns / 2) settled = resident();
        if (live() != 0 && left++ == 0) check(false, "after a turn all is given back", "turn %d, %s: %ld things are left", i, bad ? name : "no fault", live());
    }
    check(left == 0, "all is given back", "%d turns, opened %d times, %ld calls, %ld of them failed", turns, opened, calls, failures);
    check(opened >= turns * 9 / 10 && failures > 0, "most turns open the device, and some calls fail");
    const long grown = resident() - settled;
    check(KEPT || grown < 256, "the process does not grow", "%ld pages more after the second half", grown);
    check(live() == 0, "nothing is left");
    return summary();
}
