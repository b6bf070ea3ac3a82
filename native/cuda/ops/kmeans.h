/* SPDX-License-Identifier: Apache-2.0
 *
 * ops/kmeans.h: what the kernels of k-means share: reading rows, and sums of integers.
 *
 * Where a kernel goes through the points by column, a thread keeps one column, and with it that column's mean and scale: the 256 threads of a block are groups
 * of `width` neighbours, each group at a row of its own, and blockIdx.y counts the widths that a row has. */
#ifndef SETUN_CUDA_OPS_KMEANS_H
#define SETUN_CUDA_OPS_KMEANS_H

#include "kernels.h"
#include "sum.h"

#define SETUN_KMEANS_THREADS 256

/* Four values of a row from p on; zeros past its end. VECTOR: d is a multiple of 4 and rows are aligned to 16 bytes. */
template <bool VECTOR> SETUN_DEVICE float4 setun_quad(const float *row, int p, int d) {
    float4 v = {0, 0, 0, 0};
    if (VECTOR) { /* no branch around the load, which compilers would cut up */
        const bool inside = p < d;
        const float4 w = *(const float4 *)(row + (inside ? p : 0));
        v.x = inside ? w.x : 0, v.y = inside ? w.y : 0, v.z = inside ? w.z : 0, v.w = inside ? w.w : 0;
        return v;
    }
    if (p < d) v.x = row[p];
    if (p + 1 < d) v.y = row[p + 1];
    if (p + 2 < d) v.z = row[p + 2];
    if (p + 3 < d) v.w = row[p + 3];
    return v;
}

SETUN_DEVICE void setun_unpack(float *to, float4 v) { to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w; }

/* x * unit - mean, each rounded. */
SETUN_DEVICE float4 setun_centred(float4 x, float unit, float4 mean) {
    float4 v = {x.x * unit - mean.x, x.y * unit - mean.y, x.z * unit - mean.z, x.w * unit - mean.w};
    return v;
}

/* To the nearest integer, ties to even, for |v| <= 2^51: an addition is faster than a conversion. */
SETUN_DEVICE long long setun_integer(double v) {
    return (long long)((unsigned long long)__double_as_longlong(v + 0x1.8p52) - (unsigned long long)__double_as_longlong(0x1.8p52));
}

/* By what products of weights and distances are multiplied to become integers: bound / 2^E, E the exponent of the greatest, a normal number or 0, as frexp has
 * it. */
SETUN_DEVICE double setun_potential_scale(unsigned long long top, double bound) {
    const int field = (int)(top >> 52), e = field == 0 || field == 2047 ? 0 : field - 1022;
    return bound * __longlong_as_double((long long)(1023 - e) << 52);
}

SETUN_DEVICE void setun_add(int64_t *to, long long q) { atomicAdd((unsigned long long *)to, (unsigned long long)q); }

/* Shared memory adds 32 bits at a time: the carry goes where the sum of the low halves has overflowed, whoever's addition that was. */
SETUN_DEVICE void setun_add(unsigned *low, unsigned *high, long long q) {
    unsigned l = (unsigned)q, was = atomicAdd(low, l);
    atomicAdd(high, (unsigned)((unsigned long long)q >> 32) + (was + l < l));
}

SETUN_DEVICE long long setun_joined(unsigned low, unsigned high) { return (long long)((unsigned long long)high << 32 | low); }

#endif
