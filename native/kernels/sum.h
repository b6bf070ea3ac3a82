/* SPDX-License-Identifier: Apache-2.0
 *
 * sum.h: the rule S of docs/numerics.md over chunk sums, shared among a team. */
#ifndef SETUN_SUM_H
#define SETUN_SUM_H

#include "ops.h"

/* The sum of the n <= SETUN_CHUNK elements from at on. Called on any thread, several at once. */
typedef double setun_chunk_fn(void *arg, int64_t at, size_t n);

/* S of n elements. Returns SETUN_OK or SETUN_ECANCELLED. */
int32_t setun_sum(const setun_team *team, const setun_call *call, setun_chunk_fn *chunk, void *arg, int64_t n, double *sum);

/* How many chunks a part has when `chunks` of them are shared out: enough parts for an even load, none so small that claiming it costs. */
static inline int64_t setun_chunks_a_part(const setun_team *team, int64_t chunks) {
    int64_t even = chunks / (4 * setun_threads(team));
    return even < 1 ? 1 : even > 16 ? 16 : even;
}

#endif
