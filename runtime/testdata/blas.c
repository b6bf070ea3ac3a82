/* SPDX-License-Identifier: Apache-2.0
 *
 * blas.c: a small cblas_sgemm for tests, with one thing wrong: -DROGUE=NAME. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { GOOD, CTOR_SEGV, CTOR_HANG, CTOR_EXIT, CTOR_THREADS, WRONG, CALL_SEGV, CALL_HANG, CALL_EXIT, LATER_SEGV, SWAP };

static volatile int *volatile nowhere;

__attribute__((constructor)) static void loaded(void) {
    if (ROGUE == CTOR_SEGV) *nowhere = 1;
    if (ROGUE == CTOR_EXIT) _exit(0);
    if (ROGUE == CTOR_THREADS) { /* as OpenBLAS does that gets no more threads */
        fputs("OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 64: Resource temporarily unavailable\nOpenBLAS blas_thread_init: RLIMIT_NPROC 64 current, 64 max\n", stderr);
        raise(SIGINT);
    }
    while (ROGUE == CTOR_HANG) pause();
#ifdef SELF
    if (ROGUE == SWAP) rename(SELF ".next", SELF); /* by another one, while it is being tried */
#endif
#ifdef NEEDS
    extern void needed(void);
    needed();
#endif
}

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc) {
    (void)order;
    if (ROGUE == CALL_SEGV || (ROGUE == LATER_SEGV && m > 1000)) *nowhere = 1;
    if (ROGUE == CALL_EXIT) _exit(0);
    while (ROGUE == CALL_HANG) pause();
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            float sum = 0;
            for (int p = 0; p < k; p++) sum += (ta == 112 ? a[p * lda + i] : a[i * lda + p]) * (tb == 112 ? b[j * ldb + p] : b[p * ldb + j]);
            c[i * ldc + j] = alpha * sum + (beta != 0 ? beta * c[i * ldc + j] : 0) + (ROGUE == WRONG && i == 2);
        }
    }
}
