// SPDX-License-Identifier: Apache-2.0
//
// recode.cu: codes of one format in another. A thread makes four adjacent bytes of packed codes, or sixteen codes, from codes that it reads wherever they are.
// Planes are made bytes first, since where a sign lies depends on all codes before it.
#include "codes.h"
#include "kernels.h"

/* Codes of a row, one at a column, or four from a column on that is a multiple of 4. */
struct SetunBytes {
    enum { SLOW = 0 }; /* a code takes much work: loops of them are not unrolled */
    const uint8_t *codes;
    int64_t cols;
    bool wide;
    __device__ __forceinline__ SetunBytes(const uint8_t *all, int64_t rows, int64_t n)
        : codes(all), cols(n), wide(((uint64_t)all & 3) == 0 && (rows == 1 || (n & 3) == 0)) {}
    __device__ __forceinline__ int one(int64_t row, int64_t col) const { return (signed char)codes[row * cols + col]; }
    __device__ __forceinline__ int4 four(int64_t row, int64_t col) const {
        if (!wide) return {one(row, col), one(row, col + 1), one(row, col + 2), one(row, col + 3)};
        unsigned v = *(const unsigned *)(codes + row * cols + col);
        return {(signed char)v, (signed char)(v >> 8), (signed char)(v >> 16), (signed char)(v >> 24)};
    }
};

/* 2 bits and base 3. */
template <int PLANES> struct SetunPacked {
    enum { BLOCK = 64 * PLANES, SLOW = 0 };
    const uint8_t *codes;
    int64_t cols, full, row_bytes;
    bool wide;
    __device__ __forceinline__ SetunPacked(const uint8_t *all, int64_t rows, int64_t n)
        : codes(all), cols(n), full(n / BLOCK), row_bytes((n - 1) / PLANES + 1), wide(((uint64_t)all & 3) == 0 && (rows == 1 || (row_bytes & 3) == 0)) {}
    /* The codes + 1 of plane p of four bytes, each in a byte. */
    static __device__ __forceinline__ unsigned plane(unsigned bytes, int p) {
        if (PLANES == 4) return bytes >> 2 * p & 0x03030303u;
        unsigned power = p == 0 ? 1 : p == 1 ? 3 : p == 2 ? 9 : p == 3 ? 27 : 81;
        unsigned even = (bytes & 0x00ff00ffu) * power & 0x00ff00ffu, odd = (bytes >> 8 & 0x00ff00ffu) * power & 0x00ff00ffu;
        return (3 * even >> 8 & 0x00030003u) | ((3 * odd >> 8 & 0x00030003u) << 8);
    }
    __device__ __forceinline__ int one(int64_t row, int64_t col) const {
        int64_t block = col / BLOCK;
        int in = (int)(col - block * BLOCK), places = block < full ? 64 : ((int)(cols - full * BLOCK) + PLANES - 1) / PLANES;
        return (int)plane(codes[row * row_bytes + block * 64 + in % places], in / places) - 1;
    }
    __device__ __forceinline__ int4 four(int64_t row, int64_t col) const {
        int64_t block = col / BLOCK;
        if (block == full) return {one(row, col), one(row, col + 1), one(row, col + 2), one(row, col + 3)};
        int in = (int)(col - block * BLOCK);
        const uint8_t *at = codes + row * row_bytes + block * 64 + in % 64;
        unsigned v = wide ? *(const unsigned *)at : at[0] | (unsigned)at[1] << 8 | (unsigned)at[2] << 16 | (unsigned)at[3] << 24;
        v = plane(v, in / 64);
        return {(int)(v & 3) - 1, (int)(v >> 8 & 3) - 1, (int)(v >> 16 & 3) - 1, (int)(v >> 24) - 1};
    }
};

struct SetunFour5 {
    enum { SLOW = 1 };
    const uint8_t *codes;
    int64_t cols, full, row_bytes;
    int rest_places;
    __device__ __forceinline__ SetunFour5(const uint8_t *all, int64_t, int64_t n) : codes(all), cols(n), full(n / 256) {
        rest_places = ((int)(n - full * 256) + 3) / 4;
        row_bytes = full * 40 + (rest_places + 1) / 2 + (rest_places + 7) / 8;
    }
    __device__ __forceinline__ int one(int64_t row, int64_t col) const {
        int64_t block = col / 256;
        int in = (int)(col - block * 256), places = block < full ? 64 : rest_places, half = (places + 1) / 2, b = in % places, p = in / places;
        const uint8_t *at = codes + row * row_bytes + block * 40;
        int number = b < half ? at[b] & 15 : at[b - half] >> 4, zero = number >> 2, n = p - (p > zero);
        if (p == zero) return 0;
        int minus = (n > 0 ? number >> (2 - n) & 1 : 0) ^ (at[half + b / 8] >> b % 8 & 1);
        return minus ? -1 : 1;
    }
    __device__ __forceinline__ int4 four(int64_t row, int64_t col) const { return {one(row, col), one(row, col + 1), one(row, col + 2), one(row, col + 3)}; }
};

template <class Source> SETUN_DEVICE void setun_recode_bytes(const uint8_t *codes, int64_t rows, int64_t cols, uint8_t *out) {
    Source source(codes, rows, cols);
    bool wide = ((uint64_t)out & 3) == 0 && (rows == 1 || (cols & 3) == 0);
    setun_units(rows, ((cols - 1) / 512 + 1) * 32, [&](int64_t row, int64_t unit) {
        uint8_t *to = out + row * cols;
        int64_t col = unit / 32 * 512 + unit % 32 * 4;
        SETUN_UNROLL
        for (int u = 0; u < 4; u++, col += 128)
            if (col + 4 <= cols)
                setun_store4(to + col, setun_bytes4(source.four(row, col)), wide);
            else
                for (int64_t c = col; c < cols; c++) to[c] = (uint8_t)source.one(row, c);
    });
}

template <int PLANES, class Source> SETUN_DEVICE void setun_recode_packed(const uint8_t *codes, int64_t rows, int64_t cols, uint8_t *out) {
    Source source(codes, rows, cols);
    int64_t row_bytes = (cols - 1) / PLANES + 1;
    bool wide = ((uint64_t)out & 3) == 0 && (rows == 1 || (row_bytes & 3) == 0);
    setun_units(rows, (row_bytes - 1) / 4 + 1, [&](int64_t row, int64_t unit) {
        setun_pack_unit<PLANES, !Source::SLOW>(
            out + row * row_bytes, cols, unit, wide, [](int64_t) {},
            [&](int64_t col, int p) {
                int4 c = source.four(row, col + 64 * p);
                return setun_bytes4({c.x + 1, c.y + 1, c.z + 1, c.w + 1});
            },
            [&](int64_t col) { return source.one(row, col); });
    });
}

#define SETUN_RECODE(name, make, ...)                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(256, 3) name(const uint8_t *codes, int64_t rows, int64_t cols, uint8_t *out) {                                \
        make<__VA_ARGS__>(codes, rows, cols, out);                                                                                                             \
    }
SETUN_RECODE(recode_int8_2bit, setun_recode_packed, 4, SetunBytes)
SETUN_RECODE(recode_int8_base3, setun_recode_packed, 5, SetunBytes)
SETUN_RECODE(recode_2bit_int8, setun_recode_bytes, SetunPacked<4>)
SETUN_RECODE(recode_2bit_2bit, setun_recode_packed, 4, SetunPacked<4>)
SETUN_RECODE(recode_2bit_base3, setun_recode_packed, 5, SetunPacked<4>)
SETUN_RECODE(recode_base3_int8, setun_recode_bytes, SetunPacked<5>)
SETUN_RECODE(recode_base3_2bit, setun_recode_packed, 4, SetunPacked<5>)
SETUN_RECODE(recode_base3_base3, setun_recode_packed, 5, SetunPacked<5>)
SETUN_RECODE(recode_four5_int8, setun_recode_bytes, SetunFour5)
SETUN_RECODE(recode_four5_2bit, setun_recode_packed, 4, SetunFour5)
SETUN_RECODE(recode_four5_base3, setun_recode_packed, 5, SetunFour5)

/* A warp a row, 1024 codes at a time: a lane has 32 of them, and counts the signs of the lanes before it. */
extern "C" __global__ void __launch_bounds__(256)
    recode_planes_int8(const uint8_t *codes, const uint8_t *signs, const int64_t *index, int64_t first, int64_t rows, int64_t cols, uint8_t *out) {
    int64_t row_bytes = ((cols - 1) / 64 + 1) * 8;
    int lane = setun_lane();
    for (int64_t r = setun_warp(); r < rows; r += setun_warps()) {
        const uint8_t *in = codes + r * row_bytes, *sign = signs + (index[r] - first);
        int64_t seen = 0;
        for (int64_t at = 0; at < cols; at += 1024) {
            int64_t col = at + 32 * lane, byte = col / 8;
            unsigned mask = 0;
            if (col < cols) mask = in[byte] | (unsigned)in[byte + 1] << 8 | (unsigned)in[byte + 2] << 16 | (unsigned)in[byte + 3] << 24;
            if (cols - col < 32 && col < cols) mask &= (1u << (cols - col)) - 1;
            int mine = __popc(mask), upto = mine; /* the lane's, and those of the lanes before too */
            for (int w = 1; w < 32; w *= 2) {
                int other = __shfl_sync(SETUN_ALL, upto, lane >= w ? lane - w : 0);
                if (lane >= w) upto += other;
            }
            int64_t next = seen + upto - mine, end = setun_least(col + 32, cols);
            for (int64_t c = col; c < end; c++, mask >>= 1) {
                int code = 0;
                if (mask & 1) code = sign[next / 8] >> next % 8 & 1 ? -1 : 1, next++;
                out[r * cols + c] = (uint8_t)code;
            }
            seen += __shfl_sync(SETUN_ALL, upto, 31);
        }
    }
}
