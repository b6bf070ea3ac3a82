// SPDX-License-Identifier: Apache-2.0
//
// pieces_rows.cpp: the ops that work on each row, or each value, by itself, in pieces: a piece is a call of the op on some of the rows.
#include "../pieces.h"
#include "../planes.h"

namespace setun {

int32_t cut_activations(Pieces &pieces, setun_activations *a) {
    setun_activations b = *a;
    Cut cut(b, &b.rows, 1, b.cols);
    return pieces.pass<setun_activations, op_activations>(cut.in(b.x, 4 * b.cols).out(b.out, b.cols).out(b.scales, 4));
}

int32_t cut_recode(Pieces &pieces, setun_recode *a) {
    setun_recode b = *a;
    if (b.from == SETUN_PLANES) { /* a piece finds its signs by its part of the index */
        Cut cut(b, &b.rows, 1);
        cut.in(b.codes, recode_bytes(b.from, b.cols)).in(b.index, 8).out(b.out, recode_bytes(b.to, b.cols));
        return pieces.pass<setun_recode, op_recode>(cut.scratch(b.cols / 8 + 24 + b.cols));
    }
    const int64_t both = 1280; /* columns after which a block of every format ends */
    const bool flat = b.rows == 1 || b.cols % both == 0;
    if (flat) b.cols *= b.rows, b.rows = 1;
    const int64_t cols = flat ? both : b.cols, per = flat ? both : 1;
    Cut cut(b, flat ? &b.cols : &b.rows, per);
    return pieces.pass<setun_recode, op_recode>(cut.in(b.codes, recode_bytes(b.from, cols), per).out(b.out, recode_bytes(b.to, cols), per));
}

/* The sums of dgain go by blocks of rows, which wait on the device until all are there. */
static int32_t norm_gradient(Pieces &pieces, setun_rmsnorm *a) {
    setun_rmsnorm b = *a;
    const int64_t row = 4 * b.cols, blocks = (b.rows - 1) / SETUN_NORM_BLOCK + 1;
    if (pieces.writes_buffer(a->out) || (b.gain && pieces.writes_buffer(a->dgain))) return SETUN_ENOMEM;
    if (b.gain && !(b.parts = pieces.buffer<float>(blocks * b.cols))) return SETUN_ENOMEM;
    int32_t rc = pieces.whole(b.gain, row);
    if (rc != SETUN_OK) return rc;
    Cut cut(b, &b.rows, SETUN_NORM_BLOCK);
    cut.in(b.x, row).in(b.scale, 4).in(b.dy, row);
    if ((b.flags & SETUN_ADD) || b.dy == b.out)
        cut.inout(b.out, row, row * b.rows);
    else
        cut.out(b.out, row);
    if (b.gain) cut.own(b.parts, row, SETUN_NORM_BLOCK);
    rc = pieces.pass<setun_rmsnorm, op_rmsnorm>(cut);
    if (rc != SETUN_OK || !b.gain) return rc;
    return pieces.once([&](Lane &lane) {
        float *dgain = lane.inout(a->dgain, b.cols);
        SETUN_LAUNCH(lane, norm_gain, (b.cols - 1) / 64 + 1, 64, b.parts, blocks, b.cols, dgain);
        return lane.finish();
    });
}

int32_t cut_rmsnorm(Pieces &pieces, setun_rmsnorm *a) {
    if (a->flags & SETUN_GRADIENT) return norm_gradient(pieces, a);
    setun_rmsnorm b = *a;
    const int64_t row = 4 * b.cols;
    if (pieces.writes_buffer(a->out) || pieces.writes_buffer(a->scale) || (b.delta && pieces.writes_buffer(a->sum))) return SETUN_ENOMEM;
    int32_t rc = pieces.whole(b.gain, row);
    if (rc != SETUN_OK) return rc;
    Cut cut(b, &b.rows, 1);
    cut.in(b.x, row).in(b.delta, row).out(b.out, row).out(b.scale, 4);
    if (b.delta && (b.sum == b.x || b.sum == b.delta))
        cut.inout(b.sum, row, row * b.rows);
    else if (b.delta)
        cut.out(b.sum, row);
    return pieces.pass<setun_rmsnorm, op_rmsnorm>(cut);
}

/* Where a row ends goes by its number, over and over. */
int32_t cut_softmax(Pieces &pieces, setun_softmax *a) {
    setun_softmax b = *a;
    const int64_t row = 4 * b.cols;
    Cut cut(b, &b.rows, b.period > 0 ? b.period : 1);
    cut.inout(b.x, row, row * b.rows);
    if (b.flags)
        cut.in(b.p, row);
    else
        cut.out(b.stats, 16);
    return pieces.pass<setun_softmax, op_softmax>(cut);
}

int32_t cut_activate(Pieces &pieces, setun_activate *a) {
    setun_activate b = *a;
    const bool flat = b.kind == SETUN_RELU2; /* value by value */
    if (flat) b.cols *= b.rows, b.rows = 1;
    const int64_t row = flat ? 4 : 4 * b.cols, wide = flat ? row : 2 * row, back = b.flags ? wide : row;
    Cut cut(b, flat ? &b.cols : &b.rows, flat ? 1024 : 1);
    cut.in(b.x, wide);
    if (b.flags) cut.in(b.dy, row);
    if (b.flags && b.out == b.x)
        cut.inout(b.out, back, back * (flat ? b.cols : b.rows));
    else
        cut.out(b.out, back);
    return pieces.pass<setun_activate, op_activate>(cut);
}

int32_t cut_update(Pieces &pieces, setun_update *a) {
    setun_update b = *a;
    Cut cut(b, &b.n, 1024);
    cut.in(b.value, 4).in(b.grad, 4).inout(b.m, 4, 4 * b.n).out(b.delta, 4);
    if (b.method == SETUN_ADAMW) cut.inout(b.v, 4, 4 * b.n);
    return pieces.pass<setun_update, op_update>(cut);
}

} // namespace setun
