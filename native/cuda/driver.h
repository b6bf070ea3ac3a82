/* SPDX-License-Identifier: Apache-2.0
 *
 * driver.h: the slice of the CUDA driver API that the backend uses, found at run time: building it needs no CUDA, using it needs the driver alone.
 * SETUN_CUDA_DRIVER is the absolute path of another library to take for the driver, but in processes with raised privileges; the tests' stand-in is never found
 * otherwise. */
#ifndef SETUN_CUDA_DRIVER_H
#define SETUN_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

namespace setun {

typedef int Result; /* CUresult */
typedef unsigned long long Address;

enum : Result { DRIVER_OK = 0, DRIVER_NO_MEMORY = 2, DRIVER_NOT_READY = 600 };

#define SETUN_DRIVER(X)                                                                                                                                        \
    X(cuInit, (unsigned))                                                                                                                                      \
    X(cuDriverGetVersion, (int *))                                                                                                                             \
    X(cuDeviceGetCount, (int *))                                                                                                                               \
    X(cuDeviceGet, (int *, int))                                                                                                                               \
    X(cuDeviceGetName, (char *, int, int))                                                                                                                     \
    X(cuDeviceGetAttribute, (int *, int, int))                                                                                                                 \
    X(cuDeviceTotalMem_v2, (size_t *, int))                                                                                                                    \
    X(cuDevicePrimaryCtxRetain, (void **, int))                                                                                                                \
    X(cuDevicePrimaryCtxRelease_v2, (int))                                                                                                                     \
    X(cuCtxGetCurrent, (void **))                                                                                                                              \
    X(cuCtxSetCurrent, (void *))                                                                                                                               \
    X(cuMemGetInfo_v2, (size_t *, size_t *))                                                                                                                   \
    X(cuMemAlloc_v2, (Address *, size_t))                                                                                                                      \
    X(cuMemFree_v2, (Address))                                                                                                                                 \
    X(cuMemAllocHost_v2, (void **, size_t))                                                                                                                    \
    X(cuMemFreeHost, (void *))                                                                                                                                 \
    X(cuMemcpyHtoDAsync_v2, (Address, const void *, size_t, void *))                                                                                           \
    X(cuMemcpyDtoHAsync_v2, (void *, Address, size_t, void *))                                                                                                 \
    X(cuMemcpyDtoDAsync_v2, (Address, Address, size_t, void *))                                                                                                \
    X(cuMemsetD8Async, (Address, unsigned char, size_t, void *))                                                                                               \
    X(cuStreamCreate, (void **, unsigned))                                                                                                                     \
    X(cuStreamQuery, (void *))                                                                                                                                 \
    X(cuStreamDestroy_v2, (void *))                                                                                                                            \
    X(cuEventCreate, (void **, unsigned))                                                                                                                      \
    X(cuEventRecord, (void *, void *))                                                                                                                         \
    X(cuEventQuery, (void *))                                                                                                                                  \
    X(cuEventDestroy_v2, (void *))                                                                                                                             \
    X(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **))                                                                                   \
    X(cuModuleUnload, (void *))                                                                                                                                \
    X(cuModuleGetFunction, (void **, void *, const char *))                                                                                                    \
    X(cuFuncSetAttribute, (void *, int, int))                                                                                                                  \
    X(cuLaunchKernel, (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **))                                \
    X(cuGetErrorName, (Result, const char **))

struct Driver {
#define X(name, args) Result(*name) args;
    SETUN_DRIVER(X)
#undef X
    int version; /* 13000 is 13.0 */
    int devices;

    /* The name of an error, or "unknown error". */
    const char *name(Result r) const;
};

/* A variable of the environment; null in a process with privileges that its user lacks, who must not choose what it loads. */
const char *setting(const char *name);

/* The driver, or null with a message that says what is missing. Cheap after the first time; an answer of null is asked for again. */
const Driver *driver(char *message, uint32_t size);

/* snprintf for messages; nothing where there is no room for any. */
void format(char *out, uint32_t size, const char *text, ...) __attribute__((format(printf, 3, 4)));

} // namespace setun

#endif
