// SPDX-License-Identifier: Apache-2.0
//
// rmsnorm.cpp: rows over their root mean square, and the gradient of that. cancel is looked at before the first kernel; from there on the call completes. An
// array that the call reads and writes, be it under two names, comes back last where it is the host's; where it lies in a buffer a failure may spoil it, as
// with every op.
#include "lane.h"

namespace setun {

namespace {

const int64_t CHUNK = 4096;
int64_t chunks_of(int64_t n) { return (n - 1) / CHUNK + 1; }
int tree_threads(int64_t most) { return most <= CHUNK ? 32 : 1024; }

int32_t forward(Lane &lane, setun_rmsnorm *a) {
    int64_t n = a->rows * a->cols, chunks = chunks_of(a->cols);
    const float *x = nullptr, *delta = nullptr, *gain = a->gain ? lane.in(a->gain, a->cols) : nullptr;
    float *sum = nullptr, *scale = lane.out(a->scale, a->rows), *out = lane.out(a->out, n);
    if (!a->delta) {
        x = lane.in(a->x, n);
    } else {
        sum = a->sum == a->x || a->sum == a->delta ? lane.inout(a->sum, n) : lane.out(a->sum, n);
        x = a->sum == a->x ? sum : lane.in(a->x, n);
        delta = a->sum == a->delta ? sum : a->x == a->delta ? x : lane.in(a->delta, n);
    }
    double *sums = chunks > 1 ? lane.scratch<double>(a->rows * chunks) : nullptr;
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    if (chunks == 1) {
        SETUN_LAUNCH(lane, norm_rows, lane.blocks(a->rows, 4), 128, x, delta, gain, a->rows, a->cols, a->epsilon, sum, scale, out);
        return lane.finish();
    }
    SETUN_LAUNCH(lane, norm_squares, lane.blocks(a->rows * chunks, 8), 256, x, delta, a->rows, a->cols, chunks, sum, sums);
    SETUN_LAUNCH(lane, norm_scales, lane.blocks(a->rows, 1), tree_threads(chunks), sums, a->rows, a->cols, chunks, a->epsilon, scale);
    SETUN_LAUNCH(lane, norm_apply, lane.blocks(a->rows * chunks, 8), 256, delta ? sum : x, gain, scale, a->rows, a->cols, chunks, out);
    return lane.finish();
}

/* The caller's parts are not needed: those of the blocks stay on the device. Where they lie in a buffer the call is a piece, whose sums are added later. */
int32_t gradient(Lane &lane, setun_rmsnorm *a) {
    int64_t n = a->rows * a->cols, chunks = chunks_of(a->cols), blocks = (a->rows - 1) / SETUN_NORM_BLOCK + 1, tiles = (a->cols - 1) / 256 + 1;
    bool add = (a->flags & SETUN_ADD) != 0, in_place = a->dy == a->out;
    const float *x = lane.in(a->x, n), *gain = a->gain ? lane.in(a->gain, a->cols) : nullptr, *scale = lane.in(a->scale, a->rows);
    float *out = add || in_place ? lane.inout(a->out, n) : lane.out(a->out, n);
    const float *dy = in_place ? out : lane.in(a->dy, n);
    const bool piece = gain && lane.resident(a->parts);
    float *dgain = gain && !piece ? lane.inout(a->dgain, a->cols) : nullptr;
    float *parts = piece ? a->parts : gain ? lane.scratch<float>(blocks * a->cols) : nullptr;
    double *sums = chunks > 1 ? lane.scratch<double>(a->rows * chunks) : nullptr;
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    if (chunks == 1) {
        SETUN_LAUNCH(lane, norm_gradient, lane.blocks(blocks, 1), 1024, x, gain, dy, scale, a->rows, a->cols, add, out, parts);
    } else {
        SETUN_LAUNCH(lane, norm_products, lane.blocks(a->rows * chunks, 8), 256, x, gain, dy, scale, a->rows, a->cols, chunks, sums);
        SETUN_LAUNCH(lane, row_trees, lane.blocks(a->rows, 1), tree_threads(chunks), sums, a->rows, chunks);
        SETUN_LAUNCH(lane, norm_gradient_long, lane.blocks(blocks * tiles, 1), 1024, x, gain, dy, scale, sums, a->rows, a->cols, chunks, add, out, parts);
    }
    if (dgain) SETUN_LAUNCH(lane, norm_gain, (a->cols - 1) / 64 + 1, 64, parts, blocks, a->cols, dgain);
    return lane.finish();
}

} // namespace

int32_t op_rmsnorm(Lane &lane, setun_rmsnorm *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return invalid(c, "rmsnorm: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 16 / a->cols) return invalid(c, "rmsnorm: rows or cols < 1, or too many values");
    if (!a->x || !a->out || !a->scale) return invalid(c, "rmsnorm: x, out or scale is null");
    if (a->flags > (SETUN_GRADIENT | SETUN_ADD) || a->flags == SETUN_ADD) return invalid(c, "rmsnorm: flags that are unknown or do not go together");
    if (!(a->epsilon >= 0)) return invalid(c, "rmsnorm: epsilon is negative or not a number");
    bool back = (a->flags & SETUN_GRADIENT) != 0;
    if (!back && a->delta && !a->sum) return invalid(c, "rmsnorm: delta without sum");
    if (back && !a->dy) return invalid(c, "rmsnorm: dy is null");
    if (back && a->gain && (!a->dgain || !a->parts)) return invalid(c, "rmsnorm: dgain or parts is null");
    return back ? gradient(lane, a) : forward(lane, a);
}

} // namespace setun
