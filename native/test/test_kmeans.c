/* SPDX-License-Identifier: Apache-2.0
 *
 * test_kmeans.c: the four steps, over dimensions and numbers of centroids around every tile and panel. */
#include "test.h"

#include <math.h>

/* Kinds of this op alone: products in float32's subnormal range, a wide range whose squares stay finite, and rows next to a centroid or about as far from two.
 */
enum { TINY = KINDS, BROAD, NEAR, KMEANS_KINDS };
/* What assign is asked for. */
enum { LABELS, SUMS, WEIGHTED, MODES };

typedef struct job {
    setun_kmeans a;
    size_t n, d, k;
    int kind, mode;
    size_t offset;
    /* Outputs as they were before the step and as they have to be after it. */
    const int32_t *labels, *want_labels;
    const int64_t *sums, *want_sums; /* k*d sums, k counts, k weight sums */
    const float *distance, *want_distance, *low_high, *want_low_high;
    int64_t want_changed;
    int32_t status;
    int64_t bad;
} job;

static float *values(int kind, size_t n, size_t offset) {
    float *x = vector(kind < KINDS ? kind : kind == BROAD ? WIDE : PLAIN, n, 4 * offset);
    for (size_t i = 0; i < n; i++) {
        if (kind == TINY) x[i] = ldexpf(x[i], -66 - (int)(next() % 8));
        if (kind == BROAD || kind == WIDE) x[i] *= 0x1p-10f;
        if (kind == HUGE_VALUES) x[i] *= 0x1p-72f; /* below 2^56: with d < 2^14 the squares stay in range */
    }
    return x;
}

static void *copy(const void *from, size_t bytes, size_t offset) {
    void *p = guarded(bytes, offset);
    memcpy(p, from, bytes);
    return p;
}

int32_t kmeans_step(const setun_kernel *k, setun_kmeans *a) {
    a->call.size = a->n % 2 ? sizeof *a : offsetof(setun_kmeans, next); /* a host that knows no later fields is served, too */
    a->workspace = NULL;
    int32_t rc = k->run(context, a);
    if (rc != SETUN_OK || a->workspace_size <= 0) return -1;
    int64_t size = a->workspace_size;
    a->workspace = guarded((size_t)size, 0);
    a->workspace_size = -1; /* not a great size */
    rc = k->run(context, a);
    a->workspace_size = size;
    rc = rc == SETUN_EINVAL ? k->run(context, a) : -2;
    release(a->workspace);
    return rc;
}

#define REPORT "step=%u n=%zu d=%zu k=%zu kind=%d mode=%d offset=%zu rc=%d"
#define REPORTED j->a.step, j->n, j->d, j->k, j->kind, j->mode, j->offset, rc

static void run_assign(const setun_kernel *k, int side, void *state) {
    job *j = state;
    (void)side;
    setun_kmeans a = j->a;
    size_t each_sum = j->k * j->d, all = each_sum + 2 * j->k;
    a.labels = copy(j->labels, j->n * sizeof *a.labels, 4 * j->offset);
    int64_t *sums = copy(j->sums, all * sizeof *sums, 8 * (j->offset % 8));
    if (j->mode != LABELS) a.sums = sums, a.counts = sums + each_sum, a.weight_sums = sums + each_sum + j->k;
    int32_t rc = kmeans_step(k, &a);
    expect(rc == SETUN_OK && a.changed == j->want_changed && same(a.labels, j->want_labels, j->n * sizeof *a.labels) &&
               same(sums, j->want_sums, all * sizeof *sums),
           k, REPORT " changed %ld, not %ld", REPORTED, (long)a.changed, (long)j->want_changed);
    int screens = strncmp(k->name, "avx512vnni", 10) == 0;
    expect(screens ? a.exact <= (int64_t)(j->n * j->k) && (j->kind != NEAR || j->d < 64 || j->k < 100 || a.exact < (int64_t)(j->n * j->k))
                   : a.exact == (int64_t)(j->n * j->k),
           k, REPORT " %ld scores were exact", REPORTED, (long)a.exact);
    release(a.labels);
    release(sums);
}

static void run_distance(const setun_kernel *k, int side, void *state) {
    job *j = state;
    (void)side;
    setun_kmeans a = j->a;
    a.distance = copy(j->distance, j->n * sizeof *a.distance, 4 * j->offset);
    int32_t rc = kmeans_step(k, &a);
    expect(rc == SETUN_OK && same(a.distance, j->want_distance, j->n * sizeof *a.distance), k, REPORT " labels=%d flags=%u", REPORTED, a.labels != NULL,
           a.flags);
    release(a.distance);
}

static void run_columns(const setun_kernel *k, int side, void *state) {
    job *j = state;
    (void)side;
    setun_kmeans a = j->a;
    float *low_high = copy(j->low_high, 2 * j->d * sizeof *low_high, 4 * j->offset);
    int64_t *sums = copy(j->sums, j->d * sizeof *sums, 8 * (j->offset % 8));
    a.low = low_high;
    a.high = low_high + j->d;
    a.step = SETUN_KMEANS_RANGE;
    a.call.bad_index = -1;
    int32_t rc = kmeans_step(k, &a);
    expect(rc == j->status && a.call.bad_index == j->bad && (rc != SETUN_OK || same(low_high, j->want_low_high, 2 * j->d * sizeof *low_high)), k, REPORT,
           REPORTED);
    release(low_high);
    if (j->status == SETUN_OK) {
        a.step = SETUN_KMEANS_MEAN;
        a.sums = sums;
        rc = kmeans_step(k, &a);
        expect(rc == SETUN_OK && same(sums, j->want_sums, j->d * sizeof *sums), k, REPORT, REPORTED);
    }
    release(sums);
}

/* ---- What docs/numerics.md asks for -------------------------------------------------------------------------------- */

static float distance_of(const job *j, const float *row, const float *c) {
    float t[1024];
    for (size_t p = 0; p < j->d; p++) t[p] = row[p] - c[p];
    return naive_chain(0, t, t, j->d);
}

static void shape(size_t n, size_t d, size_t k, int kind, int mode) {
    static size_t turn;
    size_t offset = turn++ % 16, all = k * d + 2 * k;
    job j = {.n = n, .d = d, .k = k, .kind = kind, .mode = mode, .offset = offset, .bad = -1};
    float *x = values(kind, n * d, offset), *mean = values(kind, d, (offset * 3 + 1) % 16), *c = values(kind, k * d, (offset * 5 + 2) % 16);
    float *bias = guarded(k * sizeof *bias, 4 * offset), *weights = guarded(n * sizeof *weights, 0), *row = guarded(n * d * sizeof *row, 0);
    double *scale = guarded(d * sizeof *scale, 8 * (offset % 8));
    int32_t *labels = guarded(2 * n * sizeof *labels, 0), *want = labels + n;
    int64_t *sums = guarded(2 * all * sizeof *sums, 0), *total = sums + all;
    float *distance = guarded(2 * n * sizeof *distance, 0), *wanted = distance + n, *low_high = guarded(4 * d * sizeof *low_high, 0);

    for (size_t q = 1; q < k; q++) /* duplicates, next to each other and far apart */
        if (next() % 4 == 0) memcpy(c + q * d, c + (next() % q) * d, d * sizeof *c);
    for (size_t q = 0; q < k; q++) bias[q] = (float)(-naive_dot(c + q * d, c + q * d, d) / 2);
    for (size_t i = 0; kind == NEAR && i < n; i++) {
        const float *one = c + next() % k * d, *two = c + next() % k * d;
        float share = next() % 4 ? 0 : 0.5f;
        for (size_t p = 0; p < d; p++) x[i * d + p] = mean[p] + one[p] + share * (two[p] - one[p]) + 0x1p-10f * x[i * d + p];
    }
    for (size_t i = 0; i < n; i++) weights[i] = (float)(next() % 9) / 8 * (next() % 3 ? 1 : 0.7f);
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < d; p++) row[i * d + p] = x[i * d + p] - mean[p];
    for (size_t p = 0; p < d; p++) {
        float most = 0;
        int e;
        for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(row[i * d + p]));
        frexp((double)most, &e);
        scale[p] = ldexp(1, 51 - e);
    }
    for (size_t i = 0; i < all; i++) sums[i] = total[i] = (int64_t)next() - (int64_t)next();
    for (size_t i = 0; i < n; i++) {
        labels[i] = want[i] = (int32_t)(next() % k);
        float best = -INFINITY;
        for (size_t q = 0; q < k; q++) {
            float s = naive_chain(bias[q], row + i * d, c + q * d, d);
            if (s > best) best = s, want[i] = (int32_t)q;
        }
        j.want_changed += want[i] != labels[i];
        if (mode == LABELS) continue;
        double w = mode == WEIGHTED ? (double)weights[i] : 1;
        for (size_t p = 0; p < d; p++) total[(size_t)want[i] * d + p] += (int64_t)rint(w * (double)row[i * d + p] * scale[p]);
        total[k * d + (size_t)want[i]]++;
        if (mode == WEIGHTED) total[k * d + k + (size_t)want[i]] += (int64_t)rint(w * 0x1p49);
    }
    j.a = (setun_kmeans){.x = x, .n = (int64_t)n, .d = (int64_t)d, .k = (int64_t)k, .mean = mean, .centroids = c, .bias = bias, .scale = scale};
    j.a.step = SETUN_KMEANS_ASSIGN;
    j.a.weights = mode == WEIGHTED ? weights : NULL;
    j.a.weight_scale = 0x1p49;
    j.labels = labels;
    j.want_labels = want;
    j.sums = sums;
    j.want_sums = total;
    each(SETUN_OP_KMEANS, run_assign, &j);

    j.a.step = SETUN_KMEANS_DISTANCE;
    j.distance = distance;
    j.want_distance = wanted;
    for (int flags = 0; flags < 4; flags++) {
        j.a.flags = flags & SETUN_KMEANS_KEEP_MIN;
        j.a.labels = flags & 2 ? labels : NULL;
        for (size_t i = 0; i < n; i++) {
            float new = distance_of(&j, row + i * d, c + (flags & 2 ? (size_t)labels[i] * d : 0));
            distance[i] = next() % 3 == 0 ? INFINITY : next() % 2 ? new / 2 : new * 2;
            wanted[i] = !(flags & SETUN_KMEANS_KEEP_MIN) || new < distance[i] ? new : distance[i];
        }
        each(SETUN_OP_KMEANS, run_distance, &j);
    }

    for (size_t p = 0; p < d; p++) {
        int fresh = next() % 2; /* or the range of rows seen before */
        low_high[p] = low_high[2 * d + p] = fresh ? INFINITY : -0.25f;
        low_high[d + p] = low_high[3 * d + p] = fresh ? -INFINITY : 0.25f;
        total[p] = sums[p];
        for (size_t i = 0; i < n; i++) {
            float v = x[i * d + p];
            if (v < low_high[2 * d + p]) low_high[2 * d + p] = v;
            if (v > low_high[3 * d + p]) low_high[3 * d + p] = v;
        }
    }
    for (size_t p = 0; p < d; p++) { /* the mean is of x itself */
        low_high[2 * d + p] += 0.0f; /* no -0 */
        low_high[3 * d + p] += 0.0f;
        float most = fmaxf(fabsf(low_high[2 * d + p]), fabsf(low_high[3 * d + p]));
        int e;
        frexp((double)most, &e);
        scale[p] = ldexp(1, 51 - e);
        for (size_t i = 0; i < n; i++) total[p] += (int64_t)rint((double)x[i * d + p] * scale[p]);
    }
    j.low_high = low_high;
    j.want_low_high = low_high + 2 * d;
    each(SETUN_OP_KMEANS, run_columns, &j);
    size_t at = next() % (n * d);
    x[at] = next() % 2 ? NAN : next() % 2 ? INFINITY : -INFINITY;
    j.status = SETUN_ENONFINITE;
    j.bad = (int64_t)at;
    each(SETUN_OP_KMEANS, run_columns, &j);

    void *const buffers[] = {x, mean, c, bias, weights, row, scale, labels, sums, distance, low_high};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) release(buffers[i]);
}

/* ---- Scores to the last bit ---------------------------------------------------------------------------------------- */

/* Labels show which score is greatest, so they can weigh one: against a constant of the same value the lower index has to win, against
 * its neighbour the greater value. row and centroid are placed in the midst of n rows and k centroids. */
static void weigh(const float *row, const float *centroid, float start, size_t d, size_t n, size_t k, size_t at, int kind) {
    float *x = guarded(n * d * sizeof *x, 0), *mean = guarded(d * sizeof *mean, 0), *c = guarded(k * d * sizeof *c, 0), *bias = guarded(k * sizeof *bias, 0);
    int32_t *labels = guarded(2 * n * sizeof *labels, 0);
    int64_t *sums = guarded((k * d + 2 * k) * sizeof *sums, 0);
    memset(mean, 0, d * sizeof *mean);
    memset(c, 0, k * d * sizeof *c);
    memset(sums, 0, (k * d + 2 * k) * sizeof *sums);
    for (size_t i = 0; i < n; i++) memcpy(x + i * d, row, d * sizeof *x);
    memcpy(c + at * d, centroid, d * sizeof *c);
    float score = naive_chain(start, row, centroid, d);
    for (int side = 0; side < 4; side++) {
        size_t rival = side < 2 ? 0 : k - 1;
        if (rival == at) continue;
        for (size_t q = 0; q < k; q++) bias[q] = -INFINITY;
        bias[at] = start;
        bias[rival] = side % 2 == 0 ? score : nextafterf(score, side == 1 ? -INFINITY : INFINITY);
        size_t winner = side == 0 ? 0 : side == 1 || side == 2 ? at : k - 1;
        job j = {.n = n, .d = d, .k = k, .kind = kind, .mode = LABELS, .labels = labels, .want_labels = labels + n, .sums = sums, .want_sums = sums};
        for (size_t i = 0; i < n; i++) labels[i] = 0, labels[n + i] = (int32_t)winner;
        j.want_changed = winner ? (int64_t)n : 0;
        j.a =
            (setun_kmeans){.step = SETUN_KMEANS_ASSIGN, .x = x, .n = (int64_t)n, .d = (int64_t)d, .k = (int64_t)k, .mean = mean, .centroids = c, .bias = bias};
        each(SETUN_OP_KMEANS, run_assign, &j);
    }
    release(x), release(mean), release(c), release(bias), release(labels), release(sums);
}

static void scores(void) {
    const size_t dims[] = {1, 2, 5, 16, 33, 100}, ks[] = {2, 5, 17, 40, 70};
    for (int kind = 0; kind < KMEANS_KINDS; kind++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
            for (size_t q = 0; q < sizeof ks / sizeof *ks; q++) {
                size_t d = dims[i], k = ks[q];
                float *row = values(kind, d, 0), *c = values(kind, d, 0), *start = values(kind, 1, 0);
                weigh(row, c, next() % 2 ? *start : -naive_chain(0, row, c, d), d, 1 + next() % 30, k, next() % k, kind); /* or one that cancels */
                release(row), release(c), release(start);
            }
    /* Sums that round twice to a neighbour: the exact one lies a hair beside the middle of two float32 values, the float64 one on it. */
    for (int sign = -1; sign <= 1; sign += 2)
        for (int odd = 0; odd < 4; odd++)
            for (size_t k = 2; k < 40; k += 7) {
                const float row[3] = {0, 8 * (1 + 0x1p-23f), 0}, above = 8 * (1 - 0x1p-23f), below = 8 * (1 + 0x1p-22f);
                const float c[3] = {1, (float)sign * (odd & 2 ? above : below), 2};
                weigh(row, c, (float)sign * (0x1p30f + 128 * (float)(odd & 1)), 3, 7, k, k / 2, -1);
                weigh(c, row, (float)-sign * (0x1p30f + 128 * (float)(odd & 1)), 3, 7, k, k / 2, -1);
            }
    /* The same in the subnormal range, where the middles are elsewhere: u*v is an odd multiple of 2^-150, one 2^-189 beside it. */
    const float pairs[4][2] = {{8583513, 13386007}, {8589435, 14528845}, {8789273, 9695017}, {8941785, 11865961}};
    for (int sign = -1; sign <= 1; sign += 2)
        for (int pair = 0; pair < 4; pair++)
            for (int odd = 0; odd < 2; odd++) {
                const float row[2] = {pairs[pair][0] * 0x1p-95f, 0}, c[2] = {(float)sign * pairs[pair][1] * 0x1p-94f, 0};
                weigh(row, c, (float)sign * (0x1p-130f + (float)odd * 0x1p-149f), 2, 5, 9, 4, -2);
            }
}

/* Rows that a screen in integers misjudges by nearly all that its bound allows: the first value makes the quantum 1, every other is .49 beside an integer, on
 * the side of the centroid of signs. Its mirror image gains as much as it loses, and is behind by half a unit in truth. */
static void doubt(size_t d, float reach) {
    enum { N = 70, K = 100, WINNER = 80, RIVAL = 40 };
    float *x = guarded(N * d * sizeof *x, 0), *mean = guarded(d * sizeof *mean, 0), *c = guarded(K * d * sizeof *c, 0), *bias = guarded(K * sizeof *bias, 0);
    int32_t *labels = guarded(2 * N * sizeof *labels, 0);
    int64_t *sums = guarded((K * d + 2 * K) * sizeof *sums, 0);
    memset(sums, 0, (K * d + 2 * K) * sizeof *sums);
    memset(mean, 0, d * sizeof *mean);
    memset(c, 0, K * d * sizeof *c);
    for (size_t p = 0; p < d; p++) {
        c[WINNER * d + p] = p > 0 && next() % 4 ? -1 : 1;
        c[RIVAL * d + p] = -c[WINNER * d + p];
        for (size_t i = 0; i < N; i++) /* from one odd p to the next even one the integers cancel */
            x[i * d + p] = p == 0 ? reach : c[WINNER * d + p] * ((p == d - 1 ? 0 : p % 2 ? 3.0f : -3.0f) + 0.49f);
    }
    for (size_t q = 0; q < K; q++) bias[q] = -4 * reach;
    bias[WINNER] = 0;
    bias[RIVAL] = 2 * naive_chain(0, x, c + WINNER * d, d) - 0.5f;
    for (size_t i = 0; i < N; i++) labels[i] = 0, labels[N + i] = WINNER;
    job j = {
        .n = N, .d = d, .k = K, .kind = -3, .mode = LABELS, .labels = labels, .want_labels = labels + N, .sums = sums, .want_sums = sums, .want_changed = N};
    j.a = (setun_kmeans){.step = SETUN_KMEANS_ASSIGN, .x = x, .n = N, .d = (int64_t)d, .k = K, .mean = mean, .centroids = c, .bias = bias};
    each(SETUN_OP_KMEANS, run_assign, &j);
    release(x), release(mean), release(c), release(bias), release(labels), release(sums);
}

void test_kmeans(void) {
    const size_t dims[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 128, 200, 1000}, ks[] = {1, 2, 3, 5, 8, 16, 17, 31, 32, 33, 64, 100};
    size_t turn = 0;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (size_t q = 0; q < sizeof ks / sizeof *ks; q++) {
            const size_t rows[] = {1 + turn % 40, 1 + turn * 17 % 40, 100, 1000};
            for (size_t r = 0; r < sizeof rows / sizeof *rows; r++, turn++)
                if (r < 2 || rows[r] * dims[i] * ks[q] <= 1500000) shape(rows[r], dims[i], ks[q], (int)(turn % KMEANS_KINDS), (int)(turn / 3 % MODES));
        }
    for (int kind = 0; kind < KMEANS_KINDS; kind++)
        for (size_t n = 1; n <= 40; n++) shape(n, 1 + n * 3 % 19, 1 + n * 5 % 37, kind, (int)(n % MODES));
    const size_t screened[][2] = {{24, 256}, {25, 250}, {31, 199}, {32, 192}, {33, 187}, {47, 131}, {61, 101}}; /* short rows, just enough centroids */
    for (size_t i = 0; i < sizeof screened / sizeof *screened; i++)
        for (int kind = 0; kind < KMEANS_KINDS; kind++, turn++)
            shape(kind % 2 ? 100 : 1 + turn % 40, screened[i][0], screened[i][1], kind, (int)(turn % MODES));
    scores();
    for (size_t d = 64; d <= 1024; d *= 2) { /* at the reach of either width */
        doubt(d, 126.5f);
        doubt(d, 23000 - 3 * (float)d / 2000);
    }
}
