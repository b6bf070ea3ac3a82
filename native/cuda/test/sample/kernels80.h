/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels80.h: a kernel for newer devices, for the test of the fake driver. */
#ifndef SETUN_CUDA_SAMPLE80_H
#define SETUN_CUDA_SAMPLE80_H

#include "kernels.h"

#define SETUN_CUDA_KERNELS80(X) X(negate)

SETUN_KERNEL void negate(float *x);

#endif
