/* SPDX-License-Identifier: Apache-2.0
 *
 * emu_guard.h: memory around arrays that nobody may touch. */
#ifndef SETUN_EMU_GUARD_H
#define SETUN_EMU_GUARD_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define SETUN_EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SETUN_EMU_ASAN 1
#endif
#endif
#ifdef SETUN_EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#pragma GCC visibility push(hidden)
namespace emu {

/* Bytes FE FF: a NaN to whoever reads floats or doubles, no ternary code, and not what a kernel is likely to write. */
inline void fill_guard(void *p, size_t n) {
    for (size_t i = 0; i < n; i++) static_cast<unsigned char *>(p)[i] = i & 1 ? 0xFF : 0xFE;
}
inline const unsigned char *find_damage(const void *p, size_t n) {
    const unsigned char *c = static_cast<const unsigned char *>(p);
    for (size_t i = 0; i < n; i++)
        if (c[i] != (i & 1 ? 0xFF : 0xFE)) return c + i;
    return nullptr;
}
/* So that AddressSanitizer reports a touch of memory that belongs to no array; nothing without it. */
inline void forbid(const void *p, size_t n, bool on) {
#ifdef SETUN_EMU_ASAN
    if (on)
        ASAN_POISON_MEMORY_REGION(p, n);
    else
        ASAN_UNPOISON_MEMORY_REGION(p, n);
#else
    (void)p, (void)n, (void)on;
#endif
}

} // namespace emu
#pragma GCC visibility pop

#endif
