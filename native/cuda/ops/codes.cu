// SPDX-License-Identifier: Apache-2.0
//
// codes.cu: the second half of quantize, values to codes of every format. Tensors with one scale have kernels of their own, which look nothing up.
#include "codes.h"
#include "kernels.h"

/* Where the values and codes of a row are, and whether four of them are one load or store. */
struct SetunPlace {
    const float *from;
    uint8_t *to;
    bool wide, wide_out;
};

/* A unit is four times four values, 128 apart: so a warp loads and stores whole lines. */
template <bool RANDOM, class Coder> SETUN_DEVICE void setun_byte_unit(Coder &coder, SetunPlace at, int64_t row, int64_t cols, int64_t unit) {
    int64_t begin = unit / 32 * 512, col = begin + unit % 32 * 4;
    if constexpr (!RANDOM) {
        if (begin + 512 <= cols && coder.fours && at.wide) {
            float4 v[4];
            SETUN_UNROLL
            for (int u = 0; u < 4; u++) v[u] = *(const float4 *)(at.from + col + 128 * u);
            SETUN_UNROLL
            for (int u = 0; u < 4; u++) setun_store4(at.to + col + 128 * u, setun_unbias(coder.four_codes(v[u], row, col + 128 * u)), at.wide_out);
            return;
        }
    }
    for (int u = 0; u < 4 && col < cols; u++, col += 128) {
        if (col + 4 <= cols && coder.fours)
            setun_store4(at.to + col, setun_unbias(coder.four_codes(setun_load4(at.from + col, at.wide), row, col)), at.wide_out);
        else
            for (int64_t c = col; c < setun_least(col + 4, cols); c++) at.to[c] = (uint8_t)coder.one_code(at.from[c], row, c);
    }
}

/* A unit is four adjacent bytes. */
template <int PLANES, bool RANDOM, class Coder> SETUN_DEVICE void setun_packed_unit(Coder &coder, SetunPlace at, int64_t row, int64_t cols, int64_t unit) {
    auto one = [&](int64_t col) { return coder.one_code(at.from[col], row, col); };
    if constexpr (!RANDOM) {
        if (coder.fours && at.wide) {
            float4 v[PLANES];
            setun_pack_unit<PLANES, true>(
                at.to, cols, unit, at.wide_out,
                [&](int64_t col) {
                    SETUN_UNROLL
                    for (int p = 0; p < PLANES; p++) v[p] = *(const float4 *)(at.from + col + 64 * p);
                },
                [&](int64_t col, int p) { return coder.four_codes(v[p], row, col + 64 * p); }, one);
            return;
        }
    }
    setun_pack_unit<PLANES, false>(
        at.to, cols, unit, at.wide_out, [](int64_t) {},
        [&](int64_t col, int p) {
            col += 64 * p;
            return coder.fours ? coder.four_codes(setun_load4(at.from + col, at.wide), row, col) : coder.each_code(at.from + col, row, col);
        },
        one);
}

SETUN_DEVICE bool setun_rows_of_fours(const void *p, int64_t aligned, int64_t rows, int64_t row) {
    return ((uint64_t)p & (uint64_t)(aligned - 1)) == 0 && (rows == 1 || (row & 3) == 0);
}

template <bool GROUPED, bool RANDOM>
SETUN_DEVICE void setun_to_bytes(const float *x, int64_t rows, int64_t cols, int64_t group, int shift, const float *cuts, const float *scales, int levels,
                                 uint64_t seed, int64_t first, uint8_t *out) {
    SetunCoder<GROUPED, RANDOM, false> coder(scales, cuts, rows, cols, group, shift, seed, first, levels);
    bool wide = setun_rows_of_fours(x, 16, rows, cols), wide_out = setun_rows_of_fours(out, 4, rows, cols);
    setun_units(rows, ((cols - 1) / 512 + 1) * 32, [&](int64_t row, int64_t unit) {
        setun_byte_unit<RANDOM>(coder, {x + row * cols, out + row * cols, wide, wide_out}, row, cols, unit);
    });
}

template <int PLANES, bool GROUPED, bool RANDOM>
SETUN_DEVICE void setun_to_packed(const float *x, int64_t rows, int64_t cols, int64_t group, int shift, const float *cuts, const float *scales, int levels,
                                  uint64_t seed, int64_t first, uint8_t *out) {
    SetunCoder<GROUPED, RANDOM, true> coder(scales, cuts, rows, cols, group, shift, seed, first, levels);
    int64_t row_bytes = (cols - 1) / PLANES + 1;
    bool wide = setun_rows_of_fours(x, 16, rows, cols), wide_out = setun_rows_of_fours(out, 4, rows, row_bytes);
    setun_units(rows, (row_bytes - 1) / 4 + 1, [&](int64_t row, int64_t unit) {
        setun_packed_unit<PLANES, RANDOM>(coder, {x + row * cols, out + row * row_bytes, wide, wide_out}, row, cols, unit);
    });
}

/* places: blocks that a multiprocessor is to hold, at most the four that all devices can. What limits them is registers, of which none may be spilled. */
#define SETUN_CODES(name, places, make)                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(256, places) name(const float *x, int64_t rows, int64_t cols, int64_t group, int shift, const float *cuts,    \
                                                                   const float *scales, int levels, uint64_t seed, int64_t first, uint8_t *out) {              \
        make(x, rows, cols, group, shift, cuts, scales, levels, seed, first, out);                                                                             \
    }
SETUN_CODES(codes_int8, 4, (setun_to_bytes<false, false>))
SETUN_CODES(codes_int8_random, 3, (setun_to_bytes<false, true>))
SETUN_CODES(codes_int8_groups, 4, (setun_to_bytes<true, false>))
SETUN_CODES(codes_int8_groups_random, 3, (setun_to_bytes<true, true>))
SETUN_CODES(codes_2bit, 4, (setun_to_packed<4, false, false>))
SETUN_CODES(codes_2bit_random, 3, (setun_to_packed<4, false, true>))
SETUN_CODES(codes_2bit_groups, 3, (setun_to_packed<4, true, false>))
SETUN_CODES(codes_2bit_groups_random, 2, (setun_to_packed<4, true, true>))
SETUN_CODES(codes_base3, 4, (setun_to_packed<5, false, false>))
SETUN_CODES(codes_base3_random, 3, (setun_to_packed<5, false, true>))
SETUN_CODES(codes_base3_groups, 3, (setun_to_packed<5, true, false>))
SETUN_CODES(codes_base3_groups_random, 2, (setun_to_packed<5, true, true>))
