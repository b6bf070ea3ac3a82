// SPDX-License-Identifier: Apache-2.0
//
// tiles.cu: quantize with short groups in one reading of memory. A block finds the scales of a tile and then makes its codes, while the values are in the
// cache. Rows are as one row here, whose groups divide the tile. The pieces are those of quantize.cu and codes.cu.
#include "codes.h"
#include "kernels.h"

enum { SETUN_QUAD = 4, SETUN_SHORT = 128 };

SETUN_DEVICE void setun_put_scale(float s, int64_t g, int levels, float *scales, float *cuts, unsigned *bad) {
    float2 c = setun_cuts(s, levels);
    if (s - s != 0) bad[0] = 1;
    scales[g] = s;
    cuts[2 * g] = c.x, cuts[2 * g + 1] = c.y;
}

/* The scales of groups g .. g+3, those of them below end, each of at most 128 values: a lane has four values of each, and 0 where there is none, which changes
 * no sum. Halves are added to each other, not one to the other: so all lanes get what the fold of the rule S leaves in the first. */
SETUN_DEVICE void setun_four_scales(const float *x, int64_t g, int64_t end, int group, int rule, int levels, float *scales, float *cuts, unsigned *bad) {
    float v[SETUN_QUAD][4];
    SETUN_UNROLL
    for (int a = 0; a < SETUN_QUAD; a++) {
        SETUN_UNROLL
        for (int u = 0; u < 4; u++) {
            int i = setun_lane() + 32 * u;
            v[a][u] = i < group && g + a < end ? fabsf(x[(g + a) * group + i]) : 0.0f;
        }
    }
    float s = 0; /* lane a takes that of group g + a */
    if (setun_first_is_max(rule)) {
        SETUN_UNROLL
        for (int a = 0; a < SETUN_QUAD; a++) {
            unsigned most = 0;
            SETUN_UNROLL
            for (int u = 0; u < 4; u++) most = __float_as_uint(v[a][u]) > most ? __float_as_uint(v[a][u]) : most;
            for (int w = 16; w > 0; w /= 2) {
                unsigned other = __shfl_xor_sync(SETUN_ALL, most, w);
                most = other > most ? other : most;
            }
            if (setun_lane() == a) s = __uint_as_float(most);
        }
    } else {
        double t[SETUN_QUAD], mine = 0;
        SETUN_UNROLL
        for (int a = 0; a < SETUN_QUAD; a++) t[a] = (double)(v[a][0] + v[a][1] + v[a][2] + v[a][3]);
        for (int w = 16; w > 0; w /= 2) {
            SETUN_UNROLL
            for (int a = 0; a < SETUN_QUAD; a++) t[a] += __shfl_xor_sync(SETUN_ALL, t[a], w);
        }
        SETUN_UNROLL
        for (int a = 0; a < SETUN_QUAD; a++) {
            if (t[a] - t[a] != 0) t[a] = __shfl_sync(SETUN_ALL, setun_abs_chunk(x + (g + a) * group, group), 0); /* float32 has overflown: rare */
            if (setun_lane() == a) mine = t[a];
        }
        s = (float)(mine / (double)group);
    }
    if (setun_lane() < SETUN_QUAD && g + setun_lane() < end) setun_put_scale(s, g + setun_lane(), levels, scales, cuts, bad);
}

/* The scales of groups first .. end-1, by the warps of a block. */
SETUN_DEVICE void setun_tile_scales(const float *x, int64_t first, int64_t end, int group, int rule, int levels, float *scales, float *cuts, unsigned *bad) {
    int warp = threadIdx.x / 32, warps = blockDim.x / 32;
    if (group <= SETUN_SHORT) {
        for (int64_t g = first + SETUN_QUAD * warp; g < end; g += SETUN_QUAD * warps) setun_four_scales(x, g, end, group, rule, levels, scales, cuts, bad);
        return;
    }
    for (int64_t g = first + warp; g < end; g += warps) {
        const float *v = x + g * group;
        float s = setun_first_is_max(rule) ? __uint_as_float(setun_greatest_chunk(v, group))
                                           : (float)(__shfl_sync(SETUN_ALL, setun_abs_chunk(v, group), 0) / (double)group);
        if (setun_lane() == 0) setun_put_scale(s, g, levels, scales, cuts, bad);
    }
}

/* PLANES 0: bytes. A tile ends where a group does and, except for the last one, where a block of codes does. */
template <int PLANES>
SETUN_DEVICE void setun_tiles(const float *x, int64_t n, int64_t group, int shift, int64_t tile, int rule, int levels, float *scales, float *cuts,
                              unsigned *bad, uint8_t *out) {
    SetunCoder<true, false, PLANES != 0> coder(scales, cuts, 1, n, group, shift, 0, 0, levels);
    SetunPlace at = {x, out, setun_rows_of_fours(x, 16, 1, n), setun_rows_of_fours(out, 4, 1, n)};
    for (int64_t t = blockIdx.x; t * tile < n; t += gridDim.x) {
        int64_t begin = t * tile, end = setun_least(begin + tile, n);
        setun_tile_scales(x, begin / group, end / group, (int)group, rule, levels, scales, cuts, bad);
        __syncthreads(); /* the block's cuts are there */
        if constexpr (PLANES == 0) {
            for (int64_t u = begin / 16 + threadIdx.x; u < ((end - 1) / 512 + 1) * 32; u += blockDim.x) setun_byte_unit<false>(coder, at, 0, n, u);
        } else {
            for (int64_t u = begin / (4 * PLANES) + threadIdx.x; u < end / (4 * PLANES); u += blockDim.x) setun_packed_unit<PLANES, false>(coder, at, 0, n, u);
        }
    }
}

#define SETUN_TILES(name, planes)                                                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, 3) name(const float *x, int64_t n, int64_t group, int shift, int64_t tile, int rule, int levels,         \
                                                              float *scales, float *cuts, unsigned *bad, uint8_t *out) {                                       \
        setun_tiles<planes>(x, n, group, shift, tile, rule, levels, scales, cuts, bad, out);                                                                   \
    }
SETUN_TILES(tiles_int8, 0)
SETUN_TILES(tiles_2bit, 4)
SETUN_TILES(tiles_base3, 5)
