/* SPDX-License-Identifier: Apache-2.0
 *
 * sums.h: what calls in pieces find out about the whole of an array before they write anything. */
#ifndef SETUN_CUDA_SUMS_H
#define SETUN_CUDA_SUMS_H

#include "../pieces.h"

namespace setun {

const int64_t CHUNK = 4096; /* of a sum: docs/numerics.md */
inline int64_t chunks_of(int64_t n) { return (n - 1) / CHUNK + 1; }

/* An array, or two, and the sums of their chunks, which are the pass's own. */
struct ChunkSums {
    setun_call call;
    const float *x, *y; /* y: null for squares */
    int64_t n;
    double *sums;
};
/* Fills the sums in. */
int32_t sum_chunks(Pieces &pieces, ChunkSums sums);
/* The norm and the factor of kernel ball for x, on the device (state) and here (found). SETUN_ENONFINITE: x is not finite, bad_index says where. */
int32_t find_ball(Pieces &pieces, const float *x, int64_t n, double radius, double *state, double found[2]);
/* SETUN_ENONFINITE where a value of x is not finite: bad_index is the first. */
int32_t find_not_finite(Pieces &pieces, const float *x, int64_t n);

} // namespace setun

#endif
