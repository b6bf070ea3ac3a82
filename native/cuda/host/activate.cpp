// SPDX-License-Identifier: Apache-2.0
//
// activate.cpp: the function between two products of a feed-forward, and its gradient. cancel and failures: as rmsnorm.cpp says.
#include "lane.h"

namespace setun {

int32_t op_activate(Lane &lane, setun_activate *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return invalid(c, "activate: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 16 / a->cols) return invalid(c, "activate: rows or cols < 1, or too many values");
    if (!a->x || !a->out) return invalid(c, "activate: x or out is null");
    if (a->kind != SETUN_RELU2 && a->kind != SETUN_SWIGLU) return invalid(c, "activate: unknown kind");
    if (a->flags > SETUN_GRADIENT) return invalid(c, "activate: unknown flags");
    if (a->flags && !a->dy) return invalid(c, "activate: dy is null");
    bool gated = a->kind == SETUN_SWIGLU, in_place = a->flags && a->out == a->x;
    int64_t n = a->rows * a->cols, wide = gated ? 2 * n : n, blocks = lane.blocks(gated ? a->rows * ((a->cols - 1) / 4 + 1) : (n - 1) / 4 + 1, 256);
    float *out = in_place ? lane.inout(a->out, wide) : lane.out(a->out, a->flags ? wide : n);
    const float *x = in_place ? out : lane.in(a->x, wide), *dy = a->flags ? lane.in(a->dy, n) : nullptr;
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    if (gated && dy)
        SETUN_LAUNCH(lane, swiglu_gradient, blocks, 256, x, dy, out, a->rows, a->cols);
    else if (gated)
        SETUN_LAUNCH(lane, swiglu, blocks, 256, x, out, a->rows, a->cols);
    else if (dy)
        SETUN_LAUNCH(lane, relu2_gradient, blocks, 256, x, dy, out, n);
    else
        SETUN_LAUNCH(lane, relu2, blocks, 256, x, out, n);
    return lane.finish();
}

} // namespace setun
