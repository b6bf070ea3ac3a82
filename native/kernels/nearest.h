/* SPDX-License-Identifier: Apache-2.0
 *
 * nearest.h: k-means scores and their argmax for a panel of points, for any instruction set with a fused multiply-add. The file that includes it gives
 *     VEC, IVEC      vectors of float and int32_t        LANES       in a vector
 *     LOAD(p), SPREAD(p), STORE_INT(p, v)                FMA(a, b, c)
 *     LOAD_INT(p), SPREAD_INT(n), NEXT_INT(v)            n in every lane; v + 1
 *     BETTER(best, index, s, j)                          where s > best: best = s, index = j
 *     GROUP          centroids of a tile                 AHEAD(p)    asks for a cache line
 *
 * A tile is GROUP centroids by two vectors of points. Its 2*GROUP scores stay in registers over the whole dimension and are compared with the best
 * ones there too, so neither partial nor whole scores are ever in memory. The lanes are points: each has a chain of its own, in the order of
 * docs/numerics.md, and there is nothing to be reduced across lanes.
 *
 * One Zen 4 core, peak 117 GFLOP/s (one 512-bit or two 256-bit multiply-adds a cycle), points in the second cache; expected is 0.96 at d = 64, where the
 * comparisons cost 4 %, and more above:
 *
 *     level    tile    accumulators  d     k     GFLOP/s  share of peak
 *     avx512   32x12   24 of 32      64    60    112      .95
 *     avx512   32x12   24 of 32      128   60    114      .97
 *     avx512   32x12   24 of 32      1024  1000  108      .93   (test_simd_c --bench, from memory, centring and turning included)
 *     avx2     16x6    12 of 16      128   60    113      .97
 *     neon     8x12    24 of 32      not measured on hardware
 *
 * Before, lanes were centroids (12 points by 32) and every row had candidates in memory: .82 to .88, and k had to be a multiple of 32 to waste nothing. */

/* Asks for the rows that come next, some lines at a time, so that memory and arithmetic work side by side. */
typedef struct ahead {
    const char *at;
    size_t lines, share; /* left; for every STRETCH values of a group */
} ahead_of;
enum { STRETCH = 8 };

INLINE void ask(ahead_of *next) {
    for (size_t l = 0; l < next->share && next->lines > 0; l++, next->lines--, next->at += 64) AHEAD(next->at);
}

/* The best scores so far and whose they are, in memory: a tile has use for every register. */
typedef struct best_of {
    float score[2 * LANES];
    int32_t index[2 * LANES];
} best_of;

/* g is a constant wherever this is inlined. */
INLINE void score_group(const int g, const float *panel, size_t d, const float *packed, const float *bias, int32_t first, best_of *best, ahead_of *next) {
    VEC a[GROUP], b[GROUP];
    for (int c = 0; c < g; c++) a[c] = b[c] = SPREAD(bias + c);
    for (size_t p = 0; p < d;) {
        size_t end = d - p < STRETCH ? d : p + STRETCH;
        if (next->lines > 0) ask(next);
        for (; p < end; p++, panel += 2 * LANES, packed += g) {
            VEC u = LOAD(panel), v = LOAD(panel + LANES);
#pragma GCC unroll 16
            for (int c = 0; c < g; c++) {
                VEC t = SPREAD(packed + c);
                a[c] = FMA(t, u, a[c]);
                b[c] = FMA(t, v, b[c]);
            }
        }
    }
    VEC s0 = LOAD(best->score), s1 = LOAD(best->score + LANES);
    IVEC j0 = LOAD_INT(best->index), j1 = LOAD_INT(best->index + LANES), j = SPREAD_INT(first);
#pragma GCC unroll 16
    for (int c = 0; c < g; c++) {
        BETTER(s0, j0, a[c], j);
        BETTER(s1, j1, b[c], j);
        j = NEXT_INT(j);
    }
    STORE(best->score, s0);
    STORE(best->score + LANES, s1);
    STORE_INT(best->index, j0);
    STORE_INT(best->index + LANES, j1);
}

/* One function for each size of a group. Inlined together they would share registers badly: tiles of 12 ran at half speed. */
typedef void score_fn(const float *panel, size_t d, const float *packed, const float *bias, int32_t first, best_of *best, ahead_of *next);
#define SCORE(g)                                                                                                                                               \
    static __attribute__((noinline)) void score_##g(const float *panel, size_t d, const float *packed, const float *bias, int32_t first, best_of *best,        \
                                                    ahead_of *next) {                                                                                          \
        score_group(g, panel, d, packed, bias, first, best, next);                                                                                             \
    }
SCORE(1)
SCORE(2)
SCORE(3)
SCORE(4)
SCORE(5)
SCORE(6)
#if GROUP > 6
SCORE(7)
SCORE(8)
SCORE(9)
SCORE(10)
SCORE(11)
SCORE(12)
#endif
#undef SCORE
static score_fn *const scores[GROUP + 1] = {0,       score_1, score_2, score_3,  score_4,  score_5, score_6,
#if GROUP > 6
                                            score_7, score_8, score_9, score_10, score_11, score_12
#endif
};

static void nearest(const float *panel, size_t d, const float *packed, const float *bias, size_t k, int32_t *label, const char *ahead, size_t lines) {
    best_of best;
    for (int r = 0; r < 2 * LANES; r++) {
        best.score[r] = -__builtin_inff();
        best.index[r] = 0;
    }
    ahead_of next = {ahead, lines, lines / (((k - 1) / GROUP + 1) * ((d - 1) / STRETCH + 1)) + 1};
    for (size_t j = 0, g; j < k; j += g) {
        g = setun_group(k, GROUP, j);
        scores[g](panel, d, packed + j * d, bias + j, (int32_t)j, &best, &next);
    }
    memcpy(label, best.index, sizeof best.index);
}

static void squares(const float *panel, size_t d, float *out) {
    VEC a = SPREAD(&(const float){0}), b = a;
    for (size_t p = 0; p < d; p++, panel += 2 * LANES) {
        VEC u = LOAD(panel), v = LOAD(panel + LANES);
        a = FMA(u, u, a);
        b = FMA(v, v, b);
    }
    STORE(out, a);
    STORE(out + LANES, b);
}
