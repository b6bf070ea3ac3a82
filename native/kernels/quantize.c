/* SPDX-License-Identifier: Apache-2.0
 *
 * quantize.c: values to codes and scales. */
#include "first.h"
#include "tree.h"

#include <math.h>

#define ROUNDS 16         /* of the least-squares rule, at most */
#define PIECE 5120        /* codes made at a time: whole blocks of both packed formats (1280 = lcm(256, 320)) */
#define SPAN (12 * PIECE) /* walked backwards as a whole, forwards inside: shorter ones defeat the prefetcher (10M values: 9 against 11 GB/s) */

/* A walk through the values, with the group that it is in. */
typedef struct walk {
    const setun_isa *isa;
    setun_quantize *a;
    int64_t cols;   /* of a row; everything when rows make no difference */
    int64_t groups; /* in a row */
    int64_t end;    /* column where the group ends */
    float s, one, two;
} walk;

static void set_cuts(walk *w, float s) {
    w->one = w->a->levels == SETUN_TERNARY ? s / 2 : s / 4;
    w->two = w->a->levels == SETUN_TERNARY ? 0x1.fffffep127f : 0.75f * s; /* nothing finite lies above the first */
}

/* One chunk of the rule A: float32 lanes, or float64 lanes where those overflow. */
static double abs_chunk(const setun_isa *isa, const float *x, size_t n) {
    double s = isa->abs_chunk(x, n);
    if (s - s == 0) return s;
    double t[32] = {0};
    for (size_t i = 0; i < n; i++) t[i % 32] += (double)setun_abs(x[i]);
    return setun_fold(t);
}

/* The sums over a group that the rules need. */
enum { MAGNITUDES, SELECTED, SQUARES };

static double chunk_sum(const walk *w, int what, const float *x, size_t n, int64_t counts[2]) {
    if (what == MAGNITUDES) return abs_chunk(w->isa, x, n);
    if (what == SQUARES) return w->isa->square_chunk(x, n);
    float v[SETUN_CHUNK];
    w->isa->select(v, x, n, w->one, w->two, w->a->levels == SETUN_TERNARY ? 1.0f : 0.5f, counts);
    return abs_chunk(w->isa, v, n);
}

static int32_t sum(const walk *w, int what, const float *x, int64_t n, double *out, int64_t counts[2]) {
    if (n <= SETUN_CHUNK) {
        *out = chunk_sum(w, what, x, (size_t)n, counts);
        return SETUN_OK;
    }
    setun_tree t = {0};
    for (int64_t i = 0, c = 0; i < n; i += SETUN_CHUNK, c++) {
        if (c % 256 == 0 && setun_cancelled(&w->a->call)) return SETUN_ECANCELLED;
        setun_tree_add(&t, 0, chunk_sum(w, what, x + i, (size_t)(n - i < SETUN_CHUNK ? n - i : SETUN_CHUNK), counts));
    }
    *out = setun_tree_sum(&t);
    return SETUN_OK;
}

static int32_t bad(const walk *w) {
    w->a->call.bad_index = setun_find_bad(w->a->x, w->a->rows * w->a->cols);
    return SETUN_ENONFINITE;
}

/* Alternates codes and scale until the codes repeat; counts are those of the last scale's codes. */
static int32_t least_squares(walk *w, const float *x, int64_t n, float *s, int64_t counts[2]) {
    int64_t ones = -1, twos = -1;
    for (int round = 0;; round++) {
        double total;
        counts[0] = counts[1] = 0;
        set_cuts(w, *s);
        int32_t rc = sum(w, SELECTED, x, n, &total, counts);
        if (rc != SETUN_OK) return rc;
        if (counts[0] == ones && counts[1] == twos) break; /* nested sets: equal counts are equal codes */
        ones = counts[0];
        twos = counts[1];
        if (ones == 0 || round == ROUNDS) break; /* counts belong to the scale that is kept */
        if (w->a->levels == SETUN_TERNARY)
            *s = (float)(total / (double)ones);
        else
            *s = (float)(4 * total / ((double)(ones - twos) + 4 * (double)twos));
    }
    return SETUN_OK;
}

double setun_first_chunk(const setun_isa *isa, uint32_t rule, const float *x, size_t n) {
    return setun_first_is_max(rule) ? (double)setun_float(isa->abs_max(x, n)) : abs_chunk(isa, x, n);
}

/* The scale of a group and the cuts of its codes, from the greatest magnitude or the sum of magnitudes. */
static int32_t scale_from(walk *w, const float *x, int64_t n, double first) {
    uint32_t rule = w->a->rule;
    if (first - first != 0) return bad(w);
    w->s = (float)(setun_first_is_max(rule) ? first : first / (double)n);
    if (rule == SETUN_LEAST_SQUARES || rule == SETUN_MAGNITUDE) {
        int64_t counts[2];
        double total;
        int32_t rc = least_squares(w, x, n, &w->s, counts);
        if (rc != SETUN_OK) return rc;
        set_cuts(w, w->s);
        double energy = (double)counts[0];
        if (w->a->levels == SETUN_QUINARY) energy = ((double)(counts[0] - counts[1]) + 4 * (double)counts[1]) / 4;
        if (rule == SETUN_MAGNITUDE && energy > 0) {
            rc = sum(w, SQUARES, x, n, &total, 0);
            if (rc != SETUN_OK) return rc;
            w->s = (float)sqrt(total / energy);
        }
        return SETUN_OK;
    }
    set_cuts(w, w->s);
    return SETUN_OK;
}

/* Finds the scale of a group and the cuts of its codes. */
static int32_t find_scale(walk *w, const float *x, int64_t n) {
    double first;
    if (setun_first_is_max(w->a->rule)) {
        first = (double)setun_float(w->isa->abs_max(x, (size_t)n));
    } else {
        int32_t rc = sum(w, MAGNITUDES, x, n, &first, 0);
        if (rc != SETUN_OK) return rc;
    }
    return scale_from(w, x, n, first);
}

/* Philox4x32-10: Salmon, Moraes, Dror, Shaw (SC 2011), in the domain of stochastic rounding. */
static void draw4(uint64_t seed, uint64_t block, uint32_t out[4]) {
    uint32_t c[4] = {(uint32_t)block, (uint32_t)(block >> 32), 1, 0}, k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int i = 0; i < 10; i++) {
        uint64_t a = (uint64_t)c[0] * 0xD2511F53u, b = (uint64_t)c[2] * 0xCD9E8D57u;
        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k0;
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[3] = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

static void stochastic(const walk *w, int8_t *out, const float *x, size_t n, uint64_t index) {
    double top = w->a->levels == SETUN_QUINARY ? 2 : 1;
    uint32_t draws[4];
    for (size_t i = 0; i < n; i++, index++) {
        if (i == 0 || index % 4 == 0) draw4(w->a->seed, index / 4, draws);
        if (w->s == 0) {
            out[i] = 0;
            continue;
        }
        double f = (double)setun_abs(x[i]) / (double)w->s * top;
        int whole = (int)f;
        int c = whole + (draws[index % 4] < (uint64_t)((f - whole) * 0x1p32));
        out[i] = (int8_t)(x[i] < 0 ? -c : c);
    }
}

/* Makes n codes of row r from column col on. A group's scale is found when its first value is reached, while its values are about to be used. */
static int32_t codes(walk *w, int8_t *out, int64_t r, int64_t col, int64_t n) {
    while (n > 0) {
        if (col >= w->end) {
            int64_t end = col + w->a->group < w->cols ? col + w->a->group : w->cols;
            int32_t rc = find_scale(w, w->a->x + r * w->cols + col, end - col);
            if (rc != SETUN_OK) return rc;
            w->a->scales[r * w->groups + col / w->a->group] = w->s;
            w->end = end;
        }
        int64_t m = w->end - col < n ? w->end - col : n;
        const float *x = w->a->x + r * w->cols + col;
        if (w->a->rule == SETUN_STOCHASTIC)
            stochastic(w, out, x, (size_t)m, (uint64_t)(r * w->cols + col));
        else if (w->a->levels == SETUN_TERNARY)
            w->isa->ternary(out, x, (size_t)m, w->one);
        else
            w->isa->quinary(out, x, (size_t)m, w->one, w->two);
        out += m;
        col += m;
        n -= m;
    }
    return SETUN_OK;
}

/* Packs n codes: full blocks in place, the short last block spread out to a full one. */
static void pack(const walk *w, uint8_t *out, const int8_t *c, int64_t n) {
    int64_t planes = w->a->format == SETUN_2BIT ? 4 : 5, full = n / (64 * planes);
    void (*blocks)(uint8_t *, const int8_t *, size_t) = planes == 4 ? w->isa->pack2 : w->isa->pack3;
    blocks(out, c, (size_t)full);
    c += full * 64 * planes;
    n -= full * 64 * planes;
    if (n == 0) return;
    int64_t m = (n + planes - 1) / planes;
    int8_t spread[5 * 64] = {0};
    uint8_t last[64];
    for (int64_t p = 0; p * m < n; p++) memcpy(spread + 64 * p, c + p * m, (size_t)(n - p * m < m ? n - p * m : m));
    blocks(last, spread, 1);
    memcpy(out + full * 64, last, (size_t)m);
}

int64_t setun_row_bytes(uint32_t format, int64_t cols) { return format == SETUN_2BIT ? (cols - 1) / 4 + 1 : format == SETUN_BASE3 ? (cols - 1) / 5 + 1 : cols; }

/* Codes and packing of columns begin .. begin+n-1 of row r. */
static int32_t piece(walk *w, int64_t r, int64_t begin, int64_t n) {
    uint32_t format = w->a->format;
    if (format == SETUN_INT8) return codes(w, (int8_t *)w->a->out + r * w->cols + begin, r, begin, n);
    int8_t buffer[PIECE];
    int32_t rc = codes(w, buffer, r, begin, n);
    if (rc == SETUN_OK) pack(w, (uint8_t *)w->a->out + r * setun_row_bytes(format, w->cols) + setun_row_bytes(format, begin + 1) - 1, buffer, n);
    return rc;
}

int32_t setun_quantize_check(const setun_quantize *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "quantize: the argument block is too small");
    if (!a->x || !a->out || !a->scales) return setun_invalid(c, "quantize: x, out or scales is null");
    if (a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 8 / a->cols) return setun_invalid(c, "quantize: rows or cols < 1, or too many values");
    if (a->group < 0 || a->group > a->cols) return setun_invalid(c, "quantize: the group is not within 0..cols");
    if (a->levels != SETUN_TERNARY && a->levels != SETUN_QUINARY) return setun_invalid(c, "quantize: unknown levels");
    if (a->rule < SETUN_ABSMEAN || a->rule > SETUN_STOCHASTIC) return setun_invalid(c, "quantize: unknown rule");
    if (a->format < SETUN_INT8 || a->format > SETUN_BASE3) return setun_invalid(c, "quantize: unknown format");
    if (a->levels == SETUN_QUINARY && a->format != SETUN_INT8) return setun_invalid(c, "quantize: packed formats hold ternary codes only");
    return SETUN_OK;
}

/* Codes of a tensor with one scale, which w has. */
static int32_t whole(walk *w) {
    setun_quantize *a = w->a;
    int64_t rows = a->rows, n = a->rows * a->cols;
    a->scales[0] = w->s;
    w->end = n;
    if (a->format == SETUN_INT8) {
        rows = 1;
        w->cols = n;
    }
    /* Backwards: the end of x is still in the cache from the search for the scale. */
    for (int64_t r = rows - 1; r >= 0; r--)
        for (int64_t i = (w->cols - 1) / SPAN; i >= 0; i--) {
            int64_t end = w->cols - i * SPAN < SPAN ? w->cols : (i + 1) * SPAN;
            if (setun_cancelled(&a->call)) return SETUN_ECANCELLED;
            for (int64_t p = i * SPAN; p < end; p += PIECE) piece(w, r, p, end - p < PIECE ? end - p : PIECE);
        }
    return SETUN_OK;
}

int32_t setun_quantize_rest(const setun_isa *isa, const setun_team *team, setun_quantize *a, double first) {
    (void)team;
    walk w = {.isa = isa, .a = a, .cols = a->cols};
    int32_t rc = scale_from(&w, a->x, a->rows * a->cols, first);
    return rc == SETUN_OK ? whole(&w) : rc;
}

int32_t setun_op_quantize(const setun_isa *isa, const setun_team *team, setun_quantize *a) {
    (void)team;
    int32_t rc = setun_quantize_check(a);
    if (rc != SETUN_OK) return rc;
    walk w = {.isa = isa, .a = a, .cols = a->cols};
    if (a->group == 0) {
        rc = find_scale(&w, a->x, a->rows * a->cols);
        return rc == SETUN_OK ? whole(&w) : rc;
    }
    w.groups = (a->cols - 1) / a->group + 1;
    for (int64_t r = 0; r < a->rows; r++) {
        w.end = 0;
        for (int64_t begin = 0; begin < w.cols; begin += PIECE) {
            if (setun_cancelled(&a->call)) return SETUN_ECANCELLED;
            rc = piece(&w, r, begin, w.cols - begin < PIECE ? w.cols - begin : PIECE);
            if (rc != SETUN_OK) return rc;
        }
    }
    return SETUN_OK;
}
