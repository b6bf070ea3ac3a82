// SPDX-License-Identifier: Apache-2.0
//
// cublas.cpp: binds cuBLAS, and calls it on a lane's stream.
#include "lane.h"

#include <dlfcn.h>

namespace setun {

int32_t Cublas::open(const char *path, char *text, uint32_t text_size, char *message, uint32_t size) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        format(message, size, "cuBLAS: %s cannot be opened", path);
        return SETUN_EUNSUPPORTED;
    }
#define X(name, args)                                                                                                                                          \
    if (!((name) = reinterpret_cast<int(*) args>(dlsym(library, #name)))) {                                                                                    \
        format(message, size, "%s is no cuBLAS, or too old a one: it has no %s", path, #name);                                                                 \
        return SETUN_EUNSUPPORTED;                                                                                                                             \
    }
    SETUN_CUBLAS(X)
#undef X
    int v[3] = {};
    for (int i = 0; i < 3; i++) cublasGetProperty(i, v + i);
    format(text, text_size, "%d.%d.%d", v[0], v[1], v[2]);
    ready.store(true);
    return SETUN_OK;
}

enum { CUBLAS_OK = 0, CUBLAS_NOT_INITIALIZED = 1, CUBLAS_NO_MEMORY = 3, CUBLAS_NOT_FOR_THE_DEVICE = 8, CUBLAS_NOT_SUPPORTED = 15, CUBLAS_PEDANTIC = 2 };

static const char *name_of(int status) {
    switch (status) {
    case CUBLAS_NOT_INITIALIZED:
        return "not initialized";
    case CUBLAS_NO_MEMORY:
        return "allocation failed";
    case 7:
        return "invalid value";
    case CUBLAS_NOT_FOR_THE_DEVICE:
        return "architecture mismatch";
    case 11:
        return "mapping error";
    case 13:
        return "execution failed";
    case 14:
        return "internal error";
    case CUBLAS_NOT_SUPPORTED:
        return "not supported";
    case 16:
        return "license error";
    }
    return "unknown status";
}

/* A status of cuBLAS as the call's. Where the device is the reason the driver says so. */
bool Lane::agreed(int status, const char *doing) {
    if (status == CUBLAS_OK || !ok()) return ok();
    const Result r = device.driver->cuStreamQuery(stream_);
    if (r != DRIVER_NOT_READY) check(r, doing);
    if (!ok()) return false;
    const bool short_of_memory =
        status == CUBLAS_NO_MEMORY || (status == CUBLAS_NOT_INITIALIZED && !blas_); /* the latter is what making a handle says then, too */
    status_ = short_of_memory ? SETUN_ENOMEM : status == CUBLAS_NOT_FOR_THE_DEVICE || status == CUBLAS_NOT_SUPPORTED ? SETUN_EUNSUPPORTED : SETUN_EDEVICE;
    if (started_ && changes_) status_ = SETUN_EDEVICE; /* otherwise nothing has happened */
    format(call_->message, call_->message_size, "%s: cuBLAS answers %d (%s)", doing, status, name_of(status));
    return false;
}

/* Pedantic, so that neither a default nor the environment turns float32 into sums of shorter floats. The stream takes its workspace with it, so the order of
 * calls matters. */
void Lane::multiply(const Gemm &g) {
    void *now = nullptr;
    device.driver->cuCtxGetCurrent(&now);
    if (now != device.context_) check(201, "making the device's context current"); /* cuBLAS would take another device's, or make one */
    bring();
    if (!ok()) return;
    const Cublas &b = device.cublas;
    const float one = 1, beta = g.add ? 1 : 0;
    const int ta = g.trans_a, tb = g.trans_b;
    if (!blas_ && !agreed(b.cublasCreate_v2(&blas_), "making a handle of cuBLAS")) blas_ = nullptr;
    if (!ok() || !agreed(b.cublasSetStream_v2(blas_, stream_), "setting cuBLAS's stream") ||
        !agreed(b.cublasSetWorkspace_v2(blas_, g.workspace, g.workspace_bytes), "setting cuBLAS's workspace") ||
        !agreed(b.cublasSetMathMode(blas_, CUBLAS_PEDANTIC), "setting cuBLAS's arithmetic"))
        return;
    agreed(g.batch == 1 ? b.cublasSgemm_v2(blas_, ta, tb, g.m, g.n, g.k, &one, g.a, g.lda, g.b, g.ldb, &beta, g.c, g.ldc)
                        : b.cublasSgemmStridedBatched(blas_, ta, tb, g.m, g.n, g.k, &one, g.a, g.lda, g.stride_a, g.b, g.ldb, g.stride_b, &beta, g.c, g.ldc,
                                                      g.stride_c, g.batch),
           "a product by cuBLAS");
    started_ = true;
    device.launches.fetch_add(1, std::memory_order_relaxed);
}

bool Lane::forget() {
    if (!blas_) return false;
    device.cublas.cublasDestroy_v2(blas_);
    blas_ = nullptr;
    return true;
}

} // namespace setun
