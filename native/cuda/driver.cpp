// SPDX-License-Identifier: Apache-2.0
//
// driver.cpp: finds the driver and binds its functions.
#include "driver.h"
#include "threads.h"

#include <atomic>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

namespace setun {

namespace {

/* Not a Mutex, which would have to be destroyed when the process ends. */
std::atomic_flag busy = ATOMIC_FLAG_INIT;
Driver bound;
bool ready;

bool bind(void *library, char *message, uint32_t size) {
#define X(name, args)                                                                                                                                          \
    if (!(bound.name = reinterpret_cast<Result(*) args>(dlsym(library, #name)))) {                                                                             \
        format(message, size, "the NVIDIA driver is too old: it has no %s", #name);                                                                            \
        return false;                                                                                                                                          \
    }
    SETUN_DRIVER(X)
#undef X
    return true;
}

/* The library stays open whatever happens: a driver does not bear to be closed. */
bool load(char *message, uint32_t size) {
    const char *path = setting("SETUN_CUDA_DRIVER");
    if (path && path[0] != '/') {
        format(message, size, "SETUN_CUDA_DRIVER=%s is not an absolute path", path);
        return false;
    }
    void *library = dlopen(path ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        format(message, size, "no NVIDIA driver: %s", path ? path : "libcuda.so.1 is not there");
        return false;
    }
    if (!bind(library, message, size)) return false;
    Result r = bound.cuInit(0);
    if (r == DRIVER_OK) r = bound.cuDriverGetVersion(&bound.version);
    if (r == DRIVER_OK && bound.version < 11000) { /* whose functions are those that are bound */
        format(message, size, "the NVIDIA driver is too old: it serves CUDA %d.%d, 11.0 is needed", bound.version / 1000, bound.version % 1000 / 10);
        return false;
    }
    if (r == DRIVER_OK) r = bound.cuDeviceGetCount(&bound.devices);
    if (r != DRIVER_OK) {
        format(message, size, "the NVIDIA driver answers %d (%s)", r, bound.name(r));
        return false;
    }
    if (bound.devices == 0) {
        format(message, size, "the NVIDIA driver sees no device");
        return false;
    }
    return true;
}

} // namespace

const char *setting(const char *name) {
    if (getuid() != geteuid() || getgid() != getegid()) return nullptr;
#if defined(__linux__)
    return secure_getenv(name); /* knows of capabilities too */
#else
    return issetugid() ? nullptr : getenv(name);
#endif
}

const Driver *driver(char *message, uint32_t size) {
    while (busy.test_and_set(std::memory_order_acquire)) Thread::yield();
    bool yes = ready = ready || load(message, size);
    busy.clear(std::memory_order_release);
    return yes ? &bound : nullptr;
}

const char *Driver::name(Result r) const {
    const char *text = nullptr;
    return cuGetErrorName(r, &text) == DRIVER_OK && text ? text : "unknown error";
}

void format(char *out, uint32_t size, const char *text, ...) {
    if (!out || size == 0) return;
    va_list args;
    va_start(args, text);
    vsnprintf(out, size, text, args);
    va_end(args);
}

} // namespace setun
