// SPDX-License-Identifier: Apache-2.0
//
// kernels.cu: all kernels, as one image.
#include "port.h"
#define SETUN_KERNEL extern "C" __global__
#include "kernels.h"

#include "ops/reduce.cu"
#include "ops/constrain.cu"
#include "ops/quantize.cu"
#include "ops/codes.cu"
#include "ops/tiles.cu"
#include "ops/step.cu"
#include "ops/clusters.cu"
#include "ops/activations.cu"
#include "ops/recode.cu"
#include "ops/kmeans.cu"
#include "ops/kmeans_assign.cu"
#include "ops/kmeans_move.cu"
#include "ops/kmeans_seed.cu"
#include "ops/kmeans_many.cu"
#include "ops/matmul.cu"
#include "ops/ternary.cu"
#include "ops/norm.cu"
#include "ops/softmax.cu"
#include "ops/activate.cu"
#include "ops/update.cu"
