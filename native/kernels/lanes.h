/* SPDX-License-Identifier: Apache-2.0
 *
 * lanes.h: the loops of layers.h over vectors. The file that includes it gives
 *
 *     LANES                     float32 values of a vector V, of which a vector D of float64 holds half; both know + - * / and comparisons
 *     load, store               unaligned; load_part, store_part: the first m < LANES, zeros for the others
 *     spread, spread_wide       one value in all lanes of a V, a D
 *     low, high, narrow         V to two D and back
 *     at_least, at_most(a, b)   max, min, and b where b is a NaN
 *     top                       the greatest value of a V, where none is a NaN
 *     root                      the square roots of a D
 *     total                     the fold of a D
 *
 * Rows are short (a head of attention has 32 values on average), so a loop does what is left over in one more step of a part of a vector. */
#ifndef SETUN_LANES_H
#define SETUN_LANES_H

#include "bits.h"
#include "layers.h"

enum { GROUPS = 32 / LANES, ACCUMULATORS = 2 * GROUPS }; /* of the 32 lanes of a sum */
enum { SIDE = LANES > 4 ? 4 : 2 };                       /* vectors whose powers are computed side by side: as many as there are registers for */
typedef int32_t INTS __attribute__((vector_size(4 * LANES)));
typedef uint64_t LONGS __attribute__((vector_size(4 * LANES)));

#define UNROLL _Pragma("GCC unroll 16")
/* Runs its last argument for i = 0, LANES, ... with m of the values from i on. */
#define EACH(n, ...)                                                                                                                                           \
    do {                                                                                                                                                       \
        size_t i = 0, m = LANES;                                                                                                                               \
        for (; i + LANES <= (n); i += LANES) {                                                                                                                 \
            __VA_ARGS__                                                                                                                                        \
        }                                                                                                                                                      \
        m = (n)-i;                                                                                                                                             \
        if (m > 0) {                                                                                                                                           \
            __VA_ARGS__                                                                                                                                        \
        }                                                                                                                                                      \
    } while (0)

INLINE V get(const float *p, size_t m) { return m == LANES ? load(p) : load_part(p, m); }
INLINE void put(float *p, V v, size_t m) {
    if (m == LANES)
        store(p, v);
    else
        store_part(p, v, m);
}

/* All bits in the first m lanes. */
INLINE INTS first(size_t m) {
    static const int32_t edge[2 * LANES] = {[0 ... LANES - 1] = -1};
    INTS mask;
    memcpy(&mask, edge + LANES - m, sizeof mask);
    return mask;
}

/* Sums of 32 lanes in rising order. */
INLINE double fold(D acc[ACCUMULATORS]) {
    UNROLL for (int w = GROUPS; w > 0; w /= 2) { UNROLL for (int v = 0; v < w; v++) acc[v] += acc[v + w]; }
    return total(acc[0]);
}

/* Runs its last argument for the values of a chunk, m of them from i on, whose lanes are acc[2 * g] and acc[2 * g + 1]. */
#define EACH_LANE(n, ...)                                                                                                                                      \
    do {                                                                                                                                                       \
        size_t begin = 0, m = LANES;                                                                                                                           \
        for (; begin + 32 <= (n); begin += 32) {                                                                                                               \
            UNROLL for (size_t g = 0, i = begin; g < GROUPS; g++, i += LANES) { __VA_ARGS__ }                                                                  \
        }                                                                                                                                                      \
        UNROLL for (size_t g = 0, i = begin; g < GROUPS; g++, i += LANES) {                                                                                    \
            if (i < (n)) {                                                                                                                                     \
                m = (n)-i < LANES ? (n)-i : LANES;                                                                                                             \
                __VA_ARGS__                                                                                                                                    \
            }                                                                                                                                                  \
        }                                                                                                                                                      \
    } while (0)

/* ---- rmsnorm -------------------------------------------------------------------------------------------------------- */

static void add(float *out, const float *x, const float *y, size_t n) { EACH(n, put(out + i, get(x + i, m) + get(y + i, m), m);); }

static void normalise(float *out, const float *x, const float *gain, size_t n, float r) {
    const V k = spread(r);
    if (gain)
        EACH(n, put(out + i, get(x + i, m) * k * get(gain + i, m), m););
    else
        EACH(n, put(out + i, get(x + i, m) * k, m););
}

static double norm_chunk(float *part, const float *x, const float *dy, const float *gain, size_t n, float r) {
    const V k = spread(r);
    D acc[ACCUMULATORS] = {{0}};
    EACH_LANE(n, {
        V t = get(dy + i, m) * (get(x + i, m) * k);
        V e = get(gain + i, m);
        put(part + i, get(part + i, m) + t, m);
        if (m < LANES) t = (V)((INTS)t & first(m)); /* 0 times infinity */
        acc[2 * g] += low(t) * low(e);
        acc[2 * g + 1] += high(t) * high(e);
    });
    return fold(acc);
}

INLINE void norm_gradients(float *out, const float *x, const float *dy, const float *gain, size_t n, float r, float a, const int add) {
    const V k = spread(r), mean = spread(a);
    EACH(n, {
        V e = gain ? get(dy + i, m) * get(gain + i, m) : get(dy + i, m);
        V d = k * (e - get(x + i, m) * k * mean);
        put(out + i, add ? get(out + i, m) + d : d, m);
    });
}

static void norm_gradient(float *out, const float *x, const float *dy, const float *gain, size_t n, float r, float a, int add) {
    if (gain && add)
        norm_gradients(out, x, dy, gain, n, r, a, 1);
    else if (gain)
        norm_gradients(out, x, dy, gain, n, r, a, 0);
    else
        norm_gradients(out, x, dy, 0, n, r, a, add);
}

/* ---- softmax -------------------------------------------------------------------------------------------------------- */

/* The first m values, and the least one in the other lanes. */
INLINE V or_least(const float *p, size_t m) { return (V)(((INTS)load_part(p, m) & first(m)) | ((INTS)spread(-__builtin_inff()) & ~first(m))); }

static float greatest(const float *x, size_t n) {
    V g = spread(-__builtin_inff());
    EACH(n, g = at_least(g, m == LANES ? load(x + i) : or_least(x + i, m)););
    return top(g) + 0.0f;
}

/* series32 of internal/canon/exp.go: e^x = 2^k e^r, the latter by its series to r^7 in pairs of terms. Of several vectors at once, one operation of all of
 * them after another: each depends on the one before, and a processor looks ahead less far than the end of a chain. */
INLINE void series(D *x, const size_t n) {
    const D round = spread_wide(SETUN_ROUNDER + 1023), one = spread_wide(1);
    D t[2 * SIDE], r[2 * SIDE], s[2 * SIDE], u[2 * SIDE];
#define ALL(...) UNROLL for (size_t c = 0; c < n; c++){__VA_ARGS__}
    ALL(t[c] = x[c] * spread_wide(1.4426950408889634) + round;)
    ALL(r[c] = x[c] - (t[c] - round) * spread_wide(0x1.62e42fefa39efp-1);)
    ALL(u[c] = (r[c] + spread_wide(7)) * spread_wide(1.0 / 5040);)
    ALL(s[c] = r[c] * r[c];)
    ALL(u[c] = (spread_wide(1.0 / 24) + r[c] * spread_wide(1.0 / 120)) + s[c] * u[c];)
    ALL(u[c] = (spread_wide(0.5) + r[c] * spread_wide(1.0 / 6)) + s[c] * u[c];)
    ALL(u[c] = (one + r[c]) + s[c] * u[c];)
    ALL(x[c] = u[c] * (D)((LONGS)t[c] << 52);)
#undef ALL
}

/* Of n vectors. At the ends of the range the series rounds to 0 and to infinity, so what lies beyond is moved there. */
INLINE void exp32(V *x, const size_t n) {
    D wide[2 * SIDE];
    UNROLL for (size_t c = 0; c < n; c++) {
        x[c] = at_most(spread(89), at_least(spread(-104), x[c]));
        wide[2 * c] = low(x[c]);
        wide[2 * c + 1] = high(x[c]);
    }
    series(wide, 2 * n);
    UNROLL for (size_t c = 0; c < n; c++) x[c] = narrow(wide[2 * c], wide[2 * c + 1]);
}

/* exp32((v - o) * k) of n vectors, 0 behind the first m values of the last one, and their sums, those of v[0] in the g-th group of lanes. */
INLINE void powers(V *v, V k, V o, D *acc, size_t g, const size_t n, size_t m) {
    UNROLL for (size_t c = 0; c < n; c++) v[c] = (v[c] - o) * k;
    exp32(v, n);
    if (m < LANES) v[n - 1] = (V)((INTS)v[n - 1] & first(m));
    UNROLL for (size_t c = 0; c < n; c++, g++) {
        acc[2 * g % ACCUMULATORS] += low(v[c]);
        acc[2 * g % ACCUMULATORS + 1] += high(v[c]);
    }
}

static double exp_chunk(float *x, size_t n, float scale, float offset) {
    enum { BLOCK = SIDE * LANES > 32 ? SIDE * LANES : 32 };
    const V k = spread(scale), o = spread(offset);
    D acc[ACCUMULATORS] = {{0}};
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        UNROLL for (size_t g = 0; g < BLOCK / LANES; g += SIDE) {
            float *y = x + i + g * LANES;
            V v[SIDE];
            UNROLL for (size_t c = 0; c < SIDE; c++) v[c] = load(y + c * LANES);
            powers(v, k, o, acc, g, SIDE, LANES);
            UNROLL for (size_t c = 0; c < SIDE; c++) store(y + c * LANES, v[c]);
        }
    }
    UNROLL for (size_t g = 0; g < BLOCK / LANES; g += 2, i += 2 * LANES) {
        if (i + LANES < n) {
            size_t m = n - i < 2 * LANES ? n - i - LANES : LANES;
            V v[2] = {load(x + i), get(x + i + LANES, m)};
            powers(v, k, o, acc, g, 2, m);
            store(x + i, v[0]);
            put(x + i + LANES, v[1], m);
        } else if (i < n) {
            size_t m = n - i;
            V v = get(x + i, m);
            powers(&v, k, o, acc, g, 1, m);
            put(x + i, v, m);
        }
    }
    return fold(acc);
}

static void clear(float *x, size_t n) { EACH(n, put(x + i, spread(0), m);); }

static void softmax(float *x, size_t cols, const size_t *n, size_t rows, float scale, double factor, float *most, double *s) {
    for (size_t r = 0; r < rows; r++) most[r] = greatest(x + r * cols, n[r]);
    for (size_t r = 0; r < rows; r++) s[r] = exp_chunk(x + r * cols, n[r], scale, most[r]);
    for (size_t r = 0; r < rows; r++) {
        normalise(x + r * cols, x + r * cols, 0, n[r], (float)(factor / s[r]));
        clear(x + r * cols + n[r], cols - n[r]);
    }
}

static void slope(float *x, const float *p, size_t n, float scale, float s) {
    const V k = spread(scale), o = spread(s);
    EACH(n, put(x + i, k * get(p + i, m) * (get(x + i, m) - o), m););
}

/* dot_chunk, for short rows: it has no setup and takes what is left over as it is. */
INLINE double products(const float *x, const float *y, size_t n) {
    D acc[ACCUMULATORS] = {{0}};
    EACH_LANE(n, {
        V u = get(x + i, m);
        V v = get(y + i, m);
        acc[2 * g] += low(u) * low(v);
        acc[2 * g + 1] += high(u) * high(v);
    });
    return fold(acc);
}

static void softmax_gradient(float *x, const float *p, size_t cols, const size_t *n, size_t rows, float scale) {
    double s[SETUN_TOGETHER];
    for (size_t r = 0; r < rows; r++) s[r] = products(p + r * cols, x + r * cols, n[r]);
    for (size_t r = 0; r < rows; r++) {
        slope(x + r * cols, p + r * cols, n[r], scale, (float)s[r]);
        clear(x + r * cols + n[r], cols - n[r]);
    }
}

/* ---- activate ------------------------------------------------------------------------------------------------------- */

INLINE V positive(V x) { return (V)((INTS)x & (INTS)(x > spread(0))); }

static void relu2(float *out, const float *x, size_t n) {
    EACH(n, {
        V v = get(x + i, m);
        put(out + i, v * positive(v), m);
    });
}

static void relu2_gradient(float *out, const float *x, const float *dy, size_t n) {
    EACH(n, {
        V v = positive(get(x + i, m));
        put(out + i, get(dy + i, m) * (v + v), m);
    });
}

/* s = 1 / (1 + exp32(-g)) of n vectors. */
INLINE void sigmoids(V *s, const V *g, const size_t n) {
    UNROLL for (size_t c = 0; c < n; c++) s[c] = -g[c];
    exp32(s, n);
    UNROLL for (size_t c = 0; c < n; c++) s[c] = spread(1) / (spread(1) + s[c]);
}

/* Runs its last argument, in which w is how many vectors it does, of m values each. */
#define EACH_SIDE(n, ...)                                                                                                                                      \
    do {                                                                                                                                                       \
        size_t i = 0;                                                                                                                                          \
        for (; i + SIDE * LANES <= (n); i += SIDE * LANES) {                                                                                                   \
            const size_t w = SIDE, m = LANES;                                                                                                                  \
            __VA_ARGS__                                                                                                                                        \
        }                                                                                                                                                      \
        for (; i < (n); i += LANES) {                                                                                                                          \
            const size_t w = 1, m = (n)-i < LANES ? (n)-i : LANES;                                                                                             \
            __VA_ARGS__                                                                                                                                        \
        }                                                                                                                                                      \
    } while (0)

INLINE void gated(float *out, const float *x, const float *y, const size_t n, size_t m) {
    V g[SIDE], s[SIDE];
    UNROLL for (size_t c = 0; c < n; c++) g[c] = get(x + c * LANES, m);
    sigmoids(s, g, n);
    UNROLL for (size_t c = 0; c < n; c++) put(out + c * LANES, g[c] * s[c] * get(y + c * LANES, m), m);
}

static void swiglu(float *out, const float *x, size_t n) { EACH_SIDE(n, gated(out + i, x + i, x + n + i, w, m);); }

INLINE void gated_gradient(float *dx, float *dy, const float *x, const float *y, const float *d, const size_t n, size_t m) {
    V g[SIDE], s[SIDE];
    UNROLL for (size_t c = 0; c < n; c++) g[c] = get(x + c * LANES, m);
    sigmoids(s, g, n);
    UNROLL for (size_t c = 0; c < n; c++) {
        V u = get(y + c * LANES, m), e = get(d + c * LANES, m);
        put(dx + c * LANES, (e * u) * (s[c] * (spread(1) + g[c] * (spread(1) - s[c]))), m);
        put(dy + c * LANES, e * (g[c] * s[c]), m);
    }
}

static void swiglu_gradient(float *out, const float *x, const float *dy, size_t n) {
    EACH_SIDE(n, gated_gradient(out + i, out + n + i, x + i, x + n + i, dy + i, w, m););
}

/* ---- update --------------------------------------------------------------------------------------------------------- */

INLINE V flush(V x) { return (V)((INTS)x & (INTS)(((INTS)x & (INTS)spread(__builtin_inff())) != (INTS){0})); }

static void adamw(const setun_update *a, size_t at, size_t n) {
    const float *value = a->value + at, *grad = a->grad + at;
    float *one = a->m + at, *two = a->v + at, *delta = a->delta + at;
    const D b1 = spread_wide(a->beta1), b2 = spread_wide(a->beta2), c1 = spread_wide(1 - a->beta1), c2 = spread_wide(1 - a->beta2);
    const D u1 = spread_wide(a->unbias1), u2 = spread_wide(a->unbias2), e = spread_wide(a->epsilon), w = spread_wide(a->decay), k = spread_wide(-a->rate);
    EACH(n, {
        V g = get(grad + i, m);
        V x = get(one + i, m);
        V y = get(two + i, m);
        V p = get(value + i, m);
        x = flush(narrow(b1 * low(x) + c1 * low(g), b1 * high(x) + c1 * high(g)));
        y = flush(narrow(b2 * low(y) + c2 * (low(g) * low(g)), b2 * high(y) + c2 * (high(g) * high(g))));
        put(one + i, x, m);
        put(two + i, y, m);
        D l = k * (low(x) * u1 / (root(low(y) * u2) + e) + w * low(p));
        D h = k * (high(x) * u1 / (root(high(y) * u2) + e) + w * high(p));
        put(delta + i, narrow(l, h), m);
    });
}

static void momentum(const setun_update *a, size_t at, size_t n) {
    const float *value = a->value + at, *grad = a->grad + at;
    float *one = a->m + at, *delta = a->delta + at;
    const D b = spread_wide(a->beta1), w = spread_wide(a->decay), k = spread_wide(-a->rate);
    EACH(n, {
        V g = get(grad + i, m);
        V x = get(one + i, m);
        V p = get(value + i, m);
        x = flush(narrow(b * low(x) + low(g), b * high(x) + high(g)));
        put(one + i, x, m);
        put(delta + i, narrow(k * (low(x) + w * low(p)), k * (high(x) + w * high(p))), m);
    });
}

#endif
