// SPDX-License-Identifier: Apache-2.0
//
// fake_cublas.cpp: a stand-in for cuBLAS on the stand-in for the driver: what the library calls of it, with loops on the processor in stream order. Only an
// explicit setting loads it (SETUN_CUBLAS). Stricter than the real one:
//   - a handle is used in the context that it was made in, else "execution failed"; it holds memory of the device, so one that is left shows;
//   - arithmetic that is not pedantic rounds its factors to 11 bits, as the tensor cores may;
//   - a new stream takes the workspace away, and a product spoils all of the workspace;
//   - sums are made in four parts, so no result is canonical by accident;
//   - matrices and workspace lie in live memory of the device, else "execution failed", and a line on stderr.
// Faults are those of the driver by the names of functions here (cufake_fault), the codes being cuBLAS's; "sgemm" is the kernel itself, with a code of the
// driver's.
#include "fake.h"

#include <mutex>
#include <set>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

extern "C" {
int cuMemAlloc_v2(unsigned long long *, size_t);
int cuMemFree_v2(unsigned long long);
int cuCtxGetCurrent(void **);
int cuCtxSynchronize();
}

namespace {

enum Status { OK = 0, NOT_INITIALIZED = 1, NO_MEMORY = 3, INVALID_VALUE = 7, EXECUTION_FAILED = 13 };
enum { POOL = 4096, LEAST_WORKSPACE = 16 << 10, PEDANTIC = 2 };

struct Handle {
    void *context, *stream;
    unsigned long long pool;
    void *workspace;
    size_t workspace_bytes;
    int math;
};

struct Handles {
    std::mutex mutex;
    std::set<Handle *> handles;
} &all = *new Handles; /* never deleted: a handle may not be given back in time */

/* What every function but the first begins with. */
Status enter(const char *name, Handle *h) {
    if (int due = cufake_due(name)) return Status(due);
    std::lock_guard<std::mutex> lock(all.mutex);
    if (!all.handles.count(h)) return NOT_INITIALIZED;
    void *now = nullptr;
    return cuCtxGetCurrent(&now) == 0 && now == h->context ? OK : EXECUTION_FAILED;
}

float short_of(float v) { /* a float with 11 bits, to nearest */
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bits = (bits + 0xfff + (bits >> 13 & 1)) & ~uint32_t(0x1fff);
    memcpy(&v, &bits, 4);
    return v;
}

struct Product {
    bool ta, tb, pedantic;
    long long m, n, k, lda, ldb, ldc, stride_a, stride_b, stride_c, batch;
    float alpha, beta;
    const float *a, *b; /* as the host sees them */
    float *c;
    void *workspace;
    size_t workspace_bytes;

    float factor(const float *x, long long at) const { return pedantic ? x[at] : short_of(x[at]); }
    void one(const float *x, const float *y, float *z) const {
        for (long long j = 0; j < n; j++)
            for (long long i = 0; i < m; i++) {
                float part[4] = {};
                for (long long p = k - 1; p >= 0; p--) part[p % 4] += factor(x, ta ? i * lda + p : p * lda + i) * factor(y, tb ? p * ldb + j : j * ldb + p);
                float &to = z[j * ldc + i];
                const float sum = alpha * ((part[0] + part[1]) + (part[2] + part[3]));
                to = beta == 0 ? sum : sum + beta * to;
            }
    }
};

void run(void *data) {
    Product *p = static_cast<Product *>(data);
    if (p->workspace) memset(p->workspace, 0xff, p->workspace_bytes);
    for (long long q = 0; q < p->batch; q++) p->one(p->a + q * p->stride_a, p->b + q * p->stride_b, p->c + q * p->stride_c);
}
void end(void *data) { delete static_cast<Product *>(data); }

/* Where the host finds a matrix of the device, and those behind it. */
float *place(const float *at, long long rows, long long cols, long long ld, long long stride, long long batch) {
    const long long values = (batch - 1) * stride + (cols - 1) * ld + rows;
    void *p = cufake_host(reinterpret_cast<unsigned long long>(at), size_t(values) * sizeof(float));
    if (!p) fprintf(stderr, "libcublas_fake: a matrix of %lld values does not lie in memory of the device\n", values);
    return static_cast<float *>(p);
}

Status multiply(Handle *h, int ta, int tb, Product p) {
    if (ta < 0 || ta > 1 || tb < 0 || tb > 1 || p.m < 1 || p.n < 1 || p.k < 1 || p.batch < 1) return INVALID_VALUE;
    p.ta = ta == 1, p.tb = tb == 1, p.pedantic = h->math == PEDANTIC;
    const long long rows_a = p.ta ? p.k : p.m, cols_a = p.ta ? p.m : p.k, rows_b = p.tb ? p.n : p.k, cols_b = p.tb ? p.k : p.n;
    if (p.lda < rows_a || p.ldb < rows_b || p.ldc < p.m) return INVALID_VALUE;
    p.a = place(p.a, rows_a, cols_a, p.lda, p.stride_a, p.batch), p.b = place(p.b, rows_b, cols_b, p.ldb, p.stride_b, p.batch);
    p.c = place(p.c, p.m, p.n, p.ldc, p.stride_c, p.batch);
    if (!p.a || !p.b || !p.c) return EXECUTION_FAILED;
    if (h->workspace) {
        p.workspace_bytes = h->workspace_bytes;
        if (!(p.workspace = cufake_host(reinterpret_cast<unsigned long long>(h->workspace), h->workspace_bytes))) return EXECUTION_FAILED;
    }
    return cufake_work(h->stream, "sgemm", run, end, new Product(p)) == 0 ? OK : EXECUTION_FAILED;
}

} // namespace

SETUN_FAKE_API int cublasGetProperty(int type, int *value) {
    static const int version[] = {13, 0, 2};
    if (type < 0 || type > 2 || !value) return INVALID_VALUE;
    *value = version[type];
    return OK;
}

SETUN_FAKE_API int cublasCreate_v2(Handle **h) {
    if (int due = cufake_due(__func__)) return due;
    void *context = nullptr;
    if (cuCtxGetCurrent(&context) != 0 || !context) return NOT_INITIALIZED; /* the real one would choose a device by itself */
    unsigned long long pool = 0;
    if (int r = cuMemAlloc_v2(&pool, POOL)) return r == 2 ? NO_MEMORY : NOT_INITIALIZED;
    *h = new Handle{context, nullptr, pool, nullptr, 0, 0};
    std::lock_guard<std::mutex> lock(all.mutex);
    all.handles.insert(*h);
    return OK;
}

/* A fault is of what it waits for: the handle is gone. */
SETUN_FAKE_API int cublasDestroy_v2(Handle *h) {
    const int due = cufake_due(__func__);
    if (int r = enter("", h)) return r;
    {
        std::lock_guard<std::mutex> lock(all.mutex);
        all.handles.erase(h);
    }
    const int r = cuCtxSynchronize() | cuMemFree_v2(h->pool);
    delete h;
    return due ? due : r ? EXECUTION_FAILED : OK;
}

SETUN_FAKE_API int cublasSetStream_v2(Handle *h, void *stream) {
    if (int r = enter(__func__, h)) return r;
    h->stream = stream, h->workspace = nullptr, h->workspace_bytes = 0;
    return OK;
}

SETUN_FAKE_API int cublasSetWorkspace_v2(Handle *h, void *workspace, size_t bytes) {
    if (int r = enter(__func__, h)) return r;
    if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) return INVALID_VALUE;
    if (bytes < LEAST_WORKSPACE) return NO_MEMORY;
    h->workspace = workspace, h->workspace_bytes = bytes;
    return OK;
}

SETUN_FAKE_API int cublasSetMathMode(Handle *h, int mode) {
    if (int r = enter(__func__, h)) return r;
    h->math = mode;
    return OK;
}

SETUN_FAKE_API int cublasSgemm_v2(Handle *h, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda, const float *b, int ldb,
                                  const float *beta, float *c, int ldc) {
    if (int r = enter(__func__, h)) return r;
    return multiply(h, ta, tb, {false, false, false, m, n, k, lda, ldb, ldc, 0, 0, 0, 1, *alpha, *beta, a, b, c, nullptr, 0});
}

SETUN_FAKE_API int cublasSgemmStridedBatched(Handle *h, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda, long long stride_a,
                                             const float *b, int ldb, long long stride_b, const float *beta, float *c, int ldc, long long stride_c, int batch) {
    if (int r = enter(__func__, h)) return r;
    return multiply(h, ta, tb, {false, false, false, m, n, k, lda, ldb, ldc, stride_a, stride_b, stride_c, batch, *alpha, *beta, a, b, c, nullptr, 0});
}
