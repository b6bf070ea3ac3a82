/* SPDX-License-Identifier: Apache-2.0
 *
 * read_peer.c: how fast this machine reads memory, for `go run ./bench`. Eight vectors of 64 bytes as accumulators, compiled for the machine
 * it is built on: enough to hide the latency of an addition, so that memory is the limit. Reads lines "read N REPEATS", answers nanoseconds a pass over N
 * float32 values. */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile float sink;

typedef float vec __attribute__((vector_size(64)));

static void pass(const float *x, size_t n) {
    const vec *v = (const vec *)(const void *)x;
    vec lane[8] = {{0}};
    for (size_t i = 0; i + 8 <= n / 16; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += v[i + l];
    float sum = 0;
    for (int l = 0; l < 8; l++)
        for (int j = 0; j < 16; j++) sum += lane[l][j];
    sink = sum;
}

int main(void) {
    puts("a plain C loop");
    fflush(stdout);
    char kind[16];
    size_t n, repeats, have = 0;
    float *x = NULL;
    while (scanf("%15s %zu %zu", kind, &n, &repeats) == 3) {
        if (n != have) {
            free(x);
            x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
            if (!x) return 1;
            for (size_t i = 0; i < n; i++) x[i] = (float)(i % 7) - 3;
            have = n;
        }
        pass(x, n); /* not timed: others ran since, and took the caches */
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (size_t r = 0; r < repeats; r++) pass(x, n);
        clock_gettime(CLOCK_MONOTONIC, &b);
        printf("%.1f\n", ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / (double)repeats);
        fflush(stdout);
    }
    return 0;
}
