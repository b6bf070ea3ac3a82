// SPDX-License-Identifier: Apache-2.0
//
// softmax.cpp: rows of powers over their sum, and the gradient of that. cancel and failures: as rmsnorm.cpp says.
#include "lane.h"

namespace setun {

namespace {

const int64_t CHUNK = 4096;
int tree_threads(int64_t most) { return most <= CHUNK ? 32 : 1024; }

void forward(Lane &lane, const setun_softmax *a, float *x, double *stats, double *sums, unsigned *most, int64_t chunks) {
    if (a->cols <= 1024) {
        SETUN_LAUNCH(lane, softmax_short, lane.blocks(a->rows, 4), 128, x, a->rows, a->cols, a->period, a->scale, a->factor, stats);
    } else if (chunks == 1) {
        SETUN_LAUNCH(lane, softmax_rows, lane.blocks(a->rows, 4), 128, x, a->rows, a->cols, a->period, a->scale, a->factor, stats);
    } else {
        int64_t blocks = lane.blocks(a->rows * chunks, 8);
        lane.zero(most, a->rows * int64_t(sizeof *most));
        SETUN_LAUNCH(lane, softmax_most, blocks, 256, x, a->rows, a->cols, a->period, chunks, most);
        SETUN_LAUNCH(lane, softmax_powers, blocks, 256, x, a->rows, a->cols, a->period, chunks, a->scale, most, sums);
        SETUN_LAUNCH(lane, row_trees, lane.blocks(a->rows, 1), tree_threads(chunks), sums, a->rows, chunks);
        SETUN_LAUNCH(lane, softmax_divide, blocks, 256, x, a->rows, a->cols, a->period, chunks, a->factor, most, sums, stats);
    }
}

void gradient(Lane &lane, const setun_softmax *a, const float *p, float *x, double *sums, int64_t chunks) {
    if (chunks == 1) {
        SETUN_LAUNCH(lane, softmax_gradient, lane.blocks(a->rows, 4), 128, p, x, a->rows, a->cols, a->period, a->scale);
        return;
    }
    int64_t blocks = lane.blocks(a->rows * chunks, 8);
    SETUN_LAUNCH(lane, softmax_products, blocks, 256, p, x, a->rows, a->cols, a->period, chunks, sums);
    SETUN_LAUNCH(lane, row_trees, lane.blocks(a->rows, 1), tree_threads(chunks), sums, a->rows, chunks);
    SETUN_LAUNCH(lane, softmax_slope, blocks, 256, p, x, a->rows, a->cols, a->period, chunks, a->scale, sums);
}

} // namespace

int32_t op_softmax(Lane &lane, setun_softmax *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return invalid(c, "softmax: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 16 / a->cols) return invalid(c, "softmax: rows or cols < 1, or too many values");
    if (!a->x) return invalid(c, "softmax: x is null");
    if (a->flags > SETUN_GRADIENT) return invalid(c, "softmax: unknown flags");
    if (a->flags && !a->p) return invalid(c, "softmax: p is null");
    if (a->period < 0 || a->period > a->cols) return invalid(c, "softmax: the period is not within 0 .. cols");
    if (!(a->scale >= 0)) return invalid(c, "softmax: the scale is negative or not a number");
    int64_t n = a->rows * a->cols, chunks = (a->cols - 1) / CHUNK + 1;
    float *x = lane.inout(a->x, n);
    const float *p = a->flags ? lane.in(a->p, n) : nullptr;
    double *stats = !a->flags && a->stats ? lane.out(a->stats, 2 * a->rows) : nullptr, *sums = chunks > 1 ? lane.scratch<double>(a->rows * chunks) : nullptr;
    unsigned *most = chunks > 1 && !a->flags ? lane.scratch<unsigned>(a->rows) : nullptr;
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    if (a->flags)
        gradient(lane, a, p, x, sums, chunks);
    else
        forward(lane, a, x, stats, sums, most, chunks);
    return lane.finish();
}

} // namespace setun
