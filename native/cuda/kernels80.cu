// SPDX-License-Identifier: Apache-2.0
//
// kernels80.cu: the kernels that need compute capability 8.0, as one image.
#include "port.h"
#define SETUN_KERNEL extern "C" __global__
#include "kernels80.h"

#include "ops/screen.cu"
#include "ops/ternary80.cu"
