/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_loops.c: what this machine can do at best, for `go run ./bench`: loops that only move memory or only multiply and add, compiled
 * for the machine they are built on. Reads lines "KIND N THREADS REPEATS", answers "call=T", nanoseconds a pass, or "error …".
 *
 *   read    reads N float32 values
 *   codes   reads them twice, writes N bytes: the traffic of quantize with one scale
 *   once    reads them once, writes N bytes: the traffic of quantize in groups
 *   scale   reads them twice, writes N float32: the traffic of constrain outside the ball
 *   fma     N float32 operations (a multiplication and an addition each count) in registers
 *
 * Writes are tried with ordinary and with streaming stores, fma with 256 and 512 bits; the better time counts. Buffers stay between
 * requests, on huge pages where the system has them. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__) && defined(__AVX__)
#include <immintrin.h>
#define STREAMS 1
#endif

enum { MAX_THREADS = 256, BLOCK = 128 }; /* BLOCK: values that a loop takes at a time */

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef void loop(size_t begin, size_t end);

static vec *x, *y;
static size_t capacity; /* values in x and y */
static volatile float sink;

/* Eight accumulators hide the latency of an addition, so that memory is the limit. */
static void read_loop(size_t begin, size_t end) {
    vec lane[8] = {{0}};
    for (size_t i = begin / 16; i < end / 16; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += x[i + l];
    float sum = 0;
    for (int l = 0; l < 8; l++)
        for (int j = 0; j < 16; j++) sum += lane[l][j];
    sink = sum;
}

static inline void stream(vec *to, vec v) {
#ifdef STREAMS
    __m256 half[2];
    memcpy(half, &v, sizeof v);
    _mm256_stream_ps((float *)to, half[0]);
    _mm256_stream_ps((float *)to + 8, half[1]);
#else
    *to = v;
#endif
}

static inline void fence(void) {
#ifdef STREAMS
    _mm_sfence();
#endif
}

/* Four vectors in, one out: a byte a value, with next to no arithmetic. */
static inline vec mixed(const vec *v) { return (vec)((ivec)v[0] ^ (ivec)v[1] ^ (ivec)v[2] ^ (ivec)v[3]); }

static void once_plain(size_t begin, size_t end) {
    for (size_t i = begin / 16; i < end / 16; i += 4) y[i / 4] = mixed(x + i);
}

static void once_stream(size_t begin, size_t end) {
    for (size_t i = begin / 16; i < end / 16; i += 4) stream(y + i / 4, mixed(x + i));
    fence();
}

static void scale_plain(size_t begin, size_t end) {
    for (size_t i = begin / 16; i < end / 16; i++) y[i] = x[i] * 0.5f;
}

static void scale_stream(size_t begin, size_t end) {
    for (size_t i = begin / 16; i < end / 16; i++) stream(y + i, x[i] * 0.5f);
    fence();
}

/* Twelve chains in registers: more than latency 4 times 2 units, and with the factors no more than the 16 registers of AVX2. */
enum { CHAINS = 12 };
#define FMA_LOOP(name, type, lanes, set, fma)                                                                                                                  \
    static void name(size_t begin, size_t end) {                                                                                                               \
        type a = set(0.999f), b = set(1e-3f), c[CHAINS];                                                                                                       \
        for (int l = 0; l < CHAINS; l++) c[l] = set((float)l);                                                                                                 \
        for (size_t i = begin; i < end; i += CHAINS * 2 * lanes)                                                                                               \
            for (int l = 0; l < CHAINS; l++) c[l] = fma(a, c[l], b);                                                                                           \
        float sum = 0, out[lanes];                                                                                                                             \
        for (int l = 0; l < CHAINS; l++) memcpy(out, &c[l], sizeof out), sum += out[l % lanes];                                                                \
        sink = sum;                                                                                                                                            \
    }
#if defined(__AVX2__) && defined(__FMA__)
FMA_LOOP(fma_narrow, __m256, 8, _mm256_set1_ps, _mm256_fmadd_ps)
#if defined(__AVX512F__)
FMA_LOOP(fma_wide, __m512, 16, _mm512_set1_ps, _mm512_fmadd_ps)
#else
#define fma_wide NULL
#endif
#elif defined(__aarch64__)
#include <arm_neon.h>
#define neon_fma(a, c, b) vfmaq_f32(b, a, c)
FMA_LOOP(fma_narrow, float32x4_t, 4, vdupq_n_f32, neon_fma)
#define fma_wide NULL
#else
#define fma_narrow NULL
#define fma_wide NULL
#endif

/* ---- threads: each spins until all are there, so that creating them is not timed ---- */

static atomic_int ready, done;
static atomic_bool go;

struct part {
    loop *pass[2]; /* one after the other, each over the whole part */
    size_t begin, end;
};

static void work(const struct part *p) {
    for (int i = 0; i < 2; i++)
        if (p->pass[i]) p->pass[i](p->begin, p->end);
}

static void *thread(void *arg) {
    atomic_fetch_add(&ready, 1);
    while (!atomic_load_explicit(&go, memory_order_acquire)) {
    }
    work(arg);
    atomic_fetch_add(&done, 1);
    return NULL;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Nanoseconds of the passes over n, cut into equal parts; negative when a thread cannot be made. */
static double timed(loop *first, loop *second, size_t n, int threads) {
    static struct part parts[MAX_THREADS];
    pthread_t id[MAX_THREADS];
    size_t share = (n / (size_t)threads + BLOCK - 1) / BLOCK * BLOCK;
    atomic_store(&ready, 0);
    atomic_store(&done, 0);
    atomic_store(&go, 0);
    int made = 1, failed = 0;
    for (int t = 0; t < threads; t++) {
        size_t begin = share * (size_t)t, end = begin + share;
        parts[t] = (struct part){{first, second}, begin < n ? begin : n, end < n ? end : n};
    }
    for (; made < threads && !failed; made += !failed) failed = pthread_create(&id[made], NULL, thread, &parts[made]) != 0;
    while (atomic_load(&ready) < made - 1) {
    }
    double begin = now();
    atomic_store_explicit(&go, 1, memory_order_release);
    work(&parts[0]);
    while (atomic_load(&done) < made - 1) {
    }
    double ns = now() - begin;
    for (int t = 1; t < made; t++) pthread_join(id[t], NULL);
    return failed ? -1 : ns;
}

static vec *huge(size_t bytes) {
    size_t page = (size_t)2 << 20;
    vec *p = aligned_alloc(page, (bytes + page - 1) / page * page);
#ifdef MADV_HUGEPAGE
    if (p) madvise(p, (bytes + page - 1) / page * page, MADV_HUGEPAGE);
#endif
    return p;
}

static int reserve(size_t n) {
    if (n <= capacity) return 1;
    free(x);
    free(y);
    capacity = 0;
    if (!(x = huge(n * 4)) || !(y = huge(n * 4))) return 0;
    for (size_t i = 0; i < n; i++) ((float *)x)[i] = (float)(i % 7) - 3;
    memset(y, 0, n * 4);
    capacity = n;
    return 1;
}

/* What each kind does; the second way is the alternative to the first. */
static const struct {
    const char *name;
    loop *before, *way[2];
} kinds[] = {
    {"read", NULL, {read_loop, NULL}},         {"codes", read_loop, {once_plain, once_stream}},
    {"once", NULL, {once_plain, once_stream}}, {"scale", read_loop, {scale_plain, scale_stream}},
    {"fma", NULL, {fma_narrow, fma_wide}},
};

int main(void) {
    puts("plain C loops, " __VERSION__);
    fflush(stdout);
    char name[16];
    size_t n;
    int threads, repeats;
    while (scanf("%15s %zu %d %d", name, &n, &threads, &repeats) == 4) {
        size_t k = 0;
        while (k < sizeof kinds / sizeof *kinds && strcmp(kinds[k].name, name) != 0) k++;
        int memory = strcmp(name, "fma") != 0;
        n = memory ? n / BLOCK * BLOCK : n;
        double best = -1;
        if (k < sizeof kinds / sizeof *kinds && threads > 0 && threads <= MAX_THREADS && repeats > 0 && (!memory || reserve(n)))
            for (int w = 0; w < 2; w++) {
                loop *way = kinds[k].way[w];
                if (!way) continue;
                double sum = 0;
                if (memory) timed(kinds[k].before, way, n, threads); /* not timed: others ran since, and took the caches */
                for (int r = 0; r < repeats && sum >= 0; r++) {
                    double ns = timed(kinds[k].before, way, n, threads);
                    sum = ns < 0 ? -1 : sum + ns;
                }
                if (sum > 0 && (best < 0 || sum / repeats < best)) best = sum / repeats;
            }
        if (best > 0)
            printf("call=%.1f\n", best);
        else
            printf("error %s %zu with %d threads: not possible here\n", name, n, threads);
        fflush(stdout);
    }
    return 0;
}
