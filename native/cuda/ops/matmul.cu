// SPDX-License-Identifier: Apache-2.0
//
// matmul.cu: C = A B in float32. Each element of C is one chain over p in rising order, so the work is cut by elements of C only.
//
// A tile of C stays in the registers of a block while slices of A and B pass through shared memory, one ahead of the one that is multiplied. Where the last
// slice ends beyond k it is filled up with -0 for A and +0 for B: their product, -0, leaves any sum as it is, a zero of either sign too.
#include "kernels.h"
#include "sum.h"

#define TRANS_A 1
#define TRANS_B 2
#define ACCUMULATE 4
#define VECTOR_A 8 /* quads of four values are aligned to 16 bytes */
#define VECTOR_B 16
#define VECTOR_C 32

/* A quad is four values of an operand: steps p .. p+3 of a line (a row of A, a column of B) when lines run along memory, else four lines at step p. Where a
 * thread reads it in a slice that begins at x, whose last line is `last`. Beyond that the last line is read again, and what comes of it is not stored. */
SETUN_DEVICE const float *setun_quad_at(const float *x, int64_t ld, bool along, int line, int step, int last) {
    line = line < last ? line : last;
    return x + (along ? line * ld + step : line + step * ld);
}

/* A quad with fewer than four lines or steps, or not aligned: `after` lines behind its first one, `left` steps from its first one on, and then `rest`. */
SETUN_DEVICE float4 setun_slow_quad(const float *from, bool along, int after, int left, float rest) {
    float4 v = {rest, rest, rest, rest};
    const int last = along ? 3 : after < 0 ? 0 : after, steps = along ? left : 4 * left;
    if (steps > 0) v.x = from[0];
    if (steps > 1) v.y = from[last < 1 ? last : 1];
    if (steps > 2) v.z = from[last < 2 ? last : 2];
    if (steps > 3) v.w = from[last < 3 ? last : 3];
    return v;
}

/* To where steps are `pitch` apart and lines 1. */
SETUN_DEVICE void setun_put_turned(float *to, float4 v, int pitch) { to[0] = v.x, to[pitch] = v.y, to[2 * pitch] = v.z, to[3 * pitch] = v.w; }

/* The same number, which the compiler does not know: what is computed from it is not kept in registers for later. */
SETUN_DEVICE int setun_hidden(int v) {
#if !defined(SETUN_EMU)
    asm volatile("" : "+r"(v));
#endif
    return v;
}

/* Where a block of threads is: a product of the batch, and a tile of it. Tiles go down in bands of 16 rows of them, so that those that run at the same time
 * share what they read. */
struct setun_tile {
    int64_t product, down, across;
};

SETUN_DEVICE setun_tile setun_tile_at(int64_t index, int64_t down, int64_t across) {
    setun_tile t;
    int64_t each = down * across;
    t.product = index / each;
    int64_t i = index - t.product * each, band = i / (16 * across), rows = setun_least(16, down - 16 * band);
    i -= band * 16 * across;
    t.across = i / rows;
    t.down = 16 * band + (i - t.across * rows);
    return t;
}

/* Tiles of 64*G by 64*G elements, 4*G by 4*G a thread, in slices of 16/G steps: each thread brings one quad of A and one of B a slice. */
template <int G>
SETUN_DEVICE void setun_matmul_tile(const float *a, const float *b, float *c, int64_t m, int64_t n, int k, int64_t lda, int64_t ldb, int64_t ldc,
                                    int64_t stride_a, int64_t stride_b, int64_t stride_c, int flags, int64_t first) {
    constexpr int TILE = 64 * G, STEPS = 16 / G, PITCH = TILE + 4; /* the pitch spreads what is stored turned over the banks */
    SETUN_SHARED(float4, slice_a, [2][STEPS][PITCH / 4]);
    SETUN_SHARED(float4, slice_b, [2][STEPS][PITCH / 4]);
    const setun_tile at = setun_tile_at(first + blockIdx.x, (m - 1) / TILE + 1, (n - 1) / TILE + 1);
    const int64_t top = at.down * TILE, left = at.across * TILE;
    const int rows = (int)setun_least(m - top, TILE), cols = (int)setun_least(n - left, TILE), t = threadIdx.x;
    const int down = (t / 64 * 4 + t % 32 / 8) * 4, across = (t / 32 % 2 * 8 + t % 8) * 4; /* a warp reads 4 quads of A and 8 of B */
    c += at.product * stride_c + top * ldc + left;

    a += at.product * stride_a, b += at.product * stride_b;

    const bool along_a = !(flags & TRANS_A), along_b = flags & TRANS_B;
    auto line_of = [](int t, bool along) { return along ? t / (STEPS / 4) : t % (TILE / 4) * 4; };
    auto step_of = [](int t, bool along) { return along ? t % (STEPS / 4) * 4 : t / (TILE / 4); };
    const float *from_a = setun_quad_at(a + (along_a ? top * lda : top), lda, along_a, line_of(t, along_a), step_of(t, along_a), rows - 1);
    const float *from_b = setun_quad_at(b + (along_b ? left * ldb : left), ldb, along_b, line_of(t, along_b), step_of(t, along_b), cols - 1);
    const bool quads_a = (flags & VECTOR_A) && (along_a || line_of(t, false) + 4 <= rows);
    const bool quads_b = (flags & VECTOR_B) && (along_b || line_of(t, false) + 4 <= cols);
    auto quad = [&](const float *from, int64_t ld, bool along, bool quads, int lines, int p, float rest) {
        from += along ? p : p * ld;
        if (quads && p + STEPS <= k) return __ldg((const float4 *)from);
        const int h = setun_hidden(t);
        return setun_slow_quad(from, along, lines - 1 - line_of(h, along), k - p - step_of(h, along), rest);
    };
    float4 ask_a, ask_b;
    auto ask = [&](int p) {
        ask_a = quad(from_a, lda, along_a, quads_a, rows, p, -0.0f);
        ask_b = quad(from_b, ldb, along_b, quads_b, cols, p, 0.0f);
    };
    auto put_quad = [&](float4 *slice, float4 v, bool along) {
        float *to = (float *)slice + step_of(t, along) * PITCH + line_of(t, along);
        if (along)
            setun_put_turned(to, v, PITCH);
        else
            *(float4 *)to = v;
    };
    auto put = [&](int half) {
        put_quad(slice_a[half][0], ask_a, along_a);
        put_quad(slice_b[half][0], ask_b, along_b);
    };

    float s[4 * G][4 * G];
    SETUN_UNROLL
    for (int i = 0; i < 4 * G; i++) SETUN_UNROLL
    for (int j = 0; j < 4 * G; j++) s[i][j] = 0;
    if (flags & ACCUMULATE) {
        SETUN_UNROLL
        for (int i = 0; i < 4 * G; i++) {
            const int row = setun_hidden(i / 4 * 64 + down + i % 4);
            SETUN_UNROLL
            for (int j = 0; j < 4 * G; j++) {
                const int col = j / 4 * 64 + across + j % 4;
                if (row < rows && col < cols) s[i][j] = c[row * ldc + col];
            }
        }
    }

    ask(0);
    put(0);
    __syncthreads();
    int half = 0;
    for (int p = 0; p < k; p += STEPS) {
        const bool more = p + STEPS < k;
        if (more) ask(p + STEPS);
        SETUN_UNROLL
        for (int q = 0; q < STEPS; q++) {
            float u[4 * G], v[4 * G];
            SETUN_UNROLL
            for (int g = 0; g < G; g++) {
                const float4 x = slice_a[half][q][16 * g + down / 4], y = slice_b[half][q][16 * g + across / 4];
                u[4 * g] = x.x, u[4 * g + 1] = x.y, u[4 * g + 2] = x.z, u[4 * g + 3] = x.w;
                v[4 * g] = y.x, v[4 * g + 1] = y.y, v[4 * g + 2] = y.z, v[4 * g + 3] = y.w;
            }
            SETUN_UNROLL
            for (int i = 0; i < 4 * G; i++) SETUN_UNROLL
            for (int j = 0; j < 4 * G; j++) s[i][j] = fmaf(u[i], v[j], s[i][j]);
        }
        half ^= 1;
        if (more) put(half); /* the barrier before last ended all reads of it */
        __syncthreads();
    }

    const int row0 = setun_hidden(down), col0 = setun_hidden(across);
    SETUN_UNROLL
    for (int i = 0; i < 4 * G; i++) {
        const int row = setun_hidden(i / 4 * 64 + row0 + i % 4);
        if (row >= rows) continue;
        SETUN_UNROLL
        for (int g = 0; g < G; g++) {
            const int col = g * 64 + col0;
            float *to = c + row * ldc + col;
            if ((flags & VECTOR_C) && col + 4 <= cols) {
                float4 v = {s[i][4 * g], s[i][4 * g + 1], s[i][4 * g + 2], s[i][4 * g + 3]};
                *(float4 *)to = v;
                continue;
            }
            SETUN_UNROLL
            for (int j = 0; j < 4; j++)
                if (col + j < cols) to[j] = s[i][4 * g + j];
        }
    }
}

#define SETUN_MATMUL(name, G, BLOCKS)                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                                                  \
        name(const float *a, const float *b, float *c, int64_t m, int64_t n, int k, int64_t lda, int64_t ldb, int64_t ldc, int64_t stride_a, int64_t stride_b, \
             int64_t stride_c, int flags, int64_t first) {                                                                                                     \
        setun_matmul_tile<G>(a, b, c, m, n, k, lda, ldb, ldc, stride_a, stride_b, stride_c, flags, first);                                                     \
    }
SETUN_MATMUL(matmul_128, 2, 2)
SETUN_MATMUL(matmul_64, 1, 3)
#undef SETUN_MATMUL

/* Few rows: tiles of 8 by 32 elements, one a thread, in slices of 128 steps, so that much of B is on its way. An element of C is down * its row + across * its
 * column from the first, which lets the host turn a product with few columns. */
extern "C" __global__ void __launch_bounds__(256)
    matmul_thin(const float *a, const float *b, float *c, int64_t m, int64_t n, int k, int64_t lda, int64_t ldb, int64_t down, int64_t across, int64_t stride_a,
                int64_t stride_b, int64_t stride_c, int flags, int64_t first) {
    constexpr int STEPS = 128, PITCH = 33; /* of B; odd, so that neither storing nor reading waits for a bank */
    SETUN_SHARED(float4, slice_a, [8][STEPS / 4 + 1]);
    SETUN_SHARED(float, slice_b, [STEPS][PITCH]);
    const setun_tile at = setun_tile_at(first + blockIdx.x, (m - 1) / 8 + 1, (n - 1) / 32 + 1);
    const int64_t top = at.down * 8, left = at.across * 32;
    const int t = threadIdx.x, lane = t % 32, warp = t / 32;
    a += at.product * stride_a, b += at.product * stride_b, c += at.product * stride_c;
    const bool along_a = !(flags & TRANS_A), along_b = flags & TRANS_B;
    const int rows = (int)setun_least(m - top, 8), cols = (int)setun_least(n - left, 32);
    const int line_a = along_a ? t / 32 : t % 2 * 4, step_a = along_a ? t % 32 * 4 : t / 2;
    const int line_b = along_b ? t / 4 % 32 : t % 8 * 4, step_b = along_b ? t / 128 * 16 + t % 4 * 4 : t / 8; /* and 32 steps further thrice */
    const float *from_a = setun_quad_at(a + (along_a ? top * lda : top), lda, along_a, line_a, step_a, rows - 1);
    const float *from_b = setun_quad_at(b + (along_b ? left * ldb : left), ldb, along_b, line_b, step_b, cols - 1);
    const bool quads_a = (flags & VECTOR_A) && (along_a || line_a + 4 <= rows), quads_b = (flags & VECTOR_B) && (along_b || line_b + 4 <= cols);
    auto quad = [&](const float *from, int64_t ld, bool along, bool quads, int after, int p, int left_steps, float rest) {
        from += along ? p : p * ld;
        if (quads && left_steps >= (along ? 4 : 1)) return __ldg((const float4 *)from);
        return setun_slow_quad(from, along, after, left_steps, rest);
    };
    float4 ask_a, ask_b[4];
    auto ask = [&](int p) {
        ask_a = quad(from_a, lda, along_a, quads_a, rows - 1 - line_a, p, k - p - step_a, -0.0f);
        SETUN_UNROLL
        for (int i = 0; i < 4; i++) ask_b[i] = quad(from_b, ldb, along_b, quads_b, cols - 1 - line_b, p + 32 * i, k - p - 32 * i - step_b, 0.0f);
    };
    auto put = [&] {
        float *to = (float *)slice_a[line_a] + step_a;
        if (along_a)
            *(float4 *)to = ask_a;
        else
            setun_put_turned(to, ask_a, STEPS + 4);
        SETUN_UNROLL
        for (int i = 0; i < 4; i++) setun_put_turned(&slice_b[32 * i + step_b][line_b], ask_b[i], along_b ? PITCH : 1);
    };

    const int64_t row = top + warp, col = left + lane;
    const bool mine = row < m && col < n;
    float *to = c + row * down + col * across, s = mine && (flags & ACCUMULATE) ? *to : 0;
    ask(0);
    for (int p = 0; p < k; p += STEPS) {
        put();
        __syncthreads();
        if (p + STEPS < k) ask(p + STEPS);
        if (row < m) SETUN_UNROLL
        for (int q = 0; q < STEPS / 4; q++) {
            const float4 u = slice_a[warp][q];
            s = fmaf(u.x, slice_b[4 * q][lane], s);
            s = fmaf(u.y, slice_b[4 * q + 1][lane], s);
            s = fmaf(u.z, slice_b[4 * q + 2][lane], s);
            s = fmaf(u.w, slice_b[4 * q + 3][lane], s);
        }
        __syncthreads();
    }
    if (mine) *to = s;
}

#undef TRANS_A
#undef TRANS_B
#undef ACCUMULATE
#undef VECTOR_A
#undef VECTOR_B
#undef VECTOR_C
