// SPDX-License-Identifier: Apache-2.0
//
// step.cpp: constrain, apply and quantize in one go. The norm, the factor and the new parameters stay on the device; the host's scratch is not needed.
#include "quantize.h"

namespace setun {

int32_t op_step(Lane &lane, setun_step *a) {
    setun_call *call = &a->to.call;
    if (call->size < sizeof *a) return invalid(call, "step: the argument block is too small");
    if (!a->params) return invalid(call, "quantize: x, out or scales is null");
    int32_t rc = check_quantize(&a->to);
    if (rc != SETUN_OK) return rc;
    if (!a->delta || !a->scratch) return invalid(call, "step: delta or scratch is null");
    if (!(a->radius >= 0)) return invalid(call, "step: the radius is negative or not a number");
    int64_t n = a->to.rows * a->to.cols, chunks = (n - 1) / 4096 + 1;
    /* All that may fail comes before the parameters are touched, and they are copied back last. */
    Quantizer q(lane, &a->to);
    const float *delta = lane.in(a->delta, n);
    double *norms = lane.scratch<double>(chunks), *at = lane.scratch<double>(2), state[2] = {0, 0};
    float *params = lane.inout(a->params, n);
    SETUN_LAUNCH(lane, sum_squares, lane.blocks(chunks, 8), 256, delta, n, norms);
    SETUN_LAUNCH(lane, ball, 1, 1024, norms, chunks, a->radius, at);
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED); /* from here on it completes */
    bool sums = q.chunked() && !q.by_greatest(), most = q.chunked() && q.by_greatest();
    if (most) lane.zero(q.most(), sizeof *q.most());
    SETUN_LAUNCH(lane, step_apply, lane.blocks(chunks, 8), 256, params, delta, n, at, sums ? q.sums() : nullptr, most ? q.most() : nullptr);
    q.run(params, q.chunked());
    unsigned bad = 0;
    lane.fetch(state, at, sizeof state);
    lane.fetch(&bad, q.bad(), sizeof bad);
    rc = lane.wait();
    if (rc != SETUN_OK) return rc;
    if (state[1] - state[1] != 0) {
        call->bad_index = find_not_finite(lane, delta, n);
        return lane.abandon(SETUN_ENONFINITE);
    }
    a->norm = state[0];
    if (!bad) return lane.finish();
    /* The new parameters are applied completely, and go back. */
    q.discard();
    call->bad_index = n + find_not_finite(lane, params, n);
    rc = lane.finish();
    return rc == SETUN_OK ? SETUN_ENONFINITE : rc;
}

} // namespace setun
