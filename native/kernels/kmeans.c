/* SPDX-License-Identifier: Apache-2.0
 *
 * kmeans.c: the steps of Lloyd's algorithm over the points.
 *
 * Threads claim blocks of rows. A block is taken a panel of 8 to 32 points at a time: turned and centred into scratch, scored against every centroid
 * in registers, and added to the integer sums while its rows are in the first cache. Every thread has sums of its own; integers add up to
 * the same whoever had which rows. Nothing of the size n*k exists, and nothing of the size n but what the caller asked for. */
#include "ops.h"
#include "bits.h"
#include "screen.h"
#include "tree.h"

#include <math.h>

#define BLOCK_VALUES (1 << 16) /* a thread claims at most so many at a time, and looks at cancel then */

/* What one thread has in the workspace. */
typedef struct seat {
    float *rows, *panel;      /* rows*d: as they lie, centred, and turned */
    float *low, *high;        /* d (RANGE) */
    int64_t *sums;            /* k*d, or d: with SETUN_RINT_BITS in every addition */
    int64_t *additions;       /* k: how many there were */
    int64_t *counts, *weight; /* k */
    setun_sieve sieve;        /* ASSIGN, on a level that screens */
} seat;

typedef struct job {
    const setun_isa *isa;
    setun_kmeans *a;
    char *base; /* the workspace */
    float *packed;
    int64_t seats, block, blocks;
    int screens;
    setun_coded coded[SETUN_WIDTHS];
    int64_t next, changed, exact; /* shared: claimed with SETUN_CLAIM */
    int32_t status;
    double scale; /* POTENTIAL */
} job;

static size_t round64(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Takes bytes at *at in the workspace. */
static void *take(const job *j, size_t *at, size_t bytes) {
    void *p = j->base ? j->base + *at : 0;
    *at += round64(bytes);
    return p;
}

/* Lays out a seat; returns its size. */
static size_t lay_out(const job *j, int64_t number, size_t each, seat *s) {
    const setun_kmeans *a = j->a;
    size_t d = (size_t)a->d, k = (size_t)a->k, at = 0, width = d * sizeof(float);
    job here = {.base = j->base ? j->base + (size_t)number * each : 0};
    memset(s, 0, sizeof *s);
    s->rows = take(&here, &at, j->isa->rows * width);
    s->panel = take(&here, &at, j->isa->rows * width);
    if (a->step == SETUN_KMEANS_RANGE) {
        s->low = take(&here, &at, width);
        s->high = take(&here, &at, width);
    }
    if (a->step == SETUN_KMEANS_MEAN || (a->step == SETUN_KMEANS_ASSIGN && a->sums)) {
        k = a->step == SETUN_KMEANS_MEAN ? 1 : k;
        s->sums = take(&here, &at, k * d * sizeof(int64_t));
        s->additions = take(&here, &at, k * sizeof(int64_t));
        s->counts = take(&here, &at, k * sizeof(int64_t));
        if (a->weights) s->weight = take(&here, &at, k * sizeof(int64_t));
    }
    if (j->screens) {
        size_t codes = j->isa->rows * setun_words((size_t)a->d, SETUN_WIDE) * sizeof(int32_t);
        s->sieve.codes = take(&here, &at, codes);
        s->sieve.panel = take(&here, &at, codes);
        s->sieve.bias = take(&here, &at, (size_t)a->k * sizeof(int32_t));
        s->sieve.greatest = take(&here, &at, (((size_t)a->k - 1) / j->isa->group + 1) * j->isa->rows * sizeof(int32_t));
    }
    return at;
}

static size_t rows_from(const job *j, int64_t row, int64_t end) { return (size_t)(end - row < (int64_t)j->isa->rows ? end - row : (int64_t)j->isa->rows); }

/* Interleaves the centroids group by group. */
static void pack(const setun_isa *isa, const setun_kmeans *a, float *out) {
    size_t d = (size_t)a->d, k = (size_t)a->k;
    for (size_t j = 0, g; j < k; j += g) {
        g = setun_group(k, isa->group, j);
        for (size_t c = 0; c < g; c++)
            for (size_t p = 0; p < d; p++) out[j * d + p * g + c] = a->centroids[(j + c) * d + p];
    }
}

/* ---- Blocks of rows. Each returns a setun_status. ------------------------------------------------------------------ */

static int32_t range_block(job *j, seat *s, int64_t row, int64_t end, int64_t next) {
    setun_kmeans *a = j->a;
    size_t d = (size_t)a->d;
    uint32_t worst = 0;
    (void)next;
    if (!a->unit) worst = j->isa->range(a->x + row * a->d, (size_t)(end - row), d, s->low, s->high);
    for (; a->unit && row < end; row += (int64_t)j->isa->rows) {
        size_t n = rows_from(j, row, end);
        j->isa->centre(s->rows, a->x + row * a->d, n, d, a->unit + row, s->panel, 0); /* the panel holds zeros */
        uint32_t u = j->isa->range(s->rows, n, d, s->low, s->high);
        worst = u > worst ? u : worst;
    }
    return worst < SETUN_INF_BITS ? SETUN_OK : SETUN_ENONFINITE;
}

static int32_t mean_block(job *j, seat *s, int64_t row, int64_t end, int64_t next) {
    const setun_kmeans *a = j->a;
    (void)next;
    for (*s->additions += end - row; row < end; row += (int64_t)j->isa->rows) {
        size_t n = rows_from(j, row, end);
        const float *x = a->x + row * a->d;
        if (a->unit) {
            j->isa->centre(s->rows, x, n, (size_t)a->d, a->unit + row, s->panel, 0); /* the panel holds zeros */
            x = s->rows;
        }
        j->isa->add_rows(s->sums, 0, x, n, (size_t)a->d, a->scale, 0);
    }
    return SETUN_OK;
}

/* Centres n rows from row on into the seat. */
static void centre(const job *j, seat *s, int64_t row, size_t n, const float *const *c) {
    const setun_kmeans *a = j->a;
    j->isa->centre(s->rows, a->x + row * a->d, n, (size_t)a->d, a->unit ? a->unit + row : 0, a->mean, c);
}

/* Adds the centred rows of the seat to their sums. */
static void add(job *j, seat *s, const int32_t *label, size_t n, const float *w) {
    j->isa->add_rows(s->sums, label, s->rows, n, (size_t)j->a->d, j->a->scale, w);
    for (size_t r = 0; r < n; r++) {
        s->additions[label[r]]++;
        s->counts[label[r]]++;
        if (w) s->weight[label[r]] += setun_rint((double)w[r] * j->a->weight_scale);
    }
}

/* Takes a row from one sum and adds it to another. */
static void move(job *j, seat *s, int32_t from, int32_t to, int64_t row) {
    size_t d = (size_t)j->a->d;
    const float w = j->a->weights ? j->a->weights[row] : 1, minus = -w;
    int64_t q = s->weight ? setun_rint((double)w * j->a->weight_scale) : 0;
    centre(j, s, row, 1, 0);
    j->isa->add_rows(s->sums, &from, s->rows, 1, d, j->a->scale, &minus);
    j->isa->add_rows(s->sums, &to, s->rows, 1, d, j->a->scale, &w);
    s->additions[from]++;
    s->additions[to]++;
    s->counts[from]--;
    s->counts[to]++;
    if (s->weight) s->weight[from] -= q, s->weight[to] += q;
}

static int32_t assign_block(job *j, seat *s, int64_t row, int64_t end, int64_t next) {
    const setun_isa *isa = j->isa;
    setun_kmeans *a = j->a;
    size_t d = (size_t)a->d;
    int64_t changed = 0, exact = 0;
    for (; row < end; row += (int64_t)isa->rows) {
        size_t n = rows_from(j, row, end);
        int32_t label[SETUN_MAX_ROWS], *out = a->labels + row;
        int64_t after = row + (int64_t)isa->rows < end ? row + (int64_t)isa->rows : next; /* the rows that come then are asked for now */
        size_t lines = after < a->n ? rows_from(j, after, a->n) * d / 16 : 0;
        int all = s->sums && !(a->flags & SETUN_KMEANS_MOVED);
        const char *ahead = (const char *)(a->x + (size_t)(after < a->n ? after : 0) * d);
        int centred = a->unit || all || j->screens;
        if (centred) centre(j, s, row, n, 0);
        int64_t scored = j->screens ? setun_screened(isa, j->coded, &s->sieve, s->rows, n, d, j->packed, a->bias, (size_t)a->k, label, ahead, lines) : -1;
        if (scored < 0) {
            isa->panel(s->panel, centred ? s->rows : a->x + row * a->d, n, d, centred ? 0 : a->mean);
            isa->nearest(s->panel, d, j->packed, a->bias, (size_t)a->k, label, ahead, lines);
            scored = (int64_t)n * a->k;
        }
        exact += scored;
        if (all) add(j, s, label, n, a->weights ? a->weights + row : 0);
        for (size_t r = 0; r < n; r++) {
            if (out[r] == label[r]) continue;
            changed++;
            if (s->sums && !all) move(j, s, out[r], label[r], row + (int64_t)r);
            out[r] = label[r];
        }
    }
    SETUN_ADD(&j->changed, changed);
    SETUN_ADD(&j->exact, exact);
    return SETUN_OK;
}

static int32_t distance_block(job *j, seat *s, int64_t row, int64_t end, int64_t next) {
    const setun_isa *isa = j->isa;
    setun_kmeans *a = j->a;
    size_t d = (size_t)a->d;
    (void)next;
    for (; row < end; row += (int64_t)isa->rows) {
        size_t n = rows_from(j, row, end);
        const float *c[SETUN_MAX_ROWS];
        float out[SETUN_MAX_ROWS], *to = a->distance + row;
        for (size_t r = 0; r < n; r++) c[r] = a->centroids + (a->labels ? (size_t)a->labels[(size_t)row + r] * d : 0);
        centre(j, s, row, n, c);
        isa->panel(s->panel, s->rows, n, d, 0);
        isa->squares(s->panel, d, out);
        for (size_t r = 0; r < n; r++)
            if (!(a->flags & SETUN_KMEANS_KEEP_MIN) || out[r] < to[r]) to[r] = out[r];
    }
    return SETUN_OK;
}

/* The integer sum of each chunk of potentials. */
static int32_t potential_block(job *j, seat *s, int64_t row, int64_t end, int64_t next) {
    setun_kmeans *a = j->a;
    (void)s, (void)next;
    for (; row < end; row += SETUN_CHUNK) {
        int64_t sum = 0, last = end - row < SETUN_CHUNK ? end : row + SETUN_CHUNK;
        for (int64_t i = row; i < last; i++) sum += setun_rint((a->weights ? (double)a->weights[i] : 1) * (double)a->distance[i] * j->scale);
        a->sums[row / SETUN_CHUNK] = sum;
    }
    return SETUN_OK;
}

static int32_t unit_block(job *j, seat *s, int64_t row, int64_t end, int64_t next) {
    setun_kmeans *a = j->a;
    (void)s, (void)next;
    for (; row < end; row++) {
        double sum;
        int32_t rc = setun_sum_products(j->isa, 0, &a->call, a->x + row * a->d, 0, a->d, &sum);
        if (rc != SETUN_OK) return rc;
        a->distance[row] = (float)(1 / sqrt(sum));
    }
    return SETUN_OK;
}

/* ---- Threads -------------------------------------------------------------------------------------------------------- */

typedef struct crew {
    job *j;
    int32_t (*block)(job *j, seat *s, int64_t row, int64_t end, int64_t next);
    size_t each; /* bytes of a seat */
} crew;

static void work(void *arg, int64_t number) {
    crew *c = arg;
    job *j = c->j;
    seat s;
    lay_out(j, number, c->each, &s);
    size_t d = (size_t)j->a->d, k = j->a->step == SETUN_KMEANS_MEAN ? 1 : (size_t)j->a->k;
    if (s.sums) {
        memset(s.sums, 0, k * d * sizeof *s.sums);
        memset(s.additions, 0, k * sizeof *s.additions);
        memset(s.counts, 0, k * sizeof *s.counts);
        if (s.weight) memset(s.weight, 0, k * sizeof *s.weight);
    }
    memset(s.panel, 0, d * sizeof *s.panel);
    for (size_t p = 0; s.low && p < d; p++) {
        s.low[p] = INFINITY;
        s.high[p] = -INFINITY;
    }
    for (int64_t b = SETUN_CLAIM(&j->next); b < j->blocks;) {
        int64_t after = SETUN_CLAIM(&j->next), end = (b + 1) * j->block;
        int32_t rc = setun_cancelled(&j->a->call) ? SETUN_ECANCELLED : c->block(j, &s, b * j->block, end < j->a->n ? end : j->a->n, after * j->block);
        if (rc != SETUN_OK) {
            SETUN_STORE(&j->status, rc);
            SETUN_STORE(&j->next, j->blocks);
            return;
        }
        b = after;
    }
}

/* Adds what the seats have to the caller's arrays. */
static void gather(const job *j, size_t each) {
    setun_kmeans *a = j->a;
    size_t d = (size_t)a->d, k = a->step == SETUN_KMEANS_MEAN ? 1 : (size_t)a->k;
    for (int64_t t = 0; t < j->seats; t++) {
        seat s;
        lay_out(j, t, each, &s);
        for (size_t c = 0; s.sums && c < k; c++) {
            if (s.additions[c] == 0) continue;
            uint64_t bits = (uint64_t)s.additions[c] * (uint64_t)SETUN_RINT_BITS; /* wraps, and so did the sums */
            for (size_t p = 0; p < d; p++) a->sums[c * d + p] = (int64_t)((uint64_t)a->sums[c * d + p] + (uint64_t)s.sums[c * d + p] - bits);
            if (a->step == SETUN_KMEANS_MEAN) continue;
            a->counts[c] += s.counts[c];
            if (s.weight) a->weight_sums[c] += s.weight[c];
        }
        for (size_t p = 0; s.low && p < d; p++) {
            a->low[p] = (s.low[p] < a->low[p] ? s.low[p] : a->low[p]) + 0.0f; /* -0 or 0 would depend on who came first */
            a->high[p] = (s.high[p] > a->high[p] ? s.high[p] : a->high[p]) + 0.0f;
        }
    }
}

/* The scale of the integer potentials: 2^B, given, less the binary exponent of the greatest of them. */
static void set_potential_scale(job *j) {
    setun_kmeans *a = j->a;
    double top = setun_float(a->weights ? 0 : j->isa->abs_max(a->distance, (size_t)a->n));
    for (int64_t i = 0; a->weights && i < a->n; i++) {
        double v = (double)a->weights[i] * (double)a->distance[i];
        top = v > top ? v : top;
    }
    int e;
    frexp(top, &e);
    a->weight_scale = j->scale = ldexp(a->weight_scale, -e);
}

static int32_t check(const setun_kmeans *a) {
    const setun_call *c = &a->call;
    if (c->size < offsetof(setun_kmeans, next)) return setun_invalid(c, "kmeans: the argument block is too small"); /* ITERATE and SEED alone have more */
    if (!a->x || a->n < 1 || a->d < 1 || a->n > INT64_MAX / 64 / a->d) return setun_invalid(c, "kmeans: x is null, n or d < 1, or too many values");
    switch (a->step) {
    case SETUN_KMEANS_RANGE:
        return a->low && a->high ? SETUN_OK : setun_invalid(c, "kmeans: low or high is null");
    case SETUN_KMEANS_MEAN:
        return a->scale && a->sums ? SETUN_OK : setun_invalid(c, "kmeans: scale or sums is null");
    case SETUN_KMEANS_ASSIGN:
        if (!a->labels || !a->bias || (a->sums && (!a->counts || !a->scale || (a->weights && !a->weight_sums))))
            return setun_invalid(c, "kmeans: labels, bias, scale or an array of sums is null");
        break;
    case SETUN_KMEANS_DISTANCE:
        if (!a->distance) return setun_invalid(c, "kmeans: distance is null");
        break;
    case SETUN_KMEANS_POTENTIAL:
        return a->distance && a->sums && a->weight_scale > 0 ? SETUN_OK : setun_invalid(c, "kmeans: distance or sums is null, or weight_scale is not positive");
    case SETUN_KMEANS_UNIT:
        return a->distance ? SETUN_OK : setun_invalid(c, "kmeans: distance is null");
    default:
        return setun_invalid(c, "kmeans: unknown step");
    }
    if (!a->mean || !a->centroids || a->k < 1 || a->k > INT32_MAX || a->k > INT64_MAX / 256 / a->d)
        return setun_invalid(c, "kmeans: mean or centroids is null, or k is out of range");
    return SETUN_OK;
}

int32_t setun_op_kmeans(const setun_isa *isa, const setun_team *team, setun_kmeans *a) {
    int32_t rc = check(a);
    if (rc != SETUN_OK) return rc;
    job j = {.isa = isa, .a = a, .base = a->workspace, .seats = setun_threads(team)};
    int64_t rows = (int64_t)isa->rows, most = BLOCK_VALUES / a->d / rows * rows;
    j.block = a->n / (16 * j.seats) / rows * rows;
    if (j.block > most) j.block = most;
    if (j.block < rows) j.block = rows;
    if (a->step == SETUN_KMEANS_POTENTIAL) j.block = 16 * SETUN_CHUNK;
    j.blocks = (a->n - 1) / j.block + 1;
    if (j.seats > j.blocks) j.seats = j.blocks;

    seat s;
    size_t at = 0, each;
    if (a->step == SETUN_KMEANS_ASSIGN) {
        j.packed = take(&j, &at, (size_t)(a->k * a->d) * sizeof(float));
        j.screens = setun_screens(isa, (size_t)a->k, (size_t)a->d);
    }
    for (int w = 0; j.screens && w < SETUN_WIDTHS; w++) {
        j.coded[w].packed = take(&j, &at, (size_t)a->k * setun_words((size_t)a->d, w) * sizeof(int32_t));
        j.coded[w].offset = take(&j, &at, (size_t)a->k * sizeof(int32_t));
    }
    each = lay_out(&j, 0, 0, &s);
    if (!a->workspace) {
        a->workspace_size = (int64_t)(at + (size_t)j.seats * each);
        return SETUN_OK;
    }
    if ((uintptr_t)a->workspace % 64 != 0 || a->workspace_size < 0 || (uint64_t)a->workspace_size < at + (size_t)j.seats * each)
        return setun_invalid(&a->call, "kmeans: the workspace is too small or not aligned to 64 bytes");
    if (j.packed) pack(isa, a, j.packed);
    j.base += at;
    lay_out(&j, 0, each, &s);
    for (int w = 0; j.screens && w < SETUN_WIDTHS; w++)
        setun_code_centroids(isa, w, &j.coded[w], a->centroids, a->bias, (size_t)a->k, (size_t)a->d, s.sieve.codes);

    static int32_t (*const blocks[])(job *, seat *, int64_t, int64_t, int64_t) = {
        [SETUN_KMEANS_RANGE] = range_block,       [SETUN_KMEANS_MEAN] = mean_block,           [SETUN_KMEANS_ASSIGN] = assign_block,
        [SETUN_KMEANS_DISTANCE] = distance_block, [SETUN_KMEANS_POTENTIAL] = potential_block, [SETUN_KMEANS_UNIT] = unit_block};
    if (a->step == SETUN_KMEANS_POTENTIAL) set_potential_scale(&j);
    crew c = {&j, blocks[a->step], each};
    setun_each(team, j.seats, work, &c);
    if (j.status == SETUN_ENONFINITE) a->call.bad_index = setun_find_bad(a->x, a->n * a->d);
    if (j.status != SETUN_OK) return j.status;
    gather(&j, each);
    a->changed = j.changed;
    a->exact = j.exact;
    return SETUN_OK;
}
