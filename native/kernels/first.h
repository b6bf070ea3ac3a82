/* SPDX-License-Identifier: Apache-2.0
 *
 * first.h: quantize without its first pass over the values, for an op that has just had them in the cache. */
#ifndef SETUN_FIRST_H
#define SETUN_FIRST_H

#include "ops.h"

/* Whether a rule begins with the greatest magnitude; the others begin with the sum of magnitudes. */
static inline int setun_first_is_max(uint32_t rule) { return rule == SETUN_ABSMAX || rule == SETUN_STOCHASTIC; }

/* The greatest magnitude or the sum of magnitudes of at most SETUN_CHUNK values; not finite when one of them is not. */
double setun_first_chunk(const setun_isa *isa, uint32_t rule, const float *x, size_t n);

/* The rest of quantize for one scale (group 0), given the greatest magnitude or the rule A's sum of all values. */
int32_t setun_quantize_rest(const setun_isa *isa, const setun_team *team, setun_quantize *a, double first);

/* A tensor with many scales, cut into parts of whole rows, or of long rows where both a group and a packed block end: each can be quantized apart. */
typedef struct setun_cut {
    int64_t rows, cols; /* of a part; the last ones may have less */
    int64_t across;     /* parts in a row */
    int64_t parts;
} setun_cut;
setun_cut setun_quantize_cut(const setun_quantize *a);
/* The block of one part; returns the index of its first value in the tensor. */
int64_t setun_quantize_part(const setun_quantize *a, const setun_cut *cut, int64_t part, setun_quantize *to);
/* Quantizes a part on the caller's thread. */
int32_t setun_quantize_groups(const setun_isa *isa, setun_quantize *part, int64_t base, int past_caches);

/* The checks of quantize's block. */
int32_t setun_quantize_check(const setun_quantize *a);

/* Bytes of the codes of one row. */
int64_t setun_row_bytes(uint32_t format, int64_t cols);

#endif
