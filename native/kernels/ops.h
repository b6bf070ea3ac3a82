/* SPDX-License-Identifier: Apache-2.0
 *
 * ops.h: the ops of backend.h, written once over an instruction set level. Each checks its argument block, shares
 * the work among a team (null: the caller's thread alone) and returns a setun_status. */
#ifndef SETUN_OPS_H
#define SETUN_OPS_H

#include "isa.h"
#include "team.h"

#include <setun/backend.h>

/* Every op: X(its name in setun_op_..., its number, its argument block, what else is given). */
#define SETUN_PLAIN_OPS(X, ...)                                                                                                                                \
    X(quantize, SETUN_OP_QUANTIZE, setun_quantize, __VA_ARGS__)                                                                                                \
    X(constrain, SETUN_OP_CONSTRAIN, setun_constrain, __VA_ARGS__)                                                                                             \
    X(dot, SETUN_OP_DOT, setun_reduce, __VA_ARGS__)                                                                                                            \
    X(norm2, SETUN_OP_NORM2, setun_reduce, __VA_ARGS__)                                                                                                        \
    X(clusters, SETUN_OP_CONSTRAIN_CLUSTERS, setun_clusters, __VA_ARGS__)                                                                                      \
    X(step, SETUN_OP_STEP, setun_step, __VA_ARGS__)                                                                                                            \
    X(rmsnorm, SETUN_OP_RMSNORM, setun_rmsnorm, __VA_ARGS__)                                                                                                   \
    X(softmax, SETUN_OP_SOFTMAX, setun_softmax, __VA_ARGS__)                                                                                                   \
    X(activate, SETUN_OP_ACTIVATE, setun_activate, __VA_ARGS__)                                                                                                \
    X(update, SETUN_OP_UPDATE, setun_update, __VA_ARGS__)
/* Those and the ops of levels that have a fused multiply-add, the reference among them: it has that in exact arithmetic. */
#define SETUN_FUSED_OPS(X, ...)                                                                                                                                \
    SETUN_PLAIN_OPS(X, __VA_ARGS__)                                                                                                                            \
    X(kmeans, SETUN_OP_KMEANS, setun_kmeans, __VA_ARGS__)                                                                                                      \
    X(matmul, SETUN_OP_MATMUL, setun_matmul, __VA_ARGS__)                                                                                                      \
    X(activations, SETUN_OP_ACTIVATIONS, setun_activations, __VA_ARGS__)                                                                                       \
    X(ternary, SETUN_OP_TERNARY_MATMUL, setun_ternary, __VA_ARGS__)                                                                                            \
    X(recode, SETUN_OP_RECODE, setun_recode, __VA_ARGS__)
/* The ops that products of bytes make faster: the screen of k-means, and packed codes. */
#define SETUN_SCREEN_OPS(X, ...)                                                                                                                               \
    X(kmeans, SETUN_OP_KMEANS, setun_kmeans, __VA_ARGS__)                                                                                                      \
    X(ternary, SETUN_OP_TERNARY_MATMUL, setun_ternary, __VA_ARGS__)                                                                                            \
    X(recode, SETUN_OP_RECODE, setun_recode, __VA_ARGS__)
/* The ops that permutations of bytes make faster still. */
#define SETUN_BYTES_OPS(X, ...)                                                                                                                                \
    X(ternary, SETUN_OP_TERNARY_MATMUL, setun_ternary, __VA_ARGS__)                                                                                            \
    X(recode, SETUN_OP_RECODE, setun_recode, __VA_ARGS__)

#define SETUN_ONE(...) +1
enum {
    SETUN_BYTES_COUNT = SETUN_BYTES_OPS(SETUN_ONE, ),
    SETUN_PLAIN_COUNT = SETUN_PLAIN_OPS(SETUN_ONE, ),
    SETUN_FUSED_COUNT = SETUN_FUSED_OPS(SETUN_ONE, ),
    SETUN_SCREEN_COUNT = SETUN_SCREEN_OPS(SETUN_ONE, )
};
#define SETUN_DECLARE(name, number, type, ...) int32_t setun_op_##name(const setun_isa *isa, const setun_team *team, type *a);
SETUN_FUSED_OPS(SETUN_DECLARE, )

/* Whether a level takes packed codes by panels for so many rows of activations, and the op then (many.c); its arguments have been checked. */
int setun_has_many(const setun_isa *isa, const setun_ternary *a);
int32_t setun_ternary_many(const setun_isa *isa, const setun_team *team, setun_ternary *a);

/* Writes a message and returns SETUN_EINVAL. */
int32_t setun_invalid(const setun_call *call, const char *message);
/* Whether the caller wants the kernel to stop. */
static inline int setun_cancelled(const setun_call *call) { return call->cancel && *call->cancel; }
/* Finds the first value that is not finite, or -1. */
int64_t setun_find_bad(const float *x, int64_t n);

/* Whether an op that touches so many bytes writes its results past the caches: they would not find room. */
static inline int setun_past_caches(int64_t bytes) { return bytes > (int64_t)64 << 20; }

/* S(x*y), or S(x*x) without y. Returns a setun_status. */
int32_t setun_sum_products(const setun_isa *isa, const setun_team *team, const setun_call *call, const float *x, const float *y, int64_t n, double *sum);

#endif
