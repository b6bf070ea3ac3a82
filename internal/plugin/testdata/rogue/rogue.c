/* SPDX-License-Identifier: Apache-2.0
 *
 * A library that does one thing wrong, chosen by -DROGUE=NAME: what a probe must notice. Without that it is a good one, with one op, activations. It is C and C++ alike.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setun/device.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../../native/kernels/edge.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { GOOD, CTOR_SEGV, CTOR_ABORT, CTOR_EXIT, CTOR_HANG, CTOR_KILL, CTOR_GARBAGE, CTOR_FLOOD, CTOR_STDOUT, CTOR_SPAWN, CTOR_THREAD, CTOR_FENV, CTOR_THREADS,
    CALL_SEGV, CALL_FPE, CALL_ABORT, CALL_STACK, CALL_EXIT, CALL_HANG, CALL_THROW, CALL_NTH, CALL_FENV, CALL_NOMEM, CALL_NEW,
    WRONG_ULP, WRONG_NAN, WRONG_ZERO, WRONG_PAST, WRONG_INPUT, NO_SYMBOL, OLD_ABI, NEW_ABI, SHORT_TABLE, NULL_KERNEL, LATER_SEGV, LARGE_SEGV, LARGE_KILL, LARGE_EXIT, MANY,
    BUG_HEAP, BUG_OVERFLOW, BUG_RACE };
#ifndef ROGUE
#define ROGUE GOOD
#endif
#ifndef NTH /* the call that fails, and how */
#define NTH 3
#define STATUS SETUN_EDEVICE
#endif

static volatile int zero = 0;

static void segv(void) { *(volatile int *)(intptr_t)zero = 1; }

static int deep(int n) {
    volatile char room[4096];
    memset((void *)room, n, sizeof room);
    return n < 0 ? 0 : deep(n + 1 > 0 ? n + 1 : 1) + room[n & 4095];
}

static void hang(void) {
    for (;;) pause();
}

#if defined(__cplusplus)
#define THROW throw 7
#define NEW new char[(size_t)1 << 46] /* more than there is */
#else
#define THROW abort()
#define NEW 0
#endif

static char *volatile room;

/* Every descriptor that the probe may have for its result, which a library must not know. */
static void pollute(long bytes) {
    static char block[65536];
    memset(block, 'x', sizeof block);
    for (int fd = 4; fd < 10; fd++)
        for (long done = 0; done < bytes; done += (long)sizeof block)
            if (write(fd, block, bytes < (long)sizeof block ? (size_t)bytes : sizeof block) < 0) break;
}

static void *later(void *p) {
    (void)p;
    usleep(10000);
    segv();
    return 0;
}

/* In a probe the program is started once more, with the environment that the probe has. It must end at once, and not probe. */
static void spawn(void) {
    if (!getenv("SETUN_PROBE_CHILD")) return;
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "again", "-test.run=^$", (char *)0); /* should it get so far, it does nothing */
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 120) abort();
}

static void *sleeper(void *p) {
    hang();
    return p;
}

/* As a library of threads ends that gets no more of them. Here it is room for their stacks that is not there. */
static void exhaust(void) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (size_t)1 << 30);
    for (int i = 0; i < 1000; i++) {
        pthread_t t;
        int rc = pthread_create(&t, &attr, sleeper, 0);
        if (rc == 0) continue;
        fprintf(stderr, "rogue: thread %d: %s\n", i, strerror(rc));
        fprintf(stderr, "rogue: giving up\n");
        abort();
    }
}

static void flush_subnormals(void) {
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

__attribute__((constructor)) static void begin(void) {
    switch (ROGUE) {
    case CTOR_SEGV: segv(); break;
    case CTOR_ABORT: abort();
    case CTOR_EXIT: exit(0);
    case CTOR_HANG: hang(); break;
    case CTOR_KILL: raise(SIGKILL); break;
    case CTOR_GARBAGE: pollute(100); break;
    case CTOR_FLOOD: pollute(1l << 30); break;
    case CTOR_STDOUT: if (getenv("SETUN_PROBE_CHILD")) for (int i = 0; i < 100000; i++) printf("%0200d\n", i); fflush(stdout); break;
    case CTOR_SPAWN: spawn(); break;
    case CTOR_THREADS: exhaust(); break;
    case CTOR_FENV: flush_subnormals(); break;
    case CTOR_THREAD: {
        pthread_t t;
        pthread_create(&t, 0, later, 0);
    }
    }
}

/* Bugs without which nothing would be different: for sanitizers. */
static volatile int counter = 2147483647;

static void *count(void *p) {
    (void)p;
    for (int i = 0; i < 1000; i++) counter = counter ^ 1;
    return 0;
}

static void race(void) {
    pthread_t t[2];
    for (int i = 0; i < 2; i++) pthread_create(t + i, 0, count, 0);
    for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
}

static void read_behind(void) {
    volatile char *p = (volatile char *)malloc(8);
    if (p) counter = p[8 + zero];
    free((void *)p);
}

static int32_t misbehave(setun_activations *a) {
    static int calls = 0;
    switch (ROGUE) {
    case CALL_SEGV: segv(); break;
    case LARGE_SEGV: if (a->rows * a->cols > 5000) segv(); break; /* more than a probe has */
    case LARGE_KILL: if (a->rows * a->cols > 5000) raise(SIGKILL); break; /* as a machine does that has no memory left */
    case LARGE_EXIT: if (a->rows * a->cols > 5000) exit(7); break;
    case CALL_FPE: zero = 100 / zero; break;
    case CALL_ABORT: abort();
    case CALL_STACK: return deep(1);
    case CALL_EXIT: exit(0);
    case CALL_HANG: hang(); break;
    case CALL_THROW: THROW;
    case CALL_NTH: return ++calls == NTH ? STATUS : SETUN_OK;
    case CALL_NEW: room = NEW; break;
    case CALL_NOMEM: return SETUN_ENOMEM;
    case CALL_FENV: flush_subnormals(); break;
    case BUG_HEAP: read_behind(); break;
    case BUG_OVERFLOW: counter = counter + 1; break;
    case BUG_RACE: race(); break;
    case WRONG_INPUT: ((float *)(uintptr_t)a->x)[0] += 1; break;
    case WRONG_PAST: a->out[a->rows * a->cols] = 0; break;
    }
    return SETUN_OK;
}

static int32_t activations(setun_ctx *ctx, void *p) {
    (void)ctx;
    setun_activations *a = (setun_activations *)p;
    setun_enter();
    int32_t rc = misbehave(a);
    if (rc) return rc;
    for (int64_t r = 0; r < a->rows; r++) {
        const float *x = a->x + r * a->cols;
        float m = 0;
        for (int64_t i = 0; i < a->cols; i++) m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
        double f = m > 0 ? 127 / (double)m : 0;
        for (int64_t i = 0; i < a->cols; i++) a->out[r * a->cols + i] = ROGUE == WRONG_ZERO ? 0 : (int8_t)rint((double)x[i] * f);
        a->scales[r] = (float)((double)m / 127);
        if (ROGUE == WRONG_ULP && r == 1) a->scales[r] = nextafterf(a->scales[r], 1e30f);
        if (ROGUE == WRONG_NAN && r == 2) a->scales[r] = NAN;
    }
    setun_leave();
    return SETUN_OK;
}

/* Small sizes are left to others, as a kernel may; so the probe does not see what the others do. */
static int32_t quantize(setun_ctx *ctx, void *p) {
    (void)ctx;
    setun_quantize *a = (setun_quantize *)p;
    if (a->rows * a->cols > 10000) segv();
    return SETUN_EUNSUPPORTED;
}

static const setun_kernel kernels[] = {
    {"avx2", SETUN_OP_ACTIVATIONS, 1, ROGUE == NULL_KERNEL ? 0 : activations, 0, 0},
    {"avx2", SETUN_OP_QUANTIZE, 1, quantize, 0, 0},
#define ONE(name) {name, SETUN_OP_ACTIVATIONS, 1, activations, 0, 0}
#define EIGHT(name) ONE(name "0"), ONE(name "1"), ONE(name "2"), ONE(name "3"), ONE(name "4"), ONE(name "5"), ONE(name "6"), ONE(name "7")
    EIGHT("a"), EIGHT("b"), EIGHT("c"), EIGHT("d"), EIGHT("e"), EIGHT("f"), EIGHT("g"), EIGHT("h"),
};
static const setun_table table = {SETUN_MAGIC, ROGUE == SHORT_TABLE ? 24u : (uint32_t)sizeof(setun_table), ROGUE == OLD_ABI ? 0u : ROGUE == NEW_ABI ? 99u : SETUN_ABI, sizeof(setun_kernel), "simd_c", "0", "rogue", kernels,
    ROGUE == MANY ? sizeof kernels / sizeof *kernels : ROGUE == LATER_SEGV ? 2 : 1, 0, 0, 0, 0};

#ifndef ENTRY
#define ENTRY setun_backend
#endif
#if defined(__cplusplus)
extern "C"
#endif
SETUN_EXPORT const setun_table *ENTRY(uint32_t abi);
const setun_table *ENTRY(uint32_t abi) {
    (void)abi;
    return &table;
}
