// SPDX-License-Identifier: Apache-2.0
//
// fake_memory.cpp: memory of the fake driver, copies, and fills.
#include "fake_state.h"

#include "emu_guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace fake {

enum { GUARD = 256 }; /* bytes before and after a block; also its alignment */

char *guarded_new(size_t bytes) {
    if (bytes > SIZE_MAX / 2) return nullptr;
    char *p = static_cast<char *>(aligned_alloc(GUARD, GUARD + (bytes + 2 * GUARD - 1) / GUARD * GUARD));
    if (!p) return nullptr;
    emu::fill_guard(p, GUARD + bytes); /* so that what was never written is NaN */
    emu::fill_guard(p + GUARD + bytes, GUARD);
    emu::forbid(p, GUARD, true), emu::forbid(p + GUARD + bytes, GUARD, true);
    return p + GUARD;
}

void guarded_delete(char *p, size_t bytes) {
    emu::forbid(p - GUARD, bytes + 2 * GUARD, false);
    free(p - GUARD);
}

bool guards_hold(char *p, size_t bytes, const char *who) {
    emu::forbid(p - GUARD, GUARD, false), emu::forbid(p + bytes, GUARD, false);
    const unsigned char *before = emu::find_damage(p - GUARD, GUARD), *after = emu::find_damage(p + bytes, GUARD);
    for (const unsigned char *at : {before, after})
        if (at) fprintf(stderr, "libcuda_fake: %s: written at byte %td of a block of %zu\n", who, reinterpret_cast<const char *>(at) - p, bytes);
    emu::fill_guard(p - GUARD, GUARD), emu::fill_guard(p + bytes, GUARD);
    emu::forbid(p - GUARD, GUARD, true), emu::forbid(p + bytes, GUARD, true);
    return !before && !after;
}

const Block *find(const Blocks &blocks, Address at, size_t bytes) {
    auto i = blocks.upper_bound(at);
    if (i == blocks.begin()) return nullptr;
    --i;
    const Address in = at - i->first;
    return in <= i->second.bytes && bytes <= i->second.bytes - in ? &i->second : nullptr;
}

/* Whether a range of the host's memory is pinned, in whatever context. */
static bool is_pinned(const void *p, size_t bytes) {
    for (Context &c : driver().contexts)
        if (find(c.pinned, reinterpret_cast<Address>(p), bytes)) return true;
    return false;
}

static Result pin(Context &c, void **p, size_t bytes, bool mapped) {
    if (bytes == 0) return INVALID_VALUE;
    char *h = guarded_new(bytes);
    if (!h) return NO_MEMORY;
    c.pinned[reinterpret_cast<Address>(h)] = {bytes, mapped};
    *p = h;
    return OK;
}

} // namespace fake

using namespace fake;

void *cufake_host(unsigned long long at, size_t bytes) {
    Lock lock(driver().mutex);
    return usable(current()) && current()->has(at, bytes) ? host(at) : nullptr;
}

SETUN_FAKE_API Result cuMemGetInfo_v2(size_t *free, size_t *total) {
    FAKE_ENTER(CONTEXT);
    *total = driver().memory;
    *free = *total > current()->used ? *total - current()->used : 0;
    return OK;
}

SETUN_FAKE_API Result cuMemAlloc_v2(Address *at, size_t bytes) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (bytes == 0) return INVALID_VALUE;
    if (c.used > driver().memory || bytes > driver().memory - c.used) return NO_MEMORY;
    char *p = guarded_new(bytes);
    if (!p) return NO_MEMORY;
    *at = reinterpret_cast<Address>(p) + OFFSET;
    c.memory[*at] = {bytes, true};
    c.used += bytes;
    return OK;
}

SETUN_FAKE_API Result cuMemFree_v2(Address at) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!c.memory.count(at)) return INVALID_VALUE;
    const Result r = drain_all(lock, c);
    auto i = c.memory.find(at); /* the lock may have been let go */
    if (r != OK || i == c.memory.end()) return r != OK ? r : INVALID_VALUE;
    char *p = static_cast<char *>(host(at));
    if (!guards_hold(p, i->second.bytes, "cuMemFree")) return c.sticky = ILLEGAL_ADDRESS;
    guarded_delete(p, i->second.bytes);
    c.used -= i->second.bytes;
    c.memory.erase(i);
    return OK;
}

SETUN_FAKE_API Result cuMemAllocHost_v2(void **p, size_t bytes) {
    FAKE_ENTER(CONTEXT);
    return pin(*current(), p, bytes, false);
}
SETUN_FAKE_API Result cuMemHostAlloc(void **p, size_t bytes, unsigned flags) {
    FAKE_ENTER(CONTEXT);
    return flags > 7 ? Result(INVALID_VALUE) : pin(*current(), p, bytes, (flags & 2) != 0);
}
SETUN_FAKE_API Result cuMemFreeHost(void *p) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    const Address at = reinterpret_cast<Address>(p);
    if (!c.pinned.count(at)) return INVALID_VALUE;
    const Result r = drain_all(lock, c);
    auto i = c.pinned.find(at);
    if (r != OK || i == c.pinned.end()) return r != OK ? r : INVALID_VALUE;
    if (!guards_hold(static_cast<char *>(p), i->second.bytes, "cuMemFreeHost")) return c.sticky = ILLEGAL_ADDRESS;
    guarded_delete(static_cast<char *>(p), i->second.bytes);
    c.pinned.erase(i);
    return OK;
}

SETUN_FAKE_API Result cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (Result r = drain_all(lock, c, true)) return r;
    if (!c.has(to, bytes)) return INVALID_VALUE;
    driver().uploaded += long(bytes);
    memcpy(host(to), from, bytes);
    return OK;
}
SETUN_FAKE_API Result cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (Result r = drain_all(lock, c, true)) return r;
    if (!c.has(from, bytes)) return INVALID_VALUE;
    memcpy(to, host(from), bytes);
    return OK;
}

SETUN_FAKE_API Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Stream *s) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!c.has(to, bytes)) return INVALID_VALUE;
    driver().uploaded += long(bytes);
    if (is_pinned(from, bytes)) return put(c, s, [=] { return memcpy(host(to), from, bytes), OK; });
    auto staged = std::make_shared<std::string>(static_cast<const char *>(from), bytes);
    return put(c, s, [=] { return memcpy(host(to), staged->data(), bytes), OK; });
}
SETUN_FAKE_API Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Stream *s) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!c.has(from, bytes)) return INVALID_VALUE;
    return put(c, s, [=] { return memcpy(to, host(from), bytes), OK; });
}
SETUN_FAKE_API Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Stream *s) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!c.has(to, bytes) || !c.has(from, bytes)) return INVALID_VALUE;
    return put(c, s, [=] { return memmove(host(to), host(from), bytes), OK; });
}
SETUN_FAKE_API Result cuMemsetD8Async(Address to, unsigned char value, size_t n, Stream *s) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!c.has(to, n)) return INVALID_VALUE;
    return put(c, s, [=] { return memset(host(to), value, n), OK; });
}
SETUN_FAKE_API Result cuMemsetD32Async(Address to, unsigned value, size_t n, Stream *s) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (to % 4 || n > SIZE_MAX / 4 || !c.has(to, 4 * n)) return INVALID_VALUE;
    return put(c, s, [=] {
        for (size_t i = 0; i < n; i++) static_cast<unsigned *>(host(to))[i] = value;
        return OK;
    });
}
