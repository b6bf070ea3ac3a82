// SPDX-License-Identifier: Apache-2.0
//
// lane.cpp: streams, scratch, launches, waiting.
#include "lane.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

namespace setun {

enum { SMALL = 64 << 10 }; /* bytes of pinned memory for results and arguments */

int32_t Lane::open() {
    if (stream_) return SETUN_OK;
    check(device.driver->cuStreamCreate(&stream_, 1 /* not ordered with the default stream */), "making a stream");
    if (ok()) {
        void *p = nullptr;
        check(device.driver->cuMemAllocHost_v2(&p, SMALL), "pinning memory");
        small_ = static_cast<char *>(p);
    }
    if (!ok()) close();
    return status_;
}

bool Lane::shed() {
    const bool any = segment_count_ > 0;
    for (int i = 0; i < segment_count_; i++) device.release(segments_[i].at, segments_[i].bytes);
    segment_count_ = 0;
    return any;
}

void Lane::close() {
    forget();
    shed();
    for (int i = 0; i < SLOTS; i++) {
        if (events_[i]) device.driver->cuEventDestroy_v2(events_[i]);
        if (slots_[i]) device.driver->cuMemFreeHost(slots_[i]);
        events_[i] = nullptr, slots_[i] = nullptr;
    }
    if (small_) device.driver->cuMemFreeHost(small_);
    if (stream_) device.driver->cuStreamDestroy_v2(stream_);
    small_ = nullptr, stream_ = nullptr;
}

void Lane::begin(setun_call *call, const Aside *asides, int aside_count) {
    call_ = call;
    asides_ = asides, aside_count_ = aside_count;
    status_ = SETUN_OK;
    started_ = changes_ = false;
    staged_count_ = brought_ = fetched_count_ = 0;
    small_used_ = 0;
    /* What the last call took in pieces is taken in one from now on. */
    if (segment_count_ > 1) {
        int64_t sum = 0;
        for (int i = 0; i < segment_count_; i++) sum += segments_[i].bytes;
        shed();
        device.sweep(1);
        Address at;
        if (device.allocate(&at, sum) == DRIVER_OK) segments_[segment_count_++] = {at, sum};
    }
    used_ = 0;
}

void Lane::check(Result r, const char *doing) {
    if (r == DRIVER_OK || !ok()) return;
    status_ = device.failure(r, doing, call_);
    /* Out of memory means that nothing has happened. */
    if (status_ == SETUN_ENOMEM && started_ && changes_) status_ = SETUN_EDEVICE;
}

void *Lane::room(int64_t bytes, bool must) {
    if (!ok()) return nullptr;
    bytes = (bytes + 255) / 256 * 256;
    if (segment_count_ == 0 || segments_[segment_count_ - 1].bytes - used_ < bytes) {
        const int64_t least = int64_t(1) << 20;
        Segment s = {0, bytes < least ? least : bytes};
        Result r = segment_count_ == SEGMENTS ? DRIVER_NO_MEMORY : device.allocate(&s.at, s.bytes);
        if (r == DRIVER_NO_MEMORY && bytes < least && segment_count_ < SEGMENTS) r = device.allocate(&s.at, s.bytes = bytes);
        if (r == DRIVER_NO_MEMORY && !must) return nullptr;
        check(r, "allocating device memory");
        if (!ok()) return nullptr;
        segments_[segment_count_++] = s;
        used_ = 0;
    }
    Address at = segments_[segment_count_ - 1].at + Address(used_);
    used_ += bytes;
    return reinterpret_cast<void *>(at);
}

void *Lane::stage(void *p, int64_t bytes, int mode) {
    if (!ok()) return nullptr;
    if (device.buffers.has(p, bytes)) {
        changes_ |= (mode & OUT) != 0 && !asides_; /* what a piece writes on the device is of the pieces, which can begin anew */
        return p;
    }
    if (device.buffers.touches(p, bytes)) {
        format(call_->message, call_->message_size, "an array of %ld bytes runs over the end of its buffer", long(bytes));
        status_ = SETUN_EINVAL;
        return nullptr;
    }
    void *at = room(bytes);
    if (ok() && staged_count_ == STAGED) status_ = SETUN_EUNSUPPORTED;
    if (!ok()) return nullptr;
    staged_[staged_count_++] = {p, Address(at), bytes, mode, nullptr};
    return at;
}

void Lane::bring() {
    for (; ok() && brought_ < staged_count_; brought_++) {
        const Staged &s = staged_[brought_];
        if (s.mode & IN) upload(s.at, static_cast<const char *>(s.host), s.bytes);
    }
}

char *Lane::elsewhere(const void *p) const {
    const char *at = static_cast<const char *>(p);
    for (int i = 0; i < aside_count_; i++)
        if (at >= asides_[i].host && at < asides_[i].host + asides_[i].bytes) return asides_[i].copy + (at - asides_[i].host);
    return nullptr;
}

void Lane::keep(const void *p) {
    for (int i = 0; i < staged_count_; i++)
        if (staged_[i].host == p) staged_[i].mode = IN;
}

void Lane::fill(void *p, uint8_t value, int64_t bytes) {
    if (ok() && bytes > 0) check(device.driver->cuMemsetD8Async(Address(p), value, size_t(bytes), stream_), "filling device memory");
}

void Lane::move(void *to, const void *from, int64_t bytes) {
    bring();
    if (ok() && bytes > 0) check(device.driver->cuMemcpyDtoDAsync_v2(Address(to), Address(from), size_t(bytes), stream_), "copying on the device");
}

void Lane::send(void *to, const void *p, int64_t bytes) {
    if (!device.buffers.has(p, bytes))
        upload(Address(to), static_cast<const char *>(p), bytes);
    else if (ok() && bytes > 0)
        check(device.driver->cuMemcpyDtoDAsync_v2(Address(to), Address(p), size_t(bytes), stream_), "copying on the device");
}

bool Lane::fits(int64_t bytes) const { return fetched_count_ < FETCHED && bytes <= SMALL - small_used_; }

void Lane::fetch(void *to, const void *from, int64_t bytes) {
    bring();
    if (!ok()) return;
    int64_t room = (bytes + 63) / 64 * 64;
    if (!fits(bytes)) { /* much: at once */
        download(static_cast<char *>(to), Address(from), bytes);
        return;
    }
    check(device.driver->cuMemcpyDtoHAsync_v2(small_ + small_used_, Address(from), size_t(bytes), stream_), "copying from the device");
    fetched_[fetched_count_++] = {to, small_used_, bytes};
    small_used_ += room;
}

int64_t Lane::blocks(int64_t n, int64_t each, int waves) const {
    int64_t most = int64_t(device.units > 0 ? device.units : 1) * waves, b = (n - 1) / each + 1;
    return b < most ? b : most;
}

void Lane::start(Kernel k, unsigned x, unsigned y, unsigned z, int threads, int shared, void **args) {
    if (!ok()) return;
    void *f = device.functions[k];
    if (!f) {
        format(call_->message, call_->message_size, "the kernel needs compute capability 8.0, the device has %d.%d", device.major, device.minor);
        status_ = SETUN_EUNSUPPORTED;
        return;
    }
    if (shared > 48 << 10) check(device.ask(k, shared), "asking for shared memory");
    bring();
    if (!ok()) return;
    check(device.driver->cuLaunchKernel(f, x, y, z, unsigned(threads), 1, 1, unsigned(shared), stream_, args, nullptr), "starting a kernel");
    started_ = true;
    device.launches.fetch_add(1, std::memory_order_relaxed);
}

/* Short waits are spun through, longer ones slept through; one that has no end gives the device up, and the lane with it. */
Result Lane::settle(void *event) {
    const Driver *d = device.driver;
    int64_t begun = 0;
    for (int64_t looks = 0;; looks++) {
        Result r = event ? d->cuEventQuery(event) : d->cuStreamQuery(stream_);
        if (r != DRIVER_NOT_READY) return r;
        if (looks % 16 != 15) continue;
        int64_t now = clock_nanos(), waited = now - begun;
        if (begun == 0)
            begun = now;
        else if (waited > device.timeout) {
            device.hang();
            return 702;
        } else if (waited > 2000000) {
            timespec nap = {0, 50000};
            nanosleep(&nap, nullptr);
        } else if (waited > 100000)
            Thread::yield();
    }
}

int32_t Lane::wait() {
    if (ok()) check(settle(nullptr), "waiting for the device");
    for (int i = 0; ok() && i < fetched_count_; i++) memcpy(fetched_[i].to, small_ + fetched_[i].at, size_t(fetched_[i].bytes));
    fetched_count_ = 0;
    small_used_ = 0;
    return status_;
}

/* What is only written may be spoiled by a failure. What was read there too comes to memory of its own first, and is written when all else has gone well. */
int32_t Lane::finish() {
    for (int i = 0; ok() && i < staged_count_; i++) {
        Staged &s = staged_[i];
        if (!(s.mode & OUT)) continue;
        void *to = s.host;
        char *other = s.mode & IN ? elsewhere(s.host) : nullptr;
        if (other) {
            to = other;
        } else if ((s.mode & IN) && !fits(s.bytes)) {
            to = s.aside = static_cast<char *>(malloc(size_t(s.bytes)));
            if (!to) check(DRIVER_NO_MEMORY, "allocating the host's memory");
        }
        if (ok()) fetch(to, reinterpret_cast<void *>(s.at), s.bytes);
    }
    wait();
    for (int i = 0; i < staged_count_; i++) {
        Staged &s = staged_[i];
        if (!s.aside) continue;
        if (ok()) device.copy(static_cast<char *>(s.host), s.aside, s.bytes);
        free(s.aside);
        s.aside = nullptr;
    }
    return status_;
}

int32_t Lane::abandon(int32_t status) {
    int32_t rc = wait();
    return rc == SETUN_OK ? status : rc;
}

} // namespace setun
