/* SPDX-License-Identifier: Apache-2.0
 *
 * test_simd_c.c: every kernel of the library against its scalar reference, bit for bit, without Go: for sanitizers and for
 * machines without Go. Buffers are allocated to size, so that AddressSanitizer sees a read or write past their ends. The Go
 * suite in backends/conform compares the same kernels with pure Go. */
#include <math.h>
#include <setun/backend.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long cases, mismatches;

static uint64_t state = 88172645463325252ull;
static uint32_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* Kinds of data: 0 normal size, 1 wide, 2 huge, 3 subnormal, 4 few values (ties), 5 zeros. */
static float value(int kind) {
    float u = (float)next() / 2147483648.0f - 1;
    uint32_t b = next();
    float f;
    switch (kind) {
    case 1:
        return ldexpf(u, (int)(next() % 120) - 60);
    case 2:
        return u * 3.4e38f;
    case 3:
        b &= 0x80ffffffu;
        memcpy(&f, &b, sizeof f);
        return f;
    case 4:
        return (float)((int)(next() % 5) - 2) / 2;
    case 5:
        return b & 1 ? 0.0f : -0.0f;
    default:
        return u;
    }
}

static void *must(void *p) {
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return p;
}

static float *vector(int kind, size_t n) {
    float *x = must(malloc(n * sizeof *x));
    for (size_t i = 0; i < n; i++) x[i] = value(kind);
    return x;
}

static void expect(int ok, const char *op, const char *kernel, long n, int kind) {
    cases++;
    if (!ok && mismatches++ < 20) printf("MISMATCH %s/%s n=%ld kind=%d\n", op, kernel, n, kind);
}

static void quantize(const setun_kernel *k, const setun_kernel *ref, size_t n, int kind) {
    float *x = vector(kind, n);
    for (uint32_t levels = 3; levels <= 5; levels += 2)
        for (uint32_t rule = SETUN_ABSMEAN; rule <= SETUN_STOCHASTIC; rule++)
            for (uint32_t format = SETUN_INT8; format <= (levels == 3 ? SETUN_BASE3 : SETUN_INT8); format++)
                for (int g = 0; g < 3; g++) {
                    int64_t group = g == 0 ? 0 : g == 1 ? (int64_t)n : 1 + (int64_t)n / 3;
                    size_t bytes = format == SETUN_INT8 ? n : format == SETUN_2BIT ? (n + 3) / 4 : (n + 4) / 5;
                    uint8_t *out = must(malloc(2 * bytes));
                    float scales[2][4] = {{0}};
                    int32_t rc[2];
                    for (int side = 0; side < 2; side++) {
                        setun_quantize a = {
                            .call = {.size = sizeof a}, .levels = levels, .rule = rule, .format = format, .x = x, .rows = 1, .cols = (int64_t)n};
                        a.group = group;
                        a.seed = 7;
                        a.out = out + (size_t)side * bytes;
                        a.scales = scales[side];
                        rc[side] = (side ? ref : k)->run(NULL, &a);
                    }
                    expect(rc[0] == SETUN_OK && rc[1] == SETUN_OK && !memcmp(out, out + bytes, bytes) && !memcmp(scales[0], scales[1], sizeof scales[0]),
                           "quantize", k->name, (long)n, kind);
                    free(out);
                }
    free(x);
}

static void constrain(const setun_kernel *k, const setun_kernel *ref, size_t n, int kind) {
    const double radii[] = {0, 1e-40, 0.5, 1e30, INFINITY};
    float *x = vector(kind, n), *out = must(malloc(2 * n * sizeof *out));
    for (size_t r = 0; r < sizeof radii / sizeof *radii; r++) {
        double norm[2];
        for (int side = 0; side < 2; side++) {
            setun_constrain a = {.call = {.size = sizeof a}, .x = x, .dst = out + (size_t)side * n, .n = (int64_t)n, .radius = radii[r]};
            (side ? ref : k)->run(NULL, &a);
            norm[side] = a.norm;
        }
        expect(norm[0] == norm[1] && !memcmp(out, out + n, n * sizeof *out), "constrain", k->name, (long)n, kind);
    }
    x[n / 2] = NAN;
    setun_constrain a = {.call = {.size = sizeof a}, .x = x, .dst = x, .n = (int64_t)n, .radius = 1};
    expect(k->run(NULL, &a) == SETUN_ENONFINITE && a.call.bad_index == (int64_t)(n / 2), "constrain NaN", k->name, (long)n, kind);
    a.radius = -1;
    expect(k->run(NULL, &a) == SETUN_EINVAL, "constrain radius", k->name, (long)n, kind);
    free(x);
    free(out);
}

static void reduce(const setun_kernel *k, const setun_kernel *ref, size_t n, int kind) {
    float *x = vector(kind, n), *y = vector(0, n);
    setun_reduce a = {.call = {.size = sizeof a}, .x = x, .y = y, .n = (int64_t)n}, b = a;
    int32_t rc = k->run(NULL, &a) | ref->run(NULL, &b);
    expect(rc == SETUN_OK && a.result == b.result, "reduce", k->name, (long)n, kind);
    free(x);
    free(y);
}

static int32_t kmeans_step(const setun_kernel *k, setun_kmeans *a) {
    a->call.size = sizeof *a;
    a->workspace = NULL;
    int32_t rc = k->run(NULL, a);
    if (rc != SETUN_OK) return rc;
    a->workspace = must(aligned_alloc(64, ((size_t)a->workspace_size + 63) / 64 * 64));
    rc = k->run(NULL, a);
    free(a->workspace);
    return rc;
}

static void kmeans(const setun_kernel *k, const setun_kernel *ref, size_t n, size_t d, size_t c, int kind) {
    float *x = vector(kind, n * d), *mean = vector(kind, d), *centroids = vector(kind, c * d), *bias = vector(4, c), *weights = vector(5, n);
    double *scale = must(malloc(d * sizeof *scale));
    for (size_t j = 0; j < d; j++) scale[j] = ldexp(1, kind == 1 ? -30 : 20);
    for (size_t i = 0; i < n; i++) weights[i] = (float)(next() % 5) / 4;
    int32_t *labels = must(malloc(2 * n * sizeof *labels));
    memset(labels, 0, 2 * n * sizeof *labels);
    float *distance = must(malloc(2 * n * sizeof *distance));
    int64_t *sums = must(calloc(2 * (c * d + 2 * c), sizeof *sums)), changed[2];
    int32_t rc = 0;
    for (int side = 0; side < 2; side++) {
        int64_t *s = sums + (size_t)side * (c * d + 2 * c);
        setun_kmeans a = {
            .step = SETUN_KMEANS_ASSIGN, .x = x, .n = (int64_t)n, .d = (int64_t)d, .k = (int64_t)c, .mean = mean, .centroids = centroids, .bias = bias};
        a.weights = weights;
        a.scale = scale;
        a.weight_scale = 1024;
        a.labels = labels + (size_t)side * n;
        a.sums = s;
        a.counts = s + c * d;
        a.weight_sums = s + c * d + c;
        rc |= kmeans_step(side ? ref : k, &a);
        changed[side] = a.changed;
        a.step = SETUN_KMEANS_DISTANCE;
        a.distance = distance + (size_t)side * n;
        rc |= kmeans_step(side ? ref : k, &a);
    }
    expect(rc == SETUN_OK && changed[0] == changed[1] && !memcmp(labels, labels + n, n * sizeof *labels) &&
               !memcmp(distance, distance + n, n * sizeof *distance) && !memcmp(sums, sums + c * d + 2 * c, (c * d + 2 * c) * sizeof *sums),
           "kmeans", k->name, (long)n, kind);
    free(x), free(mean), free(centroids), free(bias), free(weights), free(scale), free(labels), free(distance), free(sums);
}

int main(void) {
    const setun_table *t = setun_backend(SETUN_ABI);
    if (!t || setun_backend(SETUN_ABI + 1)) {
        printf("no table, or one for an unknown version\n");
        return 1;
    }
    const size_t sizes[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 255, 257, 321, 1279, 1281, 4095, 4097, 9001};
    const size_t dims[] = {1, 2, 3, 5, 8, 9, 16, 17, 33, 100}, ks[] = {1, 2, 5, 8, 17, 33, 70};
    for (uint32_t i = 0; i < t->kernel_count; i++) {
        const setun_kernel *k = &t->kernels[i], *ref = NULL;
        for (uint32_t j = 0; j < t->kernel_count; j++)
            if (t->kernels[j].op == k->op && !strcmp(t->kernels[j].name, "scalar")) ref = &t->kernels[j];
        if (!ref) return 1;
        long before = cases;
        for (int kind = 0; kind < 6; kind++) {
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
                if (k->op == SETUN_OP_QUANTIZE) quantize(k, ref, sizes[s], kind);
                if (k->op == SETUN_OP_CONSTRAIN) constrain(k, ref, sizes[s], kind);
                if (k->op == SETUN_OP_DOT || k->op == SETUN_OP_NORM2) reduce(k, ref, sizes[s], kind);
            }
            if (k->op == SETUN_OP_KMEANS && kind != 2)
                for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
                    for (size_t c = 0; c < sizeof ks / sizeof *ks; c++) kmeans(k, ref, 1 + next() % 70, dims[d], ks[c], kind);
        }
        if (cases == before) {
            printf("op %u of %s was not tested\n", k->op, k->name);
            return 1;
        }
    }
    printf("%ld cases, %ld mismatches\n", cases, mismatches);
    return mismatches != 0;
}
