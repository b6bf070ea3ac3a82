/* SPDX-License-Identifier: Apache-2.0
 *
 * A backend of one's own: dot and norm2 in plain C. Everything that a host asks of one is here; docs/adding-a-backend.md walks through it.
 *
 *     cc -O3 -march=native -ffp-contract=off -fvisibility=hidden -shared -fPIC -I native/include examples/plugin/mine/mine.c -o build/libsetun_mine.so -lm */
#include <setun/backend.h>

#include <math.h>
#include <string.h>

enum { CHUNK = 4096, LEVELS = 5 }; /* 4096^5 chunks outlast int64_t */
#ifndef LANES
#define LANES 32 /* with another number the host finds other bits, and does not let the library in */
#endif

/* ---- The sum that all backends share (docs/numerics.md, "Sums"): what makes results equal bit for bit --------------- */

static double fold(double lane[LANES]) {
    for (int w = LANES / 2; w > 0; w /= 2)
        for (int l = 0; l < w; l++) lane[l] += lane[l + w];
    return lane[0];
}

/* Sums of chunks are elements of the same rule, and so on. */
typedef struct tree {
    double lane[LEVELS][LANES];
    int n[LEVELS];
} tree;

static void add(tree *t, int level, double v) {
    for (; level < LEVELS; level++) {
        t->lane[level][t->n[level] % LANES] += v;
        if (++t->n[level] < CHUNK) return;
        v = fold(t->lane[level]);
        memset(t->lane[level], 0, sizeof t->lane[level]);
        t->n[level] = 0;
    }
}

static double total(tree *t) {
    for (int level = 0; level + 1 < LEVELS; level++)
        if (t->n[level] > 0) add(t, level + 1, fold(t->lane[level]));
    return fold(t->lane[LEVELS - 1]);
}

/* The products of two floats are exact in double, so only the order of additions matters: element i goes to lane i mod 32. */
static double chunk(const float *x, const float *y, int64_t n) {
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] += (double)x[i + l] * (double)y[i + l]; /* the compiler makes vectors of this */
    for (; i < n; i++) lane[i % LANES] += (double)x[i] * (double)y[i];
    return fold(lane);
}

/* ---- The kernels ------------------------------------------------------------------------------------------------------ */

static int32_t refuse(setun_call *call, const char *why) {
    if (call->message && call->message_size > 0) {
        strncpy(call->message, why, call->message_size - 1);
        call->message[call->message_size - 1] = 0;
    }
    return SETUN_EINVAL;
}

static int64_t bad(const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return i;
    return -1;
}

static int32_t sum(setun_reduce *a, const float *y, double *result) {
    if (a->call.size < sizeof *a || !a->x || !y || a->n < 1) return refuse(&a->call, "the block is too small, an array is null, or n < 1");
    tree t = {0};
    for (int64_t i = 0; i < a->n; i += CHUNK) {
        if (a->call.cancel && i % (256 * CHUNK) == 0 && *a->call.cancel) return SETUN_ECANCELLED;
        add(&t, 0, chunk(a->x + i, y + i, a->n - i < CHUNK ? a->n - i : CHUNK));
    }
    *result = total(&t);
    if (isfinite(*result)) return SETUN_OK;
    a->call.bad_index = bad(a->x, a->n); /* which value it was, for the error */
    if (a->call.bad_index < 0) a->call.bad_index = a->n + bad(y, a->n);
    return SETUN_ENONFINITE;
}

static int32_t dot(setun_ctx *ctx, void *args) {
    (void)ctx;
    setun_reduce *a = args;
    double v;
    int32_t rc = sum(a, a->y, &v);
    if (rc == SETUN_OK) a->result = v;
    return rc;
}

static int32_t norm2(setun_ctx *ctx, void *args) {
    (void)ctx;
    setun_reduce *a = args;
    double v;
    int32_t rc = sum(a, a->x, &v);
    if (rc == SETUN_OK) a->result = sqrt(v);
    return rc;
}

/* ---- The table: the one symbol that a host looks for --------------------------------------------------------------------- */

static const setun_kernel kernels[] = {
    {.name = "plain", .op = SETUN_OP_DOT, .threads = 1, .run = dot},
    {.name = "plain", .op = SETUN_OP_NORM2, .threads = 1, .run = norm2},
};

static const setun_table table = {
    .magic = SETUN_MAGIC,
    .size = sizeof(setun_table),
    .abi = SETUN_ABI,
    .kernel_size = sizeof(setun_kernel),
    .name = "mine",
    .version = "1.0",
    .build = "cc " __VERSION__,
    .kernels = kernels,
    .kernel_count = sizeof kernels / sizeof *kernels,
};

const setun_table *setun_backend(uint32_t abi) { return abi == SETUN_ABI ? &table : 0; }
