// SPDX-License-Identifier: Apache-2.0
//
// tiles.cu: quantize with short groups, each value read once: a group stays in the registers of its lanes from the sum to its codes. Codes of bytes are stored
// from there, a sector of memory at a time; packed ones are brought together in shared memory first, a tile of whole blocks of codes and whole groups.
#include "codes.h"
#include "kernels.h"

enum { SETUN_VALUES = 8192 }; /* values of a tile, at most */

/* A group of at most 32*QUADS*parts values. An octet of lanes has 32*QUADS of them and its lane j those at 4j .. 4j+3 and every 32 on: so a load is a whole
 * line, and what a lane of the rule S adds lies in one thread, in its order. A longer group is that of several octets, 1, 2 or 4, one after another. */
template <int QUADS> struct SetunGroup {
    float4 v[QUADS];
    int parts, part, first; /* octets of the group; which this one is; the place of the lane's first value */

    __device__ __forceinline__ explicit SetunGroup(int of) : parts(of), part(setun_lane() / 8 & (of - 1)), first(0) {
        first = part * (32 * QUADS) + setun_lane() % 8 * 4;
    }
    /* All loads are begun at once: those past the end of the group read its end, and then count as 0, which changes neither sum nor maximum. */
    __device__ __forceinline__ void load(const float *x, int n) {
        SETUN_UNROLL
        for (int k = 0; k < QUADS; k++) v[k] = __ldg((const float4 *)(x + (first + 32 * k < n ? first + 32 * k : n - 4)));
        if (n == 32 * QUADS * parts) return;
        SETUN_UNROLL
        for (int k = 0; k < QUADS; k++)
            if (first + 32 * k >= n) v[k] = {0, 0, 0, 0};
    }

    /* The rule A with float32 lanes, to all lanes of the group. Halves are added to each other, not one to the other, and each lane keeps a share of the sums:
     * the additions are those of the fold. */
    __device__ __forceinline__ double sum() const {
        float t[4] = {0, 0, 0, 0};
        SETUN_ROLL
        for (int turn = 0; turn < parts; turn++) { /* octet `turn` goes on from where the one before it has come to: in the end the last one is right */
            SETUN_UNROLL
            for (int e = 0; e < 4; e++)
                if (turn > 0) t[e] = __shfl_sync(SETUN_ALL, t[e], setun_lane() - 8);
            SETUN_UNROLL
            for (int k = 0; k < QUADS; k++) t[0] += fabsf(v[k].x), t[1] += fabsf(v[k].y), t[2] += fabsf(v[k].z), t[3] += fabsf(v[k].w);
        }
        const bool upper = (setun_lane() & 4) != 0, odd = (setun_lane() & 2) != 0;
        const float s0 = __shfl_xor_sync(SETUN_ALL, upper ? t[0] : t[2], 4), s1 = __shfl_xor_sync(SETUN_ALL, upper ? t[1] : t[3], 4);
        const double d0 = (double)(upper ? t[2] : t[0]) + (double)s0, d1 = (double)(upper ? t[3] : t[1]) + (double)s1; /* lanes 16 apart */
        double d = odd ? d1 : d0;
        d += __shfl_xor_sync(SETUN_ALL, odd ? d0 : d1, 2); /* 8 apart */
        d += __shfl_xor_sync(SETUN_ALL, d, 1);             /* 4 */
        d += __shfl_xor_sync(SETUN_ALL, d, 4);             /* 2 */
        d += __shfl_xor_sync(SETUN_ALL, d, 2);             /* 1 */
        return parts == 1 ? d : __shfl_sync(SETUN_ALL, d, setun_lane() | (8 * parts - 8));
    }
    /* That with float64 lanes of the n values at x, for the groups of the warp whose sum is not finite: rare, and by reading again. */
    __device__ __forceinline__ double sum_again(const float *x, int n, double sum) const {
        SETUN_ROLL
        for (int from = 0; from < 32; from += 8 * parts) {
            if (!__shfl_sync(SETUN_ALL, (int)(sum - sum != 0), from)) continue;
            const float *p = (const float *)__shfl_sync(SETUN_ALL, (long long)x, from);
            double t = 0;
            SETUN_ROLL
            for (int i = setun_lane(); i < n; i += 32) t += (double)fabsf(p[i]);
            t = __shfl_sync(SETUN_ALL, setun_fold(t), 0);
            if (setun_lane() / (8 * parts) * (8 * parts) == from) sum = t;
        }
        return sum;
    }
    __device__ __forceinline__ float greatest() const {
        unsigned most = 0;
        auto take = [&](float f) {
            unsigned u = __float_as_uint(fabsf(f));
            most = u > most ? u : most;
        };
        SETUN_UNROLL
        for (int k = 0; k < QUADS; k++) take(v[k].x), take(v[k].y), take(v[k].z), take(v[k].w);
        for (int w = 1; w < 8 * parts; w *= 2) {
            unsigned u = __shfl_xor_sync(SETUN_ALL, most, w);
            most = u > most ? u : most;
        }
        return __uint_as_float(most);
    }
    /* Of the group at x; not finite where a value is not. */
    __device__ __forceinline__ float scale(const float *x, int n, int rule) const {
        if (setun_first_is_max(rule)) return greatest();
        double s = sum();
        if (__any_sync(SETUN_ALL, s - s != 0)) s = sum_again(x, n, s);
        return (float)(s / (double)n);
    }
    /* Whether this lane is to write the group's scale. */
    __device__ __forceinline__ bool writes() const { return first == 0; }

    /* Four codes more than what the bytes of `bias` are: none carries into the next. */
    __device__ __forceinline__ unsigned codes(int k, unsigned bias, float cut) const {
        const float least = -cut;
        const unsigned plus = (v[k].x > cut ? 1u : 0u) + (v[k].y > cut ? 1u << 8 : 0u) + (v[k].z > cut ? 1u << 16 : 0u) + (v[k].w > cut ? 1u << 24 : 0u);
        const unsigned minus =
            (v[k].x < least ? 1u : 0u) + (v[k].y < least ? 1u << 8 : 0u) + (v[k].z < least ? 1u << 16 : 0u) + (v[k].w < least ? 1u << 24 : 0u);
        return bias + plus - minus;
    }
};

/* Codes of bytes: a warp has 4/parts groups at a time, of all there are. */
template <int QUADS>
SETUN_DEVICE void setun_group_bytes(const float *x, int64_t groups, int group, int parts, int rule, int levels, float *scales, unsigned *bad, uint8_t *out) {
    SetunGroup<QUADS> values(parts);
    const int each = 4 / parts, mine = setun_lane() / 8 / parts;
    const bool wide = ((uint64_t)out & 3) == 0;
    for (int64_t first = setun_warp() * each; first < groups; first += setun_warps() * each) {
        const bool live = first + mine < groups;
        const int64_t g = live ? first + mine : groups - 1;
        const float *from = x + g * group;
        values.load(from, group);
        const float s = values.scale(from, group, rule);
        const float2 cuts = setun_cuts(s, levels);
        uint8_t *to = out + g * group + values.first;
        SETUN_UNROLL
        for (int k = 0; k < QUADS; k++) {
            unsigned t = values.codes(k, 0x80808080u, cuts.x);
            if (levels == 5) t = values.codes(k, t, cuts.y);
            if (live && values.first + 32 * k < group) setun_store4(to + 32 * k, t ^ 0x80808080u, wide);
        }
        if (!live || !values.writes()) continue;
        scales[g] = s;
        if (s - s != 0) bad[0] = 1;
    }
}

/* A tile: some whole rows, or some columns of a row. */
struct SetunTile {
    int64_t row, unit, first; /* its first row, its first four bytes of codes in that, its first group */
    int rows, units, groups;  /* how many there are; units of a row */
};

/* Packed codes: a block of threads has a tile, of `lines` rows, or of `tile` columns where that is 1. The next values are on their way while a tile's codes are
 * stored, and shared memory is had twice, so that a tile takes one barrier. */
template <int PLANES, int QUADS>
SETUN_DEVICE void setun_group_packed(const float *x, int64_t rows, int64_t cols, int group, int parts, int tile, int lines, int rule, float *scales,
                                     unsigned *bad, uint8_t *out) {
    SETUN_SHARED(unsigned, codes, [2][SETUN_VALUES / 4]);
    SetunGroup<QUADS> values(parts);
    const int each = 4 / parts, mine = setun_lane() / 8 / parts, slots = 8 * each, slot = threadIdx.x / 32 * each;
    const int64_t across = (cols - 1) / tile + 1, of_row = cols / group, row_bytes = (cols - 1) / PLANES + 1;
    const int64_t down_step = gridDim.x / across, across_step = gridDim.x - down_step * across;
    const bool wide = setun_rows_of_fours(out, 4, rows, row_bytes);
    const int of_tile = tile / group, units = tile / (4 * PLANES);
    int64_t i = blockIdx.x / across, j = blockIdx.x - i * across;
    SetunTile at = {0, 0, 0, 0, 0, 0};
    auto place = [&](int s) { return x + (at.first + (s + mine < at.groups ? s + mine : at.groups - 1)) * group; };
    auto load = [&](int s) {
        if (s < at.groups) values.load(place(s), group);
    };
    auto begin = [&]() {
        at.row = i * lines;
        if (at.row >= rows) return;
        at.rows = (int)setun_least(rows - at.row, lines);
        at.first = at.row * of_row + j * of_tile, at.groups = at.rows * (int)setun_least(of_row - j * of_tile, of_tile);
        at.unit = j * units, at.units = j + 1 < across ? units : (int)((row_bytes - 1) / 4 + 1 - at.unit);
        load(slot);
    };
    begin();
    for (int turn = 0; at.row < rows; turn ^= 1) {
        for (int s = slot; s < at.groups; s += slots) {
            const float scale = values.scale(place(s), group, rule);
            const bool live = s + mine < at.groups;
            const int to = ((s + mine) * group + values.first) / 4;
            SETUN_UNROLL
            for (int k = 0; k < QUADS; k++)
                if (live && values.first + 32 * k < group) codes[turn][to + 8 * k] = values.codes(k, 0x01010101u, scale / 2);
            if (live && values.writes()) {
                scales[at.first + s + mine] = scale;
                if (scale - scale != 0) bad[0] = 1;
            }
            load(s + slots);
        }
        const SetunTile done = at;
        i += down_step, j += across_step;
        if (j >= across) j -= across, i++;
        begin();
        __syncthreads();
        const unsigned *from = codes[turn];
        for (int u = threadIdx.x; u < done.rows * done.units; u += blockDim.x) {
            const int r = done.rows == 1 ? 0 : u / done.units;
            const int64_t before = r * cols - done.unit * (4 * PLANES);
            setun_pack_unit<PLANES, true>(
                out + (done.row + r) * row_bytes, cols, done.unit + u - r * done.units, wide, [](int64_t) {},
                [&](int64_t col, int p) { return from[((int)(col + before) + 64 * p) / 4]; },
                [&](int64_t col) { return (int)((const uint8_t *)from)[col + before] - 1; });
        }
    }
}

/* places: blocks that a multiprocessor is to hold, see codes.cu. The PTX of tiles_base3 spills one word; with a place less there would be none. */
#define SETUN_TILES_BYTES(name, places, quads)                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256, places)                                                                                                  \
        name(const float *x, int64_t groups, int group, int parts, int rule, int levels, float *scales, unsigned *bad, uint8_t *out) {                         \
        setun_group_bytes<quads>(x, groups, group, parts, rule, levels, scales, bad, out);                                                                     \
    }
#define SETUN_TILES_PACKED(name, places, planes, quads)                                                                                                        \
    extern "C" __global__ void __launch_bounds__(256, places)                                                                                                  \
        name(const float *x, int64_t rows, int64_t cols, int group, int parts, int tile, int lines, int rule, float *scales, unsigned *bad, uint8_t *out) {    \
        setun_group_packed<planes, quads>(x, rows, cols, group, parts, tile, lines, rule, scales, bad, out);                                                   \
    }
SETUN_TILES_BYTES(tiles_int8, 4, 4)
SETUN_TILES_BYTES(tiles_long_int8, 3, 8)
SETUN_TILES_PACKED(tiles_2bit, 3, 4, 4)
SETUN_TILES_PACKED(tiles_long_2bit, 2, 4, 8)
SETUN_TILES_PACKED(tiles_base3, 3, 5, 4)
SETUN_TILES_PACKED(tiles_long_base3, 2, 5, 8)
