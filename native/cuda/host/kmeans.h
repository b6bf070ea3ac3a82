/* SPDX-License-Identifier: Apache-2.0
 *
 * host/kmeans.h: the two ways to the nearest centroids. */
#ifndef SETUN_CUDA_HOST_KMEANS_H
#define SETUN_CUDA_HOST_KMEANS_H

#include "lane.h"

namespace setun {

/* Labels of n rows in the canonical chain. x, unit, mean and labels are on the device; mean is followed by zeros up to a multiple of 32. */
int32_t nearest(Lane &lane, const setun_kmeans *a, const float *x, int64_t n, const float *unit, const float *mean, int32_t *labels);

/* Labels of all rows by 16-bit scores: ops/screen.cu. proven: those of the canonical chain, in which exact scores had to be computed; otherwise close ones.
 * Where the call does not lend itself to it, all by the chain. */
int32_t screened(Lane &lane, const setun_kmeans *a, const float *x, const float *unit, const float *mean, int32_t *labels, bool proven, int64_t *exact);

} // namespace setun

#endif
