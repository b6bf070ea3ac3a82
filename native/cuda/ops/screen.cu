// SPDX-License-Identifier: Apache-2.0
//
// screen.cu: k-means labels by way of the tensor cores. Rows and centroids are rounded to 16-bit floats, each row and all centroids scaled by a power of two
// first, and scored in matrix instructions. A row whose best score leads by more than twice the bound below has the label that the canonical chain
// would give; the others go to a list, to be scored in that chain. docs/numerics.md derives the bound.
//
// Needs compute capability 8.0: an image of its own.
#include "kernels80.h"
#include "sum.h"

#define POINTS 128
#define TILE 128 /* centroids scored at a time */

/* What the parts of a row's scores come to: the greatest, and the greatest of the others. The last four bits of a score say which of the 16 columns of a tile
 * that a thread has it belongs to: finding the greatest then costs no more than comparing. Of -infinity that makes a NaN, which is passed over for the best and
 * makes the second equal to it: the row is unsure. */
struct setun_top {
    float best, second;
    int tile; /* of the best */
};

SETUN_DEVICE float setun_marked(float s, int column) { return __uint_as_float((__float_as_uint(s) & ~15u) | (unsigned)column); }

template <bool PROVEN> SETUN_DEVICE void setun_enter(setun_top &t, float s) {
    if (PROVEN) t.second = fmaxf(t.second, fminf(t.best, s));
    t.best = fmaxf(t.best, s);
}

/* A row's winner among threads that had different columns. */
struct setun_winner {
    float best, second;
    int index;
};

SETUN_DEVICE void setun_merge(setun_winner &t, float best, float second, int index) {
    float low = fminf(best, t.best);
    t.index = best > t.best || (best == t.best && index < t.index) ? index : t.index;
    t.best = fmaxf(best, t.best);
    t.second = fmaxf(fmaxf(second, t.second), low);
}

/* The scale of a row: a power of two that brings its greatest magnitude m to 2^8 .. 2^9. */
SETUN_DEVICE float setun_row_scale(float m) {
    int e = (int)(__float_as_uint(m) >> 23) - 127; /* of a subnormal too low, which is right enough */
    e = e < -40 ? -40 : e > 100 ? 100 : e;         /* lower, what the canonical chain loses to underflow would count */
    return __uint_as_float((unsigned)(127 + 8 - e) << 23);
}

/* The label, and whether it may be wrong: E = norm * (relative * reach + absolute) + absolute * reach + scale * offset, as docs/numerics.md has it. */
SETUN_DEVICE void setun_decide(const setun_winner &t, int k, int64_t row, float scale, float norm, const float *bound, int32_t *label, int32_t *list,
                               unsigned *count) {
    bool filler = t.index >= k; /* seldom, where magnitudes are very far apart */
    label[row] = filler ? k - 1 : t.index;
    if (!list) return; /* fast numerics */
    float e = norm * (bound[0] * bound[1] + bound[2]) + bound[2] * bound[1] + scale * bound[3];
    if (filler || !(t.best - t.second > 2.04f * e + 0x1p-100f)) list[atomicAdd(count, 1u)] = (int32_t)row; /* also where something overflowed */
}

#if defined(SETUN_EMU)

/* To 11 significant bits, 2^-24 at the least, ties to even. */
static float setun_half(float v) {
    int e;
    frexpf(v, &e);
    float q = ldexpf(1, (e < -13 ? -13 : e) - 11);
    return rintf(v / q) * q;
}

static uint16_t setun_half_bits(float v) {
    float m = fabsf(setun_half(v));
    int e;
    frexpf(m, &e);
    int bits = m < 0x1p-14f ? (int)(m * 0x1p24f) : (int)(m * ldexpf(1, 11 - e)) - 1024 + ((e + 14) << 10);
    return (uint16_t)(bits | (v < 0 ? 0x8000 : 0));
}

static float setun_half_value(uint16_t h) {
    int e = h >> 10 & 31;
    float m = e == 0 ? ldexpf((float)(h & 1023), -24) : ldexpf((float)(1024 + (h & 1023)), e - 25);
    return h >> 15 ? -m : m;
}

static void setun_screen(const float *x, const float *unit, const float *mean, int64_t n, int d, int pitch, const uint16_t *centroids, const float *bias, int k,
                         int real, const float *bound, int32_t *label, int32_t *list, unsigned *count) {
    int64_t row = (int64_t)blockIdx.x * POINTS + threadIdx.x;
    if (threadIdx.x >= POINTS || row >= n) return;
    float v[256], most = 0, squares = 0;
    for (int p = 0; p < d; p++) {
        v[p] = x[row * d + p] * (unit ? unit[row] : 1) - mean[p];
        most = fabsf(v[p]) > most ? fabsf(v[p]) : most;
    }
    float scale = setun_row_scale(most);
    for (int p = 0; p < d; p++) {
        v[p] *= scale;
        squares += v[p] * v[p];
        v[p] = setun_half(v[p]);
    }
    setun_winner t = {-INFINITY, -INFINITY, 0};
    for (int j = 0; j < k; j++) {
        float s = 0;
        for (int p = 0; p < d; p++) s += v[p] * setun_half_value(centroids[(int64_t)j * pitch + p]);
        setun_merge(t, setun_marked(fmaf(bias[j], scale, s), j % 16), -INFINITY, j);
    }
    setun_decide(t, real, row, scale, (float)sqrt((double)squares) * 1.001f, bound, label, list, count);
}

extern "C" void screen_nearest(SETUN_SCREEN_PARAMETERS) { setun_screen(x, unit, mean, n, d, pitch, centroids, bias, k, real, bound, label, list, count); }
extern "C" void tensor_nearest(SETUN_SCREEN_PARAMETERS) {
    (void)list;
    setun_screen(x, unit, mean, n, d, pitch, centroids, bias, k, real, bound, label, nullptr, count);
}

#else

SETUN_DEVICE unsigned setun_shared_address(const void *p) {
    unsigned r;
    asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(r) : "l"(p));
    return r;
}

SETUN_DEVICE uint16_t setun_half(float v) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
    return h;
}

SETUN_DEVICE uint16_t setun_half_bits(float v) { return setun_half(v); }

SETUN_DEVICE void setun_matrices(unsigned r[4], unsigned at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

SETUN_DEVICE void setun_multiply(float c[4], const unsigned a[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Asks for a tile of centroids: rows of pitch values, in shared memory pitch + 8 apart, which spreads them over the banks. */
SETUN_DEVICE void setun_ask(uint16_t *to, const uint16_t *from, int pitch) {
    int pieces = pitch / 8; /* of 16 bytes, in a row */
    for (int i = (int)threadIdx.x; i < TILE * pieces; i += (int)blockDim.x) {
        int r = i / pieces, p = i % pieces;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(setun_shared_address(to + r * (pitch + 8) + 8 * p)),
                     "l"(from + (int64_t)r * pitch + 8 * p)
                     : "memory");
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Rows of the block, centred and scaled, to shared memory: a warp takes 16 of them, four at a time. */
SETUN_DEVICE void setun_rows(uint16_t *to, float *scales, float *norms, const float *x, const float *unit, const float *mean, int64_t first, int64_t n, int d,
                             int pitch) {
    int lane = setun_lane(), base = (int)(threadIdx.x / 32) * 16;
    for (int r = base; r < base + 16; r += 4) {
        float v[4][8];
        SETUN_UNROLL
        for (int q = 0; q < 4; q++) SETUN_UNROLL
        for (int u = 0; u < 8; u++) v[q][u] = lane + 32 * u < d && first + r + q < n ? x[(first + r + q) * d + lane + 32 * u] : 0;
        SETUN_UNROLL
        for (int q = 0; q < 4; q++) {
            bool there = first + r + q < n;
            float w = unit && there ? unit[first + r + q] : 1, most = 0, squares = 0;
            SETUN_UNROLL
            for (int u = 0; u < 8; u++) {
                v[q][u] = there && lane + 32 * u < d ? v[q][u] * w - mean[lane + 32 * u] : 0;
                most = fabsf(v[q][u]) > most ? fabsf(v[q][u]) : most;
            }
            for (int o = 16; o > 0; o /= 2) {
                float other = __shfl_xor_sync(SETUN_ALL, most, o);
                most = other > most ? other : most;
            }
            float scale = setun_row_scale(most);
            SETUN_UNROLL
            for (int u = 0; u < 8; u++) {
                float s = v[q][u] * scale;
                squares += s * s;
                if (lane + 32 * u < pitch) to[(r + q) * (pitch + 8) + lane + 32 * u] = setun_half(s);
            }
            for (int o = 16; o > 0; o /= 2) squares += __shfl_xor_sync(SETUN_ALL, squares, o);
            if (lane == 0) scales[r + q] = scale, norms[r + q] = (float)sqrt((double)squares) * 1.001f;
        }
    }
}

/* STEPS: those of 16 columns in a row, or 0 for any number. */
template <bool PROVEN, int STEPS>
SETUN_DEVICE void setun_screen(const float *x, const float *unit, const float *mean, int64_t n, int d, int pitch_given, const uint16_t *centroids,
                               const float *bias, int k, int real, const float *bound, int32_t *label, int32_t *list, unsigned *count) {
    const int pitch = STEPS > 0 ? 16 * STEPS : pitch_given;
    SETUN_DYNAMIC(uint16_t, memory);
    SETUN_SHARED(float, scales, [POINTS]);
    SETUN_SHARED(float, norms, [POINTS]);
    SETUN_SHARED(float, others, [POINTS][3]);
    int stride = pitch + 8;
    uint16_t *rows = memory, *tiles = memory + POINTS * stride;
    int64_t first = (int64_t)blockIdx.x * POINTS;
    int lane = setun_lane(), warp = (int)(threadIdx.x / 32), down = warp % 4 * 32, across = warp / 4 * 64;
    setun_ask(tiles, centroids, pitch);
    setun_rows(rows, scales, norms, x, unit, mean, first, n, d, pitch);
    __syncthreads();
    setun_top top[4];
    float scale[4];
    SETUN_UNROLL
    for (int r = 0; r < 4; r++) {
        top[r].best = top[r].second = __uint_as_float(0xff800000u), top[r].tile = 0;
        scale[r] = scales[down + r * 8 + lane / 4];
    }
    /* Where a lane points at for its part of four 8x8 matrices. */
    unsigned a_at = setun_shared_address(rows + (down + lane % 16) * stride + lane / 16 * 8);
    unsigned b_at = setun_shared_address(tiles + (across + lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8);
    int count_tiles = k / TILE;
    for (int tile = 0; tile < count_tiles; tile++) {
        if (tile + 1 < count_tiles) {
            setun_ask(tiles + (tile + 1) % 2 * TILE * stride, centroids + (int64_t)(tile + 1) * TILE * pitch, pitch);
            asm volatile("cp.async.wait_group 1;" ::: "memory");
        } else {
            asm volatile("cp.async.wait_group 0;" ::: "memory");
        }
        __syncthreads();
        float c[2][8][4];
        SETUN_UNROLL
        for (int i = 0; i < 2; i++) SETUN_UNROLL
        for (int j = 0; j < 8; j++) c[i][j][0] = c[i][j][1] = c[i][j][2] = c[i][j][3] = 0;
        unsigned from = b_at + (unsigned)(tile % 2 * TILE * stride * 2);
        auto step = [&](int p) {
            unsigned a[2][4];
            setun_matrices(a[0], a_at + (unsigned)(2 * p));
            setun_matrices(a[1], a_at + (unsigned)(2 * (p + 16 * stride)));
            SETUN_UNROLL
            for (int j = 0; j < 4; j++) {
                unsigned b[4];
                setun_matrices(b, from + (unsigned)(2 * (p + j * 16 * stride)));
                SETUN_UNROLL
                for (int i = 0; i < 2; i++) {
                    setun_multiply(c[i][2 * j], a[i], b[0], b[1]);
                    setun_multiply(c[i][2 * j + 1], a[i], b[2], b[3]);
                }
            }
        };
        if constexpr (STEPS > 0) {
            SETUN_UNROLL
            for (int p = 0; p < 16 * STEPS; p += 16) step(p);
        } else {
            for (int p = 0; p < pitch; p += 16) step(p);
        }
        float before[4];
        SETUN_UNROLL
        for (int r = 0; r < 4; r++) before[r] = top[r].best;
        const float2 *biases = (const float2 *)(bias + tile * TILE + across) + lane % 4;
        SETUN_UNROLL
        for (int j = 0; j < 8; j++) {
            float2 b = biases[4 * j];
            SETUN_UNROLL
            for (int r = 0; r < 4; r++) { /* row r of the lane: half r % 2 of matrix r / 2 */
                setun_enter<PROVEN>(top[r], setun_marked(fmaf(b.x, scale[r], c[r / 2][j][r % 2 * 2]), 2 * j));
                setun_enter<PROVEN>(top[r], setun_marked(fmaf(b.y, scale[r], c[r / 2][j][r % 2 * 2 + 1]), 2 * j + 1));
            }
        }
        SETUN_UNROLL
        for (int r = 0; r < 4; r++) top[r].tile = top[r].best > before[r] ? tile : top[r].tile;
        __syncthreads(); /* the tile is done with */
    }
    setun_winner won[4];
    SETUN_UNROLL
    for (int r = 0; r < 4; r++) {
        int column = (int)(__float_as_uint(top[r].best) & 15);
        won[r].best = top[r].best, won[r].second = top[r].second;
        won[r].index = top[r].tile * TILE + across + column / 2 * 8 + lane % 4 * 2 + column % 2;
        for (int o = 1; o <= 2; o *= 2)
            setun_merge(won[r], __shfl_xor_sync(SETUN_ALL, won[r].best, o), __shfl_xor_sync(SETUN_ALL, won[r].second, o),
                        __shfl_xor_sync(SETUN_ALL, won[r].index, o));
        if (across > 0 && lane % 4 == 0) {
            int at = down + r * 8 + lane / 4;
            others[at][0] = won[r].best, others[at][1] = won[r].second, others[at][2] = __uint_as_float((unsigned)won[r].index);
        }
    }
    __syncthreads();
    if (across > 0 || lane % 4 != 0) return;
    SETUN_UNROLL
    for (int r = 0; r < 4; r++) {
        int at = down + r * 8 + lane / 4;
        if (first + at >= n) continue;
        setun_merge(won[r], others[at][0], others[at][1], (int)__float_as_uint(others[at][2]));
        setun_decide(won[r], real, first + at, scale[r], norms[at], bound, label, PROVEN ? list : nullptr, count);
    }
}

#define SETUN_SCREEN(name, PROVEN)                                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256, 2) name(SETUN_SCREEN_PARAMETERS) {                                                                       \
        if (pitch == 128)                                                                                                                                      \
            setun_screen<PROVEN, 8>(x, unit, mean, n, d, pitch, centroids, bias, k, real, bound, label, list, count);                                          \
        else                                                                                                                                                   \
            setun_screen<PROVEN, 0>(x, unit, mean, n, d, pitch, centroids, bias, k, real, bound, label, list, count);                                          \
    }
SETUN_SCREEN(screen_nearest, true)
SETUN_SCREEN(tensor_nearest, false)
#undef SETUN_SCREEN

#endif

/* A warp a centroid. */
extern "C" __global__ void __launch_bounds__(256) screen_reach(const float *centroids, const float *bias, int k, int d, unsigned long long *reach) {
    for (int64_t j = setun_warp(); j < k; j += setun_warps()) {
        float most = 0;
        double squares = 0;
        for (int p = setun_lane(); p < d; p += 32) {
            const float v = fabsf(centroids[j * d + p]);
            most = v > most ? v : most;
            squares += (double)v * (double)v;
        }
        squares = setun_fold(squares);
        for (int o = 16; o > 0; o /= 2) {
            const float other = __shfl_down_sync(SETUN_ALL, most, o);
            most = other > most ? other : most;
        }
        if (setun_lane() > 0) continue;
        atomicMax(reach, (unsigned long long)__float_as_uint(most)); /* bits of magnitudes have their order */
        atomicMax(reach + 1, (unsigned long long)__float_as_uint(fabsf(bias[j])));
        atomicMax(reach + 2, (unsigned long long)__double_as_longlong(squares));
    }
}

extern "C" __global__ void __launch_bounds__(256)
    screen_terms(const unsigned long long *reach, const float *bias, int k, int real, int d, float *bound, float *scaled, unsigned *good) {
    SETUN_SHARED(unsigned, wrong, );
    const unsigned most = (unsigned)reach[0];
    int e = most > 0 ? 9 - ((int)(most >> 23) - 126) : 0; /* to 2^8 .. 2^9; of a subnormal too much, which is refused anyway */
    /* Smaller centroids come near to where the canonical chain underflows; and biases must stay exact. */
    const bool range = e <= 40 && e >= -64;
    e = range ? e : 0;
    if (threadIdx.x == 0) wrong = !range;
    __syncthreads();
    const double scale = __longlong_as_double((long long)(1023 + e) << 52);
    for (int j = threadIdx.x; j < k; j += blockDim.x) {
        const double v = j < real ? (double)bias[j] * scale : -0x1p79;
        scaled[j] = (float)v;
        if ((double)(float)v != v) atomicOr(&wrong, 1u);
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    const double n = d;
    bound[0] = (float)(1.01 * (0x1p-10 + 0x1p-18 + (n + 16) * 0x1p-21 + 2 * n * 0x1p-24));
    bound[1] = (float)(1.001 * scale * sqrt(__longlong_as_double((long long)reach[2])));
    bound[2] = (float)(1.01 * 0x1p-25 * sqrt(n));
    bound[3] = (float)(1.01 * 0x1p-24 * (n + 72) * (double)__uint_as_float((unsigned)reach[1]) * scale);
    bound[4] = (float)scale;
    good[0] = !wrong;
}

extern "C" __global__ void __launch_bounds__(256) screen_centroids(const float *from, int k, int d, int pitch, int64_t n, const float *bound, uint16_t *to) {
    const float scale = bound[4];
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < n; at += step) {
        int64_t j = at / pitch, p = at % pitch;
        to[at] = setun_half_bits(j < k && p < d ? from[j * d + p] * scale : 0);
    }
}

/* A warp a row. */
extern "C" __global__ void __launch_bounds__(256)
    screen_gather(const float *x, const float *unit, int d, const int32_t *list, int64_t n, float *rows, float *units) {
    for (int64_t r = setun_warp(); r < n; r += setun_warps()) {
        int64_t from = list[r];
        for (int p = setun_lane(); p < d; p += 32) rows[r * d + p] = x[from * d + p];
        if (unit && setun_lane() == 0) units[r] = unit[from];
    }
}

extern "C" __global__ void __launch_bounds__(256) screen_scatter(const int32_t *list, const int32_t *from, int64_t n, int32_t *labels) {
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t r = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; r < n; r += step) labels[list[r]] = from[r];
}
