/* SPDX-License-Identifier: Apache-2.0
 *
 * quantize.c: values to codes and scales.
 *
 * Two readings of the values, one when there are many scales. One Zen 4 core, absmean to int8, input bytes a second:
 *
 *     level    1 M values   100 M       expected from memory: 25 GB/s read twice and written a quarter, 11 GB/s
 *     avx512   33 GB/s      9.7 GB/s    two threads 69 and 14.6, 1.08 of a plain loop with that traffic
 *     avx2     37           10.6
 *     sse42    24           not measured */
#include "first.h"
#include "bits.h"
#include "sum.h"

#include <math.h>

#define ROUNDS 16         /* of the least-squares rule, at most */
#define PIECE 5120        /* codes made at a time: whole blocks of both packed formats (1280 = lcm(256, 320)) */
#define SPAN (12 * PIECE) /* walked backwards as a whole, forwards inside: shorter ones defeat the prefetcher (10M values: 9 against 11 GB/s) */

/* A walk through the values, with the group that it is in. */
typedef struct walk {
    const setun_isa *isa;
    const setun_team *team; /* of a sum over one group; null inside a part */
    setun_quantize *a;
    int64_t cols;   /* of a row; everything when rows make no difference */
    int64_t groups; /* in a row */
    int64_t end;    /* column where the group ends */
    int64_t base;   /* index in the tensor of the first value */
    int past;       /* whether codes are written past the caches */
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

/* One of them over a group. */
typedef struct group_sum {
    walk *w;
    int what;
    const float *x;
    int64_t counts[2]; /* of SELECTED */
} group_sum;

static double chunk_sum(void *arg, int64_t at, size_t n) {
    group_sum *g = arg;
    const walk *w = g->w;
    if (g->what == MAGNITUDES) return abs_chunk(w->isa, g->x + at, n);
    if (g->what == SQUARES) return w->isa->square_chunk(g->x + at, n);
    float v[SETUN_CHUNK];
    int64_t counts[2] = {0};
    w->isa->select(v, g->x + at, n, w->one, w->two, w->a->levels == SETUN_TERNARY ? 1.0f : 0.5f, counts);
    SETUN_ADD(&g->counts[0], counts[0]);
    SETUN_ADD(&g->counts[1], counts[1]);
    return abs_chunk(w->isa, v, n);
}

static int32_t sum(walk *w, int what, const float *x, int64_t n, double *out, int64_t counts[2]) {
    if (what == MAGNITUDES && n <= SETUN_CHUNK) { /* short groups have no time for more */
        *out = abs_chunk(w->isa, x, (size_t)n);
        return SETUN_OK;
    }
    group_sum g = {.w = w, .what = what, .x = x};
    int32_t rc = setun_sum(w->team, &w->a->call, chunk_sum, &g, n, out);
    if (what == SELECTED) memcpy(counts, g.counts, sizeof g.counts);
    return rc;
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
            stochastic(w, out, x, (size_t)m, (uint64_t)(w->base + r * w->cols + col));
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
    uint8_t *out = (uint8_t *)w->a->out + r * setun_row_bytes(format, w->cols) + setun_row_bytes(format, begin + 1) - 1;
    if (format == SETUN_INT8 && !w->past) return codes(w, (int8_t *)out, r, begin, n);
    int8_t buffer[PIECE];
    uint8_t packed[PIECE / 4];
    int32_t rc = codes(w, buffer, r, begin, n);
    if (rc != SETUN_OK) return rc;
    if (format != SETUN_INT8) pack(w, w->past ? packed : out, buffer, n);
    if (w->past) w->isa->stream(out, format == SETUN_INT8 ? (void *)buffer : packed, (size_t)setun_row_bytes(format, n));
    return SETUN_OK;
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

/* The parts of a loop over a tensor, shared among a team. */
typedef struct job {
    const walk *w;
    setun_cut cut;
    int64_t all, rows, spans, parts; /* of one scale: rows as they are packed, rows of a part, spans of a row */
    int32_t status;
} job;

/* Backwards as a whole, forwards inside: the end of x is still in the cache from the search for the scale. */
static void span_part(void *arg, int64_t i) {
    job *j = arg;
    walk w = *j->w;
    int64_t at = j->parts - 1 - i, r = at / j->spans * j->rows, begin = at % j->spans * SPAN, end = begin + SPAN < w.cols ? begin + SPAN : w.cols;
    if (setun_cancelled(&w.a->call)) {
        SETUN_STORE(&j->status, SETUN_ECANCELLED);
        return;
    }
    for (int64_t last = r + j->rows < j->all ? r + j->rows : j->all; r < last; r++)
        for (int64_t p = begin; p < end; p += PIECE) piece(&w, r, p, end - p < PIECE ? end - p : PIECE);
    if (w.past) w.isa->drain();
}

/* Codes of a tensor with one scale, which w has. */
static int32_t whole(walk *w) {
    setun_quantize *a = w->a;
    job j = {.w = w, .all = a->rows};
    a->scales[0] = w->s;
    w->end = a->rows * a->cols;
    if (a->format == SETUN_INT8) {
        j.all = 1;
        w->cols = w->end;
    }
    j.rows = w->cols < SPAN ? SPAN / w->cols : 1;
    j.spans = (w->cols - 1) / SPAN + 1;
    j.parts = ((j.all - 1) / j.rows + 1) * j.spans;
    setun_each(w->team, j.parts, span_part, &j);
    return j.status;
}

int32_t setun_quantize_rest(const setun_isa *isa, const setun_team *team, setun_quantize *a, double first) {
    walk w = {.isa = isa, .team = team, .a = a, .cols = a->cols, .past = setun_past_caches(4 * a->rows * a->cols)};
    int32_t rc = scale_from(&w, a->x, a->rows * a->cols, first);
    return rc == SETUN_OK ? whole(&w) : rc;
}

/* ---- Many scales ---------------------------------------------------------------------------------------------------- */

setun_cut setun_quantize_cut(const setun_quantize *a) {
    setun_cut c = {.rows = a->cols < SPAN ? SPAN / a->cols : 1, .cols = a->cols};
    if (a->cols > SPAN && a->group < SPAN) { /* long rows are cut where both a group and a packed block end */
        int64_t unit = a->format == SETUN_2BIT ? 256 : a->format == SETUN_BASE3 ? 320 : 1, u = unit, v = a->group;
        while (v != 0) { /* the greatest common divisor, in u */
            int64_t rest = u % v;
            u = v;
            v = rest;
        }
        unit = unit / u * a->group;
        c.cols = unit < SPAN ? SPAN / unit * unit : unit;
        if (c.cols > a->cols) c.cols = a->cols;
    }
    c.across = (a->cols - 1) / c.cols + 1;
    c.parts = ((a->rows - 1) / c.rows + 1) * c.across;
    return c;
}

int64_t setun_quantize_part(const setun_quantize *a, const setun_cut *c, int64_t part, setun_quantize *s) {
    int64_t row = part / c->across * c->rows, col = part % c->across * c->cols;
    *s = *a;
    s->rows = a->rows - row < c->rows ? a->rows - row : c->rows;
    s->cols = a->cols - col < c->cols ? a->cols - col : c->cols;
    s->group = a->group < s->cols ? a->group : s->cols;
    s->x = a->x + row * a->cols + col;
    s->out = (uint8_t *)a->out + row * setun_row_bytes(a->format, a->cols) + setun_row_bytes(a->format, col + 1) - 1;
    s->scales = a->scales + row * ((a->cols - 1) / a->group + 1) + col / a->group;
    return row * a->cols + col;
}

int32_t setun_quantize_groups(const setun_isa *isa, setun_quantize *a, int64_t base, int past) {
    walk w = {.isa = isa, .a = a, .cols = a->cols, .groups = (a->cols - 1) / a->group + 1, .base = base, .past = past};
    for (int64_t r = 0; r < a->rows; r++) {
        w.end = 0;
        for (int64_t begin = 0; begin < w.cols; begin += PIECE) {
            int32_t rc = piece(&w, r, begin, w.cols - begin < PIECE ? w.cols - begin : PIECE);
            if (rc != SETUN_OK) return rc;
        }
    }
    if (past) isa->drain();
    return SETUN_OK;
}

static void group_part(void *arg, int64_t i) {
    job *j = arg;
    const walk *w = j->w;
    setun_quantize s;
    if (__atomic_load_n(&j->status, __ATOMIC_RELAXED) != SETUN_OK) return;
    int64_t base = setun_quantize_part(w->a, &j->cut, i, &s);
    int32_t rc = setun_cancelled(&s.call) ? SETUN_ECANCELLED : setun_quantize_groups(w->isa, &s, base, w->past);
    if (rc != SETUN_OK) SETUN_STORE(&j->status, rc);
}

int32_t setun_op_quantize(const setun_isa *isa, const setun_team *team, setun_quantize *a) {
    int32_t rc = setun_quantize_check(a);
    if (rc != SETUN_OK) return rc;
    walk w = {.isa = isa, .team = team, .a = a, .cols = a->cols, .past = setun_past_caches(4 * a->rows * a->cols)};
    if (a->group == 0) {
        rc = find_scale(&w, a->x, a->rows * a->cols);
        return rc == SETUN_OK ? whole(&w) : rc;
    }
    job j = {.w = &w, .cut = setun_quantize_cut(a)};
    setun_each(team, j.cut.parts, group_part, &j);
    return j.status == SETUN_ENONFINITE ? bad(&w) : j.status;
}
