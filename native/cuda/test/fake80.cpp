// SPDX-License-Identifier: Apache-2.0
//
// fake80.cpp: the kernels of the fake driver that need compute capability 8.0.
#include "kernels80.cu"
#include "kernels80.h"

#include "fake_run.h"

namespace fake {

std::vector<Kernel> kernels80() { return {SETUN_CUDA_KERNELS80(FAKE_KERNEL)}; }

} // namespace fake
