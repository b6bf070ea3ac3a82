/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels80.h: the kernels that need compute capability 8.0, in an image of their own. */
#ifndef SETUN_CUDA_KERNELS80_H
#define SETUN_CUDA_KERNELS80_H

#include "kernels.h"

#define SETUN_CUDA_KERNELS80(X)                                                                                                                                \
    X(screen_nearest) X(tensor_nearest) X(screen_reach) X(screen_terms) X(screen_centroids) X(screen_gather) X(screen_scatter) X(ternary_few) X(ternary_many)

/* ---- k-means by 16-bit scores: screen.cu ---------------------------------------------------------------------------- */

/* label[i] = the centroid with the greatest score of row i; screen_nearest: and row i in the list, count[0] long, where another one may have the greatest
 * canonical score. centroids: k rows of pitch 16-bit floats, scaled; bias likewise scaled; k a multiple of 128, of which only the first `real` are no fillers,
 * pitch one of 16 and at most 256. bound: of five numbers four, see setun_decide. A block has 128 rows and 256 threads, and 6 * 128 * (pitch + 8) bytes of
 * shared memory. */
#define SETUN_SCREEN_PARAMETERS                                                                                                                                \
    const float *x, const float *unit, const float *mean, int64_t n, int d, int pitch, const uint16_t *centroids, const float *bias, int k, int real,          \
        const float *bound, int32_t *label, int32_t *list, unsigned *count
SETUN_KERNEL void screen_nearest(SETUN_SCREEN_PARAMETERS);
SETUN_KERNEL void tensor_nearest(SETUN_SCREEN_PARAMETERS);
/* How far centroids reach, to reach[0 .. 2], zeros before: the greatest magnitude of a value and that of a bias, in the low halves, and the greatest squared
 * norm; as the bits of floats, and of a double. */
SETUN_KERNEL void screen_reach(const float *centroids, const float *bias, int k, int d, unsigned long long *reach);
/* bound, of which bound[4] is the scale of the centroids, from those; k biases of which the first `real` are scaled and the others come near no score; good =
 * 1, or 0 where these centroids are not to be screened. One block. */
SETUN_KERNEL void screen_terms(const unsigned long long *reach, const float *bias, int k, int real, int d, float *bound, float *scaled, unsigned *good);
/* to: n 16-bit floats, rows of pitch; from: k rows of d values, which are scaled; zeros where there are none. */
SETUN_KERNEL void screen_centroids(const float *from, int k, int d, int pitch, int64_t n, const float *bound, uint16_t *to);
/* n rows of x, and of unit unless it is null, by their numbers; and labels back to where such rows came from. */
SETUN_KERNEL void screen_gather(const float *x, const float *unit, int d, const int32_t *list, int64_t n, float *rows, float *units);
SETUN_KERNEL void screen_scatter(const int32_t *list, const int32_t *from, int64_t n, int32_t *labels);

/* ---- ternary80.cu --------------------------------------------------------------------------------------------------- */

/* As ternary_dots, and in tiles of 32 rows by 32 of activations, with 4608 bytes a group. */
SETUN_KERNEL void ternary_few(const uint8_t *codes, const float *scales, const int8_t *x, const float *x_scales, float *out, int64_t rows, int64_t cols,
                              int64_t group, int64_t batch, int64_t row_bytes, int64_t full, int64_t blocks, int64_t panel, int places, int unit, int format,
                              int flags, double factor, int64_t first);
SETUN_KERNEL void ternary_many(const uint8_t *codes, const float *scales, const int8_t *x, const float *x_scales, float *out, int64_t rows, int64_t cols,
                               int64_t group, int64_t batch, int64_t row_bytes, int64_t full, int64_t blocks, int64_t panel, int places, int unit, int format,
                               int flags, double factor, int64_t first);

#endif
