/* SPDX-License-Identifier: Apache-2.0
 *
 * cublas.h: the slice of cuBLAS that products of fast numerics use, found at run time. It works in whatever context is current, as the runtime API below it
 * does; that of a device is the one that the runtime API has for it, too. */
#ifndef SETUN_CUDA_CUBLAS_H
#define SETUN_CUDA_CUBLAS_H

#include <atomic>
#include <stddef.h>
#include <stdint.h>

namespace setun {

#define SETUN_CUBLAS(X)                                                                                                                                        \
    X(cublasGetProperty, (int, int *))                                                                                                                         \
    X(cublasCreate_v2, (void **))                                                                                                                              \
    X(cublasDestroy_v2, (void *))                                                                                                                              \
    X(cublasSetStream_v2, (void *, void *))                                                                                                                    \
    X(cublasSetWorkspace_v2, (void *, void *, size_t))                                                                                                         \
    X(cublasSetMathMode, (void *, int))                                                                                                                        \
    X(cublasSgemm_v2, (void *, int, int, int, int, int, const float *, const float *, int, const float *, int, const float *, float *, int))                   \
    X(cublasSgemmStridedBatched, (void *, int, int, int, int, int, const float *, const float *, int, long long, const float *, int, long long, const float *, \
                                  float *, int, long long, int))

struct Cublas {
#define X(name, args) int(*name) args;
    SETUN_CUBLAS(X)
#undef X
    std::atomic<bool> ready{false};

    /* Opens the library, which stays open; SETUN_OK, or a status with a message. Its version goes to text. */
    int32_t open(const char *path, char *text, uint32_t text_size, char *message, uint32_t size);
};

/* A call of cublasSgemm, in its own terms: matrices are stored by columns. */
struct Gemm {
    bool trans_a, trans_b, add;
    int m, n, k;
    const float *a, *b;
    float *c;
    int lda, ldb, ldc;
    int64_t stride_a, stride_b, stride_c;
    int batch;
    void *workspace;
    size_t workspace_bytes;
};

} // namespace setun

#endif
