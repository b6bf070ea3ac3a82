/* SPDX-License-Identifier: Apache-2.0
 *
 * read_peer.c: how fast this machine reads memory, for `go run ./bench`. A plain loop that adds 64 accumulators, compiled for
 * the machine it is built on. Reads lines "read N REPEATS", answers nanoseconds a pass over N float32 values. */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile float sink;

static void pass(const float *x, size_t n) {
    float lane[64] = {0}, sum = 0;
    for (size_t i = 0; i + 64 <= n; i += 64)
        for (int l = 0; l < 64; l++) lane[l] += x[i + l];
    for (int l = 0; l < 64; l++) sum += lane[l];
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
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (size_t r = 0; r < repeats; r++) pass(x, n);
        clock_gettime(CLOCK_MONOTONIC, &b);
        printf("%.1f\n", ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / (double)repeats);
        fflush(stdout);
    }
    return 0;
}
