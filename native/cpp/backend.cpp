// SPDX-License-Identifier: Apache-2.0
//
// backend.cpp: the table of the threaded library: every op at every level, on 1, 2, 3 ... threads of one pool. The host times each as a kernel of its
// own and so learns from which size on threads pay.
#include "pool.h"

extern "C" {
#include "detect.h"
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
    return op(isa, threads > 1 && ctx ? &team : nullptr, static_cast<Args *>(args));
}

int32_t open(setun_ctx **ctx, char *message, uint32_t size) {
    void *p = malloc(sizeof(setun_ctx));
    if (!p) {
        setun_call call = {};
        call.message = message;
        call.message_size = size;
        setun_invalid(&call, "no memory for the pool");
        return SETUN_ENOMEM;
    }
    *ctx = new (p) setun_ctx;
    return SETUN_OK;
}

void close(setun_ctx *ctx) {
    if (!ctx) return;
    ctx->~setun_ctx();
    free(ctx);
}

#define PLAIN(isa, name, threads)                                                                                                                              \
    {name "x" #threads, SETUN_OP_QUANTIZE, threads, run<&isa, threads, setun_quantize, setun_op_quantize>},                                                    \
        {name "x" #threads, SETUN_OP_CONSTRAIN, threads, run<&isa, threads, setun_constrain, setun_op_constrain>},                                             \
        {name "x" #threads, SETUN_OP_DOT, threads, run<&isa, threads, setun_reduce, setun_op_dot>},                                                            \
        {name "x" #threads, SETUN_OP_NORM2, threads, run<&isa, threads, setun_reduce, setun_op_norm2>},
// Of the levels that have a fused multiply-add, and the reference.
#define FUSED(isa, name, threads)                                                                                                                              \
    PLAIN(isa, name, threads){name "x" #threads, SETUN_OP_KMEANS, threads, run<&isa, threads, setun_kmeans, setun_op_kmeans>},                                 \
        {name "x" #threads, SETUN_OP_MATMUL, threads, run<&isa, threads, setun_matmul, setun_op_matmul>},
#define COUNTS(entries, isa, name)                                                                                                                             \
    entries(isa, name, 1) entries(isa, name, 2) entries(isa, name, 3) entries(isa, name, 4) entries(isa, name, 6) entries(isa, name, 7) entries(isa, name, 8)  \
        entries(isa, name, 12) entries(isa, name, 16) entries(isa, name, 24) entries(isa, name, 32) entries(isa, name, 48) entries(isa, name, 64)              \
            entries(isa, name, 96) entries(isa, name, 128)
enum { COUNT = 15, PLAIN_ENTRIES = 4 * COUNT, FUSED_ENTRIES = PLAIN_ENTRIES + 2 * COUNT };

// The best level first: what a machine can run is a tail of the list.
const setun_kernel kernels[] = {
#if defined(__x86_64__)
    COUNTS(FUSED, setun_isa_avx512, "avx512") COUNTS(FUSED, setun_isa_avx2, "avx2") COUNTS(PLAIN, setun_isa_sse42, "sse42")
#elif defined(__aarch64__)
    COUNTS(FUSED, setun_isa_neon, "neon")
#endif
        COUNTS(FUSED, setun_isa_ref, "scalar")};

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
            close};
}

const setun_table tables[] = {
#if defined(__x86_64__)
    table(2 * FUSED_ENTRIES + PLAIN_ENTRIES), table(2 * FUSED_ENTRIES), table(FUSED_ENTRIES), table(0)
#elif defined(__aarch64__)
    table(FUSED_ENTRIES), table(0)
#else
    table(0)
#endif
};

} // namespace

extern "C" const setun_table *setun_backend(uint32_t abi) { return abi == SETUN_ABI ? &tables[setun_detect()] : nullptr; }
