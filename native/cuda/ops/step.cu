// SPDX-License-Identifier: Apache-2.0
//
// step.cu: parameters and the constrained step, and what quantize needs first of their sum while it is in registers. setun_scaled is constrain.cu's.
#include "kernels.h"
#include "sum.h"

extern "C" __global__ void __launch_bounds__(256) step_apply(float *params, const float *delta, int64_t n, const double *state, double *sums, unsigned *most) {
    double f = state[1];
    if (f - f != 0) return; /* delta is not finite */
    bool inside = f == 1;
    int64_t chunks = (n - 1) / SETUN_CHUNK + 1;
    unsigned greatest = 0;
    for (int64_t c = setun_warp(); c < chunks; c += setun_warps()) {
        float *p = params + c * SETUN_CHUNK;
        const float *u = delta + c * SETUN_CHUNK;
        int m = (int)setun_least(n - c * SETUN_CHUNK, SETUN_CHUNK), i = setun_lane();
        float t = 0; /* the lane of the rule A */
        auto add = [&](int at, float old, float by) {
            float v = old + (inside ? by : setun_scaled(by, f));
            p[at] = v;
            t += fabsf(v);
            unsigned bits = __float_as_uint(v) & 0x7fffffffu;
            greatest = bits > greatest ? bits : greatest;
        };
        for (; i + 7 * 32 < m; i += 8 * 32) {
            float v[8], w[8];
            SETUN_UNROLL
            for (int k = 0; k < 8; k++) v[k] = p[i + k * 32], w[k] = u[i + k * 32];
            SETUN_UNROLL
            for (int k = 0; k < 8; k++) add(i + k * 32, v[k], w[k]);
        }
        for (; i < m; i += 32) add(i, p[i], u[i]);
        if (!sums) continue;
        double s = setun_fold((double)t);
        s = __shfl_sync(SETUN_ALL, s, 0);
        if (s - s != 0) s = setun_abs_chunk(p, m); /* each lane reads what it wrote */
        if (setun_lane() == 0) sums[c] = s;
    }
    if (!most) return;
    for (int w = 16; w > 0; w /= 2) {
        unsigned other = __shfl_xor_sync(SETUN_ALL, greatest, w);
        greatest = other > greatest ? other : greatest;
    }
    if (setun_lane() == 0) atomicMax(most, greatest);
}
