/* SPDX-License-Identifier: Apache-2.0
 *
 * ops.h: the ops of backend.h, written once over an instruction set level. Each checks its argument block, shares
 * the work among a team (null: the caller's thread alone) and returns a setun_status. */
#ifndef SETUN_OPS_H
#define SETUN_OPS_H

#include "isa.h"
#include "team.h"

#include <setun/backend.h>

int32_t setun_op_quantize(const setun_isa *isa, const setun_team *team, setun_quantize *a);
int32_t setun_op_constrain(const setun_isa *isa, const setun_team *team, setun_constrain *a);
int32_t setun_op_dot(const setun_isa *isa, const setun_team *team, setun_reduce *a);
int32_t setun_op_norm2(const setun_isa *isa, const setun_team *team, setun_reduce *a);
int32_t setun_op_kmeans(const setun_isa *isa, const setun_team *team, setun_kmeans *a);
int32_t setun_op_matmul(const setun_isa *isa, const setun_team *team, setun_matmul *a);

/* Writes a message and returns SETUN_EINVAL. */
int32_t setun_invalid(const setun_call *call, const char *message);
/* Whether the caller wants the kernel to stop. */
static inline int setun_cancelled(const setun_call *call) { return call->cancel && *call->cancel; }
/* Finds the first value that is not finite, or -1. */
int64_t setun_find_bad(const float *x, int64_t n);

/* S(x*y), or S(x*x) without y, on the caller's thread. Returns a setun_status. */
int32_t setun_sum_products(const setun_isa *isa, const setun_call *call, const float *x, const float *y, int64_t n, double *sum);

#endif
