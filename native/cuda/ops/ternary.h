/* SPDX-License-Identifier: Apache-2.0
 *
 * ops/ternary.h: packed codes times int8 activations, in tiles of 16 rows of codes by 8 of activations: what a matrix instruction multiplies, 32 columns at a
 * time.
 *
 * All sums inside a group of scales are of integers, so columns may come in any order, the same for both factors. A lane of a warp therefore reads 16 bytes
 * of a row as they lie, each place of which holds several codes, 64 columns apart: a plane, in words of four codes, is what the instruction wants, and
 * nothing is exchanged between lanes. A block has 32 rows; its warps share the columns among them, and add what they find in shared memory, by groups. Then
 * a thread for each element makes the sum over groups, in float64 and in rising order. */
#ifndef SETUN_CUDA_OPS_TERNARY_H
#define SETUN_CUDA_OPS_TERNARY_H

#include "sum.h"

#define SETUN_TERNARY_ROWS 32
#define SETUN_TERNARY_PITCH 36 /* integers from a row of activations to the next one's in shared memory: spreads them over the banks */

/* d += a b. Lane 4g+q has of a the columns 4q .. 4q+3 in rows g (a0) and g+8 (a1), the columns 16+4q .. in a2 and a3; of b the columns 4q .. (b0) and 16+4q ..
 * (b1) of row g; of d row g, columns 2q and 2q+1, and row g+8. MATRIX: as one instruction, else with what every device has. */
template <bool MATRIX> SETUN_DEVICE void setun_multiply_codes(int d[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
#if !defined(SETUN_EMU)
    if constexpr (MATRIX) {
        asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
            : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
        return;
    }
#endif
    const int lane = setun_lane(), row = lane / 4 * 4, col = lane % 4 * 8;
    SETUN_ROLL
    for (int j = 0; j < 4; j++) {
        const int r0 = (int)__shfl_sync(SETUN_ALL, a0, row + j), r1 = (int)__shfl_sync(SETUN_ALL, a1, row + j);
        const int r2 = (int)__shfl_sync(SETUN_ALL, a2, row + j), r3 = (int)__shfl_sync(SETUN_ALL, a3, row + j);
        SETUN_UNROLL
        for (int e = 0; e < 2; e++) {
            const int c0 = (int)__shfl_sync(SETUN_ALL, b0, col + 4 * e + j), c1 = (int)__shfl_sync(SETUN_ALL, b1, col + 4 * e + j);
            d[e] = __dp4a(r2, c1, __dp4a(r0, c0, d[e]));
            d[2 + e] = __dp4a(r3, c1, __dp4a(r1, c0, d[2 + e]));
        }
    }
}

/* Sixteen bytes from p on. inner: three before and behind them may be read, too. */
SETUN_DEVICE uint4 setun_load16(const uint8_t *p, bool aligned, bool inner) {
    if (aligned) return __ldg((const uint4 *)p);
    const int past = (int)((uint64_t)p & 3), right = 8 * past;
    const unsigned *words = (const unsigned *)(p - past);
    if (past == 0) return {words[0], words[1], words[2], words[3]};
    auto at = [=](unsigned low, unsigned high) { return (unsigned)((low | (uint64_t)high << 32) >> right); };
    if (inner) return {at(words[0], words[1]), at(words[1], words[2]), at(words[2], words[3]), at(words[3], words[4])};
    auto word = [](const uint8_t *q) { return q[0] | (unsigned)q[1] << 8 | (unsigned)q[2] << 16 | (unsigned)q[3] << 24; };
    return {word(p), at(words[1], words[2]), at(words[2], words[3]), word(p + 12)};
}

/* The bytes from .. to-1 of the four and of the sixteen from p on, and 0 in the place of the others, which are not touched. */
SETUN_DEVICE unsigned setun_some4(const uint8_t *p, int from, int to) {
    if (from <= 0 && to >= 4 && ((uint64_t)p & 3) == 0) return *(const unsigned *)p;
    unsigned word = 0;
    SETUN_UNROLL
    for (int e = 0; e < 4; e++)
        if (e >= from && e < to) word |= (unsigned)p[e] << 8 * e;
    return word;
}
SETUN_DEVICE uint4 setun_some16(const uint8_t *p, int from, int to) {
    if (from <= 0 && to >= 16) return setun_load16(p, ((uint64_t)p & 15) == 0, false);
    return {setun_some4(p, from, to), setun_some4(p + 4, from - 4, to - 4), setun_some4(p + 8, from - 8, to - 8), setun_some4(p + 12, from - 12, to - 12)};
}

/* Takes the codes of the next plane, a byte each, from the four places of a word: codes of bytes, else of 2 bits or base 3 the code + 1. */
template <int FORMAT> SETUN_DEVICE unsigned setun_take(unsigned &places) {
    unsigned t = places;
    if (FORMAT == 2) t &= 0x03030303u, places >>= 2;
    if (FORMAT == 3) { /* a fraction of 256 times 3: the carry is the code */
        unsigned even = (places & 0x00ff00ffu) * 3, odd = (places >> 8 & 0x00ff00ffu) * 3;
        t = (even >> 8 & 0x00ff00ffu) | (odd & 0xff00ff00u);
        places = (even & 0x00ff00ffu) | (odd << 8 & 0xff00ff00u);
    }
    return t;
}

/* The code at a column of a row, + 1 but for bytes: docs/numerics.md has the layouts. full: blocks before the row's rest, which has so many places. */
template <int FORMAT> SETUN_DEVICE int setun_code_at(const uint8_t *row, int64_t col, int64_t full, int places) {
    if (FORMAT == 1) return (int8_t)row[col];
    constexpr int BLOCK = FORMAT == 3 ? 320 : 256, BYTES = FORMAT == 4 ? 40 : 64;
    const int64_t block = col / BLOCK;
    const int i = (int)(col - block * BLOCK), m = block < full ? 64 : places, plane = i / m, place = i - plane * m;
    row += block * BYTES;
    if (FORMAT == 2) return row[place] >> 2 * plane & 3;
    if (FORMAT == 3) {
        unsigned v = row[place];
        for (int p = 0; p < plane; p++) v = v * 3 & 255;
        return (int)(v * 3 >> 8);
    }
    const int half = (m + 1) / 2, number = place < half ? row[place] & 15 : row[place - half] >> 4;
    const int minus = row[half + place / 8] >> place % 8 & 1, zero = number >> 2, n = plane - (plane > zero);
    const int t = plane == zero ? 1 : n > 0 && (number >> (2 - n) & 1) ? 0 : 2;
    return minus ? 2 - t : t;
}

/* A warp's part of a block's elements: 32 rows of codes by 8*TILES of activations. */
template <bool MATRIX, int FORMAT, int TILES> struct SetunTernary {
    static constexpr int PLANES = FORMAT == 2 ? 4 : FORMAT == 3 ? 5 : 1, BYTES = 64;
    static constexpr int AHEAD = TILES == 1 ? 2 : 1;   /* units read at once */
    static constexpr bool BIASED = FORMAT != 1;        /* codes + 1 are multiplied: the sum of the activations comes off */
    static constexpr bool SUMS = BIASED && TILES == 1; /* at the end; else 1 comes off each code */
    struct Unit {
        uint4 row[2][2];
    };
    const uint8_t *rows[2][2]; /* g and g+8 of either tile */
    const int8_t *x[TILES];
    int64_t cols, group, full;
    int unit, places, lane;
    bool aligned; /* rows of codes, to 16 bytes */
    int sum[2][TILES][4], of_x[TILES][4];
    uint4 ahead[TILES]; /* activations of the next plane */
    int *table;         /* sums of the groups of a panel */

    __device__ __forceinline__ void clear() {
        SETUN_UNROLL
        for (int j = 0; j < TILES; j++) SETUN_UNROLL
        for (int e = 0; e < 4; e++) sum[0][j][e] = sum[1][j][e] = of_x[j][e] = 0;
    }

    /* Adds what has been summed to a group's sums; to: where the lane's first one is. */
    __device__ __forceinline__ void flush(int *to) {
        SETUN_UNROLL
        for (int i = 0; i < 2; i++) SETUN_UNROLL
        for (int j = 0; j < TILES; j++) SETUN_UNROLL
        for (int e = 0; e < 4; e++) atomicAdd(to + ((8 * j + e % 2) * SETUN_TERNARY_PITCH + 16 * i + e / 2 * 8), sum[i][j][e] - (SUMS ? of_x[j][e] : 0));
        clear();
    }

    __device__ __forceinline__ void multiply(const unsigned (&a)[2][2][2], int tile, unsigned b0, unsigned b1) {
        SETUN_UNROLL
        for (int i = 0; i < 2; i++) setun_multiply_codes<MATRIX>(sum[i][tile], a[i][0][0], a[i][1][0], a[i][0][1], a[i][1][1], b0, b1);
        const unsigned ones = 0x01010101u;
        if (SUMS) setun_multiply_codes<MATRIX>(of_x[tile], ones, ones, ones, ones, b0, b1);
    }

    __device__ __forceinline__ void load(Unit &to, int64_t u) const {
        const int64_t at = u * BYTES + lane % 4 * 16;
        SETUN_UNROLL
        for (int i = 0; i < 2; i++) SETUN_UNROLL
        for (int h = 0; h < 2; h++) to.row[i][h] = setun_load16(rows[i][h] + at, aligned, at > 0 && at + 16 < full * BYTES);
        if (!aligned) __syncwarp(); /* lanes went different ways, and the matrix instructions are next */
    }

    static __device__ __forceinline__ unsigned take(unsigned &places) {
        const unsigned t = setun_take<FORMAT>(places);
        return BIASED && !SUMS ? ((t | 0x80808080u) - 0x01010101u) ^ 0x80808080u : t;
    }

    /* Two words of a plane, of each row. */
    static __device__ __forceinline__ void take2(unsigned (&a)[2][2][2], Unit &from, bool upper) {
        SETUN_UNROLL
        for (int i = 0; i < 2; i++) SETUN_UNROLL
        for (int h = 0; h < 2; h++) {
            uint4 &v = from.row[i][h];
            a[i][h][0] = take(upper ? v.z : v.x);
            a[i][h][1] = take(upper ? v.w : v.y);
        }
    }

    /* Four codes from a column on, and four activations of which `count` are there. */
    __device__ __forceinline__ unsigned codes_at(const uint8_t *row, int64_t col) const {
        unsigned word = 0;
        SETUN_ROLL
        for (int c = 0; c < 32; c += 8, col++) /* beyond the last column it meets 0 */
            word |= (unsigned)((setun_code_at<FORMAT>(row, setun_least(col, cols - 1), full, places) - (BIASED && !SUMS)) & 255) << c;
        return word;
    }
    static __device__ __forceinline__ unsigned values_at(const int8_t *from, int count) {
        unsigned word = 0;
        SETUN_ROLL
        for (int c = 0; c < 4 && c < count; c++) word |= (unsigned)(from[c] & 255) << 8 * c;
        return word;
    }

    /* Up to 64 columns within a group, code by code. */
    __device__ __forceinline__ void some(int64_t from, int count) {
        const uint8_t *r0 = rows[0][0], *r1 = rows[0][1], *r2 = rows[1][0], *r3 = rows[1][1];
        SETUN_ROLL
        for (int at = lane % 4 * 16, half = 0; half < 2; half++, at += 8) {
            unsigned a0 = 0, a1 = 0, a2 = 0, a3 = 0, a4 = 0, a5 = 0, a6 = 0, a7 = 0;
            SETUN_ROLL
            for (int k = 0; k < 8; k++) {
                const uint8_t *row = k < 4 ? (k < 2 ? r0 : r1) : k < 6 ? r2 : r3;
                const unsigned word = codes_at(row, from + at + k % 2 * 4);
                if (k == 0) a0 = word;
                if (k == 1) a1 = word;
                if (k == 2) a2 = word;
                if (k == 3) a3 = word;
                if (k == 4) a4 = word;
                if (k == 5) a5 = word;
                if (k == 6) a6 = word;
                if (k == 7) a7 = word;
            }
            const unsigned a[2][2][2] = {{{a0, a1}, {a2, a3}}, {{a4, a5}, {a6, a7}}};
            SETUN_UNROLL
            for (int j = 0; j < TILES; j++) {
                const unsigned b0 = values_at(x[j] + from + at, count - at), b1 = values_at(x[j] + from + at + 4, count - at - 4);
                __syncwarp(); /* lanes have read different numbers of values */
                multiply(a, j, b0, b1);
            }
        }
    }

    __device__ __forceinline__ void values(uint4 (&v)[TILES], int64_t col) const {
        SETUN_UNROLL
        for (int j = 0; j < TILES; j++) v[j] = __ldg((const uint4 *)(x[j] + col + lane % 4 * 16));
    }

    /* A plane of 64 columns. */
    __device__ __forceinline__ void plane(Unit &codes, const uint4 (&v)[TILES]) {
        unsigned a[2][2][2];
        take2(a, codes, false);
        SETUN_UNROLL
        for (int j = 0; j < TILES; j++) multiply(a, j, v[j].x, v[j].y);
        take2(a, codes, true);
        SETUN_UNROLL
        for (int j = 0; j < TILES; j++) multiply(a, j, v[j].z, v[j].w);
    }

    /* Goes through a unit that is a block, and tells pass of every 64 columns. end: where such units end. */
    template <class Pass> __device__ __forceinline__ void block(Unit &codes, int64_t u, int64_t end, Pass pass) {
        const int64_t col = u * (64 * PLANES);
        if constexpr (MATRIX && TILES == 1) { /* what is read of the activations is asked for at once */
            uint4 v[PLANES][TILES];
            SETUN_UNROLL
            for (int p = 0; p < PLANES; p++) values(v[p], col + 64 * p);
            SETUN_UNROLL
            for (int p = 0; p < PLANES; p++) {
                plane(codes, v[p]);
                pass(64);
            }
        } else { /* or a plane ahead */
            SETUN_ROLL
            for (int p = 0; p < PLANES; p++) {
                uint4 v[TILES];
                SETUN_UNROLL
                for (int j = 0; j < TILES; j++) v[j] = ahead[j];
                if (col + 64 * p + 64 < end * (64 * PLANES)) values(ahead, col + 64 * p + 64);
                plane(codes, v);
                pass(64);
            }
        }
    }

    /* The columns from .. to-1 of block u, all or some of it: of activations that are not aligned, of groups that end elsewhere, of the last block of a row,
     * whose planes are `places` columns apart. Other columns of the block meet 0. */
    __device__ __forceinline__ void part(int64_t u, int64_t from, int64_t to) {
        const int64_t begin = u * (64 * PLANES);
        const int m = FORMAT == 1 ? (int)setun_least(64, cols - begin) : u < full ? 64 : places, place = lane % 4 * 16;
        Unit codes;
        SETUN_UNROLL
        for (int i = 0; i < 2; i++) SETUN_UNROLL
        for (int h = 0; h < 2; h++) codes.row[i][h] = setun_some16(rows[i][h] + u * BYTES + place, 0, m - place);
        SETUN_ROLL
        for (int p = 0; p < PLANES; p++) {
            const int64_t plane_at = begin + p * m, col = plane_at + place;
            const int skip = from > col ? (int)setun_least(from - col, 16) : 0, count = to > col ? (int)setun_least(to - col, m - place) : 0;
            uint4 v[TILES];
            SETUN_UNROLL
            for (int j = 0; j < TILES; j++) v[j] = setun_some16((const uint8_t *)x[j] + col, skip, count);
            __syncwarp(); /* lanes have read different numbers of bytes */
            plane(codes, v);
        }
    }

    /* The units from .. to of a panel whose first group is `first`. A unit below `blocks` is a whole block of the format, with aligned activations; others are
     * blocks of which each group has a part or, where they are not as large, columns. */
    __device__ __forceinline__ void run(int64_t from, int64_t to, int64_t first, int64_t blocks) {
        if (from >= to) return;
        constexpr int SIZE = 8 * TILES * SETUN_TERNARY_PITCH;
        const int64_t begin = from * unit, g = begin / group;
        int64_t left = group - (begin - g * group); /* columns to the end of the group */
        int *at = table + (g - first) * SIZE + lane % 4 * 2 * SETUN_TERNARY_PITCH + lane / 4;
        auto pass = [&](int n) {
            left -= n;
            if (left > 0) return;
            flush(at);
            at += SIZE, left = group;
        };
        clear();
        if (FORMAT != 4 && from < setun_least(to, blocks)) {
            const int64_t end = setun_least(to, blocks);
            Unit next[AHEAD];
            if (!(MATRIX && TILES == 1)) values(ahead, from * (64 * PLANES));
            for (int64_t u = from - AHEAD; u < end; u += AHEAD) {
                Unit now[AHEAD];
                SETUN_UNROLL
                for (int e = 0; e < AHEAD; e++) {
                    now[e] = next[e];
                    if (u + AHEAD + e < end) load(next[e], u + AHEAD + e);
                }
                if (u < from) continue; /* the first are on their way */
                SETUN_UNROLL
                for (int e = 0; e < AHEAD; e++)
                    if (u + e < end) block(now[e], u + e, end, pass);
            }
            from = end;
        }
        for (int64_t col = setun_least(from * unit, cols), end = setun_least(to * unit, cols); col < end;) {
            const bool parts = FORMAT != 4 && unit == 64 * PLANES;
            const int64_t u = col / unit;
            const int n = (int)setun_least(setun_least(left, (parts ? (u + 1) * unit - col : 64)), end - col);
            if (parts)
                part(u, col, col + n);
            else
                some(col, n);
            pass(n);
            col += n;
        }
        if (left < group) flush(at);
    }
};

/* blocks: of a row that are read as such; units of `unit` columns, `panel` of them at a time. index: of a block of threads, activations first. */
template <bool MATRIX, int FORMAT, int TILES>
SETUN_DEVICE void setun_ternary_block(int *table, const uint8_t *codes, const float *scales, const int8_t *x, const float *x_scales, float *out, int64_t rows,
                                      int64_t cols, int64_t group, int64_t batch, int64_t row_bytes, int64_t full, int64_t blocks, int64_t panel, int places,
                                      int unit, int flags, double factor, int64_t index) {
    constexpr int SIZE = 8 * TILES * SETUN_TERNARY_PITCH;
    const int64_t across = (batch - 1) / (8 * TILES) + 1, tile = index / across, row0 = tile * SETUN_TERNARY_ROWS,
                  batch0 = (index - tile * across) * (8 * TILES);
    const int64_t units = (cols - 1) / unit + 1, groups = (cols - 1) / group + 1;
    const int t = threadIdx.x, warp = t / 32, warps = blockDim.x / 32;
    SetunTernary<MATRIX, FORMAT, TILES> w;
    w.cols = cols, w.group = group, w.full = full, w.unit = unit, w.places = places, w.table = table;
    w.aligned = flags & 1, w.lane = t % 32;
    SETUN_UNROLL
    for (int i = 0; i < 4; i++) w.rows[i / 2][i % 2] = codes + setun_least(row0 + 8 * i + w.lane / 4, rows - 1) * row_bytes;
    SETUN_UNROLL
    for (int j = 0; j < TILES; j++) w.x[j] = x + setun_least(batch0 + 8 * j + w.lane / 4, batch - 1) * cols;

    double v[TILES]; /* of the elements with row t % 32, activations t / 32 + 8*j */
    int64_t sum[TILES];
    SETUN_UNROLL
    for (int j = 0; j < TILES; j++) v[j] = 0, sum[j] = 0;
    const int64_t row = row0 + t % 32, scale0 = flags & 2 ? setun_least(row, rows - 1) * groups : 0;
    for (int64_t from = 0; from < units; from += panel) {
        const int64_t to = setun_least(from + panel, units), end = setun_least(to * unit, cols), first = from * unit / group, last = (end - 1) / group;
        for (int64_t i = t; i < (last - first + 1) * SIZE; i += blockDim.x) table[i] = 0;
        __syncthreads();
        w.run(from + (to - from) * warp / warps, from + (to - from) * (warp + 1) / warps, first, blocks);
        __syncthreads();
        for (int64_t g = first; g <= last; g++) {
            const bool ends = setun_least((g + 1) * group, cols) <= end;
            const double scale = ends ? (double)scales[scale0 + (flags & 2 ? g : 0)] : 0;
            SETUN_UNROLL
            for (int j = 0; j < TILES; j++) {
                sum[j] += table[(g - first) * SIZE + (8 * j + t / 32) * SETUN_TERNARY_PITCH + t % 32];
                if (ends) v[j] += (double)sum[j] * scale, sum[j] = 0;
            }
        }
        __syncthreads();
    }
    SETUN_UNROLL
    for (int j = 0; j < TILES; j++) {
        const int64_t b = batch0 + 8 * j + t / 32;
        if (row < rows && b < batch) out[b * rows + row] = (float)(v[j] * factor * (double)x_scales[b]);
    }
}

#define SETUN_TERNARY_BODY(MATRIX, TILES)                                                                                                                      \
    SETUN_DYNAMIC(int, ternary_sums);                                                                                                                          \
    const int64_t index = first + blockIdx.x;                                                                                                                  \
    if (format == 1)                                                                                                                                           \
        setun_ternary_block<MATRIX, 1, TILES>(ternary_sums, codes, scales, x, x_scales, out, rows, cols, group, batch, row_bytes, full, blocks, panel, places, \
                                              unit, flags, factor, index);                                                                                     \
    else if (format == 2)                                                                                                                                      \
        setun_ternary_block<MATRIX, 2, TILES>(ternary_sums, codes, scales, x, x_scales, out, rows, cols, group, batch, row_bytes, full, blocks, panel, places, \
                                              unit, flags, factor, index);                                                                                     \
    else if (format == 3)                                                                                                                                      \
        setun_ternary_block<MATRIX, 3, TILES>(ternary_sums, codes, scales, x, x_scales, out, rows, cols, group, batch, row_bytes, full, blocks, panel, places, \
                                              unit, flags, factor, index);                                                                                     \
    else                                                                                                                                                       \
        setun_ternary_block<MATRIX, 4, TILES>(ternary_sums, codes, scales, x, x_scales, out, rows, cols, group, batch, row_bytes, full, blocks, panel, places, \
                                              unit, flags, factor, index)

#endif
