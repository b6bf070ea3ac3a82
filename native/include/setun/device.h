/* SPDX-License-Identifier: Apache-2.0
 *
 * setun/device.h: what a backend with memory of its own adds to its table.
 *
 * A context is one device. In every argument block each array of values, codes, scales, labels or distances may lie in the host's memory or in a buffer
 * that the context's alloc returned (anywhere inside it). The backend knows its buffers: it works on those in place and copies the others to the
 * device and back within the call. So the same kernel serves both, one call may mix them, and a chain of calls on buffers copies nothing.
 *
 * Always in the host's memory: argument blocks, what k-means has by column or by centroid (mean, centroids, next, bias, scale, low, high, counts, the sums),
 * the offsets, radii, norms and scratch of clusters, the scratch of step, the parts of rmsnorm and the stats of softmax.
 *
 * After a failure arrays of the host are as the op says. So are buffers, but that those which a call writes may be spoiled where the status is
 * SETUN_EDEVICE or SETUN_ELOST.
 *
 * A backend may do a call in pieces for which the device has not enough memory at once. Results and promises are the same: what the call changes in place in
 * the host's memory is written when all pieces have been done, from memory of the host's aside, and until then a failure, or cancel, leaves it as it was. A
 * call that writes to a buffer is not cut, as a failure in the middle would spoil that: it answers SETUN_ENOMEM, and the buffer is as it was.
 * SETUN_KMEANS_ITERATE and SETUN_KMEANS_SEED may answer that where single steps would not: the host may begin anew with those, on arrays of its own.
 *
 * Memory that pin returned is the host's like any other, but copies between it and the device run at the speed of the bus.
 *
 * Calls return when their results are there. Addresses of buffers mean nothing to the host: it must not read them. */
#ifndef SETUN_DEVICE_H
#define SETUN_DEVICE_H

#include <setun/backend.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The block of alloc, free, upload, download, copy, limit, pin and unpin. */
typedef struct setun_memory {
    setun_call call;
    void *device;     /* out of alloc; where free, upload, download and copy work (copy: to) */
    const void *from; /* upload: in the host's memory; copy: on the device */
    void *to;         /* download: in the host's memory; pin: out; unpin */
    int64_t bytes;    /* at least 1; limit: how much of the device the context may take, 0: no limit */
} setun_memory;

/* The block of info. */
typedef struct setun_device_info {
    setun_call call;
    char name[128];         /* "NVIDIA H200" */
    char driver[32];        /* its version, "13.0" */
    int64_t total, free;    /* bytes of memory */
    int32_t ordinal;        /* of this device among those of the backend */
    int32_t units;          /* multiprocessors */
    int32_t major, minor;   /* compute capability */
    int64_t launches, lost; /* kernels started so far; the driver's error that the device was lost to, or 0 */
    int64_t taken;          /* bytes of device memory that the context has, scratch included */
} setun_device_info;

/* The block of attach. */
typedef struct setun_library {
    setun_call call;
    const char *kernel; /* the name of the kernels that need it: "cublas" */
    const char *path;   /* its path, or a name that the system's loader knows */
    char version[32];   /* out: what it says of itself, "13.0.2" */
} setun_library;

typedef struct setun_device {
    uint32_t size; /* sizeof(setun_device) as the backend was compiled; it only ever grows at its end */
    uint32_t reserved;
    int32_t (*count)(char *message, uint32_t message_size);                                   /* devices; negative: a setun_status, with a message */
    int32_t (*open)(setun_ctx **ctx, uint32_t ordinal, char *message, uint32_t message_size); /* a device; the table's open opens device 0 */
    int32_t (*info)(setun_ctx *ctx, setun_device_info *info);
    int32_t (*alloc)(setun_ctx *ctx, setun_memory *m);
    int32_t (*free)(setun_ctx *ctx, setun_memory *m);
    int32_t (*upload)(setun_ctx *ctx, setun_memory *m);
    int32_t (*download)(setun_ctx *ctx, setun_memory *m);
    int32_t (*copy)(setun_ctx *ctx, setun_memory *m);
    int32_t (*limit)(setun_ctx *ctx, setun_memory *m);
    int32_t (*pin)(setun_ctx *ctx, setun_memory *m); /* gives host memory; both may be null */
    int32_t (*unpin)(setun_ctx *ctx, setun_memory *m);
    /* Opens a library of others, before any call: kernels that need it answer SETUN_EUNSUPPORTED without. It stays open. May be null. */
    int32_t (*attach)(setun_ctx *ctx, setun_library *l);
} setun_device;

#ifdef __cplusplus
}
#endif
#endif
