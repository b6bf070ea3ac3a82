// SPDX-License-Identifier: Apache-2.0
//
// update.cpp: moments and step of an optimiser. cancel is looked at before anything is written: half updated is no state to stop in. Failures: as rmsnorm.cpp
// says.
#include "lane.h"

namespace setun {

int32_t op_update(Lane &lane, setun_update *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return invalid(c, "update: the argument block is too small");
    if (a->method != SETUN_ADAMW && a->method != SETUN_MOMENTUM) return invalid(c, "update: unknown method");
    bool two = a->method == SETUN_ADAMW;
    if (a->n < 1 || !a->value || !a->grad || !a->m || !a->delta || (two && !a->v)) return invalid(c, "update: an array is null, or n < 1");
    const double constants[] = {a->rate, a->decay, a->beta1, a->beta2, a->epsilon, a->unbias1, a->unbias2};
    for (double v : constants)
        if (v - v != 0) return invalid(c, "update: a constant is not finite");
    const float *value = lane.in(a->value, a->n), *grad = lane.in(a->grad, a->n);
    float *m = lane.inout(a->m, a->n), *v = two ? lane.inout(a->v, a->n) : nullptr, *delta = lane.out(a->delta, a->n);
    int64_t blocks = lane.blocks((a->n - 1) / 4 + 1, 256);
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    if (two)
        SETUN_LAUNCH(lane, update_adamw, blocks, 256, value, grad, m, v, delta, a->n, a->beta1, a->beta2, 1 - a->beta1, 1 - a->beta2, a->unbias1, a->unbias2,
                     a->epsilon, a->decay, -a->rate);
    else
        SETUN_LAUNCH(lane, update_momentum, blocks, 256, value, grad, m, delta, a->n, a->beta1, a->decay, -a->rate);
    return lane.finish();
}

} // namespace setun
