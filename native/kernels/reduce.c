/* SPDX-License-Identifier: Apache-2.0
 *
 * reduce.c: dot, norm2 and constrain.
 *
 * Limited by loads. One Zen 4 core reads 25 GB/s from memory and some 100 from the first caches, two read 30 (a plain loop, bench/):
 *
 *     level    accumulators       norm2, 1 M values   norm2, 100 M
 *     avx512   8 of 256 bits      89 to 95 GB/s       26 GB/s; two threads 143 and 30, 1.03 of the plain loop
 *     avx2     8 of 256 bits      87                  25
 *     sse42    16, in two passes  16                  13
 *
 * Four accumulators of 512 bits read 58 GB/s: widening 16 floats at once is slow. Outside the ball: 31 GB/s in cache (two conversions a value), 11 from memory.
 */
#include "ball.h"
#include "bits.h"
#include "sum.h"

#include <math.h>

int32_t setun_invalid(const setun_call *call, const char *message) {
    if (call->message && call->message_size > 0) {
        size_t n = strlen(message);
        if (n > call->message_size - 1) n = call->message_size - 1;
        memcpy(call->message, message, n);
        call->message[n] = 0;
    }
    return SETUN_EINVAL;
}

int64_t setun_find_bad(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if ((setun_bits(x[i]) & SETUN_ABS_MASK) >= SETUN_INF_BITS) return i;
    return -1;
}

/* What the chunks of a sum are made of. */
typedef struct pair {
    const setun_isa *isa;
    const float *x, *y; /* y null: squares of x */
} pair;

static double products(void *arg, int64_t at, size_t n) {
    const pair *p = arg;
    return p->y ? p->isa->dot_chunk(p->x + at, p->y + at, n) : p->isa->square_chunk(p->x + at, n);
}

int32_t setun_sum_products(const setun_isa *isa, const setun_team *team, const setun_call *call, const float *x, const float *y, int64_t n, double *sum) {
    pair p = {isa, x, y};
    return setun_sum(team, call, products, &p, n, sum);
}

static int32_t reduce(const setun_isa *isa, const setun_team *team, setun_reduce *a, const float *y) {
    double sum;
    int32_t rc = setun_sum_products(isa, team, &a->call, a->x, y, a->n, &sum);
    if (rc != SETUN_OK) return rc;
    if (sum - sum != 0) {
        a->call.bad_index = setun_find_bad(a->x, a->n);
        if (a->call.bad_index < 0 && y) a->call.bad_index = a->n + setun_find_bad(y, a->n);
        return SETUN_ENONFINITE;
    }
    a->result = y ? sum : sqrt(sum);
    return SETUN_OK;
}

int32_t setun_op_dot(const setun_isa *isa, const setun_team *team, setun_reduce *a) {
    if (a->call.size < sizeof *a) return setun_invalid(&a->call, "dot: the argument block is too small");
    if (!a->x || !a->y || a->n < 1) return setun_invalid(&a->call, "dot: x or y is null, or n < 1");
    return reduce(isa, team, a, a->y);
}

int32_t setun_op_norm2(const setun_isa *isa, const setun_team *team, setun_reduce *a) {
    if (a->call.size < sizeof *a) return setun_invalid(&a->call, "norm2: the argument block is too small");
    if (!a->x || a->n < 1) return setun_invalid(&a->call, "norm2: x is null, or n < 1");
    return reduce(isa, team, a, 0);
}

/* The second half of constrain. */
typedef struct projection {
    const setun_isa *isa;
    const float *x;
    float *dst;
    int64_t n, each, parts; /* each: values a part */
    double f;
    int inside; /* only copied */
    int past;   /* whether dst is written past the caches */
} projection;

/* Backwards: the end of x is still in the cache from the sum. Forwards inside a part. */
static void project(void *arg, int64_t i) {
    projection *p = arg;
    int64_t at = (p->parts - 1 - i) * p->each, end = at + p->each < p->n ? at + p->each : p->n;
    if (p->inside) {
        memcpy(p->dst + at, p->x + at, (size_t)(end - at) * sizeof *p->x);
        return;
    }
    if (!p->past) {
        p->isa->scale(p->dst + at, p->x + at, (size_t)(end - at), p->f);
        return;
    }
    float buffer[256];
    for (; at < end; at += 256) {
        size_t n = (size_t)(end - at < 256 ? end - at : 256);
        p->isa->scale(buffer, p->x + at, n, p->f);
        p->isa->stream(p->dst + at, buffer, n * sizeof *buffer);
    }
    p->isa->drain();
}

int32_t setun_op_constrain(const setun_isa *isa, const setun_team *team, setun_constrain *a) {
    if (a->call.size < sizeof *a) return setun_invalid(&a->call, "constrain: the argument block is too small");
    if (!a->x || !a->dst || a->n < 1) return setun_invalid(&a->call, "constrain: x or dst is null, or n < 1");
    if (!(a->radius >= 0)) return setun_invalid(&a->call, "constrain: the radius is negative or not a number");
    double sum;
    int32_t rc = setun_sum_products(isa, team, &a->call, a->x, 0, a->n, &sum);
    if (rc != SETUN_OK) return rc;
    if (sum - sum != 0) {
        a->call.bad_index = setun_find_bad(a->x, a->n);
        return SETUN_ENONFINITE;
    }
    a->norm = sqrt(sum);
    int inside = !(a->norm > a->radius);
    if (inside && a->dst == a->x) return SETUN_OK;
    projection p = {.isa = isa, .x = a->x, .dst = a->dst, .n = a->n, .f = setun_ball_factor(a->radius, a->norm), .inside = inside};
    p.past = a->dst != a->x && setun_past_caches(2 * a->n * (int64_t)sizeof *a->x); /* in place the lines are in the cache anyway */
    p.each = SETUN_CHUNK * setun_chunks_a_part(team, (a->n - 1) / SETUN_CHUNK + 1);
    p.parts = (a->n - 1) / p.each + 1;
    setun_each(team, p.parts, project, &p);
    return SETUN_OK;
}
