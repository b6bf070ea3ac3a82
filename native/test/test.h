/* SPDX-License-Identifier: Apache-2.0
 *
 * test.h: what the parts of the C test driver share. Each part runs one op on every kernel of the table: the scalar kernel is
 * compared with naive.c, which follows docs/numerics.md in its own way, and every other kernel with the scalar one, by bits. */
#ifndef SETUN_TEST_H
#define SETUN_TEST_H

#include <setun/backend.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- Bookkeeping -------------------------------------------------------------------------------------------------- */

/* Counts a case of the kernel; on failure prints the text, which has to be enough to find the case again. */
#if defined(__MINGW32__)
__attribute__((format(gnu_printf, 3, 4)))
#else
__attribute__((format(printf, 3, 4)))
#endif
void expect(int ok, const setun_kernel *k, const char *text, ...);
/* The library's own state, what every kernel is called with. */
extern setun_ctx *context;
/* The first kernel of an op whose name begins with "scalar". */
const setun_kernel *scalar(uint32_t op);
/* Calls body for each kernel of the op, the scalar one first: side 0 is the scalar kernel. */
typedef void each_fn(const setun_kernel *k, int side, void *state);
void each(uint32_t op, each_fn *body, void *state);

/* ---- Memory ------------------------------------------------------------------------------------------------------- */

/* Memory that ends where AddressSanitizer looks, or else before bytes that release checks, and begins offset bytes after a multiple of 64. */
void *guarded(size_t bytes, size_t offset);
/* Frees it. Counts as a mismatch when something was written before or behind it. */
void release(void *p);

/* ---- Data --------------------------------------------------------------------------------------------------------- */

uint32_t next(void);
/* Kinds of values. TIES has magnitudes on the cuts of its own mean 1, EQUAL one magnitude only,
 * NEIGHBOURS those next to the cuts of a scale of 1, HUGE_VALUES overflows float32 sums. */
enum { PLAIN, WIDE, HUGE_VALUES, SUBNORMAL, FEW, ZEROS, TIES, EQUAL, NEIGHBOURS, KINDS };
void fill(float *x, size_t n, int kind);
float *vector(int kind, size_t n, size_t offset);
/* Whether two arrays have the same bits. */
static inline int same(const void *a, const void *b, size_t bytes) { return memcmp(a, b, bytes) == 0; }
/* Or a NaN at the same places. */
static inline int alike(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!same(a + i, b + i, sizeof *a) && (a[i] == a[i] || b[i] == b[i])) return 0;
    return 1;
}

/* ---- Parts -------------------------------------------------------------------------------------------------------- */

void test_quantize(void);
void test_reduce(void);
void test_kmeans(void);
void test_kmeans_failures(void);
void test_matmul(void);
void test_clusters(void);
void test_step(void);
void test_ternary(void);
void test_rows(void);
void test_update(void);
/* Asks for the workspace, gives exactly that, and runs the step. */
int32_t kmeans_step(const setun_kernel *k, setun_kmeans *a);
/* Prints how fast the kernels are whose "op/kernel" contains the text. */
int bench(const setun_table *t, const char *filter);

/* ---- Naive arithmetic (naive.c) ----------------------------------------------------------------------------------- */

double naive_dot(const float *x, const float *y, size_t n);
double naive_magnitudes(const float *x, size_t n);
/* The scale of a group, and its codes; index is that of x[0] in the tensor. */
float naive_group(uint32_t rule, uint32_t levels, uint64_t seed, const float *x, size_t n, uint64_t index, int8_t *codes);
/* Packs a row; returns its bytes. */
size_t naive_pack(uint32_t format, uint8_t *out, const int8_t *codes, size_t n);
float naive_scaled(float x, double f);
float naive_chain(float a, const float *u, const float *v, size_t d);
/* e^x of Exp32 in internal/canon/exp.go. */
float naive_exp(float x);
void naive_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
