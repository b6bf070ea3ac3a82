/* SPDX-License-Identifier: Apache-2.0
 *
 * ternary.c: activations to int8, and packed ternary codes times them.
 *
 * The inner sums are of integers, so blocks, rows and threads may be taken in any order; codes are 0, 1, 2 while they are summed, and the sum of the
 * activations comes off afterwards. A row's end that is no full block is copied into a block whose other places meet activations of 0. Where the groups of
 * scales begin and end between blocks, codes are unpacked. That is for few rows of activations, where reading the weight limits; many.c has the rest. */
#include "ops.h"
#include "packed.h"

/* ---- activations ---- */

typedef struct rows_job {
    const setun_isa *isa;
    setun_activations *a;
    int64_t each, bad; /* rows a part; the first row that is not finite, or the number of rows */
} rows_job;

static void quantize_rows(void *arg, int64_t i) {
    rows_job *j = arg;
    setun_activations *a = j->a;
    int64_t end = (i + 1) * j->each < a->rows ? (i + 1) * j->each : a->rows;
    for (int64_t r = i * j->each; r < end && !setun_cancelled(&a->call); r++) {
        const float *x = a->x + r * a->cols;
        uint32_t bits = j->isa->abs_max(x, (size_t)a->cols);
        if (bits >= 0x7f800000u) {
            for (int64_t seen = __atomic_load_n(&j->bad, __ATOMIC_RELAXED);
                 r < seen && !__atomic_compare_exchange_n(&j->bad, &seen, r, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);) {
            }
            return;
        }
        float most;
        memcpy(&most, &bits, sizeof most);
        a->scales[r] = most / 127;
        if (bits)
            j->isa->bytes(a->out + r * a->cols, x, (size_t)a->cols, 127 / (double)most);
        else
            memset(a->out + r * a->cols, 0, (size_t)a->cols);
    }
}

int32_t setun_op_activations(const setun_isa *isa, const setun_team *team, setun_activations *a) {
    if (a->call.size < sizeof *a) return setun_invalid(&a->call, "activations: the argument block is too small");
    if (!a->x || !a->out || !a->scales || a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 16 / a->cols)
        return setun_invalid(&a->call, "activations: x, out or scales is null, or rows or cols is out of range");
    rows_job j = {.isa = isa, .a = a, .bad = a->rows};
    int64_t least = (8192 - 1) / a->cols + 1, even = (a->rows - 1) / (4 * setun_threads(team)) + 1;
    j.each = even > least ? even : least;
    setun_each(team, (a->rows - 1) / j.each + 1, quantize_rows, &j);
    if (j.bad < a->rows) {
        a->call.bad_index = j.bad * a->cols + setun_find_bad(a->x + j.bad * a->cols, a->cols);
        return SETUN_ENONFINITE;
    }
    return setun_cancelled(&a->call) ? SETUN_ECANCELLED : SETUN_OK;
}

/* ---- ternary matmul ---- */

typedef struct job {
    setun_packed w;
    const setun_codes *isa;
    const setun_ternary *a;
    setun_dot *dot;        /* of the format; null: planes and bytes */
    int64_t group, groups; /* codes of a group, groups of a row */
    int64_t each;          /* rows a part */
    int unpacked;          /* groups begin between blocks */
    int64_t *sums;         /* batch*groups sums of activations */
    int8_t *tails;         /* batch*SETUN_MOST_BLOCK activations for the rest of a row, as those of a block */
} job;

/* The weighted sums of one row whose groups begin between blocks. */
static double unpacked(const job *j, int64_t row, const int8_t *x) {
    const setun_ternary *a = j->a;
    const float *scales = a->group ? a->scales + row * j->groups : a->scales;
    int8_t codes[SETUN_PIECE];
    int64_t sum = 0, end = j->group, g = 0;
    double v = 0;
    size_t sign = 0;
    for (int64_t at = 0; at < a->cols;) {
        int64_t n = setun_unpack(&j->w, row, at, &sign, codes);
        for (int64_t i = 0; i < n;) {
            int64_t take = setun_least(n - i, end - at - i);
            sum += j->isa->dot8(codes + i, x + at + i, (size_t)take);
            if ((i += take) + at == end || i + at == a->cols) {
                v += (double)sum * (double)scales[g++];
                sum = 0;
                end += j->group;
            }
        }
        at += n;
    }
    return v;
}

/* The integer sums of a group for up to SETUN_DOT_ROWS rows, whose ends are in pad; columns from .. to begin a block, and end one or the row. */
static void group_sums(const job *j, int64_t row, int64_t rows, uint8_t (*pad)[64], int64_t from, int64_t to, int64_t t, size_t *sign, int64_t *sums) {
    const setun_ternary *a = j->a;
    const uint8_t *in = (const uint8_t *)a->codes + row * j->w.row_bytes + from / j->w.block * j->w.bytes;
    const int8_t *x = a->x + t * a->cols + from, *tail = j->tails + t * SETUN_MOST_BLOCK;
    int32_t part[SETUN_DOT_ROWS];
    for (int64_t r = 0; r < rows; r++) sums[r] = 0;
    if (a->format == SETUN_INT8) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < to - from; c += SETUN_DOT_CODES)
                sums[r] += j->isa->dot8((const int8_t *)in + r * j->w.row_bytes + c, x + c, (size_t)setun_least(SETUN_DOT_CODES, to - from - c));
        return;
    }
    int64_t blocks = (to - from) / j->w.block, most = j->dot ? SETUN_DOT_BLOCKS : 4 * SETUN_DOT_BLOCKS;
    for (int64_t b = 0, n; b < blocks; b += n) {
        n = setun_least(most, blocks - b);
        if (j->dot) {
            j->dot(part, in + b * j->w.bytes, (size_t)j->w.row_bytes, (size_t)rows, x + b * j->w.block, (size_t)n);
            for (int64_t r = 0; r < rows; r++) sums[r] += part[r];
        } else
            for (int64_t r = 0; r < rows; r++)
                sums[r] += j->isa->dot1(in + r * j->w.row_bytes + b * 8, a->signs + a->index[row + r], &sign[r], x + b * 64, (size_t)n);
    }
    if ((to - from) % j->w.block == 0) return;
    if (j->dot) {
        j->dot(part, pad[0], 64, (size_t)rows, tail, 1);
        for (int64_t r = 0; r < rows; r++) sums[r] += part[r];
    } else
        for (int64_t r = 0; r < rows; r++) sums[r] += j->isa->dot1(pad[r], a->signs + a->index[row + r], &sign[r], tail, 1);
}

static void some_rows(void *arg, int64_t i) {
    const job *j = arg;
    const setun_ternary *a = j->a;
    double unit = a->levels == SETUN_QUINARY ? 0.5 : 1;
    int64_t end = setun_least((i + 1) * j->each, a->rows), sums[SETUN_DOT_ROWS];
    for (int64_t row = i * j->each, n; row < end && !setun_cancelled(&a->call); row += n) {
        n = setun_least(SETUN_DOT_ROWS, end - row);
        uint8_t pad[SETUN_DOT_ROWS][64]; /* the ends of the rows as full blocks */
        for (int64_t r = 0; r < n && j->w.tail > 0 && !j->unpacked; r++)
            setun_pad_codes(&j->w, pad[r], (const uint8_t *)a->codes + (row + r) * j->w.row_bytes + j->w.full * j->w.bytes);
        for (int64_t t = 0; t < a->batch; t++) {
            double v[SETUN_DOT_ROWS] = {0};
            size_t sign[SETUN_DOT_ROWS] = {0};
            if (j->unpacked)
                for (int64_t r = 0; r < n; r++) v[r] = unpacked(j, row + r, a->x + t * a->cols);
            else
                for (int64_t g = 0, from = 0; g < j->groups; g++, from += j->group) {
                    group_sums(j, row, n, pad, from, setun_least(from + j->group, a->cols), t, sign, sums);
                    for (int64_t r = 0; r < n; r++) {
                        float scale = a->group ? a->scales[(row + r) * j->groups + g] : a->scales[0];
                        v[r] += (double)(sums[r] - (j->dot ? j->sums[t * j->groups + g] : 0)) * (double)scale;
                    }
                }
            for (int64_t r = 0; r < n; r++) a->out[t * a->rows + row + r] = (float)(v[r] * unit * (double)a->x_scales[t]);
        }
    }
}

/* What all rows need of the activations. */
static void prepare(const job *j) {
    const setun_ternary *a = j->a;
    for (int64_t t = 0; t < a->batch; t++) {
        const int8_t *x = a->x + t * a->cols;
        if (j->w.tail > 0) setun_pad_values(&j->w, j->tails + t * SETUN_MOST_BLOCK, x + a->cols - j->w.tail);
        if (!j->dot || j->unpacked) continue;
        for (int64_t g = 0; g < j->groups; g++) {
            int64_t end = setun_least((g + 1) * j->group, a->cols), sum = 0;
            for (int64_t c = g * j->group; c < end; c += 1 << 20) {
                int32_t part = 0;
                for (int64_t i = c; i < setun_least(end, c + (1 << 20)); i++) part += x[i];
                sum += part;
            }
            j->sums[t * j->groups + g] = sum;
        }
    }
}

static int32_t check(const setun_ternary *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "ternary: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->batch < 1 || a->rows > (int64_t)1 << 45 || a->cols > (int64_t)1 << 45 || a->batch > (int64_t)1 << 45)
        return setun_invalid(c, "ternary: rows, cols or batch is out of range");
    if (a->rows > ((int64_t)1 << 45) / a->cols || a->batch > ((int64_t)1 << 45) / a->cols || a->batch > ((int64_t)1 << 45) / a->rows)
        return setun_invalid(c, "ternary: a matrix is too large");
    if (a->group < 0 || a->group > a->cols) return setun_invalid(c, "ternary: group is not within 0 .. cols");
    if (a->levels != SETUN_TERNARY && a->levels != SETUN_QUINARY && a->levels != SETUN_SPARSE) return setun_invalid(c, "ternary: unknown levels");
    if (a->format < SETUN_INT8 || a->format > SETUN_PLANES) return setun_invalid(c, "ternary: unknown format");
    if ((a->levels == SETUN_QUINARY && a->format != SETUN_INT8) || (a->levels != SETUN_SPARSE && a->format == SETUN_FOUR5))
        return setun_invalid(c, "ternary: the format does not hold such levels");
    if (!a->codes || !a->scales || !a->x || !a->x_scales || !a->out || (a->format == SETUN_PLANES && (!a->signs || !a->index)))
        return setun_invalid(c, "ternary: codes, signs, index, scales, x, x_scales or out is null");
    return SETUN_OK;
}

int32_t setun_op_ternary(const setun_isa *isa, const setun_team *team, setun_ternary *a) {
    int32_t rc = check(a);
    if (rc != SETUN_OK) return rc;
    if (setun_has_many(isa, a)) return setun_ternary_many(isa, team, a);
    job j = {.isa = isa->codes, .a = a, .group = a->group ? a->group : a->cols};
    j.w = (setun_packed){.isa = isa->codes, .format = a->format, .codes = a->codes, .signs = a->signs, .index = a->index, .cols = a->cols};
    setun_packed_sizes(&j.w);
    j.groups = (a->cols - 1) / j.group + 1;
    j.dot = a->format == SETUN_2BIT ? j.isa->dot2 : a->format == SETUN_BASE3 ? j.isa->dot3 : a->format == SETUN_FOUR5 ? j.isa->dot5 : 0;
    j.unpacked = j.groups > 1 && j.group % j.w.block != 0;
    int64_t tails = a->batch * SETUN_MOST_BLOCK, need = tails + a->batch * j.groups * (int64_t)sizeof *j.sums;
    if (!a->workspace) {
        a->workspace_size = need;
        return SETUN_OK;
    }
    if ((uintptr_t)a->workspace % 64 != 0 || a->workspace_size < need)
        return setun_invalid(&a->call, "ternary: the workspace is too small or not aligned to 64 bytes");
    j.tails = a->workspace;
    j.sums = (int64_t *)((char *)a->workspace + tails);
    prepare(&j);
    j.each = ((a->rows - 1) / (8 * setun_threads(team)) + SETUN_DOT_ROWS) / SETUN_DOT_ROWS * SETUN_DOT_ROWS;
    setun_each(team, (a->rows - 1) / j.each + 1, some_rows, &j);
    return setun_cancelled(&a->call) ? SETUN_ECANCELLED : SETUN_OK;
}
