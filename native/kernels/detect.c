/* SPDX-License-Identifier: Apache-2.0
 *
 * detect.c: CPUID and XGETBV. Nothing else. */
#include "detect.h"

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)

#if defined(_MSC_VER)
#include <intrin.h>
static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]) { __cpuidex((int *)r, (int)leaf, (int)sub); }
static uint64_t xgetbv(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]) { __cpuid_count(leaf, sub, r[0], r[1], r[2], r[3]); }
static uint64_t xgetbv(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}
#endif

static int has(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

int setun_detect(void) {
    uint32_t r[4]; /* eax, ebx, ecx, edx */
    cpuid(0, 0, r);
    uint32_t last = r[0];
    cpuid(1, 0, r);
    uint32_t ecx1 = r[2];
    if (!has(ecx1, 1u << 23 | 1u << 20 | 1u << 19)) return 0; /* POPCNT, which compilers take SSE4.2 to include; SSE4.2, SSE4.1 */
    int saves = has(ecx1, 1u << 27);                          /* OSXSAVE: xgetbv may be asked */
    uint64_t state = saves ? xgetbv() : 0;
    if (last < 7 || !has(ecx1, 1u << 28 | 1u << 12) || (state & 0x6) != 0x6) return 1; /* AVX, FMA; SSE and AVX registers */
    cpuid(7, 0, r);
    if (!has(r[1], 1u << 8 | 1u << 5)) return 1;                                                   /* BMI2, AVX2 */
    if (!has(r[1], 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) || (state & 0xe6) != 0xe6) return 2; /* F, DQ, BW, VL; mask and ZMM registers */
    if (!has(r[2], 1u << 11)) return 3;                                                            /* AVX512_VNNI */
    return has(r[2], 1u << 1) ? 5 : 4;                                                             /* AVX512_VBMI */
}

#elif defined(__aarch64__) || defined(_M_ARM64)

#if defined(__linux__)
#include <sys/auxv.h>
static int has_dot(void) { return (getauxval(AT_HWCAP) & 1ul << 20) != 0; /* HWCAP_ASIMDDP */ }
#elif defined(__APPLE__)
static int has_dot(void) { return 1; /* all that run macOS */ }
#else
static int has_dot(void) { return 0; }
#endif

int setun_detect(void) { return has_dot() ? 2 : 1; /* NEON is part of the architecture */ }

#else

int setun_detect(void) { return 0; }

#endif
