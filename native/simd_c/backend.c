/* SPDX-License-Identifier: Apache-2.0
 *
 * backend.c: the table of the C SIMD library. One kernel a level and op, the best level first. */
#include "detect.h"
#include "edge.h"
#include "ops.h"

#define KERNEL(op, number, type, level, name)                                                                                                                  \
    static int32_t op##_##level(setun_ctx *c, void *a) {                                                                                                       \
        (void)c, setun_enter();                                                                                                                                \
        int32_t rc = setun_op_##op(&setun_isa_##level, 0, (type *)a);                                                                                          \
        return setun_leave(), rc;                                                                                                                              \
    }
#define ENTRY(op, number, type, level, name) {name, number, 1, op##_##level, 0, 0},

SETUN_FUSED_OPS(KERNEL, ref, )
#if defined(__x86_64__) || defined(_M_X64)
SETUN_PLAIN_OPS(KERNEL, sse42, )
SETUN_FUSED_OPS(KERNEL, avx2, )
SETUN_FUSED_OPS(KERNEL, avx512, )
SETUN_SCREEN_OPS(KERNEL, avx512vnni, )
SETUN_BYTES_OPS(KERNEL, avx512vbmi, )
#elif defined(__aarch64__) || defined(_M_ARM64)
SETUN_FUSED_OPS(KERNEL, neon, )
SETUN_BYTES_OPS(KERNEL, neondot, )
#endif

static const setun_kernel kernels[] = {
#if defined(__x86_64__) || defined(_M_X64)
    SETUN_BYTES_OPS(ENTRY, avx512vbmi, "avx512vbmi") SETUN_SCREEN_OPS(ENTRY, avx512vnni, "avx512vnni") SETUN_FUSED_OPS(ENTRY, avx512, "avx512")
        SETUN_FUSED_OPS(ENTRY, avx2, "avx2") SETUN_PLAIN_OPS(ENTRY, sse42, "sse42")
#elif defined(__aarch64__) || defined(_M_ARM64)
    SETUN_BYTES_OPS(ENTRY, neondot, "neondot") SETUN_FUSED_OPS(ENTRY, neon, "neon")
#endif
            SETUN_FUSED_OPS(ENTRY, ref, "scalar")};

/* What a machine can run is a tail of the list: one table for each, by what setun_detect returns. */
#define TABLE(skip)                                                                                                                                            \
    {                                                                                                                                                          \
        SETUN_MAGIC, sizeof(setun_table), SETUN_ABI, sizeof(setun_kernel), "simd_c", SETUN_VERSION, SETUN_BUILD, kernels + (skip),                             \
            sizeof kernels / sizeof *kernels - (skip), 0, 0, 0, 0                                                                                              \
    }
static const setun_table tables[] = {
#if defined(__x86_64__) || defined(_M_X64)
    TABLE(SETUN_BYTES_COUNT + SETUN_SCREEN_COUNT + 2 * SETUN_FUSED_COUNT + SETUN_PLAIN_COUNT),
    TABLE(SETUN_BYTES_COUNT + SETUN_SCREEN_COUNT + 2 * SETUN_FUSED_COUNT),
    TABLE(SETUN_BYTES_COUNT + SETUN_SCREEN_COUNT + SETUN_FUSED_COUNT),
    TABLE(SETUN_BYTES_COUNT + SETUN_SCREEN_COUNT),
    TABLE(SETUN_BYTES_COUNT),
#elif defined(__aarch64__) || defined(_M_ARM64)
    TABLE(SETUN_BYTES_COUNT + SETUN_FUSED_COUNT), TABLE(SETUN_BYTES_COUNT),
#endif
    TABLE(0)};

const setun_table *setun_backend(uint32_t abi) { return abi == SETUN_ABI ? &tables[setun_detect()] : 0; }
