/* SPDX-License-Identifier: Apache-2.0
 *
 * matmul.c: C = A B by blocks (Goto and van de Geijn, ACM TOMS 34, 2008).
 *
 * A and B are cut into slices of at most DEPTH steps of p. The slice of a slab of A (rows) and of B (columns) is packed into panels, those of A as
 * wide as a block of the instruction set has rows, those of B as wide as it has columns; then every block of C runs through the slice. It begins with
 * what C holds from the slice before, so each element stays one chain over p and the cuts cannot be seen in the result.
 *
 * Two phases a slice are shared among the team: packing, by panels, and the blocks of C, by tiles of TILE_ROWS by TILE_COLS. Where B has few rows of A
 * to serve and its rows run along C's, its full panels are read where they are.
 *
 * One Zen 4 core, whose peak is 117 GFLOP/s (one 512-bit multiply-add a cycle), products of 1024 and 2048 rows and columns, against OpenBLAS 0.3.31 (its
 * SkylakeX kernels), in turn:
 *
 *     level    block   accumulators  slice  panel in L1   1024^3          2048^3          share of peak
 *     avx512   14x32   28 of 32      256    B, 32 KiB      92 GFLOP/s .95   95 GFLOP/s .93  0.8
 *     avx512   14x32   28 of 32      512    A, 28 KiB     102           1.04  101       1.01  0.87
 *     avx2      6x16   12 of 16      512    A, 12 KiB      97            .99   96        .95  0.83
 *
 * Expected was 0.9: 28 cycles of multiply-adds a step against 16 loads, C read and written once a slice. Tried without gain: fetching C, the next steps of B or
 * those of A ahead, slices of 384, tiles of 84 or 336 rows and of 320 or 512 columns. */
#include "ops.h"

#include <string.h>

enum {
    DEPTH = 512,      /* of a slice: a panel of A (28 KiB at most) stays in the first cache while the panels of B pass */
    SLAB_ROWS = 4096, /* of A, and columns of B: their slices stay in the last cache */
    SLAB_COLS = 4096,
    TILE_ROWS = 168, /* of a tile of C, at most: with TILE_COLS its panels fit in the second cache */
    TILE_COLS = 256,
    IN_PLACE = 4,    /* panels of A up to which B is not packed */
    SHARE = 1 << 20, /* bytes of workspace up to which a thread takes whole products of a batch */
    MAX_BLOCK = 14 * 32
};

/* One product, and the slice of it that is worked on. */
typedef struct work {
    const setun_isa *isa;
    const setun_matmul *args;
    const float *a, *b;
    float *c;
    size_t m, n, k;
    size_t row, rows, col, cols, p, depth; /* the slab of C and the slice */
    size_t tall, wide;                     /* rows and columns of a tile: multiples of the block */
    int in_place;                          /* full panels of B are not packed */
    float *pa, *pb;                        /* packed slices */
} work;

static size_t least(size_t a, size_t b) { return a < b ? a : b; }
static size_t pieces(size_t n, size_t size) { return (n - 1) / size + 1; }
static size_t round64(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* A panel of `width` lines (rows of A, columns of B), of which `lines` are there. along: the lines run along memory. */
static void pack(const setun_isa *isa, float *out, size_t width, const float *x, size_t ld, size_t lines, size_t depth, int along) {
    if (along)
        isa->interleave(out, width, x, ld, lines, depth);
    else if (lines == width && width == 32) /* the commonest, at a length that the compiler knows */
        for (size_t p = 0; p < depth; p++) memcpy(out + p * 32, x + p * ld, 32 * sizeof *out);
    else
        for (size_t p = 0; p < depth; p++)
            for (size_t r = 0; r < width; r++) out[p * width + r] = r < lines ? x[p * ld + r] : 0;
}

static void pack_panel(void *arg, int64_t i) {
    work *w = arg;
    const setun_matmul *a = w->args;
    size_t mr = w->isa->gemm_rows, nr = w->isa->gemm_cols, panels = pieces(w->rows, mr), q = (size_t)i;
    if (q < panels) {
        size_t r = w->row + q * mr, ld = (size_t)a->lda;
        int along = !(a->flags & SETUN_MATMUL_TRANS_A);
        const float *x = w->a + (along ? r * ld + w->p : w->p * ld + r);
        pack(w->isa, w->pa + q * mr * w->depth, mr, x, ld, least(mr, w->row + w->rows - r), w->depth, along);
        return;
    }
    q -= panels;
    size_t c = w->col + q * nr, ld = (size_t)a->ldb, lines = least(nr, w->col + w->cols - c);
    if (w->in_place && lines == nr) return;
    int along = (a->flags & SETUN_MATMUL_TRANS_B) != 0;
    const float *x = w->b + (along ? c * ld + w->p : w->p * ld + c);
    pack(w->isa, w->pb + q * nr * w->depth, nr, x, ld, lines, w->depth, along);
}

/* A block of C at row r and column c of the slab. */
static void block(const work *w, size_t r, size_t c, const float *b, size_t step) {
    const setun_isa *isa = w->isa;
    size_t mr = isa->gemm_rows, nr = isa->gemm_cols, rows = least(mr, w->rows - r), cols = least(nr, w->cols - c), ldc = (size_t)w->args->ldc;
    const float *a = w->pa + r * w->depth;
    float *out = w->c + (w->row + r) * ldc + w->col + c, edge[MAX_BLOCK];
    int fresh = w->p == 0 && !(w->args->flags & SETUN_MATMUL_ACCUMULATE);
    float *to = out;
    size_t ld = ldc;
    if (cols < nr) { /* by way of a whole block */
        to = edge;
        ld = nr;
        for (size_t i = 0; i < rows && !fresh; i++)
            for (size_t j = 0; j < nr; j++) edge[i * nr + j] = j < cols ? out[i * ldc + j] : 0;
    }
    isa->gemm(a, b, step, w->depth, to, ld, rows, fresh);
    if (cols < nr)
        for (size_t i = 0; i < rows; i++) memcpy(out + i * ldc, edge + i * nr, cols * sizeof *out);
}

static void compute_tile(void *arg, int64_t i) {
    const work *w = arg;
    if (setun_cancelled(&w->args->call)) return;
    size_t across = pieces(w->cols, w->wide), mr = w->isa->gemm_rows, nr = w->isa->gemm_cols;
    size_t top = (size_t)i / across * w->tall, left = (size_t)i % across * w->wide;
    size_t bottom = least(top + w->tall, w->rows), right = least(left + w->wide, w->cols);
    for (size_t r = top; r < bottom; r += mr)
        for (size_t c = left; c < right; c += nr) {
            int there = w->in_place && w->cols - c >= nr;
            size_t step = there ? (size_t)w->args->ldb : nr;
            block(w, r, c, there ? w->b + w->p * step + w->col + c : w->pb + c * w->depth, step);
        }
}

/* Even tiles of at most TILE_ROWS by TILE_COLS; smaller ones where a team would have less than four a thread. No result depends on them. */
static void cut(work *w, size_t threads) {
    size_t mr = w->isa->gemm_rows, nr = w->isa->gemm_cols, panels_a = pieces(w->m, mr), panels_b = pieces(w->n, nr);
    size_t down = pieces(w->m, TILE_ROWS), across = pieces(w->n, TILE_COLS), want = threads > 1 ? 4 * threads : 1;
    while (down * across < want && down < panels_a) down++;
    while (down * across < want && across < panels_b) across++;
    w->tall = pieces(panels_a, down) * mr;
    w->wide = pieces(panels_b, across) * nr;
}

/* Lays out the workspace of one product at base (may be null) and returns its size. */
static size_t lay_out(const setun_isa *isa, const setun_matmul *a, size_t threads, char *base, work *w) {
    size_t mr = isa->gemm_rows, nr = isa->gemm_cols;
    *w = (work){.isa = isa, .args = a, .m = (size_t)a->m, .n = (size_t)a->n, .k = (size_t)a->k};
    cut(w, threads);
    w->in_place = !(a->flags & SETUN_MATMUL_TRANS_B) && w->m <= IN_PLACE * mr;
    w->depth = pieces(w->k, pieces(w->k, DEPTH)); /* even slices */
    size_t down = pieces(least(w->m, SLAB_ROWS / mr * mr), mr), across = pieces(least(w->n, SLAB_COLS / nr * nr), nr), at = 0;
    if (base) w->pa = (float *)(base + at);
    at += round64(down * mr * w->depth * sizeof(float));
    if (base) w->pb = (float *)(base + at);
    return at + round64(across * nr * w->depth * sizeof(float));
}

static int32_t multiply(const setun_team *team, work w, size_t which) {
    const setun_matmul *a = w.args;
    size_t mr = w.isa->gemm_rows, nr = w.isa->gemm_cols, slice = w.depth;
    w.a = a->a + which * (size_t)a->stride_a;
    w.b = a->b + which * (size_t)a->stride_b;
    w.c = a->c + which * (size_t)a->stride_c;
    for (w.col = 0; w.col < w.n; w.col += w.cols) {
        w.cols = least(SLAB_COLS / nr * nr, w.n - w.col);
        for (w.row = 0; w.row < w.m; w.row += w.rows) {
            w.rows = least(SLAB_ROWS / mr * mr, w.m - w.row);
            for (w.p = 0; w.p < w.k; w.p += w.depth) {
                if (setun_cancelled(&a->call)) return SETUN_ECANCELLED;
                w.depth = least(slice, w.k - w.p);
                setun_each(team, (int64_t)(pieces(w.rows, mr) + pieces(w.cols, nr)), pack_panel, &w);
                setun_each(team, (int64_t)(pieces(w.rows, w.tall) * pieces(w.cols, w.wide)), compute_tile, &w);
            }
        }
    }
    return setun_cancelled(&a->call) ? SETUN_ECANCELLED : SETUN_OK;
}

/* A batch of at least as many small products as there are threads: each thread takes its share of whole products, in its own workspace. */
typedef struct shares {
    work *w;
    char *workspace;
    size_t each, count;
    int32_t *status; /* of each share, in the workspace */
} shares;

static void multiply_share(void *arg, int64_t i) {
    const shares *s = arg;
    const setun_matmul *a = s->w->args;
    size_t batch = (size_t)a->batch, first = batch * (size_t)i / s->count, end = batch * ((size_t)i + 1) / s->count;
    work w;
    lay_out(s->w->isa, a, 1, s->workspace + s->each * (size_t)i, &w);
    s->status[i] = SETUN_OK;
    for (size_t p = first; p < end && s->status[i] == SETUN_OK; p++) s->status[i] = multiply(0, w, p);
}

static int fits(int64_t rows, int64_t cols, int64_t ld, int64_t stride, int64_t batch) {
    if (ld < cols || stride < 0 || rows > INT64_MAX / 64 / ld) return 0;
    return batch == 1 || stride <= (INT64_MAX / 64 - rows * ld) / batch;
}

static int32_t check(const setun_matmul *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "matmul: the argument block is too small");
    if (a->flags & ~(uint32_t)(SETUN_MATMUL_TRANS_A | SETUN_MATMUL_TRANS_B | SETUN_MATMUL_ACCUMULATE)) return setun_invalid(c, "matmul: unknown flag");
    if (a->m < 1 || a->n < 1 || a->k < 1 || a->batch < 1) return setun_invalid(c, "matmul: m, n, k or batch < 1");
    if (!a->a || !a->b || !a->c) return setun_invalid(c, "matmul: a, b or c is null");
    int ta = a->flags & SETUN_MATMUL_TRANS_A, tb = a->flags & SETUN_MATMUL_TRANS_B;
    if (!fits(ta ? a->k : a->m, ta ? a->m : a->k, a->lda, a->stride_a, a->batch)) return setun_invalid(c, "matmul: lda or stride_a is out of range");
    if (!fits(tb ? a->n : a->k, tb ? a->k : a->n, a->ldb, a->stride_b, a->batch)) return setun_invalid(c, "matmul: ldb or stride_b is out of range");
    if (!fits(a->m, a->n, a->ldc, a->stride_c, a->batch)) return setun_invalid(c, "matmul: ldc or stride_c is out of range");
    if (a->batch > 1 && a->stride_c < (a->m - 1) * a->ldc + a->n) return setun_invalid(c, "matmul: products of the batch overlap in c");
    return SETUN_OK;
}

int32_t setun_op_matmul(const setun_isa *isa, const setun_team *team, setun_matmul *a) {
    int32_t rc = check(a);
    if (rc != SETUN_OK) return rc;
    size_t batch = (size_t)a->batch, threads = (size_t)setun_threads(team);
    work w;
    size_t one = lay_out(isa, a, threads, a->workspace, &w);
    shares s = {.w = &w, .workspace = a->workspace, .each = one, .count = threads > 1 && batch >= threads && one <= SHARE ? threads : 1};
    size_t need = one * s.count + round64(s.count * sizeof *s.status);
    if (!a->workspace) {
        a->workspace_size = (int64_t)need;
        return SETUN_OK;
    }
    if ((uintptr_t)a->workspace % 64 != 0 || a->workspace_size < 0 || (uint64_t)a->workspace_size < need)
        return setun_invalid(&a->call, "matmul: the workspace is too small or not aligned to 64 bytes");
    if (s.count > 1) {
        s.status = (int32_t *)(s.workspace + one * s.count);
        setun_each(team, (int64_t)s.count, multiply_share, &s);
        for (size_t i = 0; i < s.count && rc == SETUN_OK; i++) rc = s.status[i];
        return rc;
    }
    for (size_t i = 0; i < batch && rc == SETUN_OK; i++) rc = multiply(team, w, i);
    return rc;
}
