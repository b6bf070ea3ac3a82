/* SPDX-License-Identifier: Apache-2.0
 *
 * host/clusters.h: what constrain by clusters makes on the host, be it done at once or in pieces. */
#ifndef SETUN_CUDA_HOST_CLUSTERS_H
#define SETUN_CUDA_HOST_CLUSTERS_H

#include "sums.h"

namespace setun {

/* Threads of a block that brings at most so many sums together. */
inline int tree_threads(int64_t most) { return most <= CHUNK ? 32 : 1024; }
/* How many chunks lie before each segment, k+1 of them; the most that one has. */
int64_t chunks_before(const setun_clusters *a, int64_t *before);
/* Where each row's sum comes when they are sorted by cluster, rows rising, and where each cluster's begin; the most rows that one has. */
int64_t order_rows(const setun_clusters *a, const int32_t *labels, int64_t *places, int64_t *begin);

} // namespace setun

#endif
