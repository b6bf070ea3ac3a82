// SPDX-License-Identifier: Apache-2.0
//
// backend.cpp: the table of the CUDA library. One kernel an op; a context is a device.
#include "pieces.h"

#include <new>
#include <stdlib.h>
#include <string.h>

struct setun_ctx {
    setun::Device device;
};

namespace setun {

int32_t invalid(const setun_call *call, const char *message) {
    format(call->message, call->message_size, "%s", message);
    return SETUN_EINVAL;
}

namespace {

template <class Args> using Op = int32_t (*)(Lane &, Args *);
template <class Args> using Cutter = int32_t (*)(Pieces &, Args *);

/* Where there is no memory, what lanes hold of earlier calls is given up first, that of the call's own lane, too. begun: whether the op was called at all, and
 * not only looked for a lane. */
template <class Args, Op<Args> op> int32_t attempt(setun_ctx *ctx, Args *args, bool *begun) {
    if (!ctx) return invalid(reinterpret_cast<setun_call *>(args), "there is no context");
    auto work = [begun](Lane &lane, Args *a) {
        *begun = true;
        return op(lane, a);
    };
    int32_t rc = with_lane(ctx->device, args, work);
    if (rc != SETUN_ENOMEM) return rc;
    Current current(ctx->device);
    return ctx->device.trim() ? with_lane(ctx->device, args, work) : rc;
}

template <class Args, Op<Args> op> int32_t run(setun_ctx *ctx, void *block) {
    bool begun;
    return attempt<Args, op>(ctx, static_cast<Args *>(block), &begun);
}

/* A call that does not fit is done in pieces, if the op has looked at its block. */
template <class Args, Op<Args> op, Cutter<Args> cut> int32_t run_cut(setun_ctx *ctx, void *block) {
    bool begun = false;
    int32_t rc = attempt<Args, op>(ctx, static_cast<Args *>(block), &begun);
    if (rc != SETUN_ENOMEM || !begun) return rc;
    Pieces pieces(ctx->device, static_cast<setun_call *>(block));
    rc = pieces.begin();
    if (rc == SETUN_OK) rc = cut(pieces, static_cast<Args *>(block));
    return pieces.finish(rc);
}

int32_t open_device(setun_ctx **ctx, uint32_t ordinal, char *message, uint32_t size) {
    void *p = malloc(sizeof(setun_ctx));
    if (!p) {
        format(message, size, "no memory for the context");
        return SETUN_ENOMEM;
    }
    setun_ctx *c = new (p) setun_ctx;
    int32_t rc = c->device.open(ordinal, message, size);
    if (rc == SETUN_OK) {
        *ctx = c;
        return rc;
    }
    c->~setun_ctx();
    free(c);
    return rc;
}

int32_t open_first(setun_ctx **ctx, char *message, uint32_t size) { return open_device(ctx, 0, message, size); }

void close_device(setun_ctx *ctx) {
    if (!ctx) return;
    ctx->device.close();
    ctx->~setun_ctx();
    free(ctx);
}

int32_t count(char *message, uint32_t size) {
    const Driver *d = driver(message, size);
    return d ? d->devices : -SETUN_EUNSUPPORTED;
}

int32_t info(setun_ctx *ctx, setun_device_info *i) {
    if (i->call.size < sizeof *i) return invalid(&i->call, "info: the argument block is too small");
    Device &d = ctx->device;
    Current current(d);
    size_t free = 0, total = 0;
    if (d.driver->cuDeviceGetName(i->name, sizeof i->name, int(d.ordinal)) != DRIVER_OK) format(i->name, sizeof i->name, "unknown");
    format(i->driver, sizeof i->driver, "%d.%d", d.driver->version / 1000, d.driver->version % 1000 / 10);
    if (!d.lost()) d.driver->cuMemGetInfo_v2(&free, &total);
    i->total = d.total, i->free = int64_t(free);
    i->ordinal = int32_t(d.ordinal), i->units = d.units, i->major = d.major, i->minor = d.minor;
    i->launches = d.launches.load(), i->lost = d.lost(), i->taken = d.taken.load();
    return SETUN_OK;
}

int32_t checked(setun_memory *m, bool address) {
    if (m->call.size < sizeof *m) return invalid(&m->call, "memory: the argument block is too small");
    if (m->bytes < 1 || (address && !m->device)) return invalid(&m->call, "memory: no bytes, or no buffer");
    return SETUN_OK;
}

int32_t alloc(setun_ctx *ctx, setun_memory *m) {
    int32_t rc = checked(m, false);
    Device &d = ctx->device;
    if (rc != SETUN_OK || d.lost()) return rc != SETUN_OK ? rc : d.refuse(&m->call);
    Current current(d);
    Address at = 0;
    Result r = d.allocate(&at, m->bytes);
    if (r != DRIVER_OK) return d.failure(r, "allocating a buffer", &m->call);
    if (!d.buffers.add(at, m->bytes)) {
        d.release(at, m->bytes);
        d.sweep(0);
        return SETUN_ENOMEM;
    }
    m->device = reinterpret_cast<void *>(at);
    return SETUN_OK;
}

int32_t free_buffer(setun_ctx *ctx, setun_memory *m) {
    Device &d = ctx->device;
    if (m->call.size < sizeof *m) return invalid(&m->call, "memory: the argument block is too small");
    int64_t bytes = d.buffers.remove(Address(m->device));
    if (bytes < 0) return invalid(&m->call, "free: no buffer begins there");
    Current current(d);
    d.release(Address(m->device), bytes);
    d.sweep(0);
    return SETUN_OK;
}

/* upload, download and copy: the parts on the device must lie in buffers. */
enum { UPLOAD, DOWNLOAD, COPY };
template <int what> int32_t transfer(setun_ctx *ctx, setun_memory *m) {
    int32_t rc = checked(m, true);
    if (rc != SETUN_OK) return rc;
    if ((what != DOWNLOAD && !m->from) || (what == DOWNLOAD && !m->to)) return invalid(&m->call, "memory: a pointer is null");
    Buffers &b = ctx->device.buffers;
    if (!b.has(m->device, m->bytes) || (what == COPY && !b.has(m->from, m->bytes))) return invalid(&m->call, "memory: the range does not lie in a buffer");
    return with_lane(ctx->device, m, [](Lane &lane, setun_memory *a) {
        if (what == UPLOAD) lane.send(a->device, a->from, a->bytes);
        if (what == DOWNLOAD) lane.fetch(a->to, a->device, a->bytes);
        if (what == COPY) lane.move(a->device, a->from, a->bytes);
        return lane.finish();
    });
}

int32_t limit(setun_ctx *ctx, setun_memory *m) {
    if (m->call.size < sizeof *m || m->bytes < 0) return invalid(&m->call, "limit: the argument block is too small, or bytes < 0");
    ctx->device.limit.store(m->bytes);
    return SETUN_OK;
}

int32_t pin(setun_ctx *ctx, setun_memory *m) {
    int32_t rc = checked(m, false);
    Device &d = ctx->device;
    if (rc != SETUN_OK || d.lost()) return rc != SETUN_OK ? rc : d.refuse(&m->call);
    Current current(d);
    void *at = nullptr;
    Result r = d.driver->cuMemAllocHost_v2(&at, size_t(m->bytes));
    if (r != DRIVER_OK) return d.failure(r, "pinning memory", &m->call);
    if (!d.pinned.add(Address(at), m->bytes)) {
        d.driver->cuMemFreeHost(at);
        return SETUN_ENOMEM;
    }
    m->to = at;
    return SETUN_OK;
}

int32_t unpin(setun_ctx *ctx, setun_memory *m) {
    Device &d = ctx->device;
    if (m->call.size < sizeof *m) return invalid(&m->call, "memory: the argument block is too small");
    if (d.pinned.remove(Address(m->to)) < 0) return invalid(&m->call, "unpin: no pinned memory begins there");
    Current current(d);
    if (!d.hung()) d.driver->cuMemFreeHost(m->to);
    return SETUN_OK;
}

int32_t attach(setun_ctx *ctx, setun_library *l) {
    if (l->call.size < sizeof *l) return invalid(&l->call, "attach: the argument block is too small");
    if (!l->path || !l->kernel || memcmp(l->kernel, "cublas", sizeof "cublas")) return invalid(&l->call, "attach: no path, or kernels that need no library");
    return ctx->device.cublas.open(l->path, l->version, sizeof l->version, l->call.message, l->call.message_size);
}

#define CUT(name, number, type) {"cuda", number, 1, run_cut<type, op_##name, cut_##name>, 0, 0},
#define CUT_OTHER(op, number, type, name, flags) {name, number, 1, run_cut<type, op_##op, cut_##op>, flags, 0},
#define OTHER(op, number, type, name, flags) {name, number, 1, run<type, op_##op>, flags, 0},
const setun_kernel kernels[] = {SETUN_CUDA_CUT_OPS(CUT) SETUN_CUDA_CUT_OTHERS(CUT_OTHER) SETUN_CUDA_OTHERS(OTHER)};

const setun_device device = {sizeof(setun_device), 0,     count, open_device, info,  alloc, free_buffer, transfer<UPLOAD>, transfer<DOWNLOAD>,
                             transfer<COPY>,       limit, pin,   unpin,       attach};

const setun_table table = {
    SETUN_MAGIC, sizeof(setun_table), SETUN_ABI, sizeof(setun_kernel), "cuda", SETUN_VERSION, SETUN_BUILD, kernels, sizeof kernels / sizeof *kernels, 0,
    open_first,  close_device,        &device};

} // namespace
} // namespace setun

extern "C" const setun_table *setun_backend(uint32_t abi) { return abi == SETUN_ABI ? &setun::table : nullptr; }
