/* SPDX-License-Identifier: Apache-2.0
 *
 * peer_ggml.c: ggml's ternary dot products for `go run ./bench`, called row by row as its own matrix product does. It loads a libggml-cpu that somebody built:
 *
 *     peer_ggml /path/to/libggml-cpu.so
 *
 * reads lines "TYPE ROWS COLS THREADS REPEATS", TYPE tq1_0 or tq2_0, COLS a multiple of 256, and answers "call=T", nanoseconds a product of the matrix and one
 * row of activations, or "error …". Rows are cut into equal parts, a thread each; threads spin until all are there, so that waking them is not timed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_THREADS = 64, WEIGHTS = 256, Q8_K_BYTES = 4 + 256 + 32 };

/* ggml-cpu.h: what ggml_get_type_traits_cpu returns, and its dot product. */
typedef void vec_dot(int n, float *s, size_t bs, const void *x, size_t bx, const void *y, size_t by, int nrc);
typedef struct traits {
    void (*from_float)(const float *x, void *y, int64_t k);
    vec_dot *dot;
    int vec_dot_type;
    int64_t nrows;
} traits;

static const struct {
    const char *name;
    int type;
    size_t bytes; /* of a block of 256 weights; its last two are the scale */
} types[] = {{"tq1_0", 34, 54}, {"tq2_0", 35, 66}};

static const uint8_t *weights;
static uint8_t *activations;
static float *results;
static vec_dot *dot;
static size_t row_bytes;
static long rows, cols;
static int threads;
static atomic_int turn, done;
static atomic_bool over;

static void part(int t) {
    for (long r = rows * t / threads; r < rows * (t + 1) / threads; r++) dot((int)cols, results + r, 0, weights + (size_t)r * row_bytes, 0, activations, 0, 1);
}

static void *thread(void *arg) {
    for (int seen = 0, now;;) {
        while ((now = atomic_load_explicit(&turn, memory_order_acquire)) == seen)
            if (atomic_load(&over)) return NULL;
        seen = now;
        part((int)(intptr_t)arg);
        atomic_fetch_add(&done, 1);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double timed(int repeats) {
    pthread_t id[MAX_THREADS];
    int made = 1;
    atomic_store(&over, 0);
    atomic_store(&turn, 0);
    for (; made < threads; made++)
        if (pthread_create(&id[made], NULL, thread, (void *)(intptr_t)made) != 0) break;
    double best = made == threads ? 0 : -1, begin = 0;
    for (int r = 0; r <= repeats && best >= 0; r++) {
        if (r == 1) begin = now(); /* the first one is not timed */
        atomic_store(&done, 1);
        atomic_fetch_add(&turn, 1);
        part(0);
        while (atomic_load(&done) < threads) {
        }
    }
    double ns = now() - begin;
    atomic_store(&over, 1);
    for (int t = 1; t < made; t++) pthread_join(id[t], NULL);
    return best < 0 ? -1 : ns / repeats;
}

/* Codes of each pattern that is valid, in turn, and scales of 1. */
static int make(size_t bytes, int base3) {
    static uint8_t *w;
    static size_t room;
    size_t blocks = (size_t)(rows * cols) / WEIGHTS, page = (size_t)2 << 20, need = (blocks * bytes + page) / page * page;
    if (need > room) {
        free(w);
        room = 0;
        if (!(w = aligned_alloc(page, need))) return 0;
        madvise(w, need, MADV_HUGEPAGE);
        room = need;
    }
    uint32_t seed = 1;
    for (size_t b = 0; b < blocks; b++) {
        uint8_t *block = w + b * bytes;
        for (size_t i = 0; i < bytes - 2; i++) {
            seed = seed * 1664525 + 1013904223;
            block[i] = base3 ? (uint8_t)((seed >> 8) % 243 * 256 / 243) : (uint8_t)((seed >> 8) & (seed >> 16) & 0xaa);
        }
        block[bytes - 2] = 0, block[bytes - 1] = 0x3c;
    }
    weights = w;
    free(activations);
    free(results);
    activations = calloc((size_t)cols / WEIGHTS, Q8_K_BYTES);
    results = calloc((size_t)rows, sizeof *results);
    if (!activations || !results) return 0;
    for (long b = 0; b < cols / WEIGHTS; b++) {
        uint8_t *q = activations + b * Q8_K_BYTES;
        float one = 1;
        memcpy(q, &one, 4);
        for (int i = 0; i < 256; i++) q[4 + i] = (uint8_t)(i * 37 % 255 - 127);
        for (int i = 0; i < 16; i++) {
            int16_t sum = 0;
            for (int j = 0; j < 16; j++) sum = (int16_t)(sum + (int8_t)q[4 + 16 * i + j]);
            memcpy(q + 260 + 2 * i, &sum, 2);
        }
    }
    row_bytes = (size_t)cols / WEIGHTS * bytes;
    return 1;
}

int main(int argc, char **argv) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    void (*init)(void) = NULL;
    const traits *(*get)(int) = NULL;
    if (library) {
        *(void **)&init = dlsym(library, "ggml_cpu_init");
        *(void **)&get = dlsym(library, "ggml_get_type_traits_cpu");
    }
    if (!init || !get) {
        printf("error %s\n", library ? "the library has no ggml_cpu_init or ggml_get_type_traits_cpu" : dlerror());
        return 1;
    }
    init();
    puts("ggml's vec_dot of TQ1_0 and TQ2_0 by Q8_K");
    fflush(stdout);
    char name[16];
    int repeats;
    while (scanf("%15s %ld %ld %d %d", name, &rows, &cols, &threads, &repeats) == 5) {
        double ns = -1;
        for (size_t k = 0; k < sizeof types / sizeof *types; k++)
            if (strcmp(types[k].name, name) == 0 && rows > 0 && cols > 0 && cols % WEIGHTS == 0 && threads > 0 && threads <= MAX_THREADS && repeats > 0) {
                const traits *t = get(types[k].type);
                if ((dot = t ? t->dot : NULL) && make(types[k].bytes, k == 0)) ns = timed(repeats);
            }
        if (ns > 0)
            printf("call=%.1f\n", ns);
        else
            printf("error %s %ldx%ld with %d threads: not possible here\n", name, rows, cols, threads);
        fflush(stdout);
    }
    return 0;
}
