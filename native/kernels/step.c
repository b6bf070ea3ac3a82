/* SPDX-License-Identifier: Apache-2.0
 *
 * step.c: constrain, apply and quantize in one go. delta is read for its norm, then once more to be applied; what quantize
 * needs first is taken from the new parameters while they are in the cache. */
#include "ball.h"
#include "first.h"
#include "tree.h"

#include <math.h>

#define BLOCK (16 * SETUN_CHUNK) /* values of a part */

typedef struct job {
    const setun_isa *isa;
    setun_quantize q; /* of the new parameters */
    float *params;
    const float *delta;
    int64_t n, parts;
    double *scratch; /* a value a chunk */
    int scaled;      /* whether f counts */
    double f;
    setun_cut cut; /* of many scales */
    int32_t status;
} job;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Backwards, so that the beginning of delta is in the cache when it is applied. */
static void sum_part(void *arg, int64_t part) {
    job *j = arg;
    int64_t begin = (j->parts - 1 - part) * BLOCK, end = least(begin + BLOCK, j->n);
    if (setun_cancelled(&j->q.call)) return;
    for (int64_t i = begin; i < end; i += SETUN_CHUNK) j->scratch[i / SETUN_CHUNK] = j->isa->square_chunk(j->delta + i, (size_t)least(end - i, SETUN_CHUNK));
}

static double tree_sum(const job *j) {
    setun_tree t = {0};
    for (int64_t c = 0; c <= (j->n - 1) / SETUN_CHUNK; c++) setun_tree_add(&t, 0, j->scratch[c]);
    return setun_tree_sum(&t);
}

/* The greatest of the chunks, or one that is not finite. */
static double greatest(const job *j) {
    double most = 0;
    for (int64_t c = 0; c <= (j->n - 1) / SETUN_CHUNK; c++) {
        double v = j->scratch[c];
        if (v - v != 0) return v;
        most = v > most ? v : most;
    }
    return most;
}

/* params += the constrained delta, for at most a chunk. */
static void apply(const job *j, int64_t at, size_t n) {
    float scaled[SETUN_CHUNK], *p = j->params + at;
    const float *u = j->delta + at;
    if (j->scaled) {
        j->isa->scale(scaled, u, n, j->f);
        u = scaled;
    }
    for (size_t i = 0; i < n; i++) p[i] += u[i];
}

static void apply_part(void *arg, int64_t part) {
    job *j = arg;
    int64_t end = least((part + 1) * BLOCK, j->n);
    for (int64_t i = part * BLOCK; i < end; i += SETUN_CHUNK) {
        size_t n = (size_t)least(end - i, SETUN_CHUNK);
        apply(j, i, n);
        j->scratch[i / SETUN_CHUNK] = setun_first_chunk(j->isa, j->q.rule, j->params + i, n);
    }
}

/* ---- Groups: applied and quantized a block at a time ---------------------------------------------------------------- */

static void group_part(void *arg, int64_t part) {
    job *j = arg;
    setun_quantize s;
    int64_t at = setun_quantize_part(&j->q, &j->cut, part, &s), n = s.rows * s.cols;
    for (int64_t i = 0; i < n; i += SETUN_CHUNK) apply(j, at + i, (size_t)least(n - i, SETUN_CHUNK));
    int32_t rc = setun_quantize_groups(j->isa, &s, at, setun_past_caches(4 * j->n));
    if (rc != SETUN_OK) SETUN_STORE(&j->status, rc);
}

int32_t setun_op_step(const setun_isa *isa, const setun_team *team, setun_step *a) {
    setun_call *call = &a->to.call;
    if (call->size < sizeof *a) return setun_invalid(call, "step: the argument block is too small");
    job j = {.isa = isa, .q = a->to, .params = a->params, .delta = a->delta, .scratch = a->scratch};
    j.q.x = a->params;
    int32_t rc = setun_quantize_check(&j.q);
    if (rc != SETUN_OK) return rc;
    if (!a->delta || !a->scratch) return setun_invalid(call, "step: delta or scratch is null");
    if (!(a->radius >= 0)) return setun_invalid(call, "step: the radius is negative or not a number");
    j.n = a->to.rows * a->to.cols;
    j.parts = (j.n - 1) / BLOCK + 1;
    setun_each(team, j.parts, sum_part, &j);
    if (setun_cancelled(call)) return SETUN_ECANCELLED;
    double sum = tree_sum(&j);
    if (sum - sum != 0) {
        call->bad_index = setun_find_bad(a->delta, j.n);
        return SETUN_ENONFINITE;
    }
    a->norm = sqrt(sum);
    j.scaled = a->norm > a->radius;
    if (j.scaled) j.f = setun_ball_factor(a->radius, a->norm);
    j.q.call.cancel = 0; /* half applied is no state to stop in */
    if (a->to.group > 0) {
        j.cut = setun_quantize_cut(&j.q);
        setun_each(team, j.cut.parts, group_part, &j);
        rc = j.status;
    } else {
        setun_each(team, j.parts, apply_part, &j);
        rc = setun_quantize_rest(isa, team, &j.q, setun_first_is_max(a->to.rule) ? greatest(&j) : tree_sum(&j));
    }
    if (rc == SETUN_ENONFINITE) call->bad_index = j.n + setun_find_bad(a->params, j.n);
    return rc;
}
