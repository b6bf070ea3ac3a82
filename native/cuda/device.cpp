// SPDX-License-Identifier: Apache-2.0
//
// device.cpp: opens a device, gives out its memory, and knows when it is lost.
#include "lane.h"

#include <limits.h>
#include <new>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETUN_EMBED(symbol, file)                                                                                                                              \
    asm(".pushsection .rodata\n.balign 16\n" #symbol ":\n.incbin \"" file "\"\n.byte 0\n.popsection\n"); /* PTX is text and ends in a zero byte */             \
    extern "C" const char symbol[]
SETUN_EMBED(setun_image75, SETUN_CUDA_IMAGE);
SETUN_EMBED(setun_image80, SETUN_CUDA_IMAGE80);

namespace setun {

/* ---- Buffers ------------------------------------------------------------------------------------------------------- */

Buffers::~Buffers() { free(list_); }

int Buffers::below(Address at) const {
    int low = 0, high = count_;
    while (low < high) {
        int mid = (low + high) / 2;
        if (list_[mid].at <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool Buffers::add(Address at, int64_t bytes) {
    mutex_.lock();
    bool ok = count_ < room_;
    if (!ok) {
        int room = room_ == 0 ? 64 : 2 * room_;
        if (void *grown = realloc(list_, size_t(room) * sizeof *list_)) list_ = static_cast<Buffer *>(grown), room_ = room, ok = true;
    }
    if (ok) {
        int i = below(at);
        memmove(list_ + i + 1, list_ + i, size_t(count_ - i) * sizeof *list_);
        list_[i] = {at, bytes};
        count_++;
    }
    mutex_.unlock();
    return ok;
}

int64_t Buffers::remove(Address at) {
    mutex_.lock();
    int i = below(at) - 1;
    int64_t bytes = -1;
    if (i >= 0 && list_[i].at == at) {
        bytes = list_[i].bytes;
        memmove(list_ + i, list_ + i + 1, size_t(count_ - i - 1) * sizeof *list_);
        count_--;
    }
    mutex_.unlock();
    return bytes;
}

bool Buffers::pop(Address *at, int64_t *bytes) {
    mutex_.lock();
    bool any = count_ > 0;
    if (any) count_--, *at = list_[count_].at, *bytes = list_[count_].bytes;
    mutex_.unlock();
    return any;
}

bool Buffers::has(const void *p, int64_t bytes) {
    Address at = Address(p);
    mutex_.lock();
    int i = below(at) - 1;
    bool yes = i >= 0 && bytes <= list_[i].bytes && at - list_[i].at <= Address(list_[i].bytes - bytes);
    mutex_.unlock();
    return yes;
}

bool Buffers::touches(const void *p, int64_t bytes) {
    Address at = Address(p);
    mutex_.lock();
    int i = below(at + Address(bytes) - 1) - 1;
    bool yes = i >= 0 && list_[i].at + Address(list_[i].bytes) > at;
    mutex_.unlock();
    return yes;
}

/* ---- The context ---------------------------------------------------------------------------------------------------- */

Current::Current(const Device &d) : driver_(d.driver), now_(d.context_) {
    driver_->cuCtxGetCurrent(&before_);
    if (before_ != now_) driver_->cuCtxSetCurrent(now_);
}

Current::~Current() {
    if (before_ != now_) driver_->cuCtxSetCurrent(before_);
}

/* Errors that outlast the call: the context is of no use any more (CUDA Driver API, the error codes that "leave the process in an inconsistent state"). */
static bool fatal(Result r) {
    switch (r) {
    case 4:   /* deinitialized */
    case 46:  /* device unavailable */
    case 201: /* invalid context */
    case 214: /* uncorrectable ECC error */
    case 220: /* NVLink error */
    case 700: /* illegal address */
    case 702: /* launch timeout */
    case 709: /* context is destroyed */
    case 710: /* assert */
    case 714: /* hardware stack error */
    case 715: /* illegal instruction */
    case 716: /* misaligned address */
    case 717: /* invalid address space */
    case 718: /* invalid program counter */
    case 719: /* launch failed */
    case 720: /* cooperative launch */
    case 721: /* contained */
    case 999: /* unknown */
        return true;
    }
    return false;
}

int32_t Device::failure(Result r, const char *doing, const setun_call *call) {
    bool gone = fatal(r);
    if (gone) {
        Result none = 0;
        lost_.compare_exchange_strong(none, r);
    }
    const char *then = gone ? "; the device is lost for this process" : "";
    if (hung())
        format(call->message, call->message_size, "%s: a kernel did not end within %ld ms%s", doing, long(timeout / 1000000), then);
    else
        format(call->message, call->message_size, "%s: the driver answers %d (%s)%s", doing, r, driver->name(r), then);
    return gone ? SETUN_ELOST : r == DRIVER_NO_MEMORY ? SETUN_ENOMEM : SETUN_EDEVICE;
}

/* By ordinal: which have a kernel that does not end. */
static std::atomic<uint64_t> hung_devices{0};
static uint64_t bit_of(uint32_t ordinal) { return uint64_t(1) << (ordinal & 63); }

void Device::hang() {
    Result none = 0;
    lost_.compare_exchange_strong(none, 702);
    hung_.store(true, std::memory_order_relaxed);
    hung_devices.fetch_or(bit_of(ordinal));
}

int32_t Device::refuse(const setun_call *call) const {
    Result r = lost();
    format(call->message, call->message_size, "the device was lost to error %d (%s)", r, hung() ? "a kernel that did not end" : driver->name(r));
    return SETUN_ELOST;
}

/* With the context current: an image and its kernels. */
Result Device::load(int image, const char *text, int first, int last) {
#define SETUN_NAME(name) #name,
    static const char *const names[] = {SETUN_CUDA_KERNELS(SETUN_NAME) SETUN_CUDA_KERNELS80(SETUN_NAME)};
    Result r = driver->cuModuleLoadDataEx(&modules_[image], text, 0, nullptr, nullptr);
    for (int k = first; k < last && r == DRIVER_OK; k++) r = driver->cuModuleGetFunction(&functions[k], modules_[image], names[k]);
    return r;
}

static int64_t from_environment(const char *name, int64_t otherwise) {
    const char *text = setting(name);
    if (!text || !*text) return otherwise;
    int64_t v = 0;
    for (; *text >= '0' && *text <= '9' && v < int64_t(1) << 50; text++) v = 10 * v + (*text - '0');
    return *text ? otherwise : v;
}

int32_t Device::open(uint32_t number, char *message, uint32_t size) {
    if (!(driver = setun::driver(message, size))) return SETUN_EUNSUPPORTED;
    if (number >= uint32_t(driver->devices)) {
        format(message, size, "there is no device %u: the driver sees %d", number, driver->devices);
        return SETUN_EINVAL;
    }
    ordinal = number;
    if (hung_devices.load() & bit_of(number)) {
        format(message, size, "the device was lost to a kernel that did not end");
        return SETUN_ELOST;
    }
    copiers = int(from_environment("SETUN_CUDA_COPIERS", 0));
    if (copiers < 1) {
        const long cores = sysconf(_SC_NPROCESSORS_ONLN);
        copiers = int(cores < 1 ? 1 : cores > 16 ? 16 : cores); /* 16 cores copied 37 GB/s, 4 of them 23, on a bus of 55 */
    }
    timeout = from_environment("SETUN_CUDA_TIMEOUT_MS", 60000) * 1000000;
    int handle = 0;
    size_t bytes = 0;
    const char *doing = "finding the device";
    Result r = driver->cuDeviceGet(&handle, int(number));
    if (r == DRIVER_OK) r = driver->cuDeviceGetAttribute(&major, 75, handle);
    if (r == DRIVER_OK) r = driver->cuDeviceGetAttribute(&minor, 76, handle);
    if (r == DRIVER_OK) r = driver->cuDeviceGetAttribute(&units, 16, handle);
    if (r == DRIVER_OK) r = driver->cuDeviceGetAttribute(&shared, 97, handle);
    if (r == DRIVER_OK) r = driver->cuDeviceTotalMem_v2(&bytes, handle);
    if (r == DRIVER_OK && 10 * major + minor < 75) {
        format(message, size, "the device has compute capability %d.%d, 7.5 is needed", major, minor);
        return SETUN_EUNSUPPORTED;
    }
    total = int64_t(bytes);
    if (r == DRIVER_OK) {
        doing = "opening the device";
        r = driver->cuDevicePrimaryCtxRetain(&context_, handle);
    }
    if (r == DRIVER_OK) {
        Current current(*this);
        doing = "loading the kernels";
        r = load(0, setun_image75, 0, KERNELS_75);
        if (r == DRIVER_OK && major >= 8) r = load(1, setun_image80, KERNELS_75, KERNELS);
    }
    if (r != DRIVER_OK) {
        setun_call call = {};
        call.message = message;
        call.message_size = size;
        int32_t rc = failure(r, doing, &call);
        close();
        return rc;
    }
    return SETUN_OK;
}

void Device::close() {
    if (!context_) return;
    {
        Current current(*this);
        while (Lane *l = idle_) {
            idle_ = l->next;
            if (!hung()) l->close();
            l->~Lane();
            ::free(l);
        }
        if (hung()) return;
        sweep(INT_MAX);
        for (int i = 0; i < buffers.count(); i++) driver->cuMemFree_v2(buffers.at(i));
        for (int i = 0; i < pinned.count(); i++) driver->cuMemFreeHost(reinterpret_cast<void *>(pinned.at(i)));
        for (void *&m : modules_) {
            if (m) driver->cuModuleUnload(m);
            m = nullptr;
        }
    }
    driver->cuDevicePrimaryCtxRelease_v2(int(ordinal));
    context_ = nullptr;
}

Result Device::ask(Kernel k, int bytes) {
    asking_.lock();
    Result r = DRIVER_OK;
    if (bytes > asked_[k] && (r = driver->cuFuncSetAttribute(functions[k], 8 /* most dynamic shared memory */, bytes)) == DRIVER_OK) asked_[k] = bytes;
    asking_.unlock();
    return r;
}

Lane *Device::take() {
    busy_.fetch_add(1);
    mutex_.lock();
    Lane *l = idle_;
    if (l) idle_ = l->next;
    mutex_.unlock();
    if (l) return l;
    void *p = malloc(sizeof(Lane));
    if (p) return new (p) Lane(*this);
    busy_.fetch_sub(1);
    return nullptr;
}

void Device::give(Lane *l) {
    mutex_.lock();
    l->next = idle_;
    idle_ = l;
    mutex_.unlock();
    busy_.fetch_sub(1);
    sweep(0);
}

bool Device::trim() {
    bool any = false;
    mutex_.lock();
    Lane *all = idle_, *last = nullptr;
    idle_ = nullptr;
    mutex_.unlock();
    for (Lane *l = all; l; last = l, l = l->next) {
        any |= l->shed();
        if (!hung()) any |= l->forget();
    }
    if (last) {
        mutex_.lock();
        last->next = idle_;
        idle_ = all;
        mutex_.unlock();
    }
    sweep(INT_MAX);
    return any;
}

Result Device::allocate(Address *at, int64_t bytes) {
    Result r = allocate_once(at, bytes);
    if (r != DRIVER_NO_MEMORY) return r;
    trim();
    return allocate_once(at, bytes);
}

Result Device::allocate_once(Address *at, int64_t bytes) {
    int64_t most = limit.load(std::memory_order_relaxed);
    int64_t after = taken.fetch_add(bytes) + bytes;
    Result r = most > 0 && after > most ? DRIVER_NO_MEMORY : driver->cuMemAlloc_v2(at, size_t(bytes));
    if (r != DRIVER_OK) taken.fetch_sub(bytes);
    return r;
}

Result Device::room(int64_t *bytes) {
    size_t free = 0, all = 0;
    trim();
    Result r = driver->cuMemGetInfo_v2(&free, &all);
    int64_t most = limit.load(std::memory_order_relaxed), left = most - taken.load();
    *bytes = most > 0 && left < int64_t(free) ? left : int64_t(free);
    return r;
}

void Device::release(Address at, int64_t bytes) {
    if (released_.add(at, bytes)) {
        waiting_.fetch_add(bytes);
        return;
    }
    if (!hung()) driver->cuMemFree_v2(at);
    taken.fetch_sub(bytes);
}

void Device::sweep(int calls) {
    int64_t most = total / 8, waiting = waiting_.load(), bytes;
    if (waiting == 0 || (busy_.load() > calls && waiting < most)) return;
    for (Address at; !hung() && released_.pop(&at, &bytes);) {
        driver->cuMemFree_v2(at);
        waiting_.fetch_sub(bytes);
        taken.fetch_sub(bytes);
    }
}

} // namespace setun
