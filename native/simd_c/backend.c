/* SPDX-License-Identifier: Apache-2.0
 *
 * backend.c: the table of the C SIMD library. One kernel a level and op, the best level first. */
#include "detect.h"
#include "ops.h"

#define KERNELS(level)                                                                                                                                         \
    static int32_t quantize_##level(setun_ctx *c, void *a) { return (void)c, setun_op_quantize(&setun_isa_##level, 0, a); }                                    \
    static int32_t constrain_##level(setun_ctx *c, void *a) { return (void)c, setun_op_constrain(&setun_isa_##level, 0, a); }                                  \
    static int32_t dot_##level(setun_ctx *c, void *a) { return (void)c, setun_op_dot(&setun_isa_##level, 0, a); }                                              \
    static int32_t norm2_##level(setun_ctx *c, void *a) { return (void)c, setun_op_norm2(&setun_isa_##level, 0, a); }                                          \
    static int32_t kmeans_##level(setun_ctx *c, void *a) { return (void)c, setun_op_kmeans(&setun_isa_##level, 0, a); }                                        \
    static int32_t matmul_##level(setun_ctx *c, void *a) { return (void)c, setun_op_matmul(&setun_isa_##level, 0, a); }

#define ENTRIES(level, name)                                                                                                                                   \
    {name, SETUN_OP_QUANTIZE, 1, quantize_##level}, {name, SETUN_OP_CONSTRAIN, 1, constrain_##level}, {name, SETUN_OP_DOT, 1, dot_##level},                    \
        {name, SETUN_OP_NORM2, 1, norm2_##level}, {name, SETUN_OP_KMEANS, 1, kmeans_##level}, {                                                                \
        name, SETUN_OP_MATMUL, 1, matmul_##level                                                                                                               \
    }

KERNELS(ref)

#if defined(__x86_64__) || defined(_M_X64)
KERNELS(sse42)
KERNELS(avx2)
KERNELS(avx512)
static const setun_kernel kernels[] = {ENTRIES(avx512, "avx512"), ENTRIES(avx2, "avx2"), ENTRIES(sse42, "sse42"), ENTRIES(ref, "scalar")};
#elif defined(__aarch64__) || defined(_M_ARM64)
KERNELS(neon)
static const setun_kernel kernels[] = {ENTRIES(neon, "neon"), ENTRIES(ref, "scalar")};
#else
static const setun_kernel kernels[] = {ENTRIES(ref, "scalar")};
#endif

enum { OPS = 6, LEVELS = sizeof kernels / sizeof *kernels / OPS };

/* Levels are listed best first, so what a machine can run is always a tail of the list: one table for each tail. */
#define TABLE(skip)                                                                                                                                            \
    {                                                                                                                                                          \
        SETUN_MAGIC, sizeof(setun_table), SETUN_ABI, sizeof(setun_kernel), "simd_c", SETUN_VERSION, SETUN_BUILD, kernels + (skip)*OPS,                         \
            (LEVELS - (skip)) * OPS, 0, 0, 0                                                                                                                   \
    }

static const setun_table tables[LEVELS] = {
    TABLE(0),
#if defined(__x86_64__) || defined(_M_X64)
    TABLE(1),
    TABLE(2),
    TABLE(3),
#elif defined(__aarch64__) || defined(_M_ARM64)
    TABLE(1),
#endif
};

const setun_table *setun_backend(uint32_t abi) {
    if (abi != SETUN_ABI) return 0;
    return &tables[LEVELS - 1 - setun_detect()];
}
