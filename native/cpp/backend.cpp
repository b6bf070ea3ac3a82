// SPDX-License-Identifier: Apache-2.0
//
// backend.cpp: the table of the threaded library: every op at every level, on 1, 2, 3 ... threads of one pool. The host times each as a kernel of its
// own and so learns from which size on threads pay.
#include "pool.h"

extern "C" {
#include "detect.h"
#include "edge.h"
#include "ops.h"
}

#include <new>
#include <stdlib.h>

struct setun_ctx {
    setun::Pool pool;
};

namespace {

struct Team : setun_team {
    setun::Pool *pool;
};

void share(const setun_team *team, void (*part)(void *, int64_t), void *arg, int64_t parts) {
    static_cast<const Team *>(team)->pool->run(team->threads, part, arg, parts);
}

template <class Args> using Op = int32_t (*)(const setun_isa *, const setun_team *, Args *);

template <const setun_isa *isa, int threads, class Args, Op<Args> op> int32_t run(setun_ctx *ctx, void *args) {
    Team team{{threads, share}, ctx ? &ctx->pool : nullptr};
    setun_enter();
    int32_t rc = op(isa, threads > 1 && ctx ? &team : nullptr, static_cast<Args *>(args));
    setun_leave();
    return rc;
}

int32_t open(setun_ctx **ctx, char *message, uint32_t size) {
    setun_enter();
    void *p = malloc(sizeof(setun_ctx));
    if (!p) {
        setun_call call = {};
        call.message = message;
        call.message_size = size;
        setun_invalid(&call, "no memory for the pool");
        return SETUN_ENOMEM;
    }
    *ctx = new (p) setun_ctx;
    setun_leave();
    return SETUN_OK;
}

void close(setun_ctx *ctx) {
    if (!ctx) return;
    setun_enter();
    ctx->~setun_ctx();
    free(ctx);
}

#define ENTRY(op, number, type, level, name, threads) {name "x" #threads, number, threads, run<&setun_isa_##level, threads, type, setun_op_##op>, 0, 0},
#define COUNTS(ops, level, name)                                                                                                                               \
    ops(ENTRY, level, name, 1) ops(ENTRY, level, name, 2) ops(ENTRY, level, name, 3) ops(ENTRY, level, name, 4) ops(ENTRY, level, name, 6)                     \
        ops(ENTRY, level, name, 7) ops(ENTRY, level, name, 8) ops(ENTRY, level, name, 12) ops(ENTRY, level, name, 16) ops(ENTRY, level, name, 24)              \
            ops(ENTRY, level, name, 32) ops(ENTRY, level, name, 48) ops(ENTRY, level, name, 64) ops(ENTRY, level, name, 96) ops(ENTRY, level, name, 128)
enum {
    COUNT = 15,
    PLAIN = COUNT * SETUN_PLAIN_COUNT,
    FUSED = COUNT * SETUN_FUSED_COUNT,
    SCREEN = COUNT * SETUN_SCREEN_COUNT,
    BYTES = COUNT * SETUN_BYTES_COUNT
};

// The best level first: what a machine can run is a tail of the list.
const setun_kernel kernels[] = {
#if defined(__x86_64__)
    COUNTS(SETUN_BYTES_OPS, avx512vbmi, "avx512vbmi") COUNTS(SETUN_SCREEN_OPS, avx512vnni, "avx512vnni") COUNTS(SETUN_FUSED_OPS, avx512, "avx512")
        COUNTS(SETUN_FUSED_OPS, avx2, "avx2") COUNTS(SETUN_PLAIN_OPS, sse42, "sse42")
#elif defined(__aarch64__)
    COUNTS(SETUN_BYTES_OPS, neondot, "neondot") COUNTS(SETUN_FUSED_OPS, neon, "neon")
#endif
            COUNTS(SETUN_FUSED_OPS, ref, "scalar")};

constexpr setun_table table(uint32_t skip) {
    return {SETUN_MAGIC,
            sizeof(setun_table),
            SETUN_ABI,
            sizeof(setun_kernel),
            "cpp",
            SETUN_VERSION,
            SETUN_BUILD,
            kernels + skip,
            uint32_t(sizeof kernels / sizeof *kernels) - skip,
            0,
            open,
            close,
            nullptr};
}

const setun_table tables[] = {
#if defined(__x86_64__)
    table(BYTES + SCREEN + 2 * FUSED + PLAIN), table(BYTES + SCREEN + 2 * FUSED), table(BYTES + SCREEN + FUSED), table(BYTES + SCREEN), table(BYTES), table(0)
#elif defined(__aarch64__)
    table(BYTES + FUSED), table(BYTES), table(0)
#else
    table(0)
#endif
};

} // namespace

extern "C" const setun_table *setun_backend(uint32_t abi) { return abi == SETUN_ABI ? &tables[setun_detect()] : nullptr; }
