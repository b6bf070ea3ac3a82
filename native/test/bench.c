/* SPDX-License-Identifier: Apache-2.0
 *
 * bench.c: `test_simd_c --bench`: each kernel alone, on one thread, the median of seven samples. It is for work on a kernel; what the
 * runtime routes by is measured by `calibrate`. GB/s count the bytes of the input once. */
#define _POSIX_C_SOURCE 200112L
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

enum { SAMPLES = 7 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

typedef struct trial {
    const setun_kernel *k;
    void *args;
    void (*before)(void *args); /* each call; may be null */
} trial;

/* Seconds of a call: samples of at least 2 ms, fewer of them where one takes long. */
static double seconds(const trial *t) {
    double sample[SAMPLES];
    size_t calls = 1;
    int n = 0;
    while (n < SAMPLES) {
        double begin = now();
        for (size_t i = 0; i < calls; i++) {
            if (t->before) t->before(t->args);
            if (t->k->run(context, t->args) != SETUN_OK) return NAN;
        }
        double took = now() - begin;
        if (took < 2e-3) {
            calls *= 2;
            continue;
        }
        sample[n++] = took / (double)calls;
        if (took > 0.3 && n >= 2) break;
    }
    qsort(sample, (size_t)n, sizeof *sample, by_value);
    return sample[n / 2];
}

static void line(const char *op, const setun_kernel *k, const char *shape, double s, double amount, const char *unit) {
    printf("%-26s %-7s %-18s %12.3f us %8.1f %s\n", op, k->name, shape, s * 1e6, amount / s * 1e-9, unit);
    fflush(stdout);
}

static int wanted(const char *op, const setun_kernel *k, const char *filter) {
    char name[64];
    snprintf(name, sizeof name, "%s/%s", op, k->name);
    return strstr(name, filter) != NULL;
}

/* In place, a little smaller every time, so that every call scales. */
static void shrink(void *args) {
    setun_constrain *a = args;
    a->radius = a->norm * 0.999;
}

static void elementwise(const setun_table *t, const char *filter, size_t n) {
    char shape[32];
    snprintf(shape, sizeof shape, "n=%zu", n);
    float *x = vector(PLAIN, n, 0), scale;
    uint8_t *out = guarded(n, 0);
    memset(out, 0, n);
    for (uint32_t i = 0; i < t->kernel_count; i++) {
        const setun_kernel *k = &t->kernels[i];
        static const char *const formats[] = {"quantize int8", "quantize 2bit", "quantize base3"};
        for (uint32_t f = 0; f < 3 && k->op == SETUN_OP_QUANTIZE; f++) {
            if (!wanted(formats[f], k, filter)) continue;
            setun_quantize a = {
                .call = {.size = sizeof a}, .levels = 3, .rule = SETUN_ABSMEAN, .format = f + 1, .x = x, .rows = 1, .cols = (int64_t)n, .out = out};
            a.scales = &scale;
            line(formats[f], k, shape, seconds(&(trial){k, &a, NULL}), 4 * (double)n, "GB/s");
        }
        if (k->op == SETUN_OP_NORM2 && wanted("norm2", k, filter)) {
            setun_reduce a = {.call = {.size = sizeof a}, .x = x, .n = (int64_t)n};
            line("norm2", k, shape, seconds(&(trial){k, &a, NULL}), 4 * (double)n, "GB/s");
        }
        setun_constrain a = {.call = {.size = sizeof a}, .x = x, .dst = x, .n = (int64_t)n, .radius = INFINITY};
        if (k->op == SETUN_OP_CONSTRAIN && wanted("constrain inside", k, filter))
            line("constrain inside", k, shape, seconds(&(trial){k, &a, NULL}), 4 * (double)n, "GB/s");
        if (k->op == SETUN_OP_CONSTRAIN && wanted("constrain outside", k, filter)) {
            fill(x, n < 4096 ? n : 4096, PLAIN);
            a.radius = 0x1p30;
            k->run(context, &a); /* for the norm */
            line("constrain outside", k, shape, seconds(&(trial){k, &a, shrink}), 4 * (double)n, "GB/s");
            if (a.norm < 1) fill(x, n, PLAIN); /* many calls have worn it down */
        }
    }
    release(x);
    release(out);
}

/* noise: how far points are from centroids of their own, in units of the centroids' spread; 0: the points know nothing of the centroids. */
static void clusters(const setun_table *t, const char *filter, size_t n, size_t d, size_t c, float noise) {
    float *x = vector(PLAIN, n * d, 0), *mean = guarded(d * sizeof *mean, 0), *centroids = vector(PLAIN, c * d, 0), *bias = guarded(c * sizeof *bias, 0);
    int64_t *sums = guarded((c * d + c) * sizeof *sums, 0);
    int32_t *labels = guarded(n * sizeof *labels, 0);
    double *scale = guarded(d * sizeof *scale, 0);
    float *distance = guarded(n * sizeof *distance, 0);
    memset(labels, 0, n * sizeof *labels);
    for (size_t i = 0; noise > 0 && i < n; i++)
        for (size_t p = 0; p < d; p++) x[i * d + p] = centroids[i * 7919 % c * d + p] + noise * x[i * d + p];
    for (size_t p = 0; p < d; p++) mean[p] = 0.01f, scale[p] = 0x1p30;
    for (size_t q = 0; q < c; q++) bias[q] = (float)(-naive_dot(centroids + q * d, centroids + q * d, d) / 2);
    for (uint32_t i = 0; i < t->kernel_count; i++) {
        const setun_kernel *k = &t->kernels[i];
        if (k->op != SETUN_OP_KMEANS) continue;
        static const char *const names[] = {"kmeans labels", "kmeans assign", "kmeans distance"};
        for (int step = 0; step < 3; step++) {
            if (!wanted(names[step], k, filter)) continue;
            setun_kmeans a = {
                .call = {.size = sizeof a}, .x = x, .d = (int64_t)d, .k = (int64_t)c, .mean = mean, .centroids = centroids, .bias = bias, .scale = scale};
            a.step = step < 2 ? SETUN_KMEANS_ASSIGN : SETUN_KMEANS_DISTANCE;
            a.labels = labels;
            a.distance = distance;
            memset(sums, 0, (c * d + c) * sizeof *sums);
            if (step == 1) a.sums = sums, a.counts = sums + c * d;
            /* A kernel that would take long gets fewer rows. */
            double rows = (double)n, work = step < 2 ? 2.0 * (double)(d * c) : 4.0 * (double)d;
            for (double few = 256; few <= rows; few *= 16) {
                a.n = (int64_t)few;
                a.workspace = NULL;
                k->run(context, &a);
                a.workspace = guarded((size_t)a.workspace_size, 0);
                double begin = now();
                k->run(context, &a);
                double rate = few / (now() - begin);
                release(a.workspace);
                if (rows / rate > 0.5) rows = fmax(256, floor(rate * 0.5));
            }
            a.n = (int64_t)rows;
            a.workspace = NULL;
            k->run(context, &a);
            a.workspace = guarded((size_t)a.workspace_size, 0);
            char shape[48];
            snprintf(shape, sizeof shape, "%ldx%zu k=%zu%s", (long)a.n, d, c, noise > 0 ? " near" : "");
            if (step < 2)
                line(names[step], k, shape, seconds(&(trial){k, &a, NULL}), (double)a.n * work, "GFLOP/s");
            else
                line(names[step], k, shape, seconds(&(trial){k, &a, NULL}), (double)a.n * work, "GB/s");
            release(a.workspace);
        }
    }
    release(x), release(mean), release(centroids), release(bias), release(sums), release(labels), release(scale), release(distance);
}

/* C = A B of n x n. */
static void products(const setun_table *t, const char *filter, size_t n) {
    float *a = vector(PLAIN, n * n, 0), *b = vector(PLAIN, n * n, 0), *c = guarded(n * n * sizeof *c, 0);
    memset(c, 0, n * n * sizeof *c);
    for (uint32_t i = 0; i < t->kernel_count; i++) {
        const setun_kernel *k = &t->kernels[i];
        if (k->op != SETUN_OP_MATMUL || !wanted("matmul", k, filter) || (n > 512 && k->name[0] == 's')) continue; /* the reference takes long */
        int64_t s = (int64_t)n;
        setun_matmul m = {.call = {.size = sizeof m}, .m = s, .n = s, .k = s, .a = a, .b = b, .c = c, .lda = s, .ldb = s, .ldc = s, .batch = 1};
        k->run(context, &m);
        m.workspace = guarded((size_t)m.workspace_size, 0);
        char shape[32];
        snprintf(shape, sizeof shape, "%zux%zux%zu", n, n, n);
        line("matmul", k, shape, seconds(&(trial){k, &m, NULL}), 2.0 * (double)n * (double)n * (double)n, "GFLOP/s");
        release(m.workspace);
    }
    release(a), release(b), release(c);
}

/* Rows of int8 activations times packed codes, beside the product of float32 numbers of the same sizes: Y = X W', W of rows by cols. */
static void codes_products(const setun_table *t, const char *filter, size_t rows, size_t cols, size_t batch) {
    static const char *const names[] = {0, "ternary int8", "ternary 2bit", "ternary base3", "ternary four5", "ternary planes"};
    size_t n = rows * cols;
    float *x = vector(PLAIN, batch * cols, 0), *w = vector(PLAIN, n, 0), *y = vector(PLAIN, batch * rows, 0), *scales = vector(PLAIN, batch, 0);
    int8_t *bytes = guarded(batch * cols, 0);
    uint8_t *codes = guarded(n + 64, 0), *signs = guarded(n + rows * (cols / 8 + 17), 0);
    int64_t *index = guarded((rows + 1) * sizeof *index, 0);
    for (size_t i = 0; i < batch * cols; i++) bytes[i] = (int8_t)next();
    for (size_t i = 0; i < rows * (cols / 8 + 17); i++) signs[i] = (uint8_t)next();
    for (size_t i = 0; i <= rows; i++) index[i] = (int64_t)(i * (cols / 8 + 1));
    char shape[48];
    snprintf(shape, sizeof shape, "%zux%zu by %zu", rows, cols, batch);
    for (uint32_t i = 0; i < t->kernel_count; i++) {
        const setun_kernel *k = &t->kernels[i];
        double work = 2.0 * (double)n * (double)batch;
        if (k->name[0] == 's') continue; /* the reference takes long */
        for (uint32_t f = SETUN_INT8; f <= SETUN_PLANES && k->op == SETUN_OP_TERNARY_MATMUL; f++) {
            if (!wanted(names[f], k, filter)) continue;
            for (size_t c = 0; c < n + 64; c++) codes[c] = (uint8_t)(f == SETUN_INT8 ? next() % 3 - 1 : next());
            for (size_t c = 0; c < n && f == SETUN_2BIT; c++) codes[c] &= (uint8_t) ~(codes[c] >> 1 & 0x55); /* no 3 */
            setun_ternary a = {
                .call = {.size = sizeof a}, .levels = f == SETUN_FOUR5 ? SETUN_SPARSE : SETUN_TERNARY, .format = f, .codes = codes, .signs = signs};
            a.index = index, a.scales = scales, a.rows = (int64_t)rows, a.cols = (int64_t)cols;
            a.x = bytes, a.x_scales = scales, a.batch = (int64_t)batch, a.out = y;
            k->run(context, &a);
            a.workspace = guarded((size_t)a.workspace_size, 0);
            line(names[f], k, shape, seconds(&(trial){k, &a, NULL}), work, "GOP/s");
            release(a.workspace);
        }
        if (k->op == SETUN_OP_MATMUL && wanted("ternary matmul", k, filter)) {
            setun_matmul m = {
                .call = {.size = sizeof m}, .flags = SETUN_MATMUL_TRANS_B, .m = (int64_t)batch, .n = (int64_t)rows, .k = (int64_t)cols, .batch = 1};
            m.a = x, m.b = w, m.c = y, m.lda = m.ldb = m.k, m.ldc = m.n;
            k->run(context, &m);
            m.workspace = guarded((size_t)m.workspace_size, 0);
            line("ternary matmul", k, shape, seconds(&(trial){k, &m, NULL}), work, "GOP/s");
            release(m.workspace);
        }
    }
    release(x), release(w), release(y), release(scales), release(bytes), release(codes), release(signs), release(index);
}

/* The ops between products, in the shapes of a small transformer: rmsnorm, softmax of heads with and without a period, activations. */
static void rows(const setun_table *t, const char *filter, size_t rows, size_t cols) {
    size_t n = rows * cols;
    float *x = vector(PLAIN, 2 * n, 0), *y = vector(PLAIN, n, 0), *gain = vector(PLAIN, cols, 0), *scale = vector(PLAIN, rows, 0);
    float *out = vector(PLAIN, 2 * n, 0), *dgain = vector(PLAIN, cols, 0), *parts = vector(PLAIN, (rows + 31) / 32 * cols, 0);
    char shape[32];
    snprintf(shape, sizeof shape, "%zux%zu", rows, cols);
    for (uint32_t i = 0; i < t->kernel_count; i++) {
        const setun_kernel *k = &t->kernels[i];
        int64_t r = (int64_t)rows, c = (int64_t)cols;
        static const char *const norms[] = {"rmsnorm", "rmsnorm add", "rmsnorm gradient", "rmsnorm gradient gain"};
        for (int w = 0; w < 4 && k->op == SETUN_OP_RMSNORM; w++) {
            if (!wanted(norms[w], k, filter)) continue;
            setun_rmsnorm a = {.call = {.size = sizeof a}, .rows = r, .cols = c, .x = x, .out = out, .scale = scale, .epsilon = 1e-5};
            if (w == 1) a.delta = y, a.sum = out + n;
            if (w >= 2) a.flags = SETUN_GRADIENT, a.dy = y;
            if (w != 2) a.gain = gain;
            if (w == 3) a.dgain = dgain, a.parts = parts;
            line(norms[w], k, shape, seconds(&(trial){k, &a, NULL}), 4 * (double)n, "GB/s");
        }
        static const char *const softs[] = {"softmax", "softmax period", "softmax gradient", "softmax gradient period"};
        for (int w = 0; w < 4 && k->op == SETUN_OP_SOFTMAX; w++) {
            if (!wanted(softs[w], k, filter)) continue;
            setun_softmax a = {.call = {.size = sizeof a}, .rows = r, .cols = c, .x = x, .scale = 0.125f, .factor = 1};
            if (w % 2 == 1) a.period = c;
            if (w >= 2) a.flags = SETUN_GRADIENT, a.p = y;
            fill(x, n, PLAIN);
            line(softs[w], k, shape, seconds(&(trial){k, &a, NULL}), (double)n * (w % 2 == 1 ? 0.5 : 1), "Gvalues/s");
        }
        static const char *const functions[] = {"relu2", "relu2 gradient", "swiglu", "swiglu gradient"};
        for (int w = 0; w < 4 && k->op == SETUN_OP_ACTIVATE; w++) {
            if (!wanted(functions[w], k, filter)) continue;
            setun_activate a = {.call = {.size = sizeof a}, .kind = w < 2 ? SETUN_RELU2 : SETUN_SWIGLU, .rows = r, .cols = c, .x = x, .out = out};
            if (w % 2 == 1) a.flags = SETUN_GRADIENT, a.dy = y;
            fill(x, 2 * n, PLAIN);
            line(functions[w], k, shape, seconds(&(trial){k, &a, NULL}), 4 * (double)n, "GB/s");
        }
    }
    release(x), release(y), release(gain), release(scale), release(out), release(dgain), release(parts);
}

static void updates(const setun_table *t, const char *filter, size_t n) {
    float *array[5];
    for (int i = 0; i < 5; i++) array[i] = vector(PLAIN, n, 0);
    for (size_t i = 0; i < n; i++) array[3][i] *= array[3][i];
    char shape[32];
    snprintf(shape, sizeof shape, "n=%zu", n);
    for (uint32_t i = 0; i < t->kernel_count; i++) {
        const setun_kernel *k = &t->kernels[i];
        static const char *const names[] = {"adamw", "momentum"};
        for (int w = 0; w < 2 && k->op == SETUN_OP_UPDATE; w++) {
            if (!wanted(names[w], k, filter)) continue;
            setun_update a = {.call = {.size = sizeof a}, .method = w == 0 ? SETUN_ADAMW : SETUN_MOMENTUM, .n = (int64_t)n};
            a.value = array[0], a.grad = array[1], a.m = array[2], a.v = array[3], a.delta = array[4];
            a.rate = 1e-3, a.decay = 0.1, a.beta1 = 0.9, a.beta2 = 0.999, a.epsilon = 1e-8, a.unbias1 = 1, a.unbias2 = 1;
            line(names[w], k, shape, seconds(&(trial){k, &a, NULL}), 4 * (double)n, "GB/s");
        }
    }
    for (int i = 0; i < 5; i++) release(array[i]);
}

int bench(const setun_table *t, const char *filter) {
    printf("%s %s (%s)\n", t->name, t->version, t->build);
    const size_t sizes[] = {64, 4096, 1000000, 100000000};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) elementwise(t, filter, sizes[s]);
    const size_t shapes[][3] = {{10000, 64, 64},   {100000, 64, 64},   {1000000, 32, 64}, {1000000, 128, 10},
                                {1000000, 8, 256}, {100000, 128, 256}, {60000, 784, 979}, {100000, 1024, 1000}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) clusters(t, filter, shapes[s][0], shapes[s][1], shapes[s][2], 0);
    clusters(t, filter, 100000, 64, 64, 1);
    clusters(t, filter, 1000000, 128, 1024, 1);
    const size_t sides[] = {16, 64, 256, 1024, 2048};
    for (size_t s = 0; s < sizeof sides / sizeof *sides; s++) products(t, filter, sides[s]);
    const size_t weights[][3] = {{384, 128, 768}, {512, 128, 768}, {128, 512, 768}, {768, 768, 768}, {2048, 2048, 64}, {2048, 2048, 512}};
    for (size_t s = 0; s < sizeof weights / sizeof *weights; s++) codes_products(t, filter, weights[s][0], weights[s][1], weights[s][2]);
    for (size_t b = 1; b <= 16; b += b < 6 ? 1 : 2)
        for (size_t s = 1; s < sizeof weights / sizeof *weights - 1; s += 3) codes_products(t, filter, weights[s][0], weights[s][1], b);
    const size_t layers[][2] = {{768, 128}, {3072, 64}, {768, 512}, {100, 4096}, {16, 50000}};
    for (size_t s = 0; s < sizeof layers / sizeof *layers; s++) rows(t, filter, layers[s][0], layers[s][1]);
    updates(t, filter, 4096);
    updates(t, filter, 800000);
    return 0;
}
