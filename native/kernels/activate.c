/* SPDX-License-Identifier: Apache-2.0
 *
 * activate.c: the function between two products of a feed-forward, and its gradient. 768x512 values on one Zen 5 core that others use too, microseconds:
 *
 *     level    relu2    gradient    swiglu    gradient
 *     avx512   30       41          128       164        relu2 reads 52 GB/s and writes as much
 *     avx2     35       48          282       310 */
#include "layers.h"
#include "ops.h"

#define PART (1 << 14) /* values of a part, about */

typedef struct job {
    const setun_layers *layers;
    const setun_activate *a;
    int64_t n; /* relu2: values; else rows of a part */
} job;

static void relu2(void *arg, int64_t i) {
    const job *j = arg;
    const setun_activate *a = j->a;
    int64_t at = i * PART;
    size_t n = (size_t)(j->n - at < PART ? j->n - at : PART);
    if (setun_cancelled(&a->call)) return;
    if (a->flags & SETUN_GRADIENT)
        j->layers->relu2_gradient(a->out + at, a->x + at, a->dy + at, n);
    else
        j->layers->relu2(a->out + at, a->x + at, n);
}

static void swiglu(void *arg, int64_t i) {
    const job *j = arg;
    const setun_activate *a = j->a;
    int64_t end = (i + 1) * j->n < a->rows ? (i + 1) * j->n : a->rows;
    size_t n = (size_t)a->cols;
    if (setun_cancelled(&a->call)) return;
    for (int64_t r = i * j->n; r < end; r++)
        if (a->flags & SETUN_GRADIENT)
            j->layers->swiglu_gradient(a->out + 2 * r * a->cols, a->x + 2 * r * a->cols, a->dy + r * a->cols, n);
        else
            j->layers->swiglu(a->out + r * a->cols, a->x + 2 * r * a->cols, n);
}

int32_t setun_op_activate(const setun_isa *isa, const setun_team *team, setun_activate *a) {
    setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "activate: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 16 / a->cols) return setun_invalid(c, "activate: rows or cols < 1, or too many values");
    if (!a->x || !a->out) return setun_invalid(c, "activate: x or out is null");
    if (a->kind != SETUN_RELU2 && a->kind != SETUN_SWIGLU) return setun_invalid(c, "activate: unknown kind");
    if (a->flags > SETUN_GRADIENT) return setun_invalid(c, "activate: unknown flags");
    if (a->flags && !a->dy) return setun_invalid(c, "activate: dy is null");
    job j = {isa->layers, a, a->kind == SETUN_RELU2 ? a->rows * a->cols : (PART - 1) / a->cols + 1};
    if (a->kind == SETUN_RELU2)
        setun_each(team, (j.n - 1) / PART + 1, relu2, &j);
    else
        setun_each(team, (a->rows - 1) / j.n + 1, swiglu, &j);
    return setun_cancelled(c) ? SETUN_ECANCELLED : SETUN_OK;
}
