// SPDX-License-Identifier: Apache-2.0
//
// activations.cu: rows of float32 to int8, each with its own scale. A warp a row, or a block where rows are long; the second reading comes from the cache.
#include "codes.h"
#include "kernels.h"

/* rint(v) of |v| <= 2^31, ties to even: adding 3*2^51 leaves it in the low bits. */
SETUN_DEVICE int setun_nearest(double v) { return (int)(unsigned)(unsigned long long)__double_as_longlong(v + 0x1.8p52); }

SETUN_DEVICE unsigned setun_greater(unsigned most, float v) {
    unsigned u = __float_as_uint(v) & 0x7fffffffu;
    return u > most ? u : most;
}
SETUN_DEVICE unsigned setun_greater4(unsigned most, float4 v) { return setun_greater(setun_greater(setun_greater(setun_greater(most, v.x), v.y), v.z), v.w); }

/* Values me, me + width, ... of a row: the greatest bits of their magnitudes; then their codes. */
SETUN_DEVICE unsigned setun_row_greatest(const float *x, int64_t cols, int64_t me, int64_t width, bool wide) {
    unsigned most = 0;
    int64_t i = me;
    if (wide) {
        const float4 *v = (const float4 *)x;
        for (; i + 3 * width < cols / 4; i += 4 * width) {
            float4 w[4];
            SETUN_UNROLL
            for (int u = 0; u < 4; u++) w[u] = v[i + u * width];
            SETUN_UNROLL
            for (int u = 0; u < 4; u++) most = setun_greater4(most, w[u]);
        }
        for (; i < cols / 4; i += width) most = setun_greater4(most, v[i]);
        return most;
    }
    for (; i < cols; i += width) most = setun_greater(most, x[i]);
    return most;
}
SETUN_DEVICE void setun_row_codes(const float *x, uint8_t *out, int64_t cols, int64_t me, int64_t width, bool wide, bool zero, double f) {
    auto code = [=](float v) { return zero ? 0 : setun_nearest((double)v * f); };
    if (wide) {
        const float4 *v = (const float4 *)x;
        auto put = [&](int64_t at, float4 w) { ((unsigned *)out)[at] = setun_bytes4({code(w.x), code(w.y), code(w.z), code(w.w)}); };
        int64_t i = me;
        for (; i + 3 * width < cols / 4; i += 4 * width) {
            float4 w[4];
            SETUN_UNROLL
            for (int u = 0; u < 4; u++) w[u] = v[i + u * width];
            SETUN_UNROLL
            for (int u = 0; u < 4; u++) put(i + u * width, w[u]);
        }
        for (; i < cols / 4; i += width) put(i, v[i]);
        return;
    }
    for (int64_t i = me; i < cols; i += width) out[i] = (uint8_t)code(x[i]);
}

SETUN_DEVICE unsigned setun_warp_greatest(unsigned most) {
    for (int w = 16; w > 0; w /= 2) {
        unsigned other = __shfl_xor_sync(SETUN_ALL, most, w);
        most = other > most ? other : most;
    }
    return most;
}

/* One row, once the greatest magnitude is known. */
SETUN_DEVICE void setun_finish_row(const float *x, uint8_t *out, int64_t row, int64_t cols, int64_t me, int64_t width, bool wide, unsigned most, float *scales,
                                   unsigned *bad) {
    if (most >= 0x7f800000u) {
        if (me == 0) bad[0] = 1;
        return;
    }
    float m = __uint_as_float(most);
    if (me == 0) scales[row] = m / 127;
    setun_row_codes(x, out, cols, me, width, wide, most == 0, most == 0 ? 0.0 : 127 / (double)m);
}

SETUN_DEVICE bool setun_rows_wide(const float *x, const uint8_t *out, int64_t cols) { return (((uint64_t)x & 15) | ((uint64_t)out & 3) | (cols & 3)) == 0; }

extern "C" __global__ void __launch_bounds__(256) activations_warp(const float *x, int64_t rows, int64_t cols, uint8_t *out, float *scales, unsigned *bad) {
    bool wide = setun_rows_wide(x, out, cols);
    for (int64_t r = setun_warp(); r < rows; r += setun_warps()) {
        const float *v = x + r * cols;
        unsigned most = setun_warp_greatest(setun_row_greatest(v, cols, setun_lane(), 32, wide));
        setun_finish_row(v, out + r * cols, r, cols, setun_lane(), 32, wide, most, scales, bad);
    }
}

extern "C" __global__ void __launch_bounds__(256) activations_block(const float *x, int64_t rows, int64_t cols, uint8_t *out, float *scales, unsigned *bad) {
    SETUN_SHARED(unsigned, parts, [32]);
    bool wide = setun_rows_wide(x, out, cols);
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const float *v = x + r * cols;
        unsigned most = setun_warp_greatest(setun_row_greatest(v, cols, threadIdx.x, blockDim.x, wide));
        if (setun_lane() == 0) parts[threadIdx.x / 32] = most;
        __syncthreads();
        most = setun_warp_greatest(setun_lane() < (int)blockDim.x / 32 ? parts[setun_lane()] : 0u);
        __syncthreads(); /* all have read the parts */
        setun_finish_row(v, out + r * cols, r, cols, threadIdx.x, blockDim.x, wide, most, scales, bad);
    }
}
