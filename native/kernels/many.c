/* SPDX-License-Identifier: Apache-2.0
 *
 * many.c: packed ternary codes times many rows of activations, where the products are what takes time and not reading the weight.
 *
 * A panel of rows of codes is unpacked to bytes once, turned as the products of the level want it (tile.h), and multiplied by all rows of activations, a few at
 * a time, whose sums stay in registers over a whole group of columns. The activations are read where they are. A thread has memory for one panel: of 32 rows
 * by 2048 columns 64 KiB, in its second cache beside what passes of the activations.
 *
 * Each group's columns begin a step of their own in the panel; the rest of a step are bytes of 0, which meet activations of the next columns, or at the end of
 * all rows those of a copy.
 *
 * One Zen 5 core, AVX-512 VNNI, codes of 2 bits, in 10^9 multiplications and additions a second, against a row of activations at a time and the product of
 * float32 numbers:
 *
 *     weight     rows of activations   a row at a time   here   float32
 *     512x128    768                   35                648    246
 *     768x768    768                   149               936    223
 *     2048x2048  512                   273               946    210
 *
 * Short columns lose to what is done once for each sum: 32 steps of products, and then two conversions and products of float64. */
#include "ops.h"
#include "packed.h"
#include "tile.h"

enum {
    SHARE = 1 << 15,           /* activations that a part adds up */
    PASS = 1 << 20,            /* activations that a panel meets before the next one does: they stay in the second cache */
    STRIDE = SETUN_PIECE + 64, /* of unpacked rows: setun_unpack writes so far behind the codes */
    LONG = 1024,               /* columns */
    FEW = 4                    /* calls of the products that a panel is unpacked for, at least */
};

typedef struct many {
    setun_packed w;
    const setun_ternary *a;
    const setun_tile *tile;
    int64_t group, groups, last; /* codes of a group and of the last one, groups of a row */
    int64_t steps, pieces;       /* of a group: steps, and stretches of at most SETUN_TILE_DEPTH columns */
    int64_t panels, each, units; /* panels, rows of activations of a unit, units of work */
    int64_t next;                /* unit that nobody has claimed */
    int64_t per;                 /* rows of activations that a part adds up */
    int32_t *less;               /* batch*groups*pieces: what comes off the sums */
    int8_t *end;                 /* a copy of the last rows of activations with bytes behind each; null: not needed */
    char *slots;                 /* a panel and its scales for each thread */
    int64_t slot, panel_bytes;
} many;

static int64_t pieces(int64_t n, int64_t size) { return (n - 1) / size + 1; }
static int64_t round64(int64_t bytes) { return (bytes + 63) & ~(int64_t)63; }
static int64_t of_group(const many *m, int64_t g) { return g == m->groups - 1 ? m->last : m->group; }
static int64_t end_rows(const many *m) { return setun_least(m->tile->batch, m->a->batch); }

/* ---- panels ---- */

/* Codes from a column on of so many rows into a panel whose groups do not fill their steps; 0 is there already. */
static void scatter(const many *m, uint8_t *panel, const int8_t *codes, int64_t lines, int64_t from, int64_t n) {
    int64_t rows = m->tile->rows, step = m->tile->step;
    for (int64_t r = 0; r < lines; r++) {
        const int8_t *in = codes + r * STRIDE;
        int64_t g = from / m->group, i = from % m->group;
        for (int64_t c = 0; c < n; c++) {
            panel[((g * m->steps + i / step) * rows + r) * step + i % step] = (uint8_t)(in[c] + m->tile->more);
            if (++i == m->group) i = 0, g++;
        }
    }
}

static int within(const int8_t *codes, int64_t n, int32_t reach) {
    uint8_t beyond = 0, more = (uint8_t)reach, most = (uint8_t)(2 * reach);
    for (int64_t i = 0; i < n; i++) {
        uint8_t v = (uint8_t)(codes[i] + more);
        beyond |= v > most; /* bytes throughout: 16 a vector */
    }
    return !beyond;
}

/* Unpacks the rows from `row` on, and their scales; those that are not there get codes that nobody reads the products of. Returns 0 where a code is none that
 * the level can multiply, which only bytes can be. */
static int unpack_panel(const many *m, int64_t row, uint8_t *panel, float *scales) {
    const setun_ternary *a = m->a;
    const setun_tile *tile = m->tile;
    int64_t rows = tile->rows, step = tile->step, there = setun_least(rows, a->rows - row);
    int even = m->groups == 1 || m->group % step == 0, right = 1;
    for (int64_t g = 0; g < m->groups; g++)
        for (int64_t r = 0; r < rows; r++) scales[g * rows + r] = r >= there ? 0 : a->group ? a->scales[(row + r) * m->groups + g] : a->scales[0];
    if (!even) memset(panel, 0, (size_t)m->panel_bytes);
    int8_t codes[SETUN_TILE_LAID][STRIDE];
    for (int64_t line = 0; line < there; line += tile->lines) {
        int64_t lines = setun_least(tile->lines, there - line), n;
        size_t sign[SETUN_TILE_LAID] = {0};
        if (lines < tile->lines) memset(codes[lines], 0, (size_t)(tile->lines - lines) * sizeof codes[0]);
        for (int64_t at = 0; at < a->cols; at += n) {
            n = setun_least(SETUN_PIECE, a->cols - at);
            for (int64_t r = 0; r < lines; r++) {
                setun_unpack(&m->w, row + line + r, at, &sign[r], codes[r]);
                if (a->format == SETUN_INT8 && tile->reach < 128) right &= within(codes[r], n, tile->reach);
                if (n % step > 0) memset(codes[r] + n, -tile->more, (size_t)(step - n % step));
            }
            if (even)
                tile->lay(panel + (at / step * rows + line) * step, codes[0], STRIDE, (size_t)pieces(n, step));
            else
                scatter(m, panel + line * step, codes[0], lines, at, n);
        }
    }
    return right;
}

/* ---- products ---- */

/* The weighted sums of all groups of a panel's rows by so many rows of activations. */
static void add_groups(const many *m, double *v, const uint8_t *panel, const float *scales, const int8_t *x, size_t ld, int64_t t, int64_t batch) {
    const setun_tile *tile = m->tile;
    int64_t rows = tile->rows;
    float ones[SETUN_TILE_ROWS];
    for (int64_t r = 0; r < rows; r++) ones[r] = 1;
    for (int64_t i = 0; i < batch * rows; i++) v[i] = 0;
    for (int64_t g = 0; g < m->groups; g++) {
        const uint8_t *at = panel + g * m->steps * rows * tile->step;
        double whole[SETUN_TILE_BATCH * SETUN_TILE_ROWS] = {0}; /* integers below 2^53 */
        int32_t sums[SETUN_TILE_BATCH * SETUN_TILE_ROWS];
        for (int64_t p = 0; p < m->pieces; p++) {
            int64_t from = p * SETUN_TILE_DEPTH, n = setun_least(SETUN_TILE_DEPTH, of_group(m, g) - from);
            if (n <= 0) break; /* the last group is a short one */
            tile->products(sums, at + from * rows, (size_t)pieces(n, tile->step), x + g * m->group + from, ld, (size_t)batch);
            for (int64_t i = 0; i < batch; i++) {
                int32_t less = m->less[((t + i) * m->groups + g) * m->pieces + p];
                tile->scale((m->pieces > 1 ? whole : v) + i * rows, 0, sums + i * rows, less, m->pieces > 1 ? ones : scales + g * rows, 0);
            }
        }
        for (int64_t i = 0; i < batch * rows && m->pieces > 1; i++) v[i] += whole[i] * (double)scales[g * rows + i % rows];
    }
}

/* A panel by the rows of activations from .. to. */
static void multiply(const many *m, int64_t row, const uint8_t *panel, const float *scales, int64_t from, int64_t to) {
    const setun_ternary *a = m->a;
    const setun_tile *tile = m->tile;
    int64_t rows = tile->rows, there = setun_least(rows, a->rows - row);
    double half = a->levels == SETUN_QUINARY ? 0.5 : 1;
    for (int64_t t = from, batch; t < to && !setun_cancelled(&a->call); t += batch) {
        batch = (int64_t)setun_group((size_t)(to - from), (size_t)tile->batch, (size_t)(t - from));
        const int8_t *x = a->x + t * a->cols;
        int64_t ld = a->cols;
        if (m->end && t + batch == a->batch) {
            ld += tile->step - 1;
            x = m->end + (end_rows(m) - batch) * ld;
        }
        int32_t sums[SETUN_TILE_BATCH * SETUN_TILE_ROWS];
        double v[SETUN_TILE_BATCH * SETUN_TILE_ROWS];
        int one = m->groups * m->pieces == 1;
        if (one)
            tile->products(sums, panel, (size_t)m->steps, x, (size_t)ld, (size_t)batch);
        else
            add_groups(m, v, panel, scales, x, (size_t)ld, t, batch);
        for (int64_t i = 0; i < batch; i++) {
            float edge[SETUN_TILE_ROWS], *out = a->out + (t + i) * a->rows + row, *to_row = there < rows ? edge : out;
            double unit = half * (double)a->x_scales[t + i]; /* exact, as v * half is */
            if (one)
                tile->scale(0, to_row, sums + i * rows, m->less[t + i], scales, unit);
            else
                for (int64_t r = 0; r < rows; r++) to_row[r] = (float)(v[i * rows + r] * unit);
            if (there < rows) memcpy(out, edge, (size_t)there * sizeof *out);
        }
    }
}

/* The same of bytes that are no codes. */
static void multiply_bytes(const many *m, int64_t row, int64_t from, int64_t to) {
    const setun_ternary *a = m->a;
    double half = a->levels == SETUN_QUINARY ? 0.5 : 1;
    for (int64_t t = from; t < to && !setun_cancelled(&a->call); t++)
        for (int64_t r = row; r < setun_least(row + m->tile->rows, a->rows); r++) {
            double v = 0;
            for (int64_t g = 0; g < m->groups; g++) {
                int64_t sum = 0, at = g * m->group, end = at + of_group(m, g);
                for (int64_t n; at < end; at += n) {
                    n = setun_least(SETUN_DOT_CODES, end - at);
                    sum += m->w.isa->dot8((const int8_t *)m->w.codes + r * a->cols + at, a->x + t * a->cols + at, (size_t)n);
                }
                v += (double)sum * (double)(a->group ? a->scales[r * m->groups + g] : a->scales[0]);
            }
            a->out[t * a->rows + r] = (float)(v * half * (double)a->x_scales[t]);
        }
}

/* ---- the op ---- */

static void work(void *arg, int64_t i) {
    many *m = arg;
    uint8_t *panel = (uint8_t *)m->slots + i * m->slot;
    float *scales = (float *)(m->slots + i * m->slot + m->panel_bytes);
    for (int64_t unit; (unit = SETUN_CLAIM(&m->next)) < m->units && !setun_cancelled(&m->a->call);) {
        int64_t row = unit % m->panels * m->tile->rows, from = unit / m->panels * m->each, to = setun_least(from + m->each, m->a->batch);
        if (unpack_panel(m, row, panel, scales))
            multiply(m, row, panel, scales, from, to);
        else
            multiply_bytes(m, row, from, to);
    }
}

static void add_up(void *arg, int64_t i) {
    const many *m = arg;
    const setun_ternary *a = m->a;
    for (int64_t t = i * m->per; t < setun_least((i + 1) * m->per, a->batch); t++)
        for (int64_t g = 0; g < m->groups; g++)
            for (int64_t p = 0; p < m->pieces; p++) {
                int64_t from = p * SETUN_TILE_DEPTH, n = setun_least(SETUN_TILE_DEPTH, of_group(m, g) - from);
                int32_t s = m->tile->more && n > 0 ? m->tile->sum(a->x + t * a->cols + g * m->group + from, (size_t)n) : 0;
                m->less[(t * m->groups + g) * m->pieces + p] = m->tile->more * s;
            }
}

int setun_has_many(const setun_isa *isa, const setun_ternary *a) {
    const setun_tile *tile = isa->codes->tile;
    if (!tile || 2 * a->rows < tile->rows || a->cols < 16 || (a->group > 0 && a->group < setun_least(16, a->cols))) return 0;
    /* Long rows lose less by being read again for each row of activations; bytes have to be checked here. */
    return a->batch >= tile->from + (a->cols >= LONG) + (a->format == SETUN_INT8 && tile->reach < 128 ? 2 : 0);
}

int32_t setun_ternary_many(const setun_isa *isa, const setun_team *team, setun_ternary *a) {
    const setun_tile *tile = isa->codes->tile;
    many m = {.a = a, .tile = tile, .group = a->group ? a->group : a->cols};
    m.w = (setun_packed){.isa = isa->codes, .format = a->format, .codes = a->codes, .signs = a->signs, .index = a->index, .cols = a->cols};
    m.w.rows = a->rows;
    setun_packed_sizes(&m.w);
    m.groups = pieces(a->cols, m.group);
    m.last = a->cols - (m.groups - 1) * m.group;
    m.steps = pieces(m.group, tile->step);
    m.pieces = pieces(m.group, SETUN_TILE_DEPTH);
    m.panels = pieces(a->rows, tile->rows);
    m.per = pieces(SHARE, a->cols);

    /* As few cuts of the batch as keep its part in the cache and give each thread enough to do; none that would unpack a panel for little. */
    int64_t threads = setun_threads(team), calls = pieces(a->batch, tile->batch), most = pieces(PASS, tile->batch * a->cols), least = 4 * FEW;
    int64_t cuts = pieces(calls, most > least ? most : least);
    while (threads > 1 && m.panels * cuts < 4 * threads && calls > cuts * FEW) cuts++;
    m.each = pieces(calls, cuts) * tile->batch;
    m.units = m.panels * pieces(a->batch, m.each);
    threads = setun_least(threads, m.units);

    int64_t sums = round64(a->batch * m.groups * m.pieces * (int64_t)sizeof *m.less), ld = a->cols + tile->step - 1;
    int64_t end = m.last % tile->step > 0 ? round64(end_rows(&m) * ld) : 0;
    m.panel_bytes = round64((m.groups * m.steps + SETUN_TILE_LAID) * tile->rows * tile->step);
    m.slot = m.panel_bytes + round64(m.groups * tile->rows * (int64_t)sizeof(float));
    int64_t need = sums + end + threads * m.slot;
    if (!a->workspace) {
        a->workspace_size = need;
        return SETUN_OK;
    }
    if ((uintptr_t)a->workspace % 64 != 0 || a->workspace_size < need)
        return setun_invalid(&a->call, "ternary: the workspace is too small or not aligned to 64 bytes");
    m.less = a->workspace;
    m.slots = (char *)a->workspace + sums + end;
    if (end > 0) {
        m.end = (int8_t *)a->workspace + sums;
        memset(m.end, 0, (size_t)end);
        for (int64_t r = 0; r < end_rows(&m); r++) memcpy(m.end + r * ld, a->x + (a->batch - end_rows(&m) + r) * a->cols, (size_t)a->cols);
    }
    setun_each(team, pieces(a->batch, m.per), add_up, &m);
    setun_each(team, threads, work, &m);
    return setun_cancelled(&a->call) ? SETUN_ECANCELLED : SETUN_OK;
}
