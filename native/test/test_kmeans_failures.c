/* SPDX-License-Identifier: Apache-2.0
 *
 * test_kmeans_failures.c: what the steps of k-means refuse, and how they end when they are cancelled or meet what is not finite. */
#include "test.h"

#include <math.h>

static void run_refused(const setun_kernel *k, int side, void *state) {
    (void)side, (void)state;
    float x[6] = {1, 2, 3}, mean[2] = {0}, c[4] = {0}, bias[2] = {0}, distance[3] = {9, 9, 9}, low[2] = {9, 9}, high[2] = {9, 9};
    double scale[2] = {1, 1};
    int32_t labels[3] = {1, 1, 1};
    int64_t sums[4] = {9}, counts[2] = {9}, weight_sums[2] = {9};
    char *space = guarded(1 << 16, 0);
    for (uint32_t s = 1; s <= 4; s++)
        for (int i = 0; i < 20; i++) {
            char message[100] = "";
            setun_kmeans a = {.call = {.size = sizeof a, .message = message, .message_size = sizeof message}, .step = s, .x = x, .n = 3, .d = 2, .k = 2};
            a.mean = mean, a.centroids = c, a.bias = bias, a.weights = x, a.scale = scale, a.weight_scale = 1, a.low = low, a.high = high, a.labels = labels;
            a.distance = distance, a.sums = sums, a.counts = counts, a.weight_sums = weight_sums, a.workspace = space, a.workspace_size = 1 << 16;
            int assign = s == SETUN_KMEANS_ASSIGN, centred = s >= SETUN_KMEANS_ASSIGN, applies = 1;
            switch (i) {
            case 0:
                a.call.size = offsetof(setun_kmeans, next) - 1; /* what follows is of steps that these are not */
                break;
            case 1:
                a.step = 0;
                break;
            case 2:
                a.step = 7;
                break;
            case 3:
                a.x = NULL;
                break;
            case 4:
                a.n = 0;
                break;
            case 5:
                a.d = 0;
                break;
            case 6:
                a.n = a.d = INT64_MAX / 2;
                break;
            case 7:
                a.k = 0, applies = centred;
                break;
            case 8:
                a.k = (int64_t)1 << 32, applies = centred;
                break;
            case 9:
                a.mean = NULL, applies = centred;
                break;
            case 10:
                a.centroids = NULL, applies = centred;
                break;
            case 11:
                a.bias = NULL, applies = assign;
                break;
            case 12:
                a.labels = NULL, applies = assign;
                break;
            case 13:
                a.counts = NULL, applies = assign;
                break;
            case 14:
                a.weight_sums = NULL, applies = assign;
                break;
            case 15:
                a.scale = NULL, applies = assign || s == SETUN_KMEANS_MEAN;
                break;
            case 16:
                a.low = NULL, applies = s == SETUN_KMEANS_RANGE;
                break;
            case 17:
                a.distance = NULL, applies = s == SETUN_KMEANS_DISTANCE;
                break;
            case 18:
                a.workspace_size = 32, applies = centred;
                break;
            default:
                a.workspace = space + 32, applies = centred;
                break;
            }
            if (!applies) continue;
            int32_t rc = k->run(context, &a);
            expect(rc == SETUN_EINVAL && message[0] && labels[0] == 1 && distance[0] == 9 && low[0] == 9 && sums[0] == 9 && counts[0] == 9 &&
                       weight_sums[0] == 9,
                   k, "refused step=%u case %d: rc=%d", s, i, rc);
        }
    release(space);
}

static void run_cancelled(const setun_kernel *k, int side, void *state) {
    (void)side;
    const volatile int32_t stop = 1;
    size_t n = 1 << 16, d = 16;
    const float *x = state;
    float *distance = guarded(n * sizeof *distance, 0);
    int32_t *labels = guarded(n * sizeof *labels, 0);
    setun_kmeans a = {.x = x, .n = (int64_t)n, .d = (int64_t)d, .k = 4, .mean = x, .centroids = x, .bias = x, .labels = labels, .distance = distance};
    memset(labels, 0, n * sizeof *labels);
    float low[16], high[16];
    double scale[16];
    int64_t sums[16];
    a.low = low, a.high = high, a.scale = scale, a.sums = sums;
    a.call.cancel = &stop;
    for (a.step = SETUN_KMEANS_RANGE; a.step <= SETUN_KMEANS_DISTANCE; a.step++) {
        if (a.step >= SETUN_KMEANS_ASSIGN) a.sums = NULL;
        int32_t rc = kmeans_step(k, &a);
        expect(rc == SETUN_ECANCELLED, k, "step=%u is not cancelled: rc=%d", a.step, rc);
    }
    release(distance);
    release(labels);
}

/* More values than a kernel takes between two looks at cancel: the index of the last one counts from the first. */
static void run_far(const setun_kernel *k, int side, void *state) {
    (void)side;
    float low[16] = {0}, high[16] = {0};
    setun_kmeans a = {.call = {.bad_index = -1}, .step = SETUN_KMEANS_RANGE, .x = state, .n = 1 << 17, .d = 16, .low = low, .high = high};
    int32_t rc = kmeans_step(k, &a);
    expect(rc == SETUN_ENONFINITE && a.call.bad_index == (1 << 21) - 3, k, "range: rc=%d bad_index=%ld", rc, (long)a.call.bad_index);
}

void test_kmeans_failures(void) {
    each(SETUN_OP_KMEANS, run_refused, NULL);
    float *x = vector(PLAIN, 1 << 20, 0);
    each(SETUN_OP_KMEANS, run_cancelled, x);
    release(x);
    x = vector(PLAIN, 1 << 21, 0);
    x[(1 << 21) - 3] = NAN;
    each(SETUN_OP_KMEANS, run_far, x);
    release(x);
}
