/* SPDX-License-Identifier: Apache-2.0
 *
 * driver.c: every kernel of a library without Go: for sanitizers, emulators and machines without Go. The Go suite in
 * backends/conform compares the same kernels with pure Go.
 *
 *     test_simd_c                 checks everything and prints how many cases each kernel had
 *     test_simd_c --bench [text]  prints how fast the kernels are, those only whose "op/kernel" contains the text
 *     test_cpp                    the same for the threaded library
 *     test_cuda --layers          of the CUDA library, the ops between products and that of an optimiser
 *     test_simd_c --leak          loses memory and does nothing else: what a sanitizer of leaks has to find */
#define _POSIX_C_SOURCE 200112L
#include "test.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#if defined(_WIN32)
#include <malloc.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
enum { TAIL = 0 }; /* the sanitizer watches the end itself */
#else
enum { TAIL = 64 };
#endif
enum { HEAD = 64, CANARY = 0xA5, KERNELS = 1024, BUFFERS = 32 };

static const setun_table *table;
setun_ctx *context;
static long cases[KERNELS], mismatches;
static int layers; /* only the ops from rmsnorm on, of a library that need not have a scalar kernel */

void expect(int ok, const setun_kernel *k, const char *text, ...) {
    static const char *const ops[] = {"?",    "quantize",    "constrain", "dot",    "norm2",   "kmeans",  "matmul",   "clusters",
                                      "step", "activations", "ternary",   "recode", "rmsnorm", "softmax", "activate", "update"};
    cases[k - table->kernels]++;
    if (ok || mismatches++ >= 20) return;
    va_list list;
    va_start(list, text);
    printf("MISMATCH %s/%s: ", ops[k->op < sizeof ops / sizeof *ops ? k->op : 0], k->name);
    vprintf(text, list);
    printf("\n");
    va_end(list);
}

const setun_kernel *scalar(uint32_t op) {
    for (uint32_t i = 0; i < table->kernel_count; i++)
        if (table->kernels[i].op == op && (layers || strncmp(table->kernels[i].name, "scalar", 6) == 0)) return &table->kernels[i];
    printf("op %u has no scalar kernel\n", op);
    exit(1);
}

/* Some numbers of threads stand for all, and the slow reference need not be tried with many. */
static int tested(const setun_kernel *k) {
#if defined(__SANITIZE_THREAD__)
    if (k->threads != 2 && k->threads != 7) return 0; /* each takes ten times as long; who is alone races with nobody */
#endif
    return k->threads <= 3 || ((k->threads == 7 || k->threads == 16) && strncmp(k->name, "scalar", 6) != 0);
}

void each(uint32_t op, each_fn *body, void *state) {
    const setun_kernel *first = scalar(op);
    body(first, 0, state);
    for (uint32_t i = 0; i < table->kernel_count; i++)
        if (table->kernels[i].op == op && &table->kernels[i] != first && tested(&table->kernels[i])) body(&table->kernels[i], 1, state);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------- */

#if defined(_WIN32)
static void *aligned(size_t bytes) { return _aligned_malloc(bytes, 64); }
static void discard(void *p) { _aligned_free(p); }
#else
static void *aligned(size_t bytes) {
    void *p;
    return posix_memalign(&p, 64, bytes) ? NULL : p;
}
static void discard(void *p) { free(p); }
#endif

static struct buffer {
    unsigned char *base, *p;
    size_t bytes;
} buffers[BUFFERS];

void *guarded(size_t bytes, size_t offset) {
    struct buffer *b = buffers;
    while (b < buffers + BUFFERS && b->p) b++;
    void *base = b < buffers + BUFFERS ? aligned(HEAD + offset + bytes + TAIL) : NULL;
    if (!base) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    *b = (struct buffer){base, (unsigned char *)base + HEAD + offset, bytes};
    memset(base, CANARY, HEAD + offset);
    memset(b->p + bytes, CANARY, TAIL);
    return b->p;
}

void release(void *p) {
    struct buffer *b = buffers;
    while (b < buffers + BUFFERS && b->p != p) b++;
    if (b == buffers + BUFFERS) abort();
    int intact = 1;
    for (unsigned char *q = b->base; q < b->p; q++) intact &= *q == CANARY;
    for (int i = 0; i < TAIL; i++) intact &= b->p[b->bytes + (size_t)i] == CANARY;
    if (!intact && mismatches++ < 20) printf("MISMATCH: something wrote outside of %zu bytes\n", b->bytes);
    discard(b->base);
    b->p = NULL;
}

/* ---- Data --------------------------------------------------------------------------------------------------------- */

uint32_t next(void) {
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

void fill(float *x, size_t n, int kind) {
    static const float ties[8] = {0.5f, 1.5f, 1, 1, 0.25f, 0.75f, 1.5f, 1.5f};
    for (size_t i = 0; i < n; i++) {
        float u = (float)(next() >> 7) / 16777216.0f - 1; /* exact, in [-1, 1) */
        uint32_t b = next();
        switch (kind) {
        case WIDE:
            x[i] = ldexpf(u, (int)(b % 120) - 60);
            break;
        case HUGE_VALUES:
            x[i] = u * 3.4e38f;
            break;
        case SUBNORMAL:
            b &= 0x80ffffffu, memcpy(x + i, &b, sizeof b);
            break;
        case FEW:
            x[i] = (float)((int)(b % 5) - 2) / 2;
            break;
        case ZEROS:
            x[i] = b & 1 ? 0.0f : -0.0f;
            break;
        case TIES:
            x[i] = b & 1 ? ties[i % 8] : -ties[i % 8];
            break;
        case EQUAL:
            x[i] = b & 1 ? 0.7f : -0.7f;
            break;
        case NEIGHBOURS: /* of the cuts of ternary and quinary codes, and of the greatest value */
            x[i] = (float)(1 + b % 4) / 4;
            if (b & 16) x[i] = nextafterf(x[i], b & 32 && x[i] < 1 ? 2 : 0);
            if (b & 64) x[i] = -x[i];
            break;
        default:
            x[i] = u;
        }
    }
}

float *vector(int kind, size_t n, size_t offset) {
    float *x = guarded(n * sizeof *x, offset);
    fill(x, n, kind);
    return x;
}

/* ---- No memory ---------------------------------------------------------------------------------------------------- */

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* The library takes this one: symbols of the program come first. */
extern void *__libc_malloc(size_t bytes);
static int no_memory;
__attribute__((visibility("default"))) void *malloc(size_t bytes) { return no_memory ? NULL : __libc_malloc(bytes); }

/* A library that gets no memory says so, and works once there is some. */
static int opens_without_memory(void) {
    char text[100] = "";
    setun_ctx *opened = NULL;
    no_memory = 1;
    int32_t rc = table->open(&opened, text, sizeof text);
    no_memory = 0;
    if (rc == SETUN_ENOMEM && !opened && text[0]) return 1;
    printf("MISMATCH open without memory: rc=%d, %s\n", rc, text);
    return 0;
}
#else
static int opens_without_memory(void) { return 1; } /* malloc is not ours to replace: a sanitizer's, or another system's */
#endif

/* ---- Main --------------------------------------------------------------------------------------------------------- */

/* Loses memory. */
static int leak(void) {
    static char *volatile lost;
    lost = malloc(1000);
    if (!lost) return 1;
    lost = NULL;
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--leak") == 0) return leak();
    table = setun_backend(SETUN_ABI);
    if (!table || setun_backend(SETUN_ABI + 1) || setun_backend(0)) {
        printf("no table, or one for an unknown version\n");
        return 1;
    }
    if (table->magic != SETUN_MAGIC || table->size < sizeof *table || table->kernel_size != sizeof(setun_kernel) || table->kernel_count > KERNELS) {
        printf("the table is not what backend.h says\n");
        return 1;
    }
    char message[100] = "";
    if (table->open && !opens_without_memory()) return 1;
    if (table->open && table->open(&context, message, sizeof message) != SETUN_OK) {
        printf("open failed: %s\n", message);
        return 1;
    }
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench(table, argc > 2 ? argv[2] : "");

    layers = argc > 1 && strcmp(argv[1], "--layers") == 0;
    if (!layers) {
        test_quantize();
        test_reduce();
        test_kmeans();
        test_kmeans_failures();
        test_matmul();
        test_clusters();
        test_step();
        test_ternary();
    }
    test_rows();
    test_update();

    long total = 0;
    for (uint32_t i = 0; i < table->kernel_count; i++) {
        if (!tested(&table->kernels[i]) || (layers && table->kernels[i].op < SETUN_OP_RMSNORM)) continue;
        total += cases[i];
        printf("%s%s %ld", i == 0 ? "" : table->kernels[i].name == table->kernels[i - 1].name ? ", " : "\n", table->kernels[i].name, cases[i]);
        if (cases[i] == 0) mismatches++;
    }
    if (table->close) table->close(context);
    printf("\n%ld cases, %ld mismatches\n", total, mismatches);
    return mismatches != 0 || total == 0;
}
