/* SPDX-License-Identifier: Apache-2.0
 *
 * test_reduce.c: dot, norm2 and constrain. */
#include "test.h"

#include <math.h>

typedef struct job {
    const float *x, *y;
    size_t n, offset;
    int kind, in_place;
    double want, radius, ref;
    const float *scaled; /* constrain: what dst has to be */
    int32_t status;
    int64_t bad;
    const volatile int32_t *cancel;
} job;

static void run_reduce(const setun_kernel *k, int side, void *state) {
    job *j = state;
    (void)side;
    setun_reduce a = {.call = {.size = sizeof a, .cancel = j->cancel, .bad_index = -1}, .x = j->x, .y = j->y, .n = (int64_t)j->n};
    int32_t rc = k->run(context, &a);
    int ok = rc == j->status && (rc == SETUN_OK ? same(&a.result, &j->want, sizeof a.result) : a.call.bad_index == j->bad);
    expect(ok, k, "op=%u n=%zu offset=%zu kind=%d: %a, not %a; rc=%d bad_index=%ld", k->op, j->n, j->offset, j->kind, a.result, j->want, rc,
           (long)a.call.bad_index);
}

static void sums(size_t n, int kind, size_t offset) {
    job j = {.n = n, .offset = offset, .kind = kind, .bad = -1};
    float *x = vector(kind, n, 4 * offset), *y = vector(kind == HUGE_VALUES ? kind : PLAIN, n, 4 * (offset * 7 % 16));
    j.x = x;
    j.y = y;
    j.want = naive_dot(x, y, n);
    each(SETUN_OP_DOT, run_reduce, &j);
    j.y = NULL;
    j.want = sqrt(naive_dot(x, x, n));
    each(SETUN_OP_NORM2, run_reduce, &j);
    release(x);
    release(y);
}

/* ---- constrain ---------------------------------------------------------------------------------------------------- */

static void run_constrain(const setun_kernel *k, int side, void *state) {
    job *j = state;
    (void)side;
    float *copy = guarded(j->n * sizeof *copy, 4 * j->offset), *dst = j->in_place ? copy : guarded(j->n * sizeof *dst, 4 * (j->offset * 5 % 16));
    memcpy(copy, j->x, j->n * sizeof *copy);
    setun_constrain a = {.call = {.size = sizeof a, .cancel = j->cancel, .bad_index = -1}, .x = copy, .dst = dst, .n = (int64_t)j->n, .radius = j->radius};
    int32_t rc = k->run(context, &a);
    int ok = rc == j->status && a.call.bad_index == j->bad;
    if (rc == SETUN_OK) {
        ok = ok && a.norm == j->want && same(dst, j->scaled, j->n * sizeof *dst);
        long double total = 0;
        for (size_t i = 0; i < j->n; i++) total += (long double)dst[i] * dst[i];
        ok = ok && (a.norm <= j->radius || total <= (long double)j->radius * j->radius);
    } else if (j->in_place) {
        ok = ok && same(dst, j->x, j->n * sizeof *dst); /* a failure leaves the values as they were */
    }
    expect(ok, k, "n=%zu offset=%zu kind=%d radius=%a in_place=%d: norm %a, not %a; rc=%d bad_index=%ld", j->n, j->offset, j->kind, j->radius, j->in_place,
           a.norm, j->want, rc, (long)a.call.bad_index);
    if (!j->in_place) release(dst);
    release(copy);
}

static void balls(size_t n, int kind, size_t offset) {
    float *x = vector(kind, n, 4 * offset), *scaled = guarded(n * sizeof *scaled, 0);
    job j = {.x = x, .scaled = scaled, .n = n, .offset = offset, .kind = kind, .bad = -1};
    double norm = sqrt(naive_dot(x, x, n));
    const double radii[] = {0, 0x1p-1074, 1e-40, norm / 3, nextafter(norm, 0), norm, norm * 2, INFINITY};
    j.want = norm;
    for (size_t r = 0; r < sizeof radii / sizeof *radii; r++) {
        j.radius = radii[r];
        if (norm <= j.radius) {
            memcpy(scaled, x, n * sizeof *x);
        } else {
            double f = j.radius / norm * (1 - 0x1p-23);
            for (size_t i = 0; i < n; i++) scaled[i] = naive_scaled(x[i], f);
        }
        for (j.in_place = 0; j.in_place < 2; j.in_place++) each(SETUN_OP_CONSTRAIN, run_constrain, &j);
    }
    release(x);
    release(scaled);
}

/* ---- Failures ----------------------------------------------------------------------------------------------------- */

static void not_finite(size_t n) {
    const float bad[] = {NAN, INFINITY, -INFINITY};
    float *x = vector(PLAIN, n, 8), *y = vector(PLAIN, n, 12);
    const size_t at[] = {0, n / 3, n / 2, n - 1};
    for (int i = 0; i < 4; i++)
        for (int b = 0; b < 3; b++) {
            job j = {.x = x, .y = y, .n = n, .status = SETUN_ENONFINITE, .bad = (int64_t)at[i], .radius = 1};
            float keep = x[at[i]], last = x[n - 1], other = y[at[i]];
            x[at[i]] = bad[b];
            y[at[i]] = 0; /* an infinity times zero */
            each(SETUN_OP_DOT, run_reduce, &j);
            x[n - 1] = at[i] == n - 1 ? bad[b] : bad[(b + 1) % 3]; /* the first one counts */
            each(SETUN_OP_DOT, run_reduce, &j);
            each(SETUN_OP_NORM2, run_reduce, &j);
            for (j.in_place = 0; j.in_place < 2; j.in_place++) each(SETUN_OP_CONSTRAIN, run_constrain, &j);
            x[n - 1] = last;
            x[at[i]] = keep;
            y[at[i]] = bad[b];
            j.bad += (int64_t)n;
            each(SETUN_OP_DOT, run_reduce, &j);
            y[at[i]] = other;
        }
    release(x);
    release(y);
}

static void run_refused(const setun_kernel *k, int side, void *state) {
    (void)side, (void)state;
    float x[4] = {1, 2, 3, 4}, dst[4] = {9, 9, 9, 9};
    const double radii[] = {1, 1, 1, 1, 1, -1, NAN, -INFINITY};
    for (int i = 0; i < 8; i++) {
        char message[100] = "";
        setun_constrain c = {.call = {.size = sizeof c, .message = message, .message_size = sizeof message}, .x = x, .dst = dst, .n = 4, .radius = radii[i]};
        setun_reduce r = {.call = c.call, .x = x, .y = x, .n = 4, .result = 9};
        r.call.size = sizeof r;
        if (i == 0) c.call.size--, r.call.size--;
        if (i == 1) c.x = r.x = NULL;
        if (i == 2) c.dst = NULL, r.y = NULL;
        if (i == 3) c.n = r.n = 0;
        if (i == 4) c.n = r.n = -5;
        if (k->op != SETUN_OP_CONSTRAIN && (i > 4 || (i == 2 && k->op == SETUN_OP_NORM2))) continue;
        int32_t rc = k->run(context, k->op == SETUN_OP_CONSTRAIN ? (void *)&c : (void *)&r);
        expect(rc == SETUN_EINVAL && message[0] && dst[0] == 9 && r.result == 9, k, "refused case %d: rc=%d", i, rc);
    }
    /* A message is cut to its buffer and ends in NUL; without a buffer there is none. */
    for (uint32_t size = 0; size < 12; size++) {
        char *message = guarded(size + 1, 0);
        memset(message, 'x', size + 1);
        setun_reduce r = {.call = {.size = 8, .message = size ? message : NULL, .message_size = size}};
        int32_t rc = k->run(context, &r);
        expect(rc == SETUN_EINVAL && message[size] == 'x' && (size == 0 || memchr(message, 0, size)), k, "message of %u bytes", size);
        release(message);
    }
}

static void cancelled(void) {
    const volatile int32_t stop = 1;
    size_t n = 3 << 20;
    float *x = vector(PLAIN, n, 0);
    job j = {.x = x, .y = x, .n = n, .status = SETUN_ECANCELLED, .bad = -1, .cancel = &stop, .in_place = 1, .radius = 1};
    each(SETUN_OP_DOT, run_reduce, &j);
    each(SETUN_OP_NORM2, run_reduce, &j);
    each(SETUN_OP_CONSTRAIN, run_constrain, &j);
    release(x);
}

void test_reduce(void) {
    const size_t sizes[] = {1,  2,  3,  4,  5,  7,   8,   9,   15,  16,  17,  23,   31,   32,   33,   47,   48,    49,    61,
                            63, 64, 65, 95, 97, 127, 128, 129, 255, 257, 997, 4095, 4096, 4097, 8191, 8193, 12289, 65537, 100003};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int kind = 0; kind < KINDS; kind++)
            for (size_t offset = 0; offset < 16; offset += sizes[s] < 130 ? 1 : 5) {
                sums(sizes[s], kind, offset);
                /* Long ones are run for the turn from chunk to chunk, which has nothing to do with the kind. */
                if (offset % 5 == 0 && (sizes[s] < 5000 || offset == kind % 3 * 5u)) balls(sizes[s], kind, offset);
            }
    /* Chunk sums of chunk sums: two levels are full and a third begins. */
    sums(4096 * 4096 + 4097, WIDE, 3);
    not_finite(1);
    not_finite(45);
    not_finite(9001);
    each(SETUN_OP_DOT, run_refused, NULL);
    each(SETUN_OP_NORM2, run_refused, NULL);
    each(SETUN_OP_CONSTRAIN, run_refused, NULL);
    cancelled();
}
