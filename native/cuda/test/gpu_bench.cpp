// SPDX-License-Identifier: Apache-2.0
//
// gpu_bench.cpp: what the CUDA library reaches on a device, by way of its C ABI alone: gpu_bench LIBRARY [megabytes [parts]], parts of vectors, layers, bus,
// kmeans, products, ternary. A line of JSON a measurement on stdout,
// progress on stderr. Every figure is the median of calls as a host makes them, launches and the wait for the end included; bytes are those that have to
// move: what is read twice counts twice.
#include "gpu_bench.h"

namespace {

/* Normal values, from a generator that is quick and repeats. */
void normal(float *x, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) {
        float s = 0;
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        for (int k = 0; k < 4; k++) s += float((seed >> (16 * k)) & 0xffff) - 32767.5f;
        x[i] = s / 37837.0f;
    }
}

void vectors(float *x, float *y, uint8_t *codes, float *scales, int64_t n, const float *host) {
    std::string size = text("%ld", long(n));
    setun_memory c = block<setun_memory>();
    c.device = y, c.from = x, c.bytes = 4 * n;
    Times t = measure([&] { must(device->copy(ctx, &c), "copy"); });
    copy_rate = 8.0 * double(n) / t.median;
    report("copy", size, t, 8.0 * double(n), 0);

    setun_reduce r = block<setun_reduce>();
    r.x = x, r.y = y, r.n = n;
    report("norm2", size, measure([&] { must(call(SETUN_OP_NORM2, &r), "norm2"); }), 4.0 * double(n), 0);
    report("dot", size, measure([&] { must(call(SETUN_OP_DOT, &r), "dot"); }), 8.0 * double(n), 0);

    setun_constrain k = block<setun_constrain>();
    k.x = x, k.dst = y, k.n = n, k.radius = 1;
    report("constrain outside", size, measure([&] { must(call(SETUN_OP_CONSTRAIN, &k), "constrain"); }), 12.0 * double(n), 0);
    k.radius = INFINITY, k.dst = x;
    k.x = x;
    report("constrain inside, in place", size, measure([&] { must(call(SETUN_OP_CONSTRAIN, &k), "constrain"); }), 4.0 * double(n), 0);

    const char *formats[] = {"", "int8", "2bit", "base3"};
    const double bytes[] = {0, 1, 0.25, 0.2};
    const int64_t cols = 4096, rows = n / cols;
    for (uint32_t f = SETUN_INT8; f <= SETUN_BASE3; f++) {
        setun_quantize q = block<setun_quantize>();
        q.levels = SETUN_TERNARY, q.rule = SETUN_ABSMEAN, q.format = f, q.x = x, q.rows = rows, q.cols = cols, q.out = codes, q.scales = scales;
        report((std::string("quantize absmean ") + formats[f]).c_str(), size, measure([&] { must(call(SETUN_OP_QUANTIZE, &q), "quantize"); }),
               (8 + bytes[f]) * double(rows * cols), 0);
        q.group = cols;
        report((std::string("quantize rows ") + formats[f]).c_str(), size, measure([&] { must(call(SETUN_OP_QUANTIZE, &q), "quantize"); }),
               (8 + bytes[f]) * double(rows * cols), 0);
        auto groups = [&](const std::string &name) {
            report((name + " " + formats[f]).c_str(), text("%ldx%ld", long(q.rows), long(q.cols)),
                   measure([&] { must(call(SETUN_OP_QUANTIZE, &q), "quantize"); }), (4 + bytes[f]) * double(q.rows * q.cols), 0);
        };
        for (int64_t group : {128, 32, 64, 256, 512, 1024}) { /* the first one as it was measured before */
            q.group = group;
            groups(group == 128 ? "quantize groups" : text("quantize groups of %ld", long(group)));
        }
        q.group = 128, q.rows = rows - 1, q.x = x + 1; /* not aligned: by the kernels that read twice */
        groups("quantize groups, read twice,");
        q.cols = q.group = 1000, q.rows = n / 1000, q.x = x;
        groups("quantize short rows");
    }
    for (uint32_t rule = SETUN_LEAST_SQUARES; rule <= SETUN_STOCHASTIC; rule++) {
        setun_quantize q = block<setun_quantize>();
        q.levels = SETUN_TERNARY, q.rule = rule, q.format = SETUN_INT8, q.x = x, q.rows = rows, q.cols = cols, q.out = codes, q.scales = scales;
        report(text("quantize rule %u", rule).c_str(), size, measure([&] { must(call(SETUN_OP_QUANTIZE, &q), "quantize"); }), 9.0 * double(rows * cols), 0);
    }
    setun_activations v = block<setun_activations>();
    v.x = x, v.rows = rows, v.cols = cols, v.out = reinterpret_cast<int8_t *>(codes), v.scales = scales;
    report("activations", size, measure([&] { must(call(SETUN_OP_ACTIVATIONS, &v), "activations"); }), 5.0 * double(rows * cols), 0);

    /* Small calls: what a call costs. */
    for (int64_t m : {int64_t(1000), int64_t(100000), int64_t(1000000), int64_t(10000000)}) {
        if (m > n) break;
        setun_quantize q = block<setun_quantize>();
        q.levels = SETUN_TERNARY, q.rule = SETUN_ABSMEAN, q.format = SETUN_INT8, q.x = x, q.rows = 1, q.cols = m, q.out = codes, q.scales = scales;
        report("quantize resident", text("%ld", long(m)), measure([&] { must(call(SETUN_OP_QUANTIZE, &q), "quantize"); }), 9.0 * double(m), 0);
        std::vector<uint8_t> out(static_cast<size_t>(m));
        float scale;
        q.x = host, q.out = out.data(), q.scales = &scale;
        report("quantize from the host", text("%ld", long(m)), measure([&] { must(call(SETUN_OP_QUANTIZE, &q), "quantize"); }), 0, 0);
    }
}

/* The ops between products and that of an optimiser, on halves and quarters of x and y; scales has room for a value a row. */
void layers(float *x, float *y, float *scales, int64_t n) {
    const int64_t h = n / 2, q = n / 4;
    for (int64_t cols : {128, 1024, 4096, 65536}) {
        const int64_t rows = h / cols;
        if (rows < 1) break;
        const double all = double(rows * cols);
        std::string shape = text("%ldx%ld", long(rows), long(cols));
        setun_rmsnorm f = block<setun_rmsnorm>();
        f.rows = rows, f.cols = cols, f.x = x, f.gain = x, f.out = y, f.scale = scales, f.epsilon = 1e-5;
        auto norm = [&] { must(call(SETUN_OP_RMSNORM, &f), "rmsnorm"); };
        report("rmsnorm", shape, measure(norm), 8 * all, 0);
        f.delta = x + h, f.sum = y + h;
        report("rmsnorm with delta", shape, measure(norm), 16 * all, 0);
        f.delta = nullptr, f.flags = SETUN_GRADIENT, f.dy = x + h, f.gain = nullptr;
        report("rmsnorm gradient", shape, measure(norm), 12 * all, 0);
        f.gain = x, f.dgain = scales + n / 64, f.parts = y + h; /* parts: looked at for null alone */
        report("rmsnorm gradient with gain", shape, measure(norm), 12 * all, 0);

        setun_softmax s = block<setun_softmax>();
        s.rows = rows, s.cols = cols, s.x = y, s.factor = 1, s.scale = 1;
        auto soft = [&] { must(call(SETUN_OP_SOFTMAX, &s), "softmax"); };
        report("softmax", shape, measure(soft), 8 * all, 0);
        s.flags = SETUN_GRADIENT, s.p = x;
        report("softmax gradient", shape, measure(soft), 12 * all, 0);
    }
    const int64_t cols = 1024;
    std::string half = text("%ldx%ld", long(h / cols), long(cols)), quarter = text("%ldx%ld", long(q / cols), long(cols));
    setun_activate a = block<setun_activate>();
    auto activate = [&] { must(call(SETUN_OP_ACTIVATE, &a), "activate"); };
    a.kind = SETUN_SWIGLU, a.rows = h / cols, a.cols = cols, a.x = x, a.out = y;
    report("swiglu", half, measure(activate), 12.0 * double(a.rows * cols), 0);
    a.rows = q / cols, a.flags = SETUN_GRADIENT, a.dy = x + h;
    report("swiglu gradient", quarter, measure(activate), 20.0 * double(a.rows * cols), 0);
    a.kind = SETUN_RELU2, a.rows = h / cols;
    report("relu2 gradient", half, measure(activate), 12.0 * double(a.rows * cols), 0);
    a.flags = 0;
    report("relu2", half, measure(activate), 8.0 * double(a.rows * cols), 0);

    setun_update u = block<setun_update>();
    auto update = [&] { must(call(SETUN_OP_UPDATE, &u), "update"); };
    u.n = q, u.value = x, u.grad = x + h, u.m = y, u.v = y + q, u.delta = y + h; /* of y the last op has made what a second moment may be */
    u.rate = 1e-3, u.decay = 0.1, u.beta1 = 0.9, u.beta2 = 0.99, u.epsilon = 1e-8, u.unbias1 = u.unbias2 = 1.5;
    for (uint32_t method : {SETUN_ADAMW, SETUN_MOMENTUM}) {
        u.method = method;
        report(method == SETUN_ADAMW ? "update, AdamW" : "update, momentum", text("%ld", long(q)), measure(update),
               (method == SETUN_ADAMW ? 28.0 : 20.0) * double(q), 0);
    }
}

/* Pinned copies by the driver itself, for comparison. */
void bus(const float *host, int64_t n, uint8_t *codes_on_device) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) return;
    auto get = [&](const char *s) { return dlsym(driver, s); };
    int handle = 0;
    void *context = nullptr, *pinned = nullptr;
    unsigned long long at = 0;
    reinterpret_cast<int (*)(int *, int)>(get("cuDeviceGet"))(&handle, 0);
    reinterpret_cast<int (*)(void **, int)>(get("cuDevicePrimaryCtxRetain"))(&context, handle);
    reinterpret_cast<int (*)(void *)>(get("cuCtxSetCurrent"))(context);
    if (reinterpret_cast<int (*)(void **, size_t)>(get("cuMemAllocHost_v2"))(&pinned, size_t(4 * n)) != 0) return;
    reinterpret_cast<int (*)(unsigned long long *, size_t)>(get("cuMemAlloc_v2"))(&at, size_t(4 * n));
    memcpy(pinned, host, size_t(4 * n));
    std::string size = text("%ld", long(n));
    auto up = reinterpret_cast<int (*)(unsigned long long, const void *, size_t)>(get("cuMemcpyHtoD_v2"));
    auto down = reinterpret_cast<int (*)(void *, unsigned long long, size_t)>(get("cuMemcpyDtoH_v2"));
    double keep = copy_rate;
    copy_rate = 0;
    report("pinned copy up", size, measure([&] { up(at, pinned, size_t(4 * n)); }), 4.0 * double(n), 0);
    report("pinned copy down", size, measure([&] { down(pinned, at, size_t(4 * n)); }), 4.0 * double(n), 0);
    report("pinned copy up, a quarter down", size, measure([&] { up(at, pinned, size_t(4 * n)), down(pinned, at, size_t(n)); }), 5.0 * double(n), 0);
    setun_memory m = block<setun_memory>();
    m.device = codes_on_device, m.from = host, m.bytes = n;
    report("upload", text("%ld", long(n / 4)), measure([&] { must(device->upload(ctx, &m), "upload"); }), double(n), 0);
    std::vector<uint8_t> out(static_cast<size_t>(n));
    float scale;
    setun_quantize q = block<setun_quantize>();
    q.levels = SETUN_TERNARY, q.rule = SETUN_ABSMEAN, q.format = SETUN_INT8, q.x = host, q.rows = 1, q.cols = n, q.out = out.data(), q.scales = &scale;
    report("quantize from the host", size, measure([&] { must(call(SETUN_OP_QUANTIZE, &q), "quantize"); }), 5.0 * double(n), 0);
    setun_memory in = block<setun_memory>(), back = block<setun_memory>();
    in.bytes = 4 * n, back.bytes = n;
    must(device->pin(ctx, &in), "pin");
    must(device->pin(ctx, &back), "pin");
    memcpy(in.to, host, size_t(4 * n));
    q.x = static_cast<const float *>(in.to), q.out = back.to;
    report("quantize from pinned memory", size, measure([&] { must(call(SETUN_OP_QUANTIZE, &q), "quantize"); }), 5.0 * double(n), 0);
    must(device->unpin(ctx, &in), "unpin");
    must(device->unpin(ctx, &back), "unpin");
    copy_rate = keep;
    reinterpret_cast<int (*)(unsigned long long)>(get("cuMemFree_v2"))(at);
    reinterpret_cast<int (*)(void *)>(get("cuMemFreeHost"))(pinned);
}
void products(const float *a, const float *b, float *c) {
    for (int64_t n : {1024, 4096, 8192}) {
        setun_matmul m = block<setun_matmul>();
        char work[64] __attribute__((aligned(64)));
        m.m = m.n = m.k = m.lda = m.ldb = m.ldc = n, m.a = a, m.b = b, m.c = c, m.batch = 1, m.workspace = work, m.workspace_size = sizeof work;
        for (uint32_t flags : {0u, uint32_t(SETUN_MATMUL_TRANS_B)}) {
            m.flags = flags;
            report(flags ? "matmul, b transposed" : "matmul", text("%ldx%ldx%ld", long(n), long(n), long(n)),
                   measure([&] { must(call(SETUN_OP_MATMUL, &m), "matmul"); }), 0, 2.0 * double(n) * double(n) * double(n));
        }
    }
}

/* Rows of base 3 are aligned to 4 bytes with 4096 columns, to none with 6912. */
void ternary(const float *x, uint8_t *codes, float *scales, float *out, int64_t rows, int64_t cols) {
    int8_t *activations = reinterpret_cast<int8_t *>(codes) + rows * cols;
    setun_activations v = block<setun_activations>();
    v.x = x, v.rows = 512, v.cols = cols, v.out = activations, v.scales = scales + 1;
    must(call(SETUN_OP_ACTIVATIONS, &v), "activations");
    const char *formats[] = {"", "int8", "2bit", "base3"};
    const double bytes[] = {0, 1, 0.25, 0.2};
    for (uint32_t f = SETUN_INT8; f <= SETUN_BASE3; f++) {
        setun_quantize q = block<setun_quantize>();
        q.levels = SETUN_TERNARY, q.rule = SETUN_ABSMEAN, q.format = f, q.x = x, q.rows = rows, q.cols = cols, q.out = codes, q.scales = scales;
        must(call(SETUN_OP_QUANTIZE, &q), "quantize");
        for (int64_t batch : {1, 8, 64, 512}) {
            setun_ternary t = block<setun_ternary>();
            char work[64] __attribute__((aligned(64)));
            t.levels = SETUN_TERNARY, t.format = f, t.codes = codes, t.scales = scales, t.rows = rows, t.cols = cols, t.x = activations,
            t.x_scales = scales + 1, t.batch = batch;
            t.out = out, t.workspace = work, t.workspace_size = sizeof work;
            report((std::string("ternary matmul ") + formats[f]).c_str(), text("%ldx%ldx%ld", long(rows), long(cols), long(batch)),
                   measure([&] { must(call(SETUN_OP_TERNARY_MATMUL, &t), "ternary"); }), bytes[f] * double(rows * cols),
                   2.0 * double(rows * cols) * double(batch));
        }
    }
}

} // namespace

int main(int argc, char **argv) {
    once = getenv("SETUN_BENCH_ONCE") != nullptr;
    int64_t megabytes = argc > 2 ? atol(argv[2]) : 1000, n = megabytes * 250000 / 4096 * 4096;
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : nullptr;
    if (!library) {
        fprintf(stderr, "usage: gpu_bench LIBRARY [megabytes [parts]]: %s\n", argc > 1 ? dlerror() : "no library");
        return 2;
    }
    table = reinterpret_cast<const setun_table *(*)(uint32_t)>(dlsym(library, "setun_backend"))(SETUN_ABI);
    device = table->device;
    double at = now();
    must(table->open(&ctx, message, sizeof message), "open");
    double opened = now() - at;
    about = block<setun_device_info>();
    must(device->info(ctx, &about), "info");
    printf("{\"name\":\"device\",\"device\":\"%s\",\"driver\":\"%s\",\"capability\":\"%d.%d\",\"multiprocessors\":%d,\"memory\":%ld,\"build\":\"%s\",\"open_"
           "ms\":%.1f}\n",
           about.name, about.driver, about.major, about.minor, about.units, long(about.total), table->build, 1e3 * opened);
    fprintf(stderr, "%s, opened in %.0f ms, %s\n", about.name, 1e3 * opened, table->build);
    std::vector<float> host(static_cast<size_t>(n));
    normal(host.data(), n, 1);
    float *x = static_cast<float *>(alloc(4 * n)), *y = static_cast<float *>(alloc(4 * n)), *scales = static_cast<float *>(alloc(4 * (n / 64 + 65536)));
    uint8_t *codes = static_cast<uint8_t *>(alloc(n));
    upload(x, host.data(), 4 * n);
    auto wanted = [&](const char *part) { return argc < 4 || strstr(argv[3], part) != nullptr; };
    if (wanted("vectors")) vectors(x, y, codes, scales, n, host.data());
    if (wanted("layers")) layers(x, y, scales, n);
    if (wanted("bus")) bus(host.data(), n, codes);
    if (wanted("kmeans")) {
        int64_t points = n / 128 < 1000000 ? n / 128 : 1000000;
        kmeans(x, host.data(), points, 128, 1024);
        kmeans(x, host.data(), n / 128, 128, 1024);
        kmeans(x, host.data(), n / 128, 128, 64);
        kmeans(x, host.data(), n / 16, 16, 16);
        problems(x, host.data(), std::min<int64_t>(1000, n / 16000), 1000, 16, 16);
        problems(x, host.data(), std::min<int64_t>(1000, n / 32000), 500, 64, 64);
    }
    if (wanted("products") && n >= 2 * 8192 * 8192) products(x, x + 8192 * 8192, y);
    if (wanted("ternary") && n >= 14336 * 4096 + 512 * 4096) ternary(x, codes, scales, y, 14336, 4096), ternary(x, codes, scales, y, 8192, 6912);
    release(x), release(y), release(scales), release(codes);
    table->close(ctx);
    return 0;
}
