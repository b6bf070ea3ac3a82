/* SPDX-License-Identifier: Apache-2.0
 *
 * nearest.h: k-means scores and their argmax for a panel of points, for any instruction set with a fused multiply-add. The file that includes it gives
 *     VEC, IVEC      vectors of float and int32_t        LANES       in a vector
 *     LOAD(p), SPREAD(p), STORE_INT(p, v)                FMA(a, b, c)
 *     SPREAD_INT(n), NEXT_INT(v)                         n in every lane; v + 1
 *     BETTER(best, index, s, j)                          where s > best: best = s, index = j
 *     GROUP          centroids of a tile                 AHEAD(p)    asks for a cache line
 *
 * A tile is GROUP centroids by two vectors of points. Its 2*GROUP scores stay in registers over the whole dimension and are compared with the best
 * ones there too, so neither partial nor whole scores are ever in memory. The lanes are points: each has a chain of its own, in the order of
 * docs/numerics.md, and there is nothing to be reduced across lanes. */

/* Asks for the rows that come next, some lines at a time, so that memory and arithmetic work side by side. */
typedef struct ahead {
    const char *at;
    size_t lines, share; /* left; for every STRETCH values of a group */
} ahead_of;
enum { STRETCH = 8 };

INLINE void ask(ahead_of *next) {
    for (size_t l = 0; l < next->share && next->lines > 0; l++, next->lines--, next->at += 64) AHEAD(next->at);
}

/* g is a constant wherever this is inlined. */
INLINE void score_group(const int g, const float *panel, size_t d, const float *packed, const float *bias, IVEC j, VEC best[2], IVEC index[2], ahead_of *next) {
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
#pragma GCC unroll 16
    for (int c = 0; c < g; c++) {
        BETTER(best[0], index[0], a[c], j);
        BETTER(best[1], index[1], b[c], j);
        j = NEXT_INT(j);
    }
}

static void nearest(const float *panel, size_t d, const float *packed, const float *bias, size_t k, int32_t *label, const char *ahead, size_t lines) {
    const VEC lowest = SPREAD(&(const float){-__builtin_inff()});
    VEC best[2] = {lowest, lowest};
    IVEC index[2] = {SPREAD_INT(0), SPREAD_INT(0)};
    ahead_of next = {ahead, lines, lines / (((k - 1) / GROUP + 1) * ((d - 1) / STRETCH + 1)) + 1};
    size_t j = 0;
    for (; j + GROUP <= k; j += GROUP) score_group(GROUP, panel, d, packed + j * d, bias + j, SPREAD_INT((int32_t)j), best, index, &next);
    switch (k - j) {
#define REST(g)                                                                                                                                                \
    case g:                                                                                                                                                    \
        score_group(g, panel, d, packed + j * d, bias + j, SPREAD_INT((int32_t)j), best, index, &next);                                                        \
        break;
        REST(1)
        REST(2)
        REST(3)
        REST(4)
        REST(5)
#if GROUP > 6
        REST(6)
        REST(7)
        REST(8)
        REST(9)
        REST(10)
        REST(11)
#endif
#undef REST
    default:
        break;
    }
    STORE_INT(label, index[0]);
    STORE_INT(label + LANES, index[1]);
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
