// SPDX-License-Identifier: Apache-2.0
//
// kernels80.cu: see kernels80.h beside it.
#include "port.h"
#define SETUN_KERNEL extern "C" __global__
#include "kernels80.h"

extern "C" __global__ void negate(float *x) { x[threadIdx.x] = -x[threadIdx.x]; }
