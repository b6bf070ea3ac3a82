// SPDX-License-Identifier: Apache-2.0
//
// ternary.cu: packed codes times activations, on any device.
#include "kernels.h"
#include "ternary.h"

extern "C" __global__ void __launch_bounds__(256)
    ternary_dots(const uint8_t *codes, const float *scales, const int8_t *x, const float *x_scales, float *out, int64_t rows, int64_t cols, int64_t group,
                 int64_t batch, int64_t row_bytes, int64_t full, int64_t blocks, int64_t panel, int places, int unit, int format, int flags, double factor,
                 int64_t first) {
    SETUN_TERNARY_BODY(false, 1);
}
