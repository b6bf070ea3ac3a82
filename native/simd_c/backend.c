/* SPDX-License-Identifier: Apache-2.0
 *
 * backend.c: the table of the C SIMD library. One kernel a level and op, the best level first. */
#include "detect.h"
#include "ops.h"

#define KERNEL(level, op, type)                                                                                                                                \
    static int32_t op##_##level(setun_ctx *c, void *a) { return (void)c, setun_op_##op(&setun_isa_##level, 0, (type *)a); }
#define KERNELS(level)                                                                                                                                         \
    KERNEL(level, quantize, setun_quantize)                                                                                                                    \
    KERNEL(level, constrain, setun_constrain)                                                                                                                  \
    KERNEL(level, dot, setun_reduce)                                                                                                                           \
    KERNEL(level, norm2, setun_reduce)
/* Of the levels that have a fused multiply-add, and the reference, which has it in exact arithmetic. */
#define KERNELS_FUSED(level)                                                                                                                                   \
    KERNELS(level)                                                                                                                                             \
    KERNEL(level, kmeans, setun_kmeans)                                                                                                                        \
    KERNEL(level, matmul, setun_matmul)

#define ENTRIES(level, name)                                                                                                                                   \
    {name, SETUN_OP_QUANTIZE, 1, quantize_##level}, {name, SETUN_OP_CONSTRAIN, 1, constrain_##level}, {name, SETUN_OP_DOT, 1, dot_##level}, {                  \
        name, SETUN_OP_NORM2, 1, norm2_##level                                                                                                                 \
    }
#define ENTRIES_FUSED(level, name)                                                                                                                             \
    ENTRIES(level, name), {name, SETUN_OP_KMEANS, 1, kmeans_##level}, { name, SETUN_OP_MATMUL, 1, matmul_##level }

/* Levels are listed best first, so what a machine can run is always a tail of the list: one table for each tail. */
enum { PLAIN = 4, FUSED = PLAIN + 2 };
#define TABLE(skip)                                                                                                                                            \
    {                                                                                                                                                          \
        SETUN_MAGIC, sizeof(setun_table), SETUN_ABI, sizeof(setun_kernel), "simd_c", SETUN_VERSION, SETUN_BUILD, kernels + (skip),                             \
            sizeof kernels / sizeof *kernels - (skip), 0, 0, 0                                                                                                 \
    }

KERNELS_FUSED(ref)

#if defined(__x86_64__) || defined(_M_X64)
KERNELS(sse42)
KERNELS_FUSED(avx2)
KERNELS_FUSED(avx512)
static const setun_kernel kernels[] = {ENTRIES_FUSED(avx512, "avx512"), ENTRIES_FUSED(avx2, "avx2"), ENTRIES(sse42, "sse42"), ENTRIES_FUSED(ref, "scalar")};
static const setun_table tables[] = {TABLE(2 * FUSED + PLAIN), TABLE(2 * FUSED), TABLE(FUSED), TABLE(0)};
#elif defined(__aarch64__) || defined(_M_ARM64)
KERNELS_FUSED(neon)
static const setun_kernel kernels[] = {ENTRIES_FUSED(neon, "neon"), ENTRIES_FUSED(ref, "scalar")};
static const setun_table tables[] = {TABLE(FUSED), TABLE(0)};
#else
static const setun_kernel kernels[] = {ENTRIES_FUSED(ref, "scalar")};
static const setun_table tables[] = {TABLE(0)};
#endif

const setun_table *setun_backend(uint32_t abi) { return abi == SETUN_ABI ? &tables[setun_detect()] : 0; }
