/* SPDX-License-Identifier: Apache-2.0
 *
 * test_clusters.c: constrain by clusters against the loops of docs/numerics.md. */
#include "test.h"

#include <math.h>

enum { MOST = 40 };

typedef struct job {
    setun_clusters a; /* x, dst, norms and scratch are filled in by run */
    const float *x, *want;
    double norms[MOST];
    int in_place, offset;
    int32_t status;
    int64_t bad;
} job;

static void run(const setun_kernel *k, int side, void *state) {
    job *j = state;
    (void)side;
    size_t bytes = (size_t)j->a.n * sizeof(float);
    float *x = guarded(bytes, 4 * (size_t)j->offset), *dst = j->in_place ? x : guarded(bytes, 12);
    double *norms = guarded((size_t)j->a.k * sizeof *norms, 8), *scratch = guarded(8 * (size_t)(2 * j->a.rows + j->a.k), 8);
    memcpy(x, j->x, bytes);
    setun_clusters a = j->a;
    a.call.bad_index = -1;
    a.x = x, a.dst = dst, a.norms = norms, a.scratch = scratch;
    int32_t rc = k->run(NULL, &a);
    int ok = rc == j->status && a.call.bad_index == j->bad && (j->in_place || same(x, j->x, bytes));
    if (rc == SETUN_OK)
        ok = ok && same(dst, j->want, bytes) && same(norms, j->norms, (size_t)a.k * sizeof *norms);
    else
        ok = ok && same(x, j->x, bytes);
    expect(ok, k, "n=%ld k=%ld rows=%ld in_place=%d offset=%d: rc=%d, not %d; bad_index=%ld", (long)a.n, (long)a.k, (long)a.rows, j->in_place, j->offset, rc,
           j->status, (long)a.call.bad_index);
    release(scratch);
    release(norms);
    if (!j->in_place) release(dst);
    release(x);
}

static void both(job *j) {
    for (j->in_place = 0; j->in_place < 2; j->in_place++) each(SETUN_OP_CONSTRAIN_CLUSTERS, run, j);
}

/* A radius for a norm: 0, inside, at it, outside, infinite. */
static double radius(double norm, int which) {
    const double r[] = {0, norm / 3, nextafter(norm, 0), norm, 2 * norm, INFINITY};
    return r[which % 6];
}

static void expected(float *want, const float *x, size_t n, double norm, double w) {
    double f = w / norm * (1 - 0x1p-23);
    for (size_t i = 0; i < n; i++) want[i] = norm > w ? naive_scaled(x[i], f) : x[i];
}

static void segments(int kind, int shift) {
    const int64_t lengths[] = {0, 1, 4095, 0, 4096, 4097, 33, 7, 70000, 1, 0, 12289, 100, 0};
    enum { K = sizeof lengths / sizeof *lengths };
    int64_t offsets[K + 1] = {0};
    double radii[K];
    for (int c = 0; c < K; c++) offsets[c + 1] = offsets[c] + lengths[c];
    size_t n = (size_t)offsets[K];
    float *x = vector(kind, n, 4 * (size_t)shift), *want = guarded(n * sizeof *want, 0);
    job j = {
        .a = {.call = {.size = sizeof j.a}, .n = (int64_t)n, .k = K, .offsets = offsets, .radii = radii}, .x = x, .want = want, .offset = shift, .bad = -1};
    for (int c = 0; c < K; c++) {
        const float *s = x + offsets[c];
        j.norms[c] = sqrt(naive_dot(s, s, (size_t)lengths[c]));
        radii[c] = radius(j.norms[c], c + shift);
        expected(want + offsets[c], s, (size_t)lengths[c], j.norms[c], radii[c]);
    }
    both(&j);
    const size_t at[] = {0, 9000, n - 1};
    for (int i = 0; i < 3; i++) {
        float keep = x[at[i]];
        x[at[i]] = i == 1 ? NAN : INFINITY;
        j.status = SETUN_ENONFINITE;
        j.bad = (int64_t)at[i];
        both(&j);
        x[at[i]] = keep;
    }
    const volatile int32_t stop = 1;
    j.a.call.cancel = &stop;
    j.status = SETUN_ECANCELLED;
    j.bad = -1;
    both(&j);
    release(want);
    release(x);
}

/* S over doubles, by recursion as it is written down. */
static double sum_of(const double *v, size_t n) {
    double lane[32] = {0};
    if (n <= 4096) {
        for (size_t i = 0; i < n; i++) lane[i % 32] += v[i];
        for (int w = 16; w > 0; w /= 2)
            for (int l = 0; l < w; l++) lane[l] += lane[l + w];
        return lane[0];
    }
    size_t m = (n + 4095) / 4096;
    double *sums = guarded(m * sizeof *sums, 0);
    for (size_t i = 0; i < m; i++) sums[i] = sum_of(v + 4096 * i, n - 4096 * i < 4096 ? n - 4096 * i : 4096);
    double s = sum_of(sums, m);
    release(sums);
    return s;
}

static void labelled(size_t rows, size_t cols, int k, int kind) {
    size_t n = rows * cols;
    float *x = vector(kind, n, 4), *want = guarded(n * sizeof *want, 0);
    int32_t *labels = guarded(rows * sizeof *labels, 0);
    double *sums = guarded(rows * sizeof *sums, 0), radii[MOST];
    for (size_t r = 0; r < rows; r++) labels[r] = (int32_t)(next() % (unsigned)(k + 1)) - 1;
    if (k > 2)
        for (size_t r = 0; r < rows; r++) labels[r] = labels[r] == 1 ? 2 : labels[r]; /* cluster 1 is empty */
    job j = {.a = {.call = {.size = sizeof j.a}, .n = (int64_t)n, .k = k, .labels = labels, .rows = (int64_t)rows, .radii = radii},
             .x = x,
             .want = want,
             .offset = 1,
             .bad = -1};
    for (int c = 0; c < k; c++) {
        size_t m = 0;
        for (size_t r = 0; r < rows; r++)
            if (labels[r] == c) sums[m++] = naive_dot(x + r * cols, x + r * cols, cols);
        j.norms[c] = sqrt(sum_of(sums, m));
        radii[c] = radius(j.norms[c], c + (int)rows);
    }
    for (size_t r = 0; r < rows; r++)
        expected(want + r * cols, x + r * cols, cols, labels[r] < 0 ? 0 : j.norms[labels[r]], labels[r] < 0 ? 0 : radii[labels[r]]);
    both(&j);
    x[n / 2] = NAN; /* also in a row that is in no cluster */
    j.status = SETUN_ENONFINITE;
    j.bad = (int64_t)(n / 2);
    both(&j);
    release(sums);
    release(labels);
    release(want);
    release(x);
}

static void refused(const setun_kernel *k, int side, void *state) {
    (void)side, (void)state;
    for (int i = 0; i < 17; i++) {
        float x[6] = {1, 2, 3, 4, 5, 6}, dst[6] = {9, 9, 9, 9, 9, 9};
        double radii[2] = {1, 1}, norms[2] = {9, 9}, scratch[8];
        int64_t offsets[3] = {0, 2, 6};
        int32_t labels[3] = {0, -1, 1};
        char message[100] = "";
        setun_clusters a = {.call = {.size = sizeof a, .message = message, .message_size = sizeof message}, .x = x, .dst = dst, .n = 6, .k = 2};
        a.radii = radii, a.norms = norms, a.scratch = scratch, a.rows = 3;
        if (i < 10)
            a.offsets = offsets;
        else
            a.labels = labels;
        switch (i) {
        case 0:
            a.call.size--;
            break;
        case 1:
            a.x = NULL;
            break;
        case 2:
            a.dst = NULL;
            break;
        case 3:
            a.n = 0;
            break;
        case 4:
            a.k = 0;
            break;
        case 5:
            radii[1] = NAN;
            break;
        case 6:
            radii[0] = -1;
            break;
        case 7:
            offsets[0] = 1;
            break;
        case 8:
            offsets[2] = 5;
            break;
        case 9:
            offsets[1] = 7;
            break;
        case 10:
            a.labels = NULL;
            break;
        case 11:
            a.scratch = NULL;
            break;
        case 12:
            a.rows = 4;
            break;
        case 13:
            a.rows = 0;
            break;
        case 14:
            labels[2] = 2;
            break;
        case 15:
            labels[1] = -2;
            break;
        default:
            a.norms = NULL;
        }
        int32_t rc = k->run(NULL, &a);
        expect(rc == SETUN_EINVAL && message[0] && dst[0] == 9 && norms[0] == 9, k, "refused case %d: rc=%d", i, rc);
    }
}

void test_clusters(void) {
    for (int kind = 0; kind < KINDS; kind++) segments(kind, kind);
    const size_t shapes[][3] = {{1, 1, 1}, {7, 1, 3}, {40, 33, 4}, {5, 4096, 2}, {3, 70001, 2}, {100, 100, 40}, {9001, 3, 2}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int kind = 0; kind < KINDS; kind++) labelled(shapes[s][0], shapes[s][1], (int)shapes[s][2], kind);
    each(SETUN_OP_CONSTRAIN_CLUSTERS, refused, NULL);
}
