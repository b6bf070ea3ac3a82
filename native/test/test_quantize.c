/* SPDX-License-Identifier: Apache-2.0
 *
 * test_quantize.c: rules, levels, formats and groups over sizes around every lane, block and chunk width. */
#include "test.h"

#include <math.h>

typedef struct job {
    setun_quantize a;
    size_t bytes, groups, offset;
    const uint8_t *want; /* null: whatever the kernel answers is compared with status alone */
    const float *want_scales;
    int kind;
    int32_t status;
    int64_t bad;
    uint8_t *ref; /* outputs of the scalar kernel */
    float *ref_scales;
} job;

static size_t row_bytes(uint32_t format, size_t cols) { return format == SETUN_INT8 ? cols : format == SETUN_2BIT ? (cols + 3) / 4 : (cols + 4) / 5; }

static void run_one(const setun_kernel *k, int side, void *state) {
    job *j = state;
    setun_quantize a = j->a;
    uint8_t *out = guarded(j->bytes, j->offset % 64);
    float *scales = guarded(j->groups * sizeof *scales, j->offset % 16 * 4);
    a.out = out;
    a.scales = scales;
    int32_t rc = k->run(context, &a);
    int ok = rc == SETUN_OK;
    if (side == 0) {
        memcpy(j->ref, out, j->bytes);
        memcpy(j->ref_scales, scales, j->groups * sizeof *scales);
        ok = ok && same(out, j->want, j->bytes) && same(scales, j->want_scales, j->groups * sizeof *scales);
    } else {
        ok = ok && same(out, j->ref, j->bytes) && same(scales, j->ref_scales, j->groups * sizeof *scales);
    }
    expect(ok, k, "rows=%ld cols=%ld group=%ld levels=%u rule=%u format=%u kind=%d offset=%zu rc=%d", (long)a.rows, (long)a.cols, (long)a.group, a.levels,
           a.rule, a.format, j->kind, j->offset, rc);
    release(out);
    release(scales);
}

/* What docs/numerics.md asks for, group by group. */
static void want(const setun_quantize *a, uint8_t *out, float *scales) {
    size_t rows = (size_t)a->rows, cols = (size_t)a->cols, step = a->group ? (size_t)a->group : rows * cols, width = a->group ? cols : rows * cols;
    int8_t *codes = malloc(rows * cols);
    if (!codes) exit(2);
    for (size_t begin = 0; begin < rows * cols; begin += width)
        for (size_t i = 0; i < width; i += step) {
            size_t n = width - i < step ? width - i : step, at = begin + i;
            *scales++ = naive_group(a->rule, a->levels, a->seed, a->x + at, n, at, codes + at);
        }
    for (size_t r = 0; r < rows; r++) out += naive_pack(a->format, out, codes + r * cols, cols);
    free(codes);
}

static void shape(size_t rows, size_t cols, int64_t group, int kind, int all) {
    static size_t turn;
    size_t offset = turn++ % 16;
    job j = {.kind = kind, .offset = offset};
    float *x = vector(kind, rows * cols, 4 * offset);
    j.groups = group ? rows * ((cols - 1) / (size_t)group + 1) : 1;
    uint8_t *out = guarded(2 * rows * cols, 0);
    float *scales = guarded(2 * j.groups * sizeof *scales, 0);
    j.a = (setun_quantize){.call = {.size = sizeof j.a}, .x = x, .rows = (int64_t)rows, .cols = (int64_t)cols, .group = group, .seed = 0x123456789abcdefull};
    j.want = out;
    j.want_scales = scales;
    j.ref = out + rows * cols;
    j.ref_scales = scales + j.groups;
    uint32_t first = all ? SETUN_ABSMEAN : 1 + (uint32_t)(turn % 5), last = all ? SETUN_STOCHASTIC : first;
    for (j.a.rule = first; j.a.rule <= last; j.a.rule++)
        for (int f = 0; f < 4; f++) {
            j.a.levels = f == 3 ? SETUN_QUINARY : SETUN_TERNARY;
            j.a.format = f == 3 ? SETUN_INT8 : (uint32_t)f + 1;
            j.bytes = rows * row_bytes(j.a.format, cols);
            want(&j.a, out, scales);
            each(SETUN_OP_QUANTIZE, run_one, &j);
        }
    release(x);
    release(out);
    release(scales);
}

static void shapes(size_t rows, size_t cols) {
    const int64_t groups[] = {0, 1, 3, 64, 100, 128, (int64_t)cols};
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        if (groups[g] > (int64_t)cols) continue;
        if (groups[g] > 0 && groups[g] < 64 && rows * cols > 1000) continue; /* many tiny groups: the small sizes have them */
        for (int kind = 0; kind < KINDS; kind++) shape(rows, cols, groups[g], kind, rows * cols < 300 || (groups[g] == 0 && rows * cols < 6000));
    }
}

/* ---- Failures ----------------------------------------------------------------------------------------------------- */

static void run_status(const setun_kernel *k, int side, void *state) {
    job *j = state;
    (void)side;
    char message[160] = "";
    setun_quantize a = j->a;
    a.call.message = message;
    a.call.message_size = sizeof message;
    a.call.bad_index = -1;
    int32_t rc = k->run(context, &a);
    expect(rc == j->status && a.call.bad_index == j->bad && (rc != SETUN_EINVAL || message[0]), k, "status %d, not %d; bad_index %ld, not %ld (%s)", rc,
           j->status, (long)a.call.bad_index, (long)j->bad, message);
}

static void not_finite(size_t rows, size_t cols) {
    size_t n = rows * cols;
    const size_t at[][2] = {{0, 0}, {n - 1, n - 1}, {n / 2, n - 1}, {n / 3, n / 2}, {n > 40 ? 37 : 0, n - 1}};
    const float bad[] = {NAN, INFINITY, -INFINITY, -NAN};
    uint8_t *out = guarded(n, 0);
    float *scales = guarded(n * sizeof *scales, 0), *x = vector(PLAIN, n, 4);
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        for (uint32_t rule = SETUN_ABSMEAN; rule <= SETUN_STOCHASTIC; rule++)
            for (int g = 0; g < 3; g++) {
                job j = {.status = SETUN_ENONFINITE, .bad = (int64_t)at[i][0]};
                float a = x[at[i][0]], b = x[at[i][1]];
                x[at[i][1]] = bad[(i + rule) % 4];
                x[at[i][0]] = bad[rule % 4];
                j.a = (setun_quantize){
                    .call = {.size = sizeof j.a}, .levels = g == 1 ? 5 : 3, .rule = rule, .x = x, .rows = (int64_t)rows, .cols = (int64_t)cols};
                j.a.format = g == 2 ? SETUN_2BIT : SETUN_INT8;
                j.a.group = g == 0 ? 0 : g == 1 ? (int64_t)cols : 1;
                j.a.out = out;
                j.a.scales = scales;
                each(SETUN_OP_QUANTIZE, run_status, &j);
                x[at[i][1]] = b;
                x[at[i][0]] = a;
            }
    release(x);
    release(out);
    release(scales);
}

static void refused(void) {
    float x[8] = {1, 2, 3, 4}, scales[8] = {7};
    uint8_t out[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    const setun_quantize good = {
        .call = {.size = sizeof good}, .levels = 3, .rule = 1, .format = 1, .x = x, .rows = 2, .cols = 4, .out = out, .scales = scales};
    setun_quantize bad[17];
    size_t n = sizeof bad / sizeof *bad;
    for (size_t i = 0; i < n; i++) bad[i] = good;
    bad[0].call.size = sizeof good - 1;
    bad[1].x = NULL;
    bad[2].out = NULL;
    bad[3].scales = NULL;
    bad[4].rows = 0;
    bad[5].cols = 0;
    bad[6].rows = -1;
    bad[7].cols = INT64_MIN;
    bad[8].rows = bad[8].cols = INT64_MAX / 4;
    bad[9].group = -1;
    bad[10].group = 5;
    bad[11].levels = 4;
    bad[12].rule = 0;
    bad[13].rule = 6;
    bad[14].format = 0;
    bad[15].format = 4;
    bad[16].levels = 5, bad[16].format = SETUN_2BIT;
    for (size_t i = 0; i < n; i++) {
        job j = {.a = bad[i], .status = SETUN_EINVAL, .bad = -1};
        each(SETUN_OP_QUANTIZE, run_status, &j);
    }
    expect(out[0] == 9 && out[7] == 9 && scales[0] == 7, scalar(SETUN_OP_QUANTIZE), "a refused call has written");
}

static void cancelled(void) {
    size_t n = 3 << 20;
    int32_t stop = 1;
    float *x = vector(PLAIN, n, 0), scale;
    uint8_t *out = guarded(n, 0);
    for (uint32_t rule = SETUN_ABSMEAN; rule <= SETUN_STOCHASTIC; rule++) {
        job j = {.status = SETUN_ECANCELLED, .bad = -1};
        j.a = (setun_quantize){.call = {.size = sizeof j.a, .cancel = &stop}, .levels = 3, .rule = rule, .format = 1, .x = x, .rows = 3, .cols = 1 << 20};
        j.a.out = out;
        j.a.scales = &scale;
        each(SETUN_OP_QUANTIZE, run_status, &j);
    }
    release(x);
    release(out);
}

void test_quantize(void) {
    const uint32_t zero[4] = {0}, known[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}; /* of the paper's authors */
    uint32_t out[4];
    naive_philox(zero, zero, out);
    expect(same(out, known, sizeof out), scalar(SETUN_OP_QUANTIZE), "the test's own Philox is wrong");

    const size_t sizes[] = {1,   2,   3,   4,   5,   7,   8,   9,   15,  16,   17,   31,   32,   33,   61,   63,   64,   65,   127,  128,  129,
                            191, 255, 256, 257, 319, 320, 321, 640, 997, 1279, 1280, 1281, 4095, 4096, 4097, 5119, 5120, 5121, 8191, 8193, 16384};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) shapes(1, sizes[s]);
    const size_t matrices[][2] = {{2, 1}, {33, 3}, {3, 65}, {16, 64}, {7, 100}, {5, 257}, {4, 320}, {3, 1281}, {2, 5121}, {41, 101}};
    for (size_t s = 0; s < sizeof matrices / sizeof *matrices; s++) shapes(matrices[s][0], matrices[s][1]);
    for (int kind = 0; kind < KINDS; kind++) {
        shape(1, 61441, 0, kind, 0);
        shape(1, 100003, 0, kind, kind == PLAIN);
        shape(3, 33347, 33347, kind, 0);
    }
    not_finite(1, 1);
    not_finite(1, 64);
    not_finite(3, 67);
    not_finite(1, 10007);
    refused();
    cancelled();
}
