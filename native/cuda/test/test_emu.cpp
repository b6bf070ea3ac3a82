// SPDX-License-Identifier: Apache-2.0
//
// test_emu.cpp: what the emulator gives kernels, and that it sees the mistakes it is there for: each is planted here.
#include "emu.h"

#include "check.h"

#include <algorithm>
#include <thread>

static const int ORDERS[] = {0, 1, 2, 3, 77};

/* Launches in an order; the error is in emu::machine().error. */
template <class F> static bool run(int order, dim3 grid, dim3 block, size_t dynamic_bytes, F f) {
    emu::machine().order = order;
    return emu::launch(grid, block, dynamic_bytes, f);
}
static const char *error() { return emu::machine().error.c_str(); }
static bool says(const char *part) { return emu::machine().error.find(part) != std::string::npos; }

/* ---- what it gives ------------------------------------------------------------------------------------------------- */

static_assert(sizeof(float4) == 16 && alignof(float4) == 16 && alignof(float2) == 8 && alignof(double2) == 16, "vectors of floats");
static_assert(sizeof(int4) == 16 && alignof(int4) == 16 && alignof(int2) == 8 && alignof(uint4) == 16 && alignof(uint2) == 8, "vectors of ints");
static_assert(sizeof(char4) == 4 && alignof(char4) == 4 && alignof(uchar4) == 4 && alignof(longlong2) == 16 && alignof(uint3) == 4, "the others");

static void test_indices() {
    for (int order : ORDERS) {
        std::vector<int> seen(3 * 2 * 2 * 5 * 4 * 3);
        std::vector<unsigned> blocks;
        const bool ok = run(order, dim3(3, 2, 2), dim3(5, 4, 3), 0, [&] {
            const unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
            const unsigned t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
            if (t == 0) blocks.push_back(b);
            seen[b * 60 + t]++;
        });
        const bool once = std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }), rising = std::is_sorted(blocks.begin(), blocks.end());
        check(ok && once && rising == (order == 0) && std::is_sorted(blocks.rbegin(), blocks.rend()) == (order == 1), "each thread runs once",
              "order %d, blocks %u %u %u ...", order, blocks[0], blocks[1], blocks[2]);
    }
}

template <class T> static void test_shuffles(const char *name) {
    int wrong = 0, bad = 0;
    for (int order : ORDERS)
        for (int width : {32, 8})
            bad += !run(order, 2, 96, 0, [&] {
                const int lane = int(threadIdx.x % 32), group = lane / width * width;
                auto value = [](int l) { return T(T(l) * T(3) - T(7) + T(l) * (sizeof(T) == 8 ? T(1ll << 33) : T(0))); };
                const T v = value(lane);
                for (int d = 1; d < width; d *= 2) {
                    wrong += __shfl_down_sync(0xffffffffu, v, unsigned(d), width) != value(lane + d < group + width ? lane + d : lane);
                    wrong += __shfl_up_sync(0xffffffffu, v, unsigned(d), width) != value(lane - d >= group ? lane - d : lane);
                    wrong += __shfl_xor_sync(0xffffffffu, v, d, width) != value(lane ^ d);
                    wrong += __shfl_sync(0xffffffffu, v, lane + d, width) != value(group + (lane + d) % width);
                }
            });
    check(!wrong && !bad, "shuffles", "%s, %d wrong", name, wrong);
}

static void test_votes() {
    unsigned ballot[33] = {}, any = 0, all = 0;
    const bool ok = run(2, 1, 33, 0, [&] {
        ballot[threadIdx.x] = __ballot_sync(0xffffffffu, threadIdx.x % 3 == 0);
        __syncwarp();
        any += unsigned(__any_sync(0xffffffffu, threadIdx.x == 7));
        all += unsigned(__all_sync(0xffffffffu, threadIdx.x < 32));
    });
    check(ok && ballot[0] == 0x49249249u && ballot[31] == ballot[0] && ballot[32] == 0 + (32 % 3 == 0) && any == 32 && all == 32, "votes, a short warp too",
          "%x %x any %u all %u %s", ballot[0], ballot[32], any, all, error());
}

static void test_atomics() {
    int i = 0, least = 5, most = 5, swapped = 1;
    unsigned u = 0, bits = 0, cas = 0, lu = 9, mu = 9;
    unsigned long long l = 0, lcas = 0, lmost = 0;
    long long lleast = 0;
    float f = 0;
    const bool ok = run(3, 4, 64, 0, [&] {
        atomicAdd(&i, -1), atomicAdd(&u, 2u), atomicAdd(&l, 1ull << 32), atomicAdd(&f, 0.5f);
        atomicMin(&least, int(threadIdx.x) - 50), atomicMax(&most, int(threadIdx.x)), atomicMin(&lu, threadIdx.x + 3), atomicMax(&mu, threadIdx.x);
        atomicMin(&lleast, -(1ll << 40) * threadIdx.x), atomicMax(&lmost, (1ull << 63) + threadIdx.x);
        atomicOr(&bits, 1u << threadIdx.x % 32), atomicExch(&swapped, 7), atomicCAS(&cas, 0u, 42u), atomicCAS(&lcas, 0ull, 43ull);
        __threadfence();
    });
    check(ok && i == -256 && u == 512 && l == 256ull << 32 && f == 128 && least == -50 && most == 63 && lu == 3 && mu == 63, "atomicAdd, Min, Max");
    check(lleast == -(1ll << 40) * 63 && lmost == (1ull << 63) + 63 && bits == ~0u && swapped == 7 && cas == 42 && lcas == 43, "64 bits, atomicOr, Exch, CAS");
    char bytes[16] = {};
    const bool seen = !run(0, 1, 1, 0, [&] { atomicAdd(reinterpret_cast<int *>(bytes + (5 - reinterpret_cast<uintptr_t>(bytes) % 4)), 1); });
    check(seen && says("aligned"), "an atomic that is not aligned is seen", "%s", error());
}

static void test_functions() {
    check(__dp4a(0x7f80ff01, int(0x80807f02u), 10) == 127 * -128 + -128 * -128 + -1 * 127 + 1 * 2 + 10, "__dp4a");
    check(__umulhi(0xffffffffu, 0xffffffffu) == 0xfffffffeu && __popc(0xf0f0u) == 8 && __ffs(0) == 0 && __ffs(8) == 4 && __clz(0) == 32 && __clz(-1) == 0,
          "__umulhi, __popc, __ffs, __clz");
    check(__double2ll_rn(2.5) == 2 && __double2ll_rn(3.5) == 4 && __double2ll_rn(-2.5) == -2 && __double2ll_rn(1e300) == LLONG_MAX &&
              __double2ll_rn(-1e300) == LLONG_MIN && __double2ll_rn(double(NAN)) == LLONG_MIN,
          "__double2ll_rn");
    check(__float_as_uint(-0.0f) == 0x80000000u && __uint_as_float(0x3f800000u) == 1 && __double_as_longlong(1.0) == 0x3ff0000000000000ll &&
              __longlong_as_double(0x4000000000000000ll) == 2 && __float_as_int(1.0f) == 0x3f800000 && __int_as_float(0x40000000) == 2,
          "values as bits");
}

/* ---- shared memory ------------------------------------------------------------------------------------------------- */

/* Each instance of a template, and an inline function, has an array of its own, the same for all threads. */
template <class T, int N> static __device__ __forceinline__ T rotate(T v, int by) {
    SETUN_SHARED(T, tile, [2][N]);
    const int i = int(threadIdx.x);
    tile[i & 1][i / 2] = v;
    __syncthreads();
    const int from = (i + by) % (2 * N);
    const T r = tile[from & 1][from / 2];
    __syncthreads();
    return r;
}
static __device__ __forceinline__ int last_flag(int v) {
    SETUN_SHARED(int, flag, );
    if (threadIdx.x == blockDim.x - 1) flag = v;
    __syncthreads();
    return flag;
}
static void test_shared() {
    for (int order : ORDERS) {
        int wrong = 0;
        const bool ok = run(order, 3, 64, 0, [&] {
            const int i = int(threadIdx.x);
            const float f = rotate<float, 32>(float(i), 1);
            const double d = rotate<double, 32>(i, 5);
            const int flag = last_flag(int(blockIdx.x) * 100 + i);
            wrong += f != float((i + 1) % 64) || d != (i + 5) % 64 || flag != int(blockIdx.x) * 100 + 63;
        });
        check(ok && wrong == 0, "shared arrays in templates and inline functions", "order %d %s", order, error());
    }
    int numbers = 0;
    bool aligned = true;
    const bool ok = run(0, 3, 32, 4096, [&] {
        SETUN_SHARED(float, f, [64]);
        SETUN_SHARED(double, d, [64]);
        SETUN_DYNAMIC(float, dynamic);
        SETUN_DYNAMIC(char, bytes);
        const unsigned i = threadIdx.x;
        aligned = aligned && reinterpret_cast<uintptr_t>(bytes) % 32 == 16 && static_cast<void *>(bytes) == dynamic && reinterpret_cast<uintptr_t>(d) % 16 == 8;
        numbers += !(f[i] != f[i]) + !(d[i] != d[i]) + !(dynamic[i + 992] != dynamic[i + 992]);
        f[i] = 1, d[i] = 1, dynamic[i + 992] = 1; /* what the next block must not see */
    });
    check(ok && numbers == 0, "shared memory is NaN at the start of each block", "%s", error());
    check(aligned, "shared memory is aligned as asked and no more");
}

/* ---- planted mistakes ---------------------------------------------------------------------------------------------- */

static void test_missing_barriers() {
    std::string seen, sound;
    for (int order : ORDERS) {
        for (int barrier = 0; barrier < 2; barrier++) {
            int wrong = 0;
            run(order, 1, 64, 0, [&] {
                SETUN_SHARED(float, tile, [64]);
                const unsigned i = threadIdx.x;
                tile[i] = float(i);
                if (barrier) __syncthreads();
                wrong += !(tile[63 - i] == float(63 - i));
            });
            if (wrong) (barrier ? sound : seen) += " " + std::to_string(order);
        }
    }
    check(seen == " 0 1 2 3 77" && sound.empty(), "a missing barrier between writing and reading is seen", "orders%s", seen.c_str());
    seen = sound = "";
    for (int order : ORDERS) {
        for (int barrier = 0; barrier < 2; barrier++) {
            int wrong = 0;
            run(order, 1, 64, 0, [&] {
                SETUN_SHARED(int, tile, [64]);
                const unsigned i = threadIdx.x;
                for (int step = 0; step < 4; step++) {
                    tile[i] = step;
                    __syncthreads();
                    wrong += tile[(i + 1) % 64] != step;
                    if (barrier) __syncthreads(); /* or the next step overwrites what is still to be read */
                }
            });
            if (wrong) (barrier ? sound : seen) += " " + std::to_string(order);
        }
    }
    check(seen == " 0 1 2 3 77" && sound.empty(), "a missing barrier between reading and writing again is seen", "orders%s", seen.c_str());
    seen = "";
    for (int order : ORDERS) { /* in a forward order block 0 happens to be the first */
        int sum = -1000;
        run(order, 8, 1, 0, [&] { sum = blockIdx.x == 0 ? 1 : sum + 1; });
        if (sum != 8) seen += " " + std::to_string(order);
    }
    check(seen.compare(0, 6, " 1 2 3") == 0, "a block that relies on an earlier one is seen", "orders%s", seen.c_str());
}

template <class F> static void refused(const char *name, const char *part, dim3 block, F f, size_t dynamic_bytes = 0) {
    int seen = 0;
    for (int order : ORDERS) seen += !run(order, 2, block, dynamic_bytes, f) && says(part);
    check(seen == 5, name, "%s", error());
}

static void test_refused() {
    refused("a barrier in a divergent branch", "not reached by thread", 64, [] {
        if (threadIdx.x != 7) __syncthreads();
    });
    refused("threads at different barriers", "another thread is at that of line", 64, [] {
        if (threadIdx.x < 32)
            __syncthreads();
        else
            __syncthreads();
    });
    refused("a lane missing in a shuffle", "lanes 00000020 of its mask ffffffff never arrive", 64, [] {
        if (threadIdx.x != 5) __shfl_down_sync(0xffffffffu, 1.0f, 1);
    });
    refused("a lane at a barrier while others shuffle", "never arrive", 32, [] {
        if (threadIdx.x == 5) __syncthreads();
        __shfl_xor_sync(0xffffffffu, 1, 1);
        if (threadIdx.x != 5) __syncthreads();
    });
    refused("lanes at different operations", "other lanes of the warp are at", 32, [] {
        if (threadIdx.x % 2)
            __shfl_xor_sync(0xffffffffu, 1, 1);
        else
            __ballot_sync(0xffffffffu, 1);
    });
    refused("a lane that is not in its own mask", "not in its own mask", 32, [] { __shfl_xor_sync(0xfffffffeu, 1, 1); });
    refused("lanes with different masks", "different masks", 32, [] { __syncwarp(threadIdx.x % 2 ? 0xffffffffu : 0x55555555u); });
    refused("more than 48 KiB of shared arrays", "48 KiB", 32, [] {
        SETUN_SHARED(float, a, [8192]);
        SETUN_SHARED(float, b, [8192]);
        a[0] = b[0] = 0;
    });
    refused(
        "more shared memory than there is", "no device has", 32, [] {}, (227 << 10) + 1);
    refused("more threads than a block has", "no device has", dim3(33, 32), [] {});
#ifndef SETUN_EMU_ASAN /* which ends the process at once */
    refused("a write past a shared array", "past the end of tile", 32, [] {
        SETUN_SHARED(float, tile, [32]);
        volatile unsigned i = threadIdx.x + 1;
        tile[i] = 0;
    });
    refused(
        "a write past the dynamic shared memory", "past the end of the dynamic", 32,
        [] {
            SETUN_DYNAMIC(float, tile);
            volatile unsigned i = threadIdx.x + 1;
            tile[i] = 0;
        },
        128);
#else
    int status = 0;
    std::string text = in_child(
        [] {
            run(0, 1, 32, 0, [] {
                SETUN_SHARED(float, tile, [32]);
                volatile float *p = tile; /* not by index, which the sanitizer of undefined behaviour sees */
                if (p[threadIdx.x + 1] == 0) p[0] = 0;
            });
        },
        &status);
    check(status != 0 && text.find("AddressSanitizer: use-after-poison") != std::string::npos, "AddressSanitizer sees a read past a shared array");
#endif
    float from_nowhere = 0;
    run(0, 1, 16, 0, [&] {
        const float v = __shfl_down_sync(0xffffffffu, 1.0f, 8);
        if (threadIdx.x == 15) from_nowhere = v;
    });
    check(from_nowhere != from_nowhere, "a shuffle from a lane that the block does not have gives NaN");
    const bool nested = run(0, 1, 1, 0, [] { emu::launch(1, 1, 0, [] {}); });
    check(!nested && says("within"), "a launch within a kernel is refused", "%s", error());
}

/* ---- stacks, threads, time ----------------------------------------------------------------------------------------- */

static void test_stacks() {
    bool whole = true;
    const bool ok = run(2, 1, 1024, 0, [&] {
        volatile unsigned local[4096];
        for (unsigned i = 0; i < 4096; i++) local[i] = threadIdx.x + i;
        __syncthreads();
        for (unsigned i = 0; i < 4096; i++) whole = whole && local[i] == threadIdx.x + i;
    });
    check(ok && whole, "1024 threads with 16 KiB of locals each");
    int status = 0;
    in_child(
        [] {
            run(0, 1, 32, 0, [] {
                volatile char local[emu::STACK + 4096];
                for (size_t i = sizeof local; i > 0; i -= 512) local[i - 1] = 1;
            });
        },
        &status);
    check(status != 0, "a stack that overflows ends the process");
    int sums[4] = {};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([t, &sums] {
            for (int i = 0; i < 20; i++) run(t, 4, 64, 0, [&] { sums[t] += int(rotate<float, 32>(float(threadIdx.x), t)); });
        });
    for (std::thread &t : threads) t.join();
    check(sums[0] == 20 * 4 * 2016 && sums[1] == sums[0] && sums[2] == sums[0] && sums[3] == sums[0], "four host threads at once");
}

static void test_seeds() {
    std::vector<unsigned> first, second;
    for (std::vector<unsigned> *v : {&first, &second}) run(5, 3, 40, 0, [&] { v->push_back(blockIdx.x * 100 + threadIdx.x); });
    std::vector<unsigned> sorted = first;
    std::sort(sorted.begin(), sorted.end());
    check(first == second && first != sorted, "a seed gives the same random order again");
}

static void show_time() {
    const uint64_t before = emu::machine().switches;
    timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    run(0, 100, 256, 0, [] {
        for (int i = 0; i < 20; i++) __syncthreads();
    });
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("     a switch: %.0f ns\n", (double(b.tv_sec - a.tv_sec) * 1e9 + double(b.tv_nsec - a.tv_nsec)) / double(emu::machine().switches - before));
}

int main() {
    test_indices();
    test_shuffles<int>("int"), test_shuffles<unsigned>("unsigned"), test_shuffles<long long>("long long");
    test_shuffles<unsigned long long>("unsigned long long"), test_shuffles<float>("float"), test_shuffles<double>("double");
    test_votes();
    test_atomics();
    test_functions();
    test_shared();
    test_missing_barriers();
    test_refused();
    test_stacks();
    test_seeds();
    show_time();
    return summary();
}
