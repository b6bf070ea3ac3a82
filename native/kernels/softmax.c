/* SPDX-License-Identifier: Apache-2.0
 *
 * softmax.c: rows of powers over their sum, in place, and the gradient of that. One Zen 5 core that others use too, microseconds:
 *
 *     level    3072x64    period 64    gradient    period 64    768x512
 *     avx512   108        99           33          41           170, 2.3 powers a nanosecond
 *     avx2     229        148          80          88           305
 *
 * One step of a row waits for the one before: the greatest value, powers, their sum, a division. So short rows take each step together, and some vectors of
 * powers are computed side by side (one of 16 values after another: 1.7 a nanosecond). */
#include "layers.h"
#include "ops.h"
#include "sum.h"

#include <string.h>

#define PART (1 << 14) /* values of a part, about */

typedef struct job {
    const setun_isa *isa;
    const setun_softmax *a;
    int64_t rows; /* of a part */
} job;

/* How many values of a row there are. */
static int64_t length(const setun_softmax *a, int64_t row) { return a->period ? a->cols - a->period + 1 + row % a->period : a->cols; }

static void stats(const setun_softmax *a, int64_t row, float greatest, double sum) {
    if (!a->stats) return;
    a->stats[2 * row] = sum == sum ? (double)greatest : sum;
    a->stats[2 * row + 1] = sum;
}

/* Short rows, some together. */
static void short_rows(const job *j, int64_t row, int64_t end) {
    const setun_softmax *a = j->a;
    const setun_layers *layers = j->isa->layers;
    for (int64_t many; row < end; row += many) {
        size_t n[SETUN_TOGETHER], cols = (size_t)a->cols;
        float g[SETUN_TOGETHER], *x = a->x + row * a->cols;
        double s[SETUN_TOGETHER];
        many = end - row < SETUN_TOGETHER ? end - row : SETUN_TOGETHER;
        for (int64_t i = 0; i < many; i++) n[i] = (size_t)length(a, row + i);
        if (a->flags & SETUN_GRADIENT) {
            layers->softmax_gradient(x, a->p + row * a->cols, cols, n, (size_t)many, a->scale);
            continue;
        }
        layers->softmax(x, cols, n, (size_t)many, a->scale, a->factor, g, s);
        for (int64_t i = 0; i < many; i++) stats(a, row + i, g[i], s[i]);
    }
}

/* A long row, for the sums over its chunks. */
typedef struct line {
    const job *j;
    float *x;
    const float *p;
    float greatest;
} line;

static double powers(void *arg, int64_t at, size_t n) {
    const line *l = arg;
    return l->j->isa->layers->exp_chunk(l->x + at, n, l->j->a->scale, l->greatest);
}

static double products(void *arg, int64_t at, size_t n) {
    const line *l = arg;
    return l->j->isa->dot_chunk(l->p + at, l->x + at, n);
}

/* When a sum is cancelled the op says so. */
static void long_row(const job *j, int64_t row) {
    const setun_softmax *a = j->a;
    const setun_layers *layers = j->isa->layers;
    int64_t n = length(a, row);
    line l = {.j = j, .x = a->x + row * a->cols};
    double s = 0;
    if (a->flags & SETUN_GRADIENT) {
        l.p = a->p + row * a->cols;
        setun_sum(0, &a->call, products, &l, n, &s);
        layers->slope(l.x, l.p, (size_t)n, a->scale, (float)s);
    } else {
        l.greatest = layers->greatest(l.x, (size_t)n);
        setun_sum(0, &a->call, powers, &l, n, &s);
        layers->normalise(l.x, l.x, 0, (size_t)n, (float)(a->factor / s));
        stats(a, row, l.greatest, s);
    }
    if (n < a->cols) memset(l.x + n, 0, (size_t)(a->cols - n) * sizeof *l.x);
}

static void part(void *arg, int64_t i) {
    const job *j = arg;
    const setun_softmax *a = j->a;
    int64_t row = i * j->rows, end = row + j->rows < a->rows ? row + j->rows : a->rows;
    if (setun_cancelled(&a->call)) return;
    if (a->cols <= SETUN_CHUNK)
        short_rows(j, row, end);
    else
        for (; row < end; row++) long_row(j, row);
}

int32_t setun_op_softmax(const setun_isa *isa, const setun_team *team, setun_softmax *a) {
    setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "softmax: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 16 / a->cols) return setun_invalid(c, "softmax: rows or cols < 1, or too many values");
    if (!a->x) return setun_invalid(c, "softmax: x is null");
    if (a->flags > SETUN_GRADIENT) return setun_invalid(c, "softmax: unknown flags");
    if (a->flags && !a->p) return setun_invalid(c, "softmax: p is null");
    if (a->period < 0 || a->period > a->cols) return setun_invalid(c, "softmax: the period is not within 0 .. cols");
    if (!(a->scale >= 0)) return setun_invalid(c, "softmax: the scale is negative or not a number");
    job j = {isa, a, (PART - 1) / a->cols + 1};
    setun_each(team, (a->rows - 1) / j.rows + 1, part, &j);
    return setun_cancelled(c) ? SETUN_ECANCELLED : SETUN_OK;
}
