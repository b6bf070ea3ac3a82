// SPDX-License-Identifier: Apache-2.0
//
// matmul.cpp: C = A B. Chooses the size of tiles, and cuts long work into launches between which a call can be cancelled.
#include "lane.h"

namespace setun {

namespace {

enum { VECTOR_A = 8, VECTOR_B = 16, VECTOR_C = 32 }; /* flags of the kernels beside those of the call */
const int64_t STEPS = int64_t(1) << 21;              /* of a launch, if all its blocks run at the same time: a sixth of a second */
const int64_t MOST_BLOCKS = int64_t(1) << 30;

int64_t pieces(int64_t n, int64_t size) { return (n - 1) / size + 1; }

bool fits(int64_t rows, int64_t cols, int64_t ld, int64_t stride, int64_t batch) {
    if (ld < cols || stride < 0 || rows > INT64_MAX / 64 / ld) return false;
    return batch == 1 || stride <= (INT64_MAX / 64 - rows * ld) / batch;
}

int32_t check(const setun_matmul *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return invalid(c, "matmul: the argument block is too small");
    if (a->flags & ~uint32_t(SETUN_MATMUL_TRANS_A | SETUN_MATMUL_TRANS_B | SETUN_MATMUL_ACCUMULATE)) return invalid(c, "matmul: unknown flag");
    if (a->m < 1 || a->n < 1 || a->k < 1 || a->batch < 1) return invalid(c, "matmul: m, n, k or batch < 1");
    if (!a->a || !a->b || !a->c) return invalid(c, "matmul: a, b or c is null");
    bool ta = a->flags & SETUN_MATMUL_TRANS_A, tb = a->flags & SETUN_MATMUL_TRANS_B;
    if (!fits(ta ? a->k : a->m, ta ? a->m : a->k, a->lda, a->stride_a, a->batch)) return invalid(c, "matmul: lda or stride_a is out of range");
    if (!fits(tb ? a->n : a->k, tb ? a->k : a->n, a->ldb, a->stride_b, a->batch)) return invalid(c, "matmul: ldb or stride_b is out of range");
    if (!fits(a->m, a->n, a->ldc, a->stride_c, a->batch)) return invalid(c, "matmul: ldc or stride_c is out of range");
    if (a->batch > 1 && a->stride_c < (a->m - 1) * a->ldc + a->n) return invalid(c, "matmul: products of the batch overlap in c");
    return SETUN_OK;
}

/* Values from the first to the last of all products' matrices. */
int64_t extent(int64_t rows, int64_t cols, int64_t ld, int64_t stride, int64_t batch) { return (batch - 1) * stride + (rows - 1) * ld + cols; }

struct Operand {
    const float *at;
    int64_t ld, stride, step; /* step: values from p to p+1 */
    bool along;               /* lines (rows of A, columns of B) run along memory */
};

/* A call's matrices on the device. */
struct Staged {
    Operand a, b;
    float *c;
    int64_t stride_c;
    bool accumulate;
};

Operand operand(const float *at, int64_t ld, int64_t stride, bool along) { return {at, ld, stride, along ? 1 : ld, along}; }

Staged stage(Lane &lane, const setun_matmul *args) {
    const bool ta = args->flags & SETUN_MATMUL_TRANS_A, tb = args->flags & SETUN_MATMUL_TRANS_B, accumulate = args->flags & SETUN_MATMUL_ACCUMULATE;
    const int64_t m = args->m, n = args->n, k = args->k, batch = args->batch;
    const int64_t stride_a = batch > 1 ? args->stride_a : 0, stride_b = batch > 1 ? args->stride_b : 0, stride_c = batch > 1 ? args->stride_c : 0;
    const Operand a = operand(lane.in(args->a, extent(ta ? k : m, ta ? m : k, args->lda, stride_a, batch)), args->lda, stride_a, !ta);
    const Operand b = operand(lane.in(args->b, extent(tb ? n : k, tb ? k : n, args->ldb, stride_b, batch)), args->ldb, stride_b, tb);
    const bool dense = args->ldc == n && (batch == 1 || stride_c == m * n);
    const int64_t values_c = extent(m, n, args->ldc, stride_c, batch);
    return {a, b, dense && !accumulate ? lane.out(args->c, values_c) : lane.inout(args->c, values_c), stride_c, accumulate};
}

bool quads(const void *at, int64_t ld, int64_t stride) { return reinterpret_cast<uintptr_t>(at) % 16 == 0 && ld % 4 == 0 && stride % 4 == 0; }

enum Tile { TILE_128, TILE_64, THIN };

/* By what a wave of blocks takes: tiles of 64 reach about two thirds of the speed of those of 128, with a quarter of their work. */
Tile choose(int64_t m, int64_t n, int64_t batch, int64_t units) {
    int64_t large = pieces(m, 128) * pieces(n, 128) * batch, small = pieces(m, 64) * pieces(n, 64) * batch;
    if (m <= 16 || small * 4 <= units) return THIN;
    return 8 * pieces(large, units) <= 3 * pieces(small, units) ? TILE_128 : TILE_64;
}

} // namespace

int32_t op_matmul(Lane &lane, setun_matmul *args) {
    int32_t rc = check(args);
    if (rc != SETUN_OK) return rc;
    if (!args->workspace) {
        args->workspace_size = 64; /* not used: what the device needs lies there */
        return SETUN_OK;
    }
    const int64_t k = args->k, batch = args->batch, units = lane.device.units > 0 ? lane.device.units : 1;
    int64_t m = args->m, n = args->n;
    Staged on = stage(lane, args);
    Operand a = on.a, b = on.b;
    float *c = on.c;
    const int64_t stride_c = on.stride_c;
    const bool accumulate = on.accumulate;

    int64_t down = args->ldc, across = 1;
    Tile tile = choose(m < n ? m : n, m < n ? n : m, batch, units);
    if (tile == THIN && n < m) { /* the transposed product: few rows; a product's factors may be exchanged */
        Operand x = a;
        a = b, b = x;
        int64_t rows = m;
        m = n, n = rows;
        down = 1, across = args->ldc;
    }
    const int64_t high = tile == TILE_128 ? 128 : tile == TILE_64 ? 64 : 8, wide = tile == THIN ? 32 : high;
    const int64_t blocks = pieces(m, high) * pieces(n, wide) * batch, depth = k < STEPS ? k : STEPS;
    int64_t each = units * (STEPS / depth); /* blocks of a launch */
    if (each > MOST_BLOCKS) each = MOST_BLOCKS;
    int flags = (a.along ? 0 : SETUN_MATMUL_TRANS_A) | (b.along ? SETUN_MATMUL_TRANS_B : 0);
    if (quads(a.at, a.ld, a.stride)) flags |= VECTOR_A;
    if (quads(b.at, b.ld, b.stride)) flags |= VECTOR_B;
    if (quads(c, args->ldc, stride_c)) flags |= VECTOR_C;

    for (int64_t first = 0; first < blocks && lane.ok(); first += each)
        for (int64_t p = 0; p < k && lane.ok(); p += depth) {
            if (first > 0 || p > 0) lane.wait(); /* so that what is asked to stop has not been started yet */
            if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
            const int64_t count = blocks - first < each ? blocks - first : each;
            const int steps = int(k - p < depth ? k - p : depth);
            const float *from_a = a.at + p * a.step, *from_b = b.at + p * b.step;
            const int f = flags | (p > 0 || accumulate ? SETUN_MATMUL_ACCUMULATE : 0);
            if (tile == TILE_128)
                SETUN_LAUNCH(lane, matmul_128, count, 256, from_a, from_b, c, m, n, steps, a.ld, b.ld, down, a.stride, b.stride, stride_c, f, first);
            else if (tile == TILE_64)
                SETUN_LAUNCH(lane, matmul_64, count, 256, from_a, from_b, c, m, n, steps, a.ld, b.ld, down, a.stride, b.stride, stride_c, f, first);
            else
                SETUN_LAUNCH(lane, matmul_thin, count, 256, from_a, from_b, c, m, n, steps, a.ld, b.ld, down, across, a.stride, b.stride, stride_c, f, first);
        }
    return lane.finish();
}

/* The transposed product: what is stored by rows is, by columns, the transposed matrix. A product is one call, so it is only asked to stop between some
 * products and the next ones. */
int32_t op_cublas(Lane &lane, setun_matmul *args) {
    int32_t rc = check(args);
    if (rc != SETUN_OK) return rc;
    const setun_call *call = &args->call;
    if (!lane.device.cublas.ready.load()) {
        format(call->message, call->message_size, "matmul: cuBLAS has not been attached");
        return SETUN_EUNSUPPORTED;
    }
    const int64_t m = args->m, n = args->n, k = args->k, batch = args->batch;
    if ((m | n | k | batch | args->lda | args->ldb | args->ldc) > INT32_MAX) {
        format(call->message, call->message_size, "matmul: cuBLAS has sizes of 32 bits");
        return SETUN_EUNSUPPORTED;
    }
    if (!args->workspace) {
        args->workspace_size = 64; /* not used */
        return SETUN_OK;
    }
    const Staged on = stage(lane, args);
    /* What NVIDIA recommends, or less where even 256 partial sums of each element take less. */
    const double sums = 1024.0 * double(m) * double(n) * double(batch);
    const int64_t most_room = int64_t(lane.device.major >= 9 ? 32 : 4) << 20, least_room = int64_t(1) << 19;
    const int64_t room = sums >= double(most_room) ? most_room : sums <= double(least_room) ? least_room : int64_t(sums);
    Gemm g = {};
    g.trans_a = args->flags & SETUN_MATMUL_TRANS_B, g.trans_b = args->flags & SETUN_MATMUL_TRANS_A, g.add = on.accumulate;
    g.m = int(n), g.n = int(m), g.k = int(k), g.lda = int(args->ldb), g.ldb = int(args->lda), g.ldc = int(args->ldc);
    g.stride_a = on.b.stride, g.stride_b = on.a.stride, g.stride_c = on.stride_c;
    g.workspace = lane.scratch<char>(room), g.workspace_bytes = size_t(room);
    const double work = double(m) * double(n) * double(k), most = double(int64_t(1) << 40); /* of a call: a third of a second on the slowest device */
    int64_t each = work * double(batch) <= most ? batch : work >= most ? 1 : int64_t(most / work);
    if (each > 63 << 10) each = 63 << 10; /* some versions are wrong beyond 65,535 on compute capability 7 (pytorch/pytorch 46001) */
    for (int64_t first = 0; first < batch && lane.ok(); first += each) {
        if (first > 0) lane.wait();
        if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
        g.a = on.b.at + first * g.stride_a, g.b = on.a.at + first * g.stride_b, g.c = on.c + first * g.stride_c;
        g.batch = int(batch - first < each ? batch - first : each);
        lane.multiply(g);
    }
    return lane.finish();
}

} // namespace setun
