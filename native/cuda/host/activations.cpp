// SPDX-License-Identifier: Apache-2.0
//
// activations.cpp: rows of float32 to int8.
#include "lane.h"

namespace setun {

int32_t op_activations(Lane &lane, setun_activations *a) {
    if (a->call.size < sizeof *a) return invalid(&a->call, "activations: the argument block is too small");
    if (!a->x || !a->out || !a->scales || a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 16 / a->cols)
        return invalid(&a->call, "activations: x, out or scales is null, or rows or cols is out of range");
    int64_t n = a->rows * a->cols;
    const float *x = lane.in(a->x, n);
    uint8_t *out = reinterpret_cast<uint8_t *>(lane.out(a->out, n));
    float *scales = lane.out(a->scales, a->rows);
    unsigned *flag = lane.scratch<unsigned>(1), bad = 0;
    lane.zero(flag, sizeof *flag);
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    if (a->cols <= 1024)
        SETUN_LAUNCH(lane, activations_warp, lane.blocks(a->rows, 8), 256, x, a->rows, a->cols, out, scales, flag);
    else
        SETUN_LAUNCH(lane, activations_block, lane.blocks(a->rows, 1), 256, x, a->rows, a->cols, out, scales, flag);
    lane.fetch(&bad, flag, sizeof bad);
    int32_t rc = lane.wait();
    if (rc != SETUN_OK) return rc;
    if (bad) {
        a->call.bad_index = find_not_finite(lane, x, n);
        return lane.abandon(SETUN_ENONFINITE);
    }
    return lane.finish();
}

} // namespace setun
