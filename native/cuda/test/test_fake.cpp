// SPDX-License-Identifier: Apache-2.0
//
// test_fake.cpp: the fake driver, with the kernels of sample/: that it does what a driver does, and refuses what it is there to refuse.
#include "fake.h"

#include "check.h"
#include "emu_guard.h"

#include <math.h>
#include <time.h>

#include <functional>
#include <thread>
#include <vector>

typedef unsigned long long Address;
extern "C" {
int cuInit(unsigned);
int cuDriverGetVersion(int *);
int cuDeviceGetCount(int *);
int cuDeviceGet(int *, int);
int cuDeviceGetName(char *, int, int);
int cuDeviceGetAttribute(int *, int, int);
int cuDeviceTotalMem_v2(size_t *, int);
int cuDeviceGetUuid_v2(unsigned char *, int);
int cuDevicePrimaryCtxRetain(void **, int);
int cuDevicePrimaryCtxRelease_v2(int);
int cuCtxGetCurrent(void **);
int cuCtxSetCurrent(void *);
int cuCtxPushCurrent_v2(void *);
int cuCtxPopCurrent_v2(void **);
int cuCtxSynchronize();
int cuMemGetInfo_v2(size_t *, size_t *);
int cuMemAlloc_v2(Address *, size_t);
int cuMemFree_v2(Address);
int cuMemAllocHost_v2(void **, size_t);
int cuMemHostAlloc(void **, size_t, unsigned);
int cuMemFreeHost(void *);
int cuMemcpyHtoD_v2(Address, const void *, size_t);
int cuMemcpyDtoH_v2(void *, Address, size_t);
int cuMemcpyHtoDAsync_v2(Address, const void *, size_t, void *);
int cuMemcpyDtoHAsync_v2(void *, Address, size_t, void *);
int cuMemcpyDtoDAsync_v2(Address, Address, size_t, void *);
int cuMemsetD8Async(Address, unsigned char, size_t, void *);
int cuMemsetD32Async(Address, unsigned, size_t, void *);
int cuStreamCreate(void **, unsigned);
int cuStreamQuery(void *);
int cuStreamSynchronize(void *);
int cuStreamDestroy_v2(void *);
int cuStreamWaitEvent(void *, void *, unsigned);
int cuEventCreate(void **, unsigned);
int cuEventRecord(void *, void *);
int cuEventQuery(void *);
int cuEventSynchronize(void *);
int cuEventElapsedTime(float *, void *, void *);
int cuEventDestroy_v2(void *);
int cuModuleLoadDataEx(void **, const void *, unsigned, int *, void **);
int cuModuleUnload(void *);
int cuModuleGetFunction(void **, void *, const char *);
int cuFuncSetAttribute(void *, int, int);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
int cuGetErrorName(int, const char **);
int cuGetErrorString(int, const char **);
}

static const char PTX[] =
    ".version 6.3\n.target sm_75\n.address_size 64\n"
    ".visible .entry add(\n\t.param .u64 add_param_0,\n\t.param .f32 add_param_1,\n\t.param .u64 add_param_2\n)\n.maxntid 256, 1, 1\n{\n}\n"
    ".visible .entry total(\n\t.param .u64 .ptr .align 1 a,\n\t.param .u64 b,\n\t.param .u64 c\n)\n.maxntid 128, 1, 1\n{\n}\n"
    ".visible .entry overrun(\n\t.param .u64 a,\n\t.param .u64 b\n)\n{\n}\n"
    ".visible .entry diverge(\n\t.param .u64 a\n)\n{\n}\n"
    ".visible .entry parameters(\n\t.param .u64 a,\n\t.param .align 8 .b8 b[64],\n\t.param .u8 c,\n\t.param .u16 d\n)\n{\n}\n"
    ".visible .entry dynamic(\n\t.param .u64 a,\n\t.param .u32 b\n)\n{\n}\n";
static const char PTX80[] = ".version 7.0\n.target sm_80\n.visible .entry negate(\n\t.param .u64 a\n)\n{\n}\n";

/* A device with a stream, the kernels, and some memory; as at the start of the process. */
struct Setup {
    void *context = nullptr, *module = nullptr, *stream = nullptr;
    Address x = 0;
    bool ok;
    explicit Setup(int device = 0, bool reset = true) {
        if (reset) cufake_reset();
        ok = cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, device) == 0 && cuCtxSetCurrent(context) == 0 &&
             cuModuleLoadDataEx(&module, PTX, 0, nullptr, nullptr) == 0 && cuStreamCreate(&stream, 1) == 0 && cuMemAlloc_v2(&x, 4000) == 0 &&
             cuMemsetD32Async(x, 0, 1000, stream) == 0 && cuStreamSynchronize(stream) == 0;
        if (!ok) check(false, "setting up");
    }
    void *function(const char *name) const {
        void *f = nullptr;
        return cuModuleGetFunction(&f, module, name) == 0 ? f : nullptr;
    }
    template <class... A> int start(const char *name, unsigned blocks, unsigned threads, unsigned shared, A... args) const {
        void *list[] = {&args...};
        return cuLaunchKernel(function(name), blocks, 1, 1, threads, 1, 1, shared, stream, list, nullptr);
    }
    int add(float v) const { return start("add", 4, 250, 0, x, v, int64_t(1000)); }
    float first() const { /* as it is now, without waiting for the stream */
        float v = 0;
        return cuMemcpyDtoH_v2(&v, x, 4) == 0 ? v : NAN;
    }
};

static void test_devices() {
    cufake_reset();
    int version = 0, count = 0, device = 9, value[8];
    char name[64];
    size_t bytes = 0;
    unsigned char id[2][16];
    check(cuInit(1) == 1 && cuInit(0) == 0 && cuDriverGetVersion(&version) == 0 && version == 13000, "cuInit, cuDriverGetVersion");
    cufake_devices(2), cufake_memory(1 << 20), cufake_driver(12040);
    const int numbers[] = {75, 76, 16, 10, 38, 97, 8, 1};
    int bad = cuDriverGetVersion(&version);
    for (int i = 0; i < 8; i++) bad |= cuDeviceGetAttribute(value + i, numbers[i], 1);
    bad |= cuDeviceGetCount(&count) | cuDeviceGet(&device, 1) | cuDeviceGetName(name, 64, 1) | cuDeviceTotalMem_v2(&bytes, 1) | cuDeviceGetUuid_v2(id[0], 0) |
           cuDeviceGetUuid_v2(id[1], 1);
    check(!bad && count == 2 && device == 1 && bytes == 1 << 20 && version == 12040 && memcmp(id[0], id[1], 16) != 0, "two devices", "%s", name);
    check(value[0] == 9 && value[1] == 0 && value[2] > 0 && value[3] == 32 && value[4] > 0 && value[5] == 232448 && value[6] == 49152 && value[7] == 1024,
          "attributes");
    check(cuDeviceGet(&device, 2) == 101 && cuDeviceGetAttribute(value, 16, -1) == 101, "no third device");
    const char *text = nullptr, *error = nullptr;
    check(cuGetErrorName(700, &text) == 0 && !strcmp(text, "CUDA_ERROR_ILLEGAL_ADDRESS") && cuGetErrorString(2, &error) == 0 &&
              !strcmp(error, "out of memory") && cuGetErrorName(12345, &text) == 1 && !text,
          "names of errors");
}

static void test_contexts() {
    Setup s;
    int other = 0, kept = 0;
    std::thread([&] {
        Address p;
        other = cuMemAlloc_v2(&p, 4);
        cuCtxSetCurrent(s.context);
        kept = cuMemAlloc_v2(&p, 4);
    }).join();
    check(other == 201 && kept == 0, "a thread without a current context is refused");
    void *c = nullptr, *popped = nullptr;
    check(cuCtxPushCurrent_v2(s.context) == 0 && cuCtxPopCurrent_v2(&popped) == 0 && popped == s.context && cuCtxGetCurrent(&c) == 0 && c == s.context &&
              cuCtxSetCurrent(nullptr) == 0 && cuCtxGetCurrent(&c) == 0 && !c && cuCtxPopCurrent_v2(&c) == 201,
          "the stack of contexts");
    cuCtxSetCurrent(s.context);
    check(cufake_live() == 5, "cufake_live", "%ld", cufake_live()); /* x, the thread's, stream, module, context */
    check(cuDevicePrimaryCtxRelease_v2(0) == 0 && cufake_live() == 0 && cuCtxSynchronize() == 201 && cuDevicePrimaryCtxRelease_v2(0) == 201,
          "a released context is gone with all that it had");
    cufake_devices(2);
    Setup first(0, false), second(1, false);
    Address y = 0;
    check(cuCtxSetCurrent(first.context) == 0 && cuMemcpyDtoDAsync_v2(first.x, second.x, 4, first.stream) == 1 &&
              cuMemsetD8Async(first.x, 0, 4, second.stream) == 400 && cuMemAlloc_v2(&y, 4) == 0,
          "memory and streams of another device are refused");
    float v = 1;
    int64_t n = 1;
    void *args[] = {&second.x, &v, &n};
    const int r = cuLaunchKernel(first.function("add"), 1, 1, 1, 1, 1, 1, 0, first.stream, args, nullptr);
    check(r == 0 && cuStreamSynchronize(first.stream) == 700 && cuCtxSetCurrent(second.context) == 0 && cuStreamSynchronize(second.stream) == 0,
          "an error stays with its device");
}

static void test_memory() {
    Setup s;
    size_t free_before, free_after, all;
    Address p = 0, q = 0;
    cuMemGetInfo_v2(&free_before, &all);
    check(cuMemAlloc_v2(&p, 1000) == 0 && cuMemGetInfo_v2(&free_after, &all) == 0 && free_before - free_after == 1000 && cuMemFree_v2(p) == 0 &&
              cuMemFree_v2(p) == 1 && cuMemAlloc_v2(&p, 0) == 1,
          "cuMemAlloc, cuMemFree, cuMemGetInfo");
    cufake_memory(8000);
    check(cuMemAlloc_v2(&p, 4001) == 2 && cuMemAlloc_v2(&p, 4000) == 0 && cuMemAlloc_v2(&q, 1) == 2 && cuMemFree_v2(p) == 0, "memory runs out");
    check(cuMemcpyHtoD_v2(s.x + 3997, "four", 4) == 1 && cuMemcpyDtoHAsync_v2(&p, s.x + 4000, 1, s.stream) == 1 &&
              cuMemsetD8Async(s.x, 0, 4001, s.stream) == 1 && cuMemsetD32Async(s.x + 2, 0, 1, s.stream) == 1,
          "ranges outside of memory are refused");
    int status = 0;
    in_child(
        [&] {
            volatile float *f = reinterpret_cast<float *>(s.x);
            f[0] = 1;
        },
        &status);
    check(status != 0, "the host cannot touch device memory");
    Address fresh = 0;
    float f = 0;
    cufake_memory(1 << 20);
    check(cuMemAlloc_v2(&fresh, 4) == 0 && cuMemcpyDtoH_v2(&f, fresh, 4) == 0 && f != f, "fresh memory is NaN");
    float host[1000];
    for (int i = 0; i < 1000; i++) host[i] = float(i);
    check(cuMemcpyHtoDAsync_v2(s.x, host, 2000, s.stream) == 0 && cuMemcpyDtoDAsync_v2(s.x + 2000, s.x, 2000, s.stream) == 0 &&
              cuMemcpyDtoHAsync_v2(host, s.x, 4000, s.stream) == 0 && cuStreamSynchronize(s.stream) == 0 && host[999] == 499 && host[500] == 0,
          "copies there, over and back");
    check(cufake_uploaded() == 2000, "what goes up is counted");
    void *pinned = nullptr;
    check(cuMemAllocHost_v2(&pinned, 64) == 0 && cuMemFreeHost(pinned) == 0 && cuMemFreeHost(pinned) == 1, "pinned memory");
}

static void test_streams() {
    Setup s;
    float host = 1, *pinned = nullptr, back = 0;
    cuMemAllocHost_v2(reinterpret_cast<void **>(&pinned), 4);
    *pinned = 1;
    cuMemcpyHtoDAsync_v2(s.x, &host, 4, s.stream), cuMemcpyHtoDAsync_v2(s.x + 4, pinned, 4, s.stream);
    host = *pinned = 2;
    check(s.first() == 0, "work is held until something waits for it");
    float both[2];
    check(cuStreamSynchronize(s.stream) == 0 && cuMemcpyDtoH_v2(both, s.x, 8) == 0 && both[0] == 1 && both[1] == 2,
          "pinned sources are read late, others at once");
    void *other = nullptr, *event = nullptr, *after = nullptr;
    cuStreamCreate(&other, 1), cuEventCreate(&event, 0), cuEventCreate(&after, 0);
    s.add(5), cuEventRecord(event, s.stream);
    cuMemcpyDtoHAsync_v2(&back, s.x + 8, 4, other), cuStreamSynchronize(other);
    check(back == 0, "streams do not wait for each other");
    cuStreamWaitEvent(other, event, 0), cuMemcpyDtoHAsync_v2(&back, s.x + 8, 4, other), cuEventRecord(after, other);
    float ms = -1;
    check(cuEventElapsedTime(&ms, event, after) == 600 && cuStreamSynchronize(other) == 0 && back == 5, "unless told to by an event");
    check(cuEventElapsedTime(&ms, event, after) == 0 && ms >= 0 && cuEventQuery(after) == 0, "the time between events");
    int polls = 0;
    for (int i = 0; i < 3; i++) s.add(1);
    while (cuStreamQuery(s.stream) == 600) polls++;
    s.add(1), cuEventRecord(event, s.stream);
    while (cuEventQuery(event) == 600) polls++;
    check(polls >= 2 && s.first() == 10 && cufake_launches() == 5, "who polls comes to an end");
    void *blocking = nullptr;
    cuStreamCreate(&blocking, 0), cuMemsetD32Async(s.x, 0x40000000, 1, blocking);
    check(s.first() == 2, "a synchronous copy waits for a blocking stream");
    check(cuStreamDestroy_v2(other) == 0 && cuStreamDestroy_v2(other) == 400 && cuStreamQuery(other) == 400 && cuEventDestroy_v2(event) == 0 &&
              cuEventQuery(event) == 400 && cuEventRecord(after, other) == 400,
          "handles that are gone are refused");
}

static void test_modules() {
    Setup s;
    void *m = nullptr, *f = nullptr;
    char log[40] = "untouched", info[8] = "old";
    int options[] = {5, 6, 3, 4};
    auto load = [&](std::string text, const char *from = nullptr, const char *to = "") {
        if (from) text.replace(text.find(from), strlen(from), to);
        void *values[] = {log, reinterpret_cast<void *>(sizeof log), info, reinterpret_cast<void *>(sizeof info)};
        log[0] = 0;
        const int r = cuModuleLoadDataEx(&m, text.c_str(), 4, options, values);
        return values[1] == reinterpret_cast<void *>(strlen(log)) ? r : -1;
    };
    check(load(PTX, ".param .f32 add_param_1,\n", "") == 218 && strstr(log, "kernel add"), "PTX with a parameter less is refused", "%s", log);
    check(load(PTX, ".param .u32 b", ".param .u64 b") == 218 && strstr(log, "kernel dynamic"), "a parameter of another size is refused", "%s", log);
    check(load(PTX, ".target sm_75", ".target sm_100") == 209 && load(PTX, ".version 6.3", ".version 9.1") == 222 && load("nonsense") == 218, "other images");
    check(load(PTX, ".entry total", ".entry totally") == 0 && cuModuleGetFunction(&f, m, "total") == 500 && cuModuleUnload(m) == 0 && cuModuleUnload(m) == 400,
          "a kernel that the image lacks is not found");
    cufake_driver(11000);
    check(load(PTX80) == 0 && load(PTX80, "7.0", "7.1") == 222, "PTX 7.0 for driver 11.0");
    cufake_capability(75);
    check(load(PTX80) == 209 && load(PTX) == 0, "a device of capability 7.5");
    const auto add = [&](unsigned blocks, unsigned threads, unsigned shared) { return s.start("add", blocks, threads, shared, s.x, 1.0f, int64_t(1000)); };
    check(add(0, 1, 0) == 1 && add(1, 0, 0) == 1 && add(1, 257, 0) == 1 && add(1, 256, 0) == 0 && s.start("overrun", 1, 1024, 0, s.x, int64_t(0)) == 0,
          "shapes of launches, .maxntid");
    const auto dynamic = [&](unsigned bytes) { return s.start("dynamic", 1, 1, bytes, s.x, int(bytes / 4)); };
    check(dynamic(49152) == 0 && dynamic(49153) == 1 && cuFuncSetAttribute(s.function("dynamic"), 8, 232449) == 1 &&
              cuFuncSetAttribute(s.function("dynamic"), 8, 232448) == 0 && dynamic(232448) == 0 && cuStreamSynchronize(s.stream) == 0 && s.first() == 58112,
          "dynamic shared memory above 48 KiB has to be asked for");
    struct {
        double a;
        int b[13];
    } pair = {0.5, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}};
    double sum = 0;
    check(s.start("parameters", 1, 1, 0, s.x, pair, char(100), short(1000)) == 0 && cuStreamSynchronize(s.stream) == 0 && cuMemcpyDtoH_v2(&sum, s.x, 8) == 0 &&
              sum == 1191.5,
          "parameters of all sizes");
}

static void test_orders() {
    for (int order : {0, 1, 2, 3}) {
        Setup s;
        cufake_order(order);
        std::vector<float> v(1000, 0.5f);
        double sum = 0;
        cuMemcpyHtoD_v2(s.x, v.data(), 4000);
        Address out = 0;
        cuMemAlloc_v2(&out, 8);
        const int r =
            s.add(1) | s.start("total", 1, 128, 0, s.x, int64_t(1000), out) | cuMemcpyDtoHAsync_v2(&sum, out, 8, s.stream) | cuStreamSynchronize(s.stream);
        check(r == 0 && sum == 1500, "kernels", "order %d, %g", order, sum);
    }
}

/* What sticks to the context: every later call, until the last reference is gone. */
static void sticks(const char *name, int code, const char *said, const std::function<void(Setup &)> &what) {
    int status = 0;
    const std::string text = in_child(
        [&] {
            Setup s;
            what(s);
            Address p;
            const bool bad = cuStreamSynchronize(s.stream) == code && cuMemAlloc_v2(&p, 4) == code && cuMemFree_v2(s.x) == code && s.add(1) == code;
            const bool gone = cuDevicePrimaryCtxRelease_v2(0) == 0 && cufake_live() == 0;
            Setup again(0, false);
            _exit(bad && gone && again.ok && again.add(1) == 0 && cuStreamSynchronize(again.stream) == 0 && again.first() == 1 ? 0 : 1);
        },
        &status);
    std::string line = text.substr(0, text.find('\n'));
    check(status == 0 && text.find(said) != std::string::npos, name, "%s", line.c_str());
}

static void test_mistakes() {
    sticks("a host address in a launch", 700, "overrun: parameter 0 is no address", [](Setup &s) {
        static float f;
        s.start("overrun", 1, 1, 0, &f, int64_t(0));
    });
    sticks("memory that was freed in a launch", 700, "overrun: parameter 0 is no address", [](Setup &s) {
        Address p;
        cuMemAlloc_v2(&p, 4), cuMemFree_v2(p), s.start("overrun", 1, 1, 0, p, int64_t(0));
    });
    sticks("pinned memory that is not mapped in a launch", 700, "overrun: parameter 0 is no address", [](Setup &s) {
        void *p;
        cuMemAllocHost_v2(&p, 4), s.start("overrun", 1, 1, 0, p, int64_t(0));
    });
    sticks("a barrier in a divergent branch", 719, "diverge: kernels.cu:", [](Setup &s) { s.start("diverge", 1, 32, 0, s.x); });
#ifdef SETUN_EMU_ASAN
    for (int64_t at : {1000, -1}) {
        int status = 0;
        const std::string text = in_child(
            [&] {
                Setup s;
                s.start("overrun", 1, 1, 0, s.x, at), cuStreamSynchronize(s.stream);
            },
            &status);
        check(status != 0 && text.find("AddressSanitizer: use-after-poison") != std::string::npos && text.find("kernels.cu") != std::string::npos,
              "AddressSanitizer sees a write outside of memory", "x[%lld] of 1000", static_cast<long long>(at));
    }
#else
    sticks("a write past the end of memory", 700, "overrun: written at byte 4000 of a block of 4000",
           [](Setup &s) { s.start("overrun", 1, 1, 0, s.x, int64_t(1000)); });
    sticks("a write before memory", 700, "overrun: written at byte -4 of a block of 4000", [](Setup &s) { s.start("overrun", 1, 1, 0, s.x, int64_t(-1)); });
#endif
    Setup s;
    void *p = nullptr;
    check(cuMemHostAlloc(&p, 4, 2) == 0 && s.start("overrun", 1, 1, 0, p, int64_t(0)) == 0 && cuStreamSynchronize(s.stream) == 0 &&
              *static_cast<float *>(p) == 1,
          "pinned memory that is mapped is a kernel's, too");
}

static void test_faults() {
    sticks("a fault planted in a run of a kernel", 719, "", [](Setup &s) { cufake_fault("add", 2, 719), s.add(1), s.add(1); });
    sticks("a fault planted in a call, that sticks", 714, "", [](Setup &s) { cufake_fault("cuLaunchKernel", 1, 714), s.add(1); });
    Setup s;
    Address p[4];
    cufake_fault("cuMemAlloc_v2", 2, 2), cufake_fault("cuMemFree_v2", 1, 999);
    check(cuMemAlloc_v2(p, 4) == 0 && cuMemAlloc_v2(p + 1, 4) == 2 && cuMemAlloc_v2(p + 2, 4) == 0 && cuMemFree_v2(p[0]) == 999 && cuMemFree_v2(p[0]) == 0,
          "faults planted in calls");
    cufake_fault("cuMemAlloc_v2", 1, 2), cufake_fault("cuMemAlloc_v2", 0, 0);
    check(cuMemAlloc_v2(p + 3, 4) == 0, "and taken back");
}

static void test_hang() {
    Setup s;
    void *event = nullptr;
    cuEventCreate(&event, 2);
    cufake_hang(1);
    float one = 1;
    cuMemcpyHtoDAsync_v2(s.x, &one, 4, s.stream), s.add(1), cuEventRecord(event, s.stream);
    int still = 0;
    for (int i = 0; i < 100; i++) still += cuStreamQuery(s.stream) == 600 && cuEventQuery(event) == 600;
    check(still == 100 && s.first() == 1, "a kernel that hangs: queries go on answering 600");
    std::thread end([] {
        const timespec t = {0, 20000000};
        nanosleep(&t, nullptr);
        cufake_hang(0);
    });
    check(cuStreamSynchronize(s.stream) == 0 && s.first() == 2, "what waits for it waits until it ends");
    end.join();
}

static void test_threads() {
    Setup s;
    int bad[4] = {};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([&, t] {
            cuCtxSetCurrent(s.context);
            for (int i = 0; i < 50; i++) {
                void *stream = nullptr;
                Address x = 0;
                float host[64], v = float(t);
                int64_t n = 64;
                void *args[] = {&x, &v, &n};
                bad[t] |= cuStreamCreate(&stream, 1) | cuMemAlloc_v2(&x, sizeof host) | cuMemsetD8Async(x, 0, sizeof host, stream) |
                          cuLaunchKernel(s.function("add"), 2, 1, 1, 32, 1, 1, 0, stream, args, nullptr) | cuMemcpyDtoHAsync_v2(host, x, sizeof host, stream) |
                          cuStreamSynchronize(stream) | cuMemFree_v2(x) | cuStreamDestroy_v2(stream);
                bad[t] |= host[0] != v || host[63] != v;
            }
        });
    for (std::thread &t : threads) t.join();
    check(!(bad[0] | bad[1] | bad[2] | bad[3]) && cufake_live() == 4 && cufake_launches() == 200, "four threads at once");
}

static void test_environment() {
    setenv("SETUN_CUFAKE", "memory=64K,devices=3,driver=12040,capability=80,order=2,fault=cuMemAlloc_v2:2:2,hang=1", 1);
    Setup s;
    size_t bytes = 0;
    int count = 0, version = 0, major = 0;
    Address p = 0;
    cuDeviceTotalMem_v2(&bytes, 0), cuDeviceGetCount(&count), cuDriverGetVersion(&version), cuDeviceGetAttribute(&major, 75, 0);
    const bool fails = cuMemAlloc_v2(&p, 4) == 2 && cuMemAlloc_v2(&p, 4) == 0;
    const bool hangs = s.add(1) == 0 && cuStreamQuery(s.stream) == 600 && cuStreamQuery(s.stream) == 600;
    check(bytes == 65536 && count == 3 && version == 12040 && major == 8 && fails && hangs, "controls from the environment");
    unsetenv("SETUN_CUFAKE");
    cufake_reset();
    check(cuDeviceGetCount(&count) == 0 && count == 1 && cufake_live() == 0, "cufake_reset");
}

int main() {
    Address p;
    int count;
    check(cuMemAlloc_v2(&p, 4) == 3 && cuDeviceGetCount(&count) == 3, "nothing before cuInit");
    test_devices();
    test_contexts();
    test_memory();
    test_streams();
    test_modules();
    test_orders();
    test_mistakes();
    test_faults();
    test_hang();
    test_threads();
    test_environment();
    return summary();
}
