// SPDX-License-Identifier: Apache-2.0
//
// quantize.cu: the first half of quantize, the scale of each group and the cuts of its codes. A tensor with one scale is one row that is one group. A short
// group is a warp's, from the sum to the last round; a long one is cut into chunks, whose sums a block brings together after each reading of the values.
#include "kernels.h"
#include "sum.h"

enum { SETUN_RULE_SQUARES = 2, SETUN_RULE_MAX = 3, SETUN_RULE_MAGNITUDE = 4, SETUN_RULE_RANDOM = 5, SETUN_ROUNDS = 16 };

SETUN_DEVICE bool setun_first_is_max(int rule) { return rule == SETUN_RULE_MAX || rule == SETUN_RULE_RANDOM; }
SETUN_DEVICE bool setun_has_rounds(int rule) { return rule == SETUN_RULE_SQUARES || rule == SETUN_RULE_MAGNITUDE; }
SETUN_DEVICE float2 setun_cuts(float s, int levels) {
    if (levels == 3) return {s / 2, 0x1.fffffep127f}; /* nothing finite lies above that */
    return {s / 4, 0.75f * s};
}
/* The least-squares scale of codes: the sum of what they select, how many are not 0, how many are 2. */
SETUN_DEVICE float setun_next_scale(double total, int64_t ones, int64_t twos, int levels) {
    return levels == 3 ? (float)(total / (double)ones) : (float)(4 * total / ((double)(ones - twos) + 4 * (double)twos));
}
SETUN_DEVICE double setun_energy(int64_t ones, int64_t twos, int levels) { return levels == 3 ? (double)ones : ((double)(ones - twos) + 4 * (double)twos) / 4; }

SETUN_DEVICE int setun_warp_sum(int v) {
    for (int w = 16; w > 0; w /= 2) v += __shfl_xor_sync(SETUN_ALL, v, w);
    return v;
}

/* The greatest bits of |x[i]| of a chunk, to all lanes. */
SETUN_DEVICE unsigned setun_greatest_chunk(const float *x, int n) {
    unsigned most = 0;
    setun_lane_values(x, n, [&](float v) {
        unsigned u = __float_as_uint(v) & 0x7fffffffu;
        most = u > most ? u : most;
    });
    for (int w = 16; w > 0; w /= 2) {
        unsigned u = __shfl_xor_sync(SETUN_ALL, most, w);
        most = u > most ? u : most;
    }
    return most;
}

/* A chunk of the rule A over what the cuts select, in lane 0; ones and twos of the lane's values are counted. */
SETUN_DEVICE double setun_selected_chunk(const float *x, int n, float2 cuts, float small, int *ones, int *twos) {
    auto selected = [=](float v) {
        float m = fabsf(v);
        return m > cuts.y ? m : m > cuts.x ? small * m : 0.0f;
    };
    float t = 0;
    int above = 0, twice = 0;
    setun_lane_values(x, n, [&](float v) {
        t += selected(v);
        above += fabsf(v) > cuts.x, twice += fabsf(v) > cuts.y;
    });
    *ones += above, *twos += twice;
    double s = setun_fold((double)t);
    s = __shfl_sync(SETUN_ALL, s, 0);
    if (s - s == 0) return s;
    double w = 0; /* float32 has overflown: rare */
    for (int i = setun_lane(); i < n; i += 32) w += (double)selected(x[i]);
    return setun_fold(w);
}

/* ---- Short groups: a warp a group -------------------------------------------------------------------------------------- */

template <bool ROUNDS>
SETUN_DEVICE void setun_short_groups(const float *x, int64_t rows, int64_t cols, int64_t group, int rule, int levels, float *scales, float *cuts,
                                     unsigned *bad) {
    int64_t groups = (cols - 1) / group + 1, all = rows * groups;
    float small = levels == 3 ? 1.0f : 0.5f;
    for (int64_t g = setun_warp(); g < all; g += setun_warps()) {
        int64_t row = rows == 1 ? 0 : g / groups, col = (g - row * groups) * group;
        const float *v = x + row * cols + col;
        int n = (int)setun_least(group, cols - col);
        float s;
        if (!ROUNDS && setun_first_is_max(rule))
            s = __uint_as_float(setun_greatest_chunk(v, n));
        else
            s = (float)(__shfl_sync(SETUN_ALL, setun_abs_chunk(v, n), 0) / (double)n);
        if (s - s != 0) { /* the mean of finite magnitudes is one */
            if (setun_lane() == 0) bad[0] = 1;
            continue;
        }
        float2 c = setun_cuts(s, levels);
        if (ROUNDS) {
            int ones = -1, twos = -1;
            for (int round = 0;; round++) {
                int above = 0, twice = 0;
                double total = setun_selected_chunk(v, n, c, small, &above, &twice);
                above = setun_warp_sum(above), twice = setun_warp_sum(twice);
                if (above == ones && twice == twos) break; /* nested sets: equal counts are equal codes */
                ones = above, twos = twice;
                if (ones == 0 || round == SETUN_ROUNDS) break;
                s = setun_next_scale(__shfl_sync(SETUN_ALL, total, 0), ones, twos, levels);
                c = setun_cuts(s, levels);
            }
            double energy = setun_energy(ones, twos, levels);
            if (rule == SETUN_RULE_MAGNITUDE && energy > 0) s = (float)sqrt(__shfl_sync(SETUN_ALL, setun_square_chunk(v, n), 0) / energy);
        }
        if (setun_lane() == 0) {
            scales[g] = s;
            cuts[2 * g] = c.x, cuts[2 * g + 1] = c.y;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
    group_scale(const float *x, int64_t rows, int64_t cols, int64_t group, int rule, int levels, float *scales, float *cuts, unsigned *bad) {
    setun_short_groups<false>(x, rows, cols, group, rule, levels, scales, cuts, bad);
}
extern "C" __global__ void __launch_bounds__(256)
    group_rounds(const float *x, int64_t rows, int64_t cols, int64_t group, int rule, int levels, float *scales, float *cuts, unsigned *bad) {
    setun_short_groups<true>(x, rows, cols, group, rule, levels, scales, cuts, bad);
}

/* ---- Long groups: a warp a chunk, then a block a group ------------------------------------------------------------------ */

/* Calls body(group, chunk's place in the arrays of chunks, its values, how many) for the chunks of all groups. */
template <class Body> SETUN_DEVICE void setun_group_chunks(const float *x, int64_t rows, int64_t cols, int64_t group, Body body) {
    int64_t groups = (cols - 1) / group + 1, chunks = (group - 1) / SETUN_CHUNK + 1, all = rows * groups;
    for (int64_t t = setun_warp(); t < all * chunks; t += setun_warps()) {
        int64_t g = all == 1 ? 0 : t / chunks, at = (t - g * chunks) * SETUN_CHUNK, row = rows == 1 ? 0 : g / groups, col = (g - row * groups) * group;
        int64_t n = setun_least(group, cols - col) - at;
        if (n > 0) body(g, t, x + row * cols + col + at, (int)setun_least(n, SETUN_CHUNK));
    }
}

/* Calls body(group, its chunk sums, how many of them, its values) for groups g of this block. */
template <class Body> SETUN_DEVICE void setun_block_groups(double *sums, int64_t rows, int64_t cols, int64_t group, Body body) {
    int64_t groups = (cols - 1) / group + 1, chunks = (group - 1) / SETUN_CHUNK + 1;
    for (int64_t g = blockIdx.x; g < rows * groups; g += gridDim.x) {
        int64_t col = g % groups * group, n = setun_least(group, cols - col);
        body(g, sums + g * chunks, (n - 1) / SETUN_CHUNK + 1, n);
    }
}

extern "C" __global__ void __launch_bounds__(256) group_magnitudes(const float *x, int64_t rows, int64_t cols, int64_t group, double *sums) {
    setun_group_chunks(x, rows, cols, group, [&](int64_t, int64_t t, const float *v, int n) {
        double s = setun_abs_chunk(v, n);
        if (setun_lane() == 0) sums[t] = s;
    });
}

extern "C" __global__ void __launch_bounds__(256) group_squares(const float *x, int64_t rows, int64_t cols, int64_t group, double *sums) {
    setun_group_chunks(x, rows, cols, group, [&](int64_t, int64_t t, const float *v, int n) {
        double s = setun_square_chunk(v, n);
        if (setun_lane() == 0) sums[t] = s;
    });
}

extern "C" __global__ void __launch_bounds__(256) group_greatest(const float *x, int64_t rows, int64_t cols, int64_t group, unsigned *most) {
    int64_t of = -1;
    unsigned so_far = 0;
    setun_group_chunks(x, rows, cols, group, [&](int64_t g, int64_t, const float *v, int n) {
        if (g != of && of >= 0 && setun_lane() == 0) atomicMax(most + of, so_far);
        unsigned u = setun_greatest_chunk(v, n);
        so_far = g != of || u > so_far ? u : so_far;
        of = g;
    });
    if (of >= 0 && setun_lane() == 0) atomicMax(most + of, so_far);
}

extern "C" __global__ void __launch_bounds__(256) group_selected(const float *x, int64_t rows, int64_t cols, int64_t group, int levels, const float *cuts,
                                                                 const unsigned *done, double *sums, unsigned long long *counts) {
    int64_t of = -1, ones = 0, twos = 0;
    auto flush = [&]() {
        int64_t a = ones, b = twos;
        for (int w = 16; w > 0; w /= 2) a += __shfl_xor_sync(SETUN_ALL, (long long)a, w), b += __shfl_xor_sync(SETUN_ALL, (long long)b, w);
        if (setun_lane() == 0) {
            if (a > 0) atomicAdd(counts + 4 * of, (unsigned long long)a);
            if (b > 0) atomicAdd(counts + 4 * of + 1, (unsigned long long)b);
        }
        ones = twos = 0;
    };
    setun_group_chunks(x, rows, cols, group, [&](int64_t g, int64_t t, const float *v, int n) {
        if (done[g]) return;
        if (g != of && of >= 0) flush();
        of = g;
        int above = 0, twice = 0;
        double s = setun_selected_chunk(v, n, {cuts[2 * g], cuts[2 * g + 1]}, levels == 3 ? 1.0f : 0.5f, &above, &twice);
        ones += above, twos += twice;
        if (setun_lane() == 0) sums[t] = s;
    });
    if (of >= 0) flush();
}

/* counts of a group: values above each cut in this round, and in the round before. */
extern "C" __global__ void __launch_bounds__(1024)
    group_first(double *sums, const unsigned *most, int64_t rows, int64_t cols, int64_t group, int rule, int levels, float *scales, float *cuts,
                unsigned long long *counts, unsigned *done, unsigned *bad) {
    setun_block_groups(sums, rows, cols, group, [&](int64_t g, double *chunk, int64_t chunks, int64_t n) {
        float s = setun_first_is_max(rule) ? __uint_as_float(most[g]) : (float)(setun_block_tree(chunk, chunks) / (double)n);
        if (threadIdx.x > 0) return;
        float2 c = setun_cuts(s, levels);
        scales[g] = s;
        cuts[2 * g] = c.x, cuts[2 * g + 1] = c.y;
        counts[4 * g] = counts[4 * g + 1] = 0;
        counts[4 * g + 2] = counts[4 * g + 3] = ~0ull;
        done[g] = s - s != 0;
        if (s - s != 0) bad[0] = 1;
    });
}

extern "C" __global__ void __launch_bounds__(1024) group_round(double *sums, int64_t rows, int64_t cols, int64_t group, int levels, int round, float *scales,
                                                               float *cuts, unsigned long long *counts, unsigned *done) {
    setun_block_groups(sums, rows, cols, group, [&](int64_t g, double *chunk, int64_t chunks, int64_t) {
        bool over = done[g] != 0;
        __syncthreads(); /* all have read it */
        if (over) return;
        double total = setun_block_tree(chunk, chunks);
        if (threadIdx.x > 0) return;
        unsigned long long *count = counts + 4 * g;
        int64_t ones = (int64_t)count[0], twos = (int64_t)count[1];
        if (count[0] == count[2] && count[1] == count[3]) { /* nested sets: equal counts are equal codes */
            done[g] = 1;
            return;
        }
        count[2] = count[0], count[3] = count[1];
        count[0] = count[1] = 0;
        if (ones == 0 || round == SETUN_ROUNDS) {
            done[g] = 1;
            return;
        }
        float s = setun_next_scale(total, ones, twos, levels);
        float2 c = setun_cuts(s, levels);
        scales[g] = s;
        cuts[2 * g] = c.x, cuts[2 * g + 1] = c.y;
    });
}

/* The scale of the magnitude rule, from the chunks of the sum of squares. */
extern "C" __global__ void __launch_bounds__(1024)
    group_energy(double *sums, int64_t rows, int64_t cols, int64_t group, int levels, const unsigned long long *counts, float *scales) {
    setun_block_groups(sums, rows, cols, group, [&](int64_t g, double *chunk, int64_t chunks, int64_t) {
        double total = setun_block_tree(chunk, chunks), energy = setun_energy((int64_t)counts[4 * g + 2], (int64_t)counts[4 * g + 3], levels);
        if (threadIdx.x == 0 && energy > 0) scales[g] = (float)sqrt(total / energy);
    });
}
