/* SPDX-License-Identifier: Apache-2.0
 *
 * codes.h: codes of values, and how packed rows are laid out, for the kernels that write codes. */
#ifndef SETUN_CUDA_CODES_H
#define SETUN_CUDA_CODES_H

#include "sum.h"

/* Calls body(row, unit) for units 0 .. across-1 of each row, shared among all threads of the grid. Backwards: the end of what was read before is still in the
 * cache. Adjacent threads have adjacent units, and no division is made in the loop. */
template <class Body> SETUN_DEVICE void setun_units(int64_t rows, int64_t across, Body body) {
    int64_t step = (int64_t)gridDim.x * blockDim.x, k = rows * across - 1 - ((int64_t)blockIdx.x * blockDim.x + threadIdx.x);
    if (k < 0) return;
    int64_t row = 0, unit = k, rows_step = 0, units_step = step;
    if (rows > 1) row = k / across, unit = k - row * across, rows_step = step / across, units_step = step - rows_step * across;
    while (row >= 0) {
        body(row, unit);
        row -= rows_step, unit -= units_step;
        if (unit < 0) unit += across, row--;
    }
}

/* Philox4x32-10: Salmon, Moraes, Dror, Shaw (SC 2011). domain: 1 for stochastic rounding, 2 for rows. */
SETUN_DEVICE uint4 setun_draw4(uint64_t seed, uint64_t block, unsigned domain) {
    unsigned a = (unsigned)block, b = (unsigned)(block >> 32), c = domain, d = 0, k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
    SETUN_UNROLL
    for (int i = 0; i < 10; i++) {
        unsigned high0 = __umulhi(a, 0xD2511F53u), low0 = a * 0xD2511F53u, high1 = __umulhi(c, 0xCD9E8D57u), low1 = c * 0xCD9E8D57u;
        a = high1 ^ b ^ k0, b = low1, c = high0 ^ d ^ k1, d = low0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {a, b, c, d};
}

/* The code of a value from the cuts of its group. */
SETUN_DEVICE int setun_code3(float x, float one) { return (x > one) - (x < -one); }
SETUN_DEVICE int setun_code5(float x, float one, float two) { return setun_code3(x, one) + setun_code3(x, two); }

/* The code of a value from its draw; top: the greatest code. */
SETUN_DEVICE int setun_random_code(float x, float s, unsigned draw, double top) {
    if (s == 0) return 0;
    double f = (double)fabsf(x) / (double)s * top;
    int whole = (int)f, c = whole + (draw < (unsigned)((f - whole) * 0x1p32));
    return x < 0 ? (int)(0u - (unsigned)c) : c; /* with a value that is no number any c, and the call fails */
}

/* What the codes of a tensor are made from. GROUPED: scales and cuts by group, else one of each. RANDOM: stochastic rounding. PACKED: ternary codes alone.
 * Four codes at a time are four bytes of code + BIAS. */
template <bool GROUPED, bool RANDOM, bool PACKED> struct SetunCoder {
    enum { BIAS = PACKED ? 1 : 2 };
    const float *scales;
    const float2 *cuts;
    int64_t cols, group, groups; /* of a row */
    int shift;                   /* a group is 2^shift values; negative: it is not a power of two */
    uint64_t seed;
    int64_t first; /* values of the tensor before these */
    double top;
    bool fours; /* four values whose column is a multiple of 4 have one group, and one block of draws */
    float s, one, two;

    __device__ __forceinline__ SetunCoder(const float *all_scales, const float *all_cuts, int64_t rows, int64_t n, int64_t of, int power, uint64_t key,
                                          int64_t before, int levels)
        : scales(all_scales), cuts((const float2 *)all_cuts), cols(n), group(of), groups(0), shift(power), seed(key), first(before), top(levels == 5 ? 2 : 1),
          fours((!GROUPED || (of & 3) == 0) && (!RANDOM || rows == 1 || (n & 3) == 0)), s(0), one(0), two(0) {
        if (GROUPED)
            groups = (cols - 1) / group + 1;
        else
            take(0);
    }
    __device__ __forceinline__ void take(int64_t g) {
        if (RANDOM) {
            s = scales[g];
        } else {
            float2 c = cuts[g];
            one = c.x, two = c.y;
        }
    }
    __device__ __forceinline__ void look_up(int64_t row, int64_t col) {
        if (!GROUPED) return;
        int64_t in_row;
        if (shift >= 0)
            in_row = col >> shift;
        else if (cols <= 0xffffffff)
            in_row = (unsigned)col / (unsigned)group;
        else
            in_row = col / group;
        take(row * groups + in_row);
    }
    __device__ __forceinline__ int from(float v, unsigned draw) const {
        if (RANDOM) return setun_random_code(v, s, draw, top);
        return PACKED ? setun_code3(v, one) : setun_code5(v, one, two);
    }
    __device__ __forceinline__ int one_code(float v, int64_t row, int64_t col) {
        look_up(row, col);
        if (!RANDOM) return from(v, 0);
        int64_t i = first + row * cols + col;
        uint4 d = setun_draw4(seed, (uint64_t)i / 4, 1);
        int at = (int)(i & 3);
        return from(v, at == 0 ? d.x : at == 1 ? d.y : at == 2 ? d.z : d.w);
    }
    /* Where fours is set. */
    __device__ __forceinline__ unsigned four_codes(float4 v, int64_t row, int64_t col) {
        uint4 d = {0, 0, 0, 0};
        look_up(row, col);
        if (RANDOM) d = setun_draw4(seed, (uint64_t)(first + row * cols + col) / 4, 1);
        return ((unsigned)from(v.x, d.x) + BIAS) | ((unsigned)from(v.y, d.y) + BIAS) << 8 | ((unsigned)from(v.z, d.z) + BIAS) << 16 |
               ((unsigned)from(v.w, d.w) + BIAS) << 24;
    }
    /* Where it is not. */
    __device__ __forceinline__ unsigned each_code(const float *p, int64_t row, int64_t col) {
        unsigned t = 0;
        for (int e = 0; e < 4; e++) t |= ((unsigned)one_code(p[e], row, col + e) + BIAS) << 8 * e;
        return t;
    }
};

/* Four values at p, in one load where all such places are aligned. */
SETUN_DEVICE float4 setun_load4(const float *p, bool wide) {
    if (wide) return *(const float4 *)p;
    return {p[0], p[1], p[2], p[3]};
}
SETUN_DEVICE void setun_store4(uint8_t *p, unsigned v, bool wide) {
    if (wide)
        *(unsigned *)p = v;
    else
        p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8), p[2] = (uint8_t)(v >> 16), p[3] = (uint8_t)(v >> 24);
}
SETUN_DEVICE unsigned setun_bytes4(int4 c) {
    return ((unsigned)c.x & 255) | ((unsigned)c.y & 255) << 8 | ((unsigned)c.z & 255) << 16 | ((unsigned)c.w & 255) << 24;
}
/* Four codes in bytes from bytes of 0 .. 4 that are two more. */
SETUN_DEVICE unsigned setun_unbias(unsigned t) { return (t + 0x7e7e7e7eu) ^ 0x80808080u; }

/* ---- Packed rows: PLANES codes a place, 4 for 2 bits and 5 for base 3 ------------------------------------------------ */

SETUN_DEVICE unsigned setun_byte3(unsigned v) { return (256 * v + 242) / 243; }

/* Adds plane p's code + 1 to the number of a place, or to those of four places, a byte each: numbers stay below 256. */
template <int PLANES> SETUN_DEVICE unsigned setun_place(unsigned v, unsigned t, int p) { return PLANES == 4 ? v | t << 2 * p : 3 * v + t; }
template <int PLANES> SETUN_DEVICE unsigned setun_place_bytes(unsigned v) {
    if (PLANES == 4) return v;
    return setun_byte3(v & 255) | setun_byte3(v >> 8 & 255) << 8 | setun_byte3(v >> 16 & 255) << 16 | setun_byte3(v >> 24) << 24;
}

/* Writes four bytes of a packed row, those from 4*unit on, or what there is of them at its end. four(col, p) gives the codes + 1 of four columns, a byte each,
 * in plane p of a full block whose first plane has column col; load(col) is called before, for what is to be in flight together; one(col) gives a code. */
template <int PLANES, bool UNROLL, class Load, class Four, class One>
SETUN_DEVICE void setun_pack_unit(uint8_t *row, int64_t cols, int64_t unit, bool wide, Load load, Four four, One one) {
    int64_t full = cols / (64 * PLANES), block = unit / 16, byte = 4 * unit;
    if (block < full) {
        int64_t col = block * (64 * PLANES) + byte % 64;
        unsigned v = 0;
        load(col);
        if constexpr (UNROLL) {
            SETUN_UNROLL
            for (int p = 0; p < PLANES; p++) v = setun_place<PLANES>(v, four(col, p), p);
        } else {
            for (int p = 0; p < PLANES; p++) v = setun_place<PLANES>(v, four(col, p), p);
        }
        setun_store4(row + byte, setun_place_bytes<PLANES>(v), wide);
        return;
    }
    int rest = (int)(cols - full * (64 * PLANES)), places = (rest + PLANES - 1) / PLANES, place = (int)(byte - full * 64);
    for (int e = 0; e < 4 && place < places; e++, place++) {
        unsigned v = 0;
        SETUN_UNROLL
        for (int p = 0; p < PLANES; p++) {
            int at = place + p * places;
            v = setun_place<PLANES>(v, at < rest ? (unsigned)one(full * (64 * PLANES) + at) + 1 : 1u, p);
        }
        row[full * 64 + place] = (uint8_t)(PLANES == 4 ? v : setun_byte3(v));
    }
}

#endif
