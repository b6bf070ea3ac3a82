/* SPDX-License-Identifier: Apache-2.0
 *
 * test_step.c: constrain, apply and quantize in one go against the three of them, each by its own naive loop. */
#include "test.h"

#include <math.h>

typedef struct job {
    setun_step a; /* params, delta and outputs are filled in by run */
    const float *params, *delta, *applied;
    const uint8_t *out;
    const float *scales;
    double norm;
    size_t bytes, groups, offset;
    int32_t status;
    int64_t bad;
} job;

static void run(const setun_kernel *k, int side, void *state) {
    job *j = state;
    (void)side;
    setun_step a = j->a;
    size_t n = (size_t)(a.to.rows * a.to.cols), bytes = n * sizeof(float);
    float *params = guarded(bytes, 4 * j->offset), *delta = guarded(bytes, 4 * (j->offset * 3 % 16)), *scales = guarded(j->groups * sizeof *scales, 4);
    uint8_t *out = guarded(j->bytes, j->offset);
    double *scratch = guarded((n + 4095) / 4096 * sizeof *scratch, 8);
    memcpy(params, j->params, bytes);
    memcpy(delta, j->delta, bytes);
    a.to.call.bad_index = -1;
    a.to.out = out, a.to.scales = scales, a.params = params, a.delta = delta, a.scratch = scratch;
    int32_t rc = k->run(NULL, &a);
    int ok = rc == j->status && a.to.call.bad_index == j->bad && same(params, j->applied, bytes) && same(delta, j->delta, bytes);
    if (rc == SETUN_OK) ok = ok && a.norm == j->norm && same(out, j->out, j->bytes) && same(scales, j->scales, j->groups * sizeof *scales);
    expect(ok, k, "%ldx%ld group=%ld levels=%u rule=%u format=%u radius=%a: rc=%d, not %d; bad_index=%ld, norm %a, not %a", (long)a.to.rows, (long)a.to.cols,
           (long)a.to.group, a.to.levels, a.to.rule, a.to.format, a.radius, rc, j->status, (long)a.to.call.bad_index, a.norm, j->norm);
    release(scratch);
    release(out);
    release(scales);
    release(delta);
    release(params);
}

static size_t row_bytes(uint32_t format, size_t cols) { return format == SETUN_INT8 ? cols : format == SETUN_2BIT ? (cols + 3) / 4 : (cols + 4) / 5; }

static void naive_quantize(const setun_quantize *q, const float *x, uint8_t *out, float *scales) {
    size_t rows = (size_t)q->rows, cols = (size_t)q->cols, group = (size_t)q->group;
    int8_t *codes = guarded(rows * cols, 0);
    if (group == 0) *scales = naive_group(q->rule, q->levels, q->seed, x, rows * cols, 0, codes);
    for (size_t r = 0; group > 0 && r < rows; r++)
        for (size_t c = 0; c < cols; c += group)
            *scales++ = naive_group(q->rule, q->levels, q->seed, x + r * cols + c, cols - c < group ? cols - c : group, r * cols + c, codes + r * cols + c);
    for (size_t r = 0; r < rows; r++)
        if (q->format == SETUN_INT8)
            memcpy(out + r * cols, codes + r * cols, cols);
        else
            naive_pack(q->format, out + r * row_bytes(q->format, cols), codes + r * cols, cols);
    release(codes);
}

static void steps(size_t rows, size_t cols, size_t group, int kind, uint32_t only) {
    size_t n = rows * cols, offset = (n + (size_t)kind) % 16;
    float *params = vector(PLAIN, n, 0), *delta = vector(kind, n, 0), *applied = guarded(n * sizeof *applied, 0);
    float *scales = guarded(rows * cols * sizeof *scales, 0);
    uint8_t *out = guarded(n, 0);
    double norm = sqrt(naive_dot(delta, delta, n));
    const double radii[] = {0, norm / 3, norm, INFINITY};
    for (int w = 0; w < 4; w++) {
        double f = radii[w] / norm * (1 - 0x1p-23);
        for (size_t i = 0; i < n; i++) applied[i] = params[i] + (norm > radii[w] ? naive_scaled(delta[i], f) : delta[i]);
        for (uint32_t rule = SETUN_ABSMEAN; rule <= SETUN_STOCHASTIC; rule++)
            for (uint32_t form = 0; form < 4; form++) {
                if (only && (rule != only || form == 3)) continue;
                setun_quantize q = {.call = {.size = sizeof(setun_step)}, .levels = form == 3 ? SETUN_QUINARY : SETUN_TERNARY, .rule = rule, .seed = 7};
                q.format = form == 3 ? SETUN_INT8 : SETUN_INT8 + form;
                q.rows = (int64_t)rows, q.cols = (int64_t)cols, q.group = (int64_t)group;
                job j = {.a = {.to = q, .radius = radii[w]},
                         .params = params,
                         .delta = delta,
                         .applied = applied,
                         .out = out,
                         .scales = scales,
                         .norm = norm,
                         .bad = -1};
                j.bytes = rows * row_bytes(q.format, cols);
                j.groups = group == 0 ? 1 : rows * ((cols + group - 1) / group);
                j.offset = offset;
                naive_quantize(&q, applied, out, scales);
                each(SETUN_OP_STEP, run, &j);
            }
    }
    release(out);
    release(scales);
    release(applied);
    release(delta);
    release(params);
}

/* delta that is not finite leaves params; params that overflow are applied to the end. */
static void not_finite(size_t rows, size_t cols, size_t group) {
    size_t n = rows * cols;
    float *params = vector(PLAIN, n, 0), *delta = vector(PLAIN, n, 0), *applied = guarded(n * sizeof *applied, 0);
    const size_t at[] = {0, n / 2, n - 1};
    for (uint32_t rule = SETUN_ABSMEAN; rule <= SETUN_STOCHASTIC; rule++)
        for (int i = 0; i < 3; i++) {
            job j = {.params = params, .delta = delta, .applied = params, .bytes = n, .groups = n, .status = SETUN_ENONFINITE, .bad = (int64_t)at[i]};
            j.a.to = (setun_quantize){.call = {.size = sizeof j.a}, .levels = SETUN_TERNARY, .rule = rule, .format = SETUN_INT8};
            j.a.to.rows = (int64_t)rows, j.a.to.cols = (int64_t)cols, j.a.to.group = (int64_t)group;
            j.a.radius = INFINITY;
            float keep = delta[at[i]], last = delta[n - 1], p = params[at[i]];
            delta[at[i]] = i == 1 ? NAN : -INFINITY;
            each(SETUN_OP_STEP, run, &j);
            delta[at[i]] = params[at[i]] = 3e38f;
            delta[n - 1] = i == 2 ? 3e38f : last;
            for (size_t v = 0; v < n; v++) applied[v] = params[v] + delta[v];
            j.applied = applied;
            j.bad += (int64_t)n;
            each(SETUN_OP_STEP, run, &j);
            delta[n - 1] = last;
            delta[at[i]] = keep;
            params[at[i]] = p;
        }
    const volatile int32_t stop = 1;
    job j = {.params = params, .delta = delta, .applied = params, .bytes = n, .groups = n, .status = SETUN_ECANCELLED, .bad = -1};
    j.a.to = (setun_quantize){.call = {.size = sizeof j.a, .cancel = &stop}, .levels = 3, .rule = 1, .format = 1, .rows = (int64_t)rows, .cols = (int64_t)cols};
    j.a.radius = 1;
    each(SETUN_OP_STEP, run, &j);
    release(applied);
    release(delta);
    release(params);
}

static void refused(const setun_kernel *k, int side, void *state) {
    (void)side, (void)state;
    for (int i = 0; i < 9; i++) {
        float params[4] = {1, 2, 3, 4}, delta[4] = {1, 1, 1, 1}, scale = 9;
        int8_t out[4] = {9, 9, 9, 9};
        double scratch[1];
        char message[100] = "";
        setun_step a = {.to = {.call = {.size = sizeof a, .message = message, .message_size = sizeof message}, .levels = 3, .rule = 1, .format = 1}};
        a.to.rows = 2, a.to.cols = 2, a.to.out = out, a.to.scales = &scale, a.params = params, a.delta = delta, a.radius = 1, a.scratch = scratch;
        switch (i) {
        case 0:
            a.to.call.size--;
            break;
        case 1:
            a.params = NULL;
            break;
        case 2:
            a.delta = NULL;
            break;
        case 3:
            a.scratch = NULL;
            break;
        case 4:
            a.radius = NAN;
            break;
        case 5:
            a.radius = -1;
            break;
        case 6:
            a.to.rule = 9;
            break;
        case 7:
            a.to.group = 3;
            break;
        default:
            a.to.rows = 0;
        }
        int32_t rc = k->run(NULL, &a);
        expect(rc == SETUN_EINVAL && message[0] && params[0] == 1 && out[0] == 9 && scale == 9, k, "refused case %d: rc=%d", i, rc);
    }
}

void test_step(void) {
    const size_t shapes[][3] = {{1, 1, 0},    {1, 33, 0},     {3, 67, 0},   {3, 67, 67},    {3, 67, 5},
                                {1, 4096, 0}, {1, 4097, 100}, {2, 5121, 0}, {40, 100, 100}, {5, 1300, 64}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int kind = 0; kind < KINDS; kind++)
            if (kind != HUGE_VALUES && (kind == PLAIN || s % 3 == 0)) steps(shapes[s][0], shapes[s][1], shapes[s][2], kind, 0);
    /* Several parts: whole rows, rows that are cut, groups longer than a part. */
    steps(1, 150001, 0, PLAIN, SETUN_ABSMEAN);
    steps(1, 150001, 0, PLAIN, SETUN_ABSMAX);
    steps(300, 500, 500, PLAIN, SETUN_ABSMEAN);
    steps(2, 140001, 128, PLAIN, SETUN_ABSMEAN);
    steps(2, 90001, 100, PLAIN, SETUN_LEAST_SQUARES);
    steps(2, 90001, 7, PLAIN, SETUN_ABSMAX);
    steps(2, 90001, 90001, PLAIN, SETUN_ABSMEAN);
    steps(2, 70001, 1000, PLAIN, SETUN_STOCHASTIC);
    not_finite(1, 5, 0);
    not_finite(3, 3001, 0);
    not_finite(3, 3001, 100);
    not_finite(70, 1000, 1000);
    each(SETUN_OP_STEP, refused, NULL);
}
