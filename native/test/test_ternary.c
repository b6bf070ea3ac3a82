/* SPDX-License-Identifier: Apache-2.0
 *
 * test_ternary.c: activations and packed ternary codes times them. The codes of each case are packed here in a way of their own, one at a time, and the result
 * is computed from the codes as they were. */
#include "test.h"

#include <math.h>

/* ---- activations ---- */

typedef struct rows_job {
    const float *x;
    int64_t rows, cols, bad;
    const int8_t *codes;
    const float *scales;
} rows_job;

static void run_rows(const setun_kernel *k, int side, void *state) {
    const rows_job *j = state;
    size_t n = (size_t)(j->rows * j->cols);
    (void)side;
    setun_activations a = {.call = {.size = sizeof a, .bad_index = -1}, .x = j->x, .rows = j->rows, .cols = j->cols};
    a.out = guarded(n, 3);
    a.scales = guarded((size_t)j->rows * sizeof(float), 4);
    int32_t rc = k->run(context, &a);
    int right = j->bad >= 0 ? rc == SETUN_ENONFINITE && a.call.bad_index == j->bad
                            : rc == SETUN_OK && same(a.out, j->codes, n) && same(a.scales, j->scales, (size_t)j->rows * sizeof(float));
    expect(right, k, "%ldx%ld rc=%d bad=%ld", (long)j->rows, (long)j->cols, rc, (long)a.call.bad_index);
    release(a.out);
    release(a.scales);
}

static void rows(int64_t count, int64_t cols, int kind, int64_t bad) {
    size_t n = (size_t)(count * cols);
    float *x = vector(kind, n, 4), *scales = malloc((size_t)count * sizeof *scales);
    int8_t *codes = malloc(n);
    for (int64_t r = 0; r < count; r++) {
        float most = 0;
        for (int64_t i = 0; i < cols; i++) most = fmaxf(most, fabsf(x[r * cols + i]));
        scales[r] = most / 127;
        for (int64_t i = 0; i < cols; i++) codes[r * cols + i] = (int8_t)(most > 0 ? rint((double)x[r * cols + i] * (127 / (double)most)) : 0);
    }
    if (bad >= 0) x[bad] = kind % 2 ? NAN : -INFINITY;
    rows_job j = {x, count, cols, bad, codes, scales};
    each(SETUN_OP_ACTIVATIONS, run_rows, &j);
    release(x);
    free(scales);
    free(codes);
}

/* ---- ternary matmul ---- */

typedef struct job {
    setun_ternary args; /* with everything but out and the workspace */
    const float *want;
} job;

static void run_product(const setun_kernel *k, int side, void *state) {
    const job *j = state;
    setun_ternary a = j->args;
    size_t bytes = (size_t)(a.batch * a.rows) * sizeof(float);
    (void)side;
    a.out = guarded(bytes, 4);
    int32_t rc = k->run(context, &a);
    a.workspace = guarded((size_t)a.workspace_size, 0);
    memset(a.workspace, 0xff, (size_t)a.workspace_size);
    if (rc == SETUN_OK) rc = k->run(context, &a);
    expect(rc == SETUN_OK && same(a.out, j->want, bytes), k, "%ldx%ld batch=%ld levels=%u format=%u group=%ld rc=%d", (long)a.rows, (long)a.cols, (long)a.batch,
           a.levels, a.format, (long)a.group, rc);
    release(a.workspace);
    release(a.out);
}

/* Bytes of a block of four5 that holds n codes. */
static size_t four5_bytes(size_t n) {
    size_t m = (n - 1) / 4 + 1;
    return (m + 1) / 2 + (m + 7) / 8;
}

/* A block of n <= 256 codes, of which those of a place have one 0 at most. */
static void four5(uint8_t *out, const int8_t *codes, size_t n) {
    size_t m = (n - 1) / 4 + 1, half = (m + 1) / 2;
    memset(out, 0, four5_bytes(n));
    for (size_t b = 0; b < m; b++) {
        int zero = -1, sign[4], found = 0;
        for (int p = 0; p < 4; p++) {
            int c = b + (size_t)p * m < n ? codes[b + (size_t)p * m] : 0;
            if (c == 0 && zero < 0)
                zero = p;
            else
                sign[found++] = c < 0;
        }
        if (zero < 0) zero = 3;
        int number = zero * 4 + (sign[1] ^ sign[0]) * 2 + (sign[2] ^ sign[0]);
        out[b % half] |= (uint8_t)(b < half ? number : number << 4);
        out[half + b / 8] |= (uint8_t)(sign[0] << b % 8);
    }
}

/* One row in a format; signs of planes go behind *signs. Returns the bytes of the row. */
static size_t pack(uint32_t format, uint8_t *out, const int8_t *codes, size_t n, uint8_t **signs) {
    size_t bytes = 0;
    switch (format) {
    case SETUN_INT8:
        memcpy(out, codes, n);
        return n;
    case SETUN_FOUR5:
        for (size_t i = 0; i < n; i += 256) {
            size_t some = n - i < 256 ? n - i : 256;
            four5(out + bytes, codes + i, some);
            bytes += four5_bytes(some);
        }
        return bytes;
    case SETUN_PLANES: {
        size_t count = 0;
        bytes = (n - 1) / 64 * 8 + 8;
        memset(out, 0, bytes);
        for (size_t i = 0; i < n; i++) {
            if (codes[i] == 0) continue;
            out[i / 8] |= (uint8_t)(1 << i % 8);
            if (count % 8 == 0) (*signs)[count / 8] = 0;
            (*signs)[count / 8] |= (uint8_t)((codes[i] < 0) << count % 8);
            count++;
        }
        *signs += (count + 7) / 8;
        return bytes;
    }
    }
    return naive_pack(format, out, codes, n);
}

typedef struct recoding {
    const setun_ternary *args;
    uint32_t to;
    const uint8_t *want;
    size_t bytes;
} recoding;

static void run_recode(const setun_kernel *k, int side, void *state) {
    const recoding *j = state;
    (void)side;
    setun_recode a = {.call = {.size = sizeof a},
                      .from = j->args->format,
                      .to = j->to,
                      .codes = j->args->codes,
                      .signs = j->args->signs,
                      .index = j->args->index,
                      .rows = j->args->rows,
                      .cols = j->args->cols};
    a.out = guarded(j->bytes, 1);
    int32_t rc = k->run(context, &a);
    expect(rc == SETUN_OK && same(a.out, j->want, j->bytes), k, "%ldx%ld from %u to %u rc=%d", (long)a.rows, (long)a.cols, a.from, a.to, rc);
    release(a.out);
}

/* What codes and activations are: any; the greatest codes by -128 or 127, the least by -128; any bytes as codes, which are none but have products. */
enum { ANY, GREATEST, BOTH, LEAST, BYTES };

static void product(uint32_t levels, uint32_t format, int64_t rows, int64_t cols, int64_t group, int64_t batch, int extreme) {
    size_t n = (size_t)(rows * cols), each_row = group ? (size_t)((cols - 1) / group + 1) : 1, scales = group ? (size_t)rows * each_row : 1;
    int8_t *codes = malloc(n), *x = guarded((size_t)(batch * cols), 1);
    int most = levels == SETUN_QUINARY ? 2 : 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t draw = next();
        codes[i] = (int8_t)(extreme == LEAST   ? -most
                            : extreme == BYTES ? (int)(draw % 256) - 128
                            : extreme          ? most
                                               : (int)(draw % (uint32_t)(2 * most + 1)) - most);
    }
    if (levels == SETUN_SPARSE) /* a place has one 0 at most: those of short places too */
        for (size_t r = 0; r < (size_t)rows; r++)
            for (size_t at = 0; at < (size_t)cols; at += 256) {
                size_t some = (size_t)cols - at < 256 ? (size_t)cols - at : 256, m = (some - 1) / 4 + 1;
                for (size_t b = 0; b < m; b++) {
                    int8_t *c = codes + r * (size_t)cols + at + b;
                    for (size_t p = 0; b + p * m < some; p++) c[p * m] = next() % 2 ? 1 : -1;
                    if (b + 3 * m < some) c[next() % 4 * m] = 0;
                }
            }
    for (size_t i = 0; i < (size_t)(batch * cols); i++)
        x[i] = (int8_t)(extreme == BOTH ? 127 : extreme == GREATEST || extreme == LEAST ? -128 : (int)(next() % 256) - 128);
    float *s = vector(PLAIN, scales, 4), *xs = vector(PLAIN, (size_t)batch, 4), *want = malloc((size_t)(batch * rows) * sizeof *want);
    uint8_t *row = malloc(2 * (size_t)cols + 64), *signs = calloc(n / 8 + (size_t)rows + (size_t)cols / 8 + 17, 1), *end = signs;
    int64_t *index = malloc((size_t)(rows + 1) * sizeof *index);
    size_t bytes = pack(format, row, codes, (size_t)cols, &end);
    uint8_t *packed = guarded(bytes * (size_t)rows, 1);
    end = signs;
    for (int64_t r = 0; r < rows; r++) {
        index[r] = end - signs;
        pack(format, packed + bytes * (size_t)r, codes + r * cols, (size_t)cols, &end);
    }
    index[rows] = end - signs;
    uint8_t *there = guarded((size_t)(end - signs) + (size_t)cols / 8 + 17, 1);
    memcpy(there, signs, (size_t)(end - signs) + (size_t)cols / 8 + 17);
    for (int64_t t = 0; t < batch; t++)
        for (int64_t r = 0; r < rows; r++) {
            double v = 0;
            for (size_t g = 0; g < each_row; g++) {
                int64_t from = (int64_t)g * group, to = group && from + group < cols ? from + group : cols, sum = 0;
                for (int64_t c = from; c < to; c++) sum += codes[r * cols + c] * x[t * cols + c];
                v += (double)sum * (double)s[group ? (size_t)r * each_row + g : 0];
            }
            want[t * rows + r] = (float)(v * (levels == SETUN_QUINARY ? 0.5 : 1) * (double)xs[t]);
        }
    job j = {.want = want};
    j.args = (setun_ternary){.call = {.size = sizeof j.args},
                             .levels = levels,
                             .format = format,
                             .codes = packed,
                             .signs = there,
                             .index = index,
                             .scales = s,
                             .rows = rows,
                             .cols = cols,
                             .group = group,
                             .x = x,
                             .x_scales = xs,
                             .batch = batch};
    each(SETUN_OP_TERNARY_MATMUL, run_product, &j);
    for (uint32_t to = SETUN_INT8; to <= (levels == SETUN_QUINARY ? SETUN_INT8 : SETUN_BASE3) && extreme <= GREATEST && batch <= 5; to++) {
        uint8_t *all = malloc(n + (size_t)rows);
        size_t length = 0;
        for (int64_t r = 0; r < rows; r++) length += pack(to, all + length, codes + r * cols, (size_t)cols, 0);
        recoding again = {&j.args, to, all, length};
        each(SETUN_OP_RECODE, run_recode, &again);
        free(all);
    }
    release(packed);
    release(there);
    release(x);
    release(s);
    release(xs);
    free(codes);
    free(want);
    free(row);
    free(signs);
    free(index);
}

static void all_forms(int64_t rows, int64_t cols, int64_t group, int64_t batch, int extremes) {
    for (uint32_t levels = SETUN_TERNARY; levels <= SETUN_QUINARY; levels++)
        for (uint32_t format = SETUN_INT8; format <= SETUN_PLANES; format++) {
            if ((levels == SETUN_QUINARY && format != SETUN_INT8) || (levels != SETUN_SPARSE && format == SETUN_FOUR5)) continue;
            for (int extreme = ANY; extreme <= extremes && (extreme < BYTES || (format == SETUN_INT8 && levels != SETUN_SPARSE)); extreme++)
                product(levels, format, rows, cols, group, batch, extreme);
        }
}

/* Many rows of activations: around the rows of a panel and of a call of the products, steps of columns, blocks and pieces of codes, groups that fill their
 * steps or not, sums of a group that take several calls. */
static void many_rows(void) {
    static const int64_t shapes[][4] = {/* rows, columns, group, batch */
                                        {16, 16, 0, 5},      {17, 17, 17, 8},    {31, 63, 16, 9},    {32, 64, 0, 16},    {33, 65, 32, 33},
                                        {15, 100, 50, 12},   {64, 127, 17, 13},  {65, 128, 0, 100},  {40, 129, 64, 24},  {23, 255, 0, 25},
                                        {48, 256, 18, 11},   {20, 257, 256, 36}, {34, 300, 100, 37}, {16, 1279, 160, 7}, {35, 1280, 33, 10},
                                        {32, 1283, 1280, 6}, {18, 2563, 0, 14},  {16, 16384, 0, 5},  {17, 16387, 0, 6},  {16, 33000, 16500, 5},
                                        {8, 500, 20, 768},   {40, 33, 0, 768},   {16, 18, 16, 768}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) all_forms(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], BYTES);
    static const int64_t batches[] = {5, 8, 9, 16, 33, 100};
    for (int64_t cols = 1; cols <= 300; cols++) {
        uint32_t draw = next();
        int64_t rows = 14 + draw % 23, group = draw >> 8 & 1 ? 0 : 1 + (draw >> 9) % (uint32_t)cols;
        uint32_t format = SETUN_INT8 + (uint32_t)cols % 5, levels = format == SETUN_FOUR5 ? SETUN_SPARSE : format == SETUN_INT8 ? SETUN_QUINARY : SETUN_TERNARY;
        product(levels, format, rows, cols, group, batches[cols % 6], cols % 7 < 5 ? ANY : 1 + (int)(draw >> 16) % 3);
    }
}

void test_ternary(void) {
    many_rows();
    static const int64_t shapes[][4] = {/* rows, columns, group, batch */
                                        {1, 1, 0, 1},     {2, 4, 0, 2},      {3, 5, 2, 1},     {5, 64, 64, 3},    {6, 65, 0, 1},
                                        {7, 127, 100, 2}, {8, 256, 256, 1},  {9, 257, 128, 2}, {5, 320, 64, 1},   {4, 321, 320, 2},
                                        {3, 511, 0, 1},   {4, 512, 512, 4},  {2, 640, 320, 1}, {13, 777, 0, 5},   {4, 1281, 640, 1},
                                        {3, 2561, 7, 2},  {66, 300, 300, 1}, {300, 3, 1, 2},   {2, 131073, 0, 1}, {1, 200003, 65536, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) all_forms(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], GREATEST);
    static const int64_t sizes[][2] = {{1, 1}, {3, 5}, {2, 16}, {7, 17}, {1, 33}, {40, 100}, {1, 4097}, {9, 8192}, {3, 70001}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            rows(sizes[i][0], sizes[i][1], kind, -1);
            rows(sizes[i][0], sizes[i][1], kind, (int64_t)(next() % (uint32_t)(sizes[i][0] * sizes[i][1])));
        }
}
