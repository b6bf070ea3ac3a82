// SPDX-License-Identifier: Apache-2.0
//
// copy.cpp: copies between the host's memory, which is pageable, and the device. Short ones are left to the driver. Long ones go in pieces through pinned
// memory, so that the copy in the host's memory, by several threads, and the one over the bus overlap.
#include "lane.h"

#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace setun {

namespace {

const int64_t DIRECT = int64_t(1) << 20;   /* bytes up to which the driver's own way is no slower */
const int64_t STAGING = int64_t(64) << 10; /* bytes up to which the driver takes pageable memory along and does not wait */
const int64_t SHARE = int64_t(256) << 10;

/* memcpy past the caches: a plain store would read the line that it is about to overwrite. */
void past_caches(char *to, const char *from, int64_t n) {
#if defined(__x86_64__)
    const int64_t head = -reinterpret_cast<intptr_t>(to) & 63, lines = n > head ? (n - head) / 64 : 0;
    if (lines > 0) {
        memcpy(to, from, size_t(head));
        to += head, from += head, n -= head;
        for (int64_t i = 0; i < lines; i++, to += 64, from += 64) {
            const __m128i *p = reinterpret_cast<const __m128i *>(from);
            __m128i *q = reinterpret_cast<__m128i *>(to);
            const __m128i a = _mm_loadu_si128(p), b = _mm_loadu_si128(p + 1), c = _mm_loadu_si128(p + 2), d = _mm_loadu_si128(p + 3);
            _mm_stream_si128(q, a), _mm_stream_si128(q + 1, b), _mm_stream_si128(q + 2, c), _mm_stream_si128(q + 3, d);
        }
        _mm_sfence();
        n -= 64 * lines;
    }
#endif
    memcpy(to, from, size_t(n));
}

struct Job {
    char *to;
    const char *from;
    int64_t bytes;
};

void share(void *arg, int64_t i) {
    const Job *j = static_cast<const Job *>(arg);
    int64_t at = i * SHARE, n = j->bytes - at < SHARE ? j->bytes - at : SHARE;
    past_caches(j->to + at, j->from + at, n);
}

} // namespace

void Device::copy(char *to, const char *from, int64_t bytes) {
    Job j = {to, from, bytes};
    pool.run(copiers, share, &j, (bytes - 1) / SHARE + 1);
}

/* Pinned memory and an event for piece i of a copy, free to use. */
bool Lane::slot(int i) {
    const Driver *d = device.driver;
    if (!slots_[i]) {
        void *p = nullptr;
        if (d->cuMemAllocHost_v2(&p, size_t(PIECE)) != DRIVER_OK) return false;
        slots_[i] = static_cast<char *>(p);
    }
    if (!events_[i]) check(d->cuEventCreate(&events_[i], 2 /* no timing */), "making an event");
    if (busy_[i]) check(settle(events_[i]), "waiting for a copy");
    busy_[i] = false;
    return ok();
}

void Lane::upload(Address to, const char *from, int64_t bytes) {
    if (!ok() || bytes == 0) return;
    const Driver *d = device.driver;
    if (device.pinned.has(from, bytes)) { /* at the speed of the bus; read until the call ends */
        check(d->cuMemcpyHtoDAsync_v2(to, from, size_t(bytes), stream_), "copying to the device");
        return;
    }
    if (bytes <= DIRECT || !slot(0)) {
        if (ok() && started_ && bytes > STAGING) check(settle(nullptr), "waiting for the device"); /* as the driver would, without an end */
        if (ok()) check(d->cuMemcpyHtoDAsync_v2(to, from, size_t(bytes), stream_), "copying to the device");
        return;
    }
    for (int64_t at = 0, i = 0; ok() && at < bytes; at += PIECE, i++) {
        int s = int(i % SLOTS);
        int64_t n = bytes - at < PIECE ? bytes - at : PIECE;
        if (!slot(s)) {
            if (ok()) check(DRIVER_NO_MEMORY, "pinning memory");
            return;
        }
        device.copy(slots_[s], from + at, n);
        check(d->cuMemcpyHtoDAsync_v2(to + Address(at), slots_[s], size_t(n), stream_), "copying to the device");
        if (ok()) check(d->cuEventRecord(events_[s], stream_), "recording an event");
        busy_[s] = ok();
    }
}

void Lane::download(char *to, Address from, int64_t bytes) {
    if (!ok() || bytes == 0) return;
    const Driver *d = device.driver;
    if (device.pinned.has(to, bytes)) { /* asked for when nothing is before it: after a time limit nothing may come there */
        check(settle(nullptr), "waiting for the device");
        if (ok()) check(d->cuMemcpyDtoHAsync_v2(to, from, size_t(bytes), stream_), "copying from the device");
        return;
    }
    if (bytes <= DIRECT || !slot(0)) { /* the driver would wait for what is before it, without an end */
        if (ok()) check(settle(nullptr), "waiting for the device");
        if (!ok()) return;
        check(d->cuMemcpyDtoHAsync_v2(to, from, size_t(bytes), stream_), "copying from the device");
        if (ok()) check(settle(nullptr), "waiting for the device");
        if (!ok()) drain(); /* nothing may write there later */
        return;
    }
    int64_t pieces = (bytes - 1) / PIECE + 1;
    for (int64_t i = 0; ok() && i < pieces + SLOTS - 1; i++) { /* piece i is asked for, piece i - SLOTS + 1 has come */
        if (i < pieces) {
            int s = int(i % SLOTS);
            int64_t at = i * PIECE, n = bytes - at < PIECE ? bytes - at : PIECE;
            if (!slot(s)) {
                if (ok()) check(DRIVER_NO_MEMORY, "pinning memory");
                return;
            }
            check(d->cuMemcpyDtoHAsync_v2(slots_[s], from + Address(at), size_t(n), stream_), "copying from the device");
            if (ok()) check(d->cuEventRecord(events_[s], stream_), "recording an event");
            busy_[s] = ok();
        }
        int64_t done = i - (SLOTS - 1);
        if (done < 0 || !ok()) continue;
        int64_t at = done * PIECE, n = bytes - at < PIECE ? bytes - at : PIECE;
        if (slot(int(done % SLOTS))) device.copy(to + at, slots_[done % SLOTS], n);
    }
}

} // namespace setun
