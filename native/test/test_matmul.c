/* SPDX-License-Identifier: Apache-2.0
 *
 * test_matmul.c: products against one naive chain an element. Sizes lie around the blocks of every level (1 to 14 rows, 4 to 32 columns), tiles, slices and
 * slabs. */
#include "test.h"

#include <math.h>

typedef struct job {
    const setun_matmul *args; /* with everything but c and the workspace */
    const float *old, *want;  /* c before and after: batch*stride_c values, gaps included */
    size_t values;
    int kind;
} job;

static void run_product(const setun_kernel *k, int side, void *state) {
    const job *j = state;
    (void)side;
    setun_matmul a = *j->args;
    a.c = guarded(j->values * sizeof *a.c, 4);
    memcpy(a.c, j->old, j->values * sizeof *a.c);
    int32_t rc = k->run(context, &a);
    size_t bytes = (size_t)a.workspace_size;
    a.workspace = guarded(bytes, 0);
    memset(a.workspace, 0xff, bytes); /* NaN everywhere: what is read without being packed shows */
    if (rc == SETUN_OK) rc = k->run(context, &a);
    expect(rc == SETUN_OK && alike(a.c, j->want, j->values), k, "%ldx%ldx%ld batch=%ld flags=%u ld=%ld,%ld,%ld kind=%d rc=%d", (long)a.m, (long)a.n, (long)a.k,
           (long)a.batch, a.flags, (long)a.lda, (long)a.ldb, (long)a.ldc, j->kind, rc);
    release(a.workspace);
    release(a.c);
}

/* gap: values between rows and between matrices; shared: the batch has one B. */
static void product(size_t m, size_t n, size_t k, uint32_t flags, size_t gap, size_t batch, int shared, int kind, float special) {
    int ta = flags & SETUN_MATMUL_TRANS_A, tb = flags & SETUN_MATMUL_TRANS_B;
    size_t lda = (ta ? m : k) + gap, ldb = (tb ? k : n) + gap, ldc = n + gap;
    size_t sa = (ta ? k : m) * lda + gap, sb = shared ? 0 : (tb ? n : k) * ldb + gap, sc = m * ldc + gap;
    size_t nb = sb * (batch - 1) + (tb ? n : k) * ldb;
    float *a = vector(kind, sa * batch, 4), *b = vector(kind, nb, 8), *old = vector(kind, sc * batch, 0), *want = guarded(sc * batch * sizeof *want, 0);
    if (special != 0) a[next() % (sa * batch)] = b[next() % nb] = special;
    memcpy(want, old, sc * batch * sizeof *want);
    for (size_t q = 0; q < batch; q++)
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                float s = flags & SETUN_MATMUL_ACCUMULATE ? old[q * sc + i * ldc + j] : 0;
                for (size_t p = 0; p < k; p++) s = fmaf(a[q * sa + (ta ? p * lda + i : i * lda + p)], b[q * sb + (tb ? j * ldb + p : p * ldb + j)], s);
                want[q * sc + i * ldc + j] = s;
            }
    setun_matmul args = {
        .call = {.size = sizeof args}, .flags = flags, .m = (int64_t)m, .n = (int64_t)n, .k = (int64_t)k, .a = a, .b = b, .batch = (int64_t)batch};
    args.c = old; /* for the question of the workspace */
    args.lda = (int64_t)lda, args.ldb = (int64_t)ldb, args.ldc = (int64_t)ldc;
    args.stride_a = (int64_t)sa, args.stride_b = (int64_t)sb, args.stride_c = (int64_t)sc;
    job j = {.args = &args, .old = old, .want = want, .values = sc * batch, .kind = kind};
    each(SETUN_OP_MATMUL, run_product, &j);
    release(a), release(b), release(old), release(want);
}

static void run_refused(const setun_kernel *k, int side, void *state) {
    (void)side, (void)state;
    float x[64] = {1}, c[16] = {9};
    _Alignas(64) static char workspace[1 << 16];
    for (int i = 0; i < 17; i++) {
        char message[100] = "";
        setun_matmul a = {.call = {.size = sizeof a, .message = message, .message_size = sizeof message}, .m = 2, .n = 3, .k = 4, .a = x, .b = x, .c = c};
        a.lda = 4, a.ldb = 3, a.ldc = 3, a.batch = 1, a.workspace = workspace, a.workspace_size = sizeof workspace;
        switch (i) {
        case 0:
            a.call.size--;
            break;
        case 1:
            a.flags = 8;
            break;
        case 2:
            a.m = 0;
            break;
        case 3:
            a.n = -1;
            break;
        case 4:
            a.k = 0;
            break;
        case 5:
            a.batch = 0;
            break;
        case 6:
            a.a = NULL;
            break;
        case 7:
            a.b = NULL;
            break;
        case 8:
            a.c = NULL;
            break;
        case 9:
            a.lda = 3;
            break;
        case 10:
            a.flags = SETUN_MATMUL_TRANS_B;
            break; /* rows of 4 values */
        case 11:
            a.ldc = 2;
            break;
        case 12:
            a.stride_a = -1;
            break;
        case 13:
            a.m = INT64_MAX / 8;
            break;
        case 14:
            a.batch = 2, a.stride_c = 5;
            break;
        case 15:
            a.workspace = workspace + 4;
            break;
        case 16:
            a.workspace_size = 64;
            break;
        }
        int32_t rc = k->run(context, &a);
        expect(rc == SETUN_EINVAL && message[0] && c[0] == 9, k, "refused case %d: rc=%d", i, rc);
    }
    const volatile int32_t stop = 1;
    setun_matmul a = {.call = {.size = sizeof a, .cancel = &stop}, .m = 2, .n = 3, .k = 4, .a = x, .b = x, .c = c, .lda = 4, .ldb = 3, .ldc = 3, .batch = 1};
    a.workspace = workspace, a.workspace_size = sizeof workspace;
    int32_t rc = k->run(context, &a);
    expect(rc == SETUN_ECANCELLED, k, "cancelled: rc=%d", rc);
}

void test_matmul(void) {
    const size_t sides[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 29, 31, 32, 33, 63, 65};
    const size_t depths[] = {1, 2, 7, 8, 9, 16, 33};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        for (size_t j = 0; j < sizeof sides / sizeof *sides; j++) {
            size_t t = i * 21 + j;
            product(sides[i], sides[j], depths[t % 7], t % 8, t % 3 * 3, 1, 0, (int)(t % KINDS), 0);
            product(sides[j], sides[i], depths[t % 7], (t + 3) % 8, 0, 1 + t % 4, t & 1, (int)((t + 4) % KINDS), 0);
        }
    for (uint32_t flags = 0; flags < 8; flags++) {
        product(31, 45, 17, flags, 2, 3, 1, PLAIN, INFINITY);
        product(31, 45, 17, flags, 2, 3, 0, HUGE_VALUES, NAN);
        product(70, 100, 19, flags, 0, 1, 0, SUBNORMAL, 0);
        product(70, 100, 256, flags, 1, 1, 0, WIDE, 0);
        product(61, 50, 513, flags, 0, 1, 0, PLAIN, 0);  /* two slices */
        product(13, 70, 1030, flags, 0, 1, 0, PLAIN, 0); /* three, B in place */
        product(171, 290, 20, flags, 0, 1, 0, PLAIN, 0); /* four tiles */
    }
    product(4100, 5, 3, 0, 0, 1, 0, PLAIN, 0); /* two slabs */
    product(60, 4110, 3, 0, 0, 1, 0, PLAIN, 0);
    each(SETUN_OP_MATMUL, run_refused, NULL);
}
