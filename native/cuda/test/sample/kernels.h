/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels.h: small kernels, some of them wrong, for the test of the fake driver; in place of the real ones. */
#ifndef SETUN_CUDA_SAMPLE_H
#define SETUN_CUDA_SAMPLE_H

#include <stdint.h>

#define SETUN_CUDA_KERNELS(X) X(add) X(total) X(overrun) X(diverge) X(parameters) X(dynamic)

#ifndef SETUN_KERNEL
#define SETUN_KERNEL extern "C"
#endif

struct sample_pair {
    double a;
    int b[13];
};

SETUN_KERNEL void add(float *x, float v, int64_t n);
SETUN_KERNEL void total(const float *x, int64_t n, double *out);           /* one block of 128 threads */
SETUN_KERNEL void overrun(float *x, int64_t at);                           /* x[at] = 1, wherever that is */
SETUN_KERNEL void diverge(float *x);                                       /* a barrier that one thread leaves out */
SETUN_KERNEL void parameters(double *out, sample_pair p, char c, short s); /* their sum */
SETUN_KERNEL void dynamic(float *out, int n);                              /* out[0] = how many of n floats of dynamic shared memory are NaN at first */

#endif
