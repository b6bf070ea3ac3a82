/* SPDX-License-Identifier: Apache-2.0
 *
 * rmsnorm.c: rows over their root mean square, and the gradient of that. A part is some blocks of SETUN_NORM_BLOCK rows, so that the float32 sums of a
 * block belong to one thread. One Zen 5 core that others use too, microseconds:
 *
 *     level    768x128    768x512    with delta    gradient with gain
 *     avx512   13         42         20, 68        20, 64
 *     avx2     20         47         26, 80        32, 102 */
#include "layers.h"
#include "ops.h"
#include "sum.h"

#include <math.h>
#include <string.h>

#define PART (1 << 14) /* values of a part, about */
#define COLUMNS 256    /* of the gain's gradient that are added at a time */

typedef struct job {
    const setun_isa *isa;
    const setun_rmsnorm *a;
    int64_t rows; /* of a part */
} job;

/* A row, for the sums over its chunks. */
typedef struct line {
    const job *j;
    const float *x, *dy;
    float *part;
    float r;
} line;

static double squares(void *arg, int64_t at, size_t n) {
    const line *l = arg;
    return l->j->isa->square_chunk(l->x + at, n);
}

static double products(void *arg, int64_t at, size_t n) {
    const line *l = arg;
    return l->j->isa->dot_chunk(l->dy + at, l->x + at, n);
}

static double gained(void *arg, int64_t at, size_t n) {
    const line *l = arg;
    return l->j->isa->layers->norm_chunk(l->part + at, l->x + at, l->dy + at, l->j->a->gain + at, n, l->r);
}

static double sum(line *l, setun_chunk_fn *chunk) {
    const setun_rmsnorm *a = l->j->a;
    double s = 0;
    if (a->cols <= SETUN_CHUNK) return chunk(l, 0, (size_t)a->cols);
    setun_sum(0, &a->call, chunk, l, a->cols, &s); /* when it is cancelled the op says so */
    return s;
}

static void forward(void *arg, int64_t i) {
    const job *j = arg;
    const setun_rmsnorm *a = j->a;
    const setun_layers *layers = j->isa->layers;
    size_t n = (size_t)a->cols;
    int64_t end = (i + 1) * j->rows < a->rows ? (i + 1) * j->rows : a->rows;
    if (setun_cancelled(&a->call)) return;
    for (int64_t r = i * j->rows; r < end; r++) {
        line l = {.j = j, .x = a->x + r * a->cols};
        if (a->delta) {
            layers->add(a->sum + r * a->cols, l.x, a->delta + r * a->cols, n);
            l.x = a->sum + r * a->cols;
        }
        a->scale[r] = (float)(1 / sqrt(sum(&l, squares) / (double)a->cols + a->epsilon));
        layers->normalise(a->out + r * a->cols, l.x, a->gain, n, a->scale[r]);
    }
}

static void gradient(void *arg, int64_t i) {
    const job *j = arg;
    const setun_rmsnorm *a = j->a;
    size_t n = (size_t)a->cols;
    int64_t end = (i + 1) * j->rows < a->rows ? (i + 1) * j->rows : a->rows;
    if (setun_cancelled(&a->call)) return;
    for (int64_t r = i * j->rows; r < end; r++) {
        line l = {j, a->x + r * a->cols, a->dy + r * a->cols, 0, a->scale[r]};
        double s;
        if (a->gain) {
            l.part = a->parts + r / SETUN_NORM_BLOCK * a->cols;
            if (r % SETUN_NORM_BLOCK == 0) memset(l.part, 0, n * sizeof *l.part);
            s = sum(&l, gained);
        } else {
            s = sum(&l, products) * (double)l.r;
        }
        j->isa->layers->norm_gradient(a->out + r * a->cols, l.x, l.dy, a->gain, n, l.r, (float)(s / (double)a->cols), (a->flags & SETUN_ADD) != 0);
    }
}

/* The sums of the blocks, for some columns. */
static void gain_gradient(void *arg, int64_t i) {
    const job *j = arg;
    const setun_rmsnorm *a = j->a;
    int64_t at = i * COLUMNS, n = a->cols - at < COLUMNS ? a->cols - at : COLUMNS;
    double s[COLUMNS] = {0};
    for (int64_t b = 0; b <= (a->rows - 1) / SETUN_NORM_BLOCK; b++)
        for (int64_t c = 0; c < n; c++) s[c] += (double)a->parts[b * a->cols + at + c];
    for (int64_t c = 0; c < n; c++) a->dgain[at + c] += (float)s[c];
}

int32_t setun_op_rmsnorm(const setun_isa *isa, const setun_team *team, setun_rmsnorm *a) {
    setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "rmsnorm: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 16 / a->cols) return setun_invalid(c, "rmsnorm: rows or cols < 1, or too many values");
    if (!a->x || !a->out || !a->scale) return setun_invalid(c, "rmsnorm: x, out or scale is null");
    if (a->flags > (SETUN_GRADIENT | SETUN_ADD) || a->flags == SETUN_ADD) return setun_invalid(c, "rmsnorm: flags that are unknown or do not go together");
    if (!(a->epsilon >= 0)) return setun_invalid(c, "rmsnorm: epsilon is negative or not a number");
    int back = (a->flags & SETUN_GRADIENT) != 0;
    if (!back && a->delta && !a->sum) return setun_invalid(c, "rmsnorm: delta without sum");
    if (back && !a->dy) return setun_invalid(c, "rmsnorm: dy is null");
    if (back && a->gain && (!a->dgain || !a->parts)) return setun_invalid(c, "rmsnorm: dgain or parts is null");
    int64_t blocks = ((PART - 1) / a->cols + 1 + SETUN_NORM_BLOCK - 1) / SETUN_NORM_BLOCK;
    job j = {isa, a, blocks * SETUN_NORM_BLOCK};
    if (!back) j.rows = (PART - 1) / a->cols + 1;
    setun_each(team, (a->rows - 1) / j.rows + 1, back ? gradient : forward, &j);
    if (setun_cancelled(c)) return SETUN_ECANCELLED;
    if (back && a->gain) setun_each(team, (a->cols - 1) / COLUMNS + 1, gain_gradient, &j);
    return SETUN_OK;
}
