// SPDX-License-Identifier: Apache-2.0
//
// pieces_products.cpp: products in pieces. The one factor is cut by rows, the other one stays on the device for the call: where neither fits, the call is not
// cut.
#include "../pieces.h"
#include "../planes.h"

#include <stdlib.h>

namespace setun {

namespace {

/* Some rows of a product by A stored in columns: of those, what belongs to the rows, one after the other. */
int32_t transposed_rows(Lane &lane, setun_matmul *a) {
    if (lane.resident(a->a)) return op_matmul(lane, a); /* nothing is copied */
    float *dense = static_cast<float *>(malloc(size_t(a->k * a->m) * sizeof *dense));
    if (!dense) return SETUN_ENOMEM;
    setun_matmul part = *a;
    for (int64_t p = 0; p < a->k; p++) memcpy(dense + p * a->m, a->a + p * a->lda, size_t(a->m) * sizeof *dense);
    part.a = dense, part.lda = a->m;
    const int32_t rc = op_matmul(lane, &part);
    if (rc != SETUN_OK) lane.drain(); /* else it has been read */
    free(dense);
    return rc;
}

} // namespace

/* By products of a batch; or by rows of A; or, of a row by B stored in columns, by those. */
int32_t cut_matmul(Pieces &pieces, setun_matmul *a) {
    setun_matmul b = *a;
    const bool ta = b.flags & SETUN_MATMUL_TRANS_A, tb = b.flags & SETUN_MATMUL_TRANS_B;
    const int64_t size_a = 4 * (((ta ? b.k : b.m) - 1) * b.lda + (ta ? b.m : b.k)), size_b = 4 * (((tb ? b.n : b.k) - 1) * b.ldb + (tb ? b.k : b.n));
    const bool batch = b.batch > 1, columns = b.m == 1 && tb, packed = !batch && ta && !columns;
    if (pieces.writes_buffer(b.c)) return SETUN_ENOMEM;
    const bool shared_a = batch ? b.stride_a == 0 : columns, shared_b = batch ? b.stride_b == 0 : !columns;
    int32_t rc = SETUN_OK;
    if (shared_a) rc = pieces.whole(b.a, size_a);
    if (shared_b && rc == SETUN_OK) rc = pieces.whole(b.b, size_b);
    if (rc != SETUN_OK) return rc;
    Cut cut(b, batch ? &b.batch : columns ? &b.n : &b.m, 1);
    if (packed) cut.in(b.a, 4).scratch(4 * (b.k - 1));
    if (!shared_a && !packed) cut.in(b.a, 4 * (batch ? b.stride_a : b.lda));
    if (!shared_b) cut.in(b.b, 4 * (batch ? b.stride_b : b.ldb));
    if (columns && !batch) b.ldc = b.n; /* one row: nothing lies between rows */
    const int64_t each = 4 * (batch ? b.stride_c : columns ? 1 : b.ldc), total = 4 * ((b.batch - 1) * (batch ? b.stride_c : 0) + (b.m - 1) * b.ldc + b.n);
    const bool dense = b.ldc == b.n && (!batch || b.stride_c == b.m * b.n);
    if (dense && !(b.flags & SETUN_MATMUL_ACCUMULATE))
        cut.out(b.c, each);
    else
        cut.inout(b.c, each, total, !dense);
    return packed ? pieces.pass<setun_matmul, transposed_rows>(cut) : pieces.pass<setun_matmul, op_matmul>(cut);
}

namespace {

/* Some rows of codes: their products lie in one piece for each row of activations. */
struct TernaryRows {
    setun_ternary part;
    int64_t whole; /* rows of the call */
};
int32_t ternary_rows(Lane &lane, TernaryRows *a) {
    setun_ternary *t = &a->part;
    if (t->batch == 1) return op_ternary(lane, t);
    float *out = t->out, *dense = static_cast<float *>(malloc(size_t(t->batch * t->rows) * sizeof *dense));
    if (!dense) return SETUN_ENOMEM;
    t->out = dense;
    const int32_t rc = op_ternary(lane, t);
    for (int64_t b = 0; b < t->batch && rc == SETUN_OK; b++) memcpy(out + b * a->whole, dense + b * t->rows, size_t(t->rows) * sizeof *dense);
    free(dense);
    return rc;
}

} // namespace

/* By rows of the larger factor; codes in planes always by theirs. */
int32_t cut_ternary(Pieces &pieces, setun_ternary *a) {
    if (pieces.writes_buffer(a->out)) return SETUN_ENOMEM;
    TernaryRows b = {*a, a->rows};
    setun_ternary *t = &b.part;
    const bool planes = t->format == SETUN_PLANES;
    const int64_t row = recode_bytes(t->format, t->cols), scales = t->group > 0 ? 4 * ((t->cols - 1) / t->group + 1) : 0;
    int32_t rc;
    if (planes || t->rows * (row + scales) > t->batch * (t->cols + 4 * t->rows)) {
        rc = pieces.whole(t->x, t->batch * t->cols);
        if (rc == SETUN_OK) rc = pieces.whole(t->x_scales, 4 * t->batch);
        if (rc != SETUN_OK) return rc;
        Cut cut(b, &t->rows, 1);
        cut.in(t->codes, row).out(t->out, 4).scratch(4 * (t->batch - 1));
        if (scales > 0) cut.in(t->scales, scales);
        if (planes) cut.in(t->index, 8).scratch(t->cols / 8 + 24 + t->cols); /* a piece finds its signs by its part of the index */
        return pieces.pass<TernaryRows, ternary_rows>(cut);
    }
    rc = pieces.whole(t->codes, t->rows * row);
    if (rc == SETUN_OK) rc = pieces.whole(t->scales, scales > 0 ? t->rows * scales : 4);
    if (rc != SETUN_OK) return rc;
    Cut cut(*t, &t->batch, 1);
    return pieces.pass<setun_ternary, op_ternary>(cut.in(t->x, t->cols).in(t->x_scales, 4).out(t->out, 4 * t->rows));
}

} // namespace setun
