/* SPDX-License-Identifier: Apache-2.0
 *
 * reduce.c: dot, norm2 and constrain. */
#include "ops.h"
#include "tree.h"

#include <math.h>

#define POLL 256                /* chunks between two looks at cancel */
#define SPAN (16 * SETUN_CHUNK) /* scaled backwards as a whole, forwards inside */

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

int32_t setun_sum_products(const setun_isa *isa, const setun_call *call, const float *x, const float *y, int64_t n, double *sum) {
    if (n <= SETUN_CHUNK) {
        *sum = y ? isa->dot_chunk(x, y, (size_t)n) : isa->square_chunk(x, (size_t)n);
        return SETUN_OK;
    }
    setun_tree t = {0};
    for (int64_t i = 0, c = 0; i < n; i += SETUN_CHUNK, c++) {
        if (c % POLL == 0 && setun_cancelled(call)) return SETUN_ECANCELLED;
        size_t m = (size_t)(n - i < SETUN_CHUNK ? n - i : SETUN_CHUNK);
        setun_tree_add(&t, 0, y ? isa->dot_chunk(x + i, y + i, m) : isa->square_chunk(x + i, m));
    }
    *sum = setun_tree_sum(&t);
    return SETUN_OK;
}

static int32_t reduce(const setun_isa *isa, setun_reduce *a, const float *y) {
    double sum;
    int32_t rc = setun_sum_products(isa, &a->call, a->x, y, a->n, &sum);
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
    (void)team;
    if (a->call.size < sizeof *a) return setun_invalid(&a->call, "dot: the argument block is too small");
    if (!a->x || !a->y || a->n < 1) return setun_invalid(&a->call, "dot: x or y is null, or n < 1");
    return reduce(isa, a, a->y);
}

int32_t setun_op_norm2(const setun_isa *isa, const setun_team *team, setun_reduce *a) {
    (void)team;
    if (a->call.size < sizeof *a) return setun_invalid(&a->call, "norm2: the argument block is too small");
    if (!a->x || a->n < 1) return setun_invalid(&a->call, "norm2: x is null, or n < 1");
    return reduce(isa, a, 0);
}

int32_t setun_op_constrain(const setun_isa *isa, const setun_team *team, setun_constrain *a) {
    (void)team;
    if (a->call.size < sizeof *a) return setun_invalid(&a->call, "constrain: the argument block is too small");
    if (!a->x || !a->dst || a->n < 1) return setun_invalid(&a->call, "constrain: x or dst is null, or n < 1");
    if (!(a->radius >= 0)) return setun_invalid(&a->call, "constrain: the radius is negative or not a number");
    double sum;
    int32_t rc = setun_sum_products(isa, &a->call, a->x, 0, a->n, &sum);
    if (rc != SETUN_OK) return rc;
    if (sum - sum != 0) {
        a->call.bad_index = setun_find_bad(a->x, a->n);
        return SETUN_ENONFINITE;
    }
    a->norm = sqrt(sum);
    size_t n = (size_t)a->n;
    if (!(a->norm > a->radius)) {
        if (a->dst != a->x) memcpy(a->dst, a->x, n * sizeof *a->x);
        return SETUN_OK;
    }
    /* Backwards: the end of x is still in the cache from the sum. */
    double f = a->radius / a->norm * (1 - 0x1p-23);
    for (size_t end = n; end > 0;) {
        size_t begin = (end - 1) / SPAN * SPAN;
        isa->scale(a->dst + begin, a->x + begin, end - begin, f);
        end = begin;
    }
    return SETUN_OK;
}
