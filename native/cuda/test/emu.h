/* SPDX-License-Identifier: Apache-2.0
 *
 * emu.h: the names of CUDA that kernels may use, on the CPU (emu_machine.h runs them). Overloads are those of CUDA and no others, so that what compiles here
 * compiles there. Not given on purpose: plain __shared__, which cannot work in templates and inline functions; SETUN_SHARED stands for it. */
#ifndef SETUN_EMU_H
#define SETUN_EMU_H

#include "emu_machine.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

/* SETUN_SHARED(float, tile, [8][128]); an array that the threads of a block share. SETUN_SHARED(int, flag, ); a single value. */
#define SETUN_SHARED(T, name, ...)                                                                                                                             \
    static thread_local emu::Slot name##_slot;                                                                                                                 \
    auto &name =                                                                                                                                               \
        *static_cast<T(*) __VA_ARGS__>(emu::running->shared(&name##_slot, sizeof(T __VA_ARGS__), alignof(T), #name, emu::Site::here(__FILE__, __LINE__)))
/* SETUN_DYNAMIC(char, name); the dynamic shared memory, aligned to 16 bytes. */
#define SETUN_DYNAMIC(T, name) T *name = static_cast<T *>(emu::running->dynamic())

#define SETUN_EMU_VECTOR(name, T, alignment)                                                                                                                   \
    struct alignas(alignment) name##2 {                                                                                                                        \
        T x, y;                                                                                                                                                \
    }
SETUN_EMU_VECTOR(float, float, 8);
SETUN_EMU_VECTOR(int, int, 8);
SETUN_EMU_VECTOR(uint, unsigned, 8);
SETUN_EMU_VECTOR(double, double, 16);
SETUN_EMU_VECTOR(longlong, long long, 16);
SETUN_EMU_VECTOR(ulonglong, unsigned long long, 16);
#undef SETUN_EMU_VECTOR
#define SETUN_EMU_VECTOR(name, T, alignment)                                                                                                                   \
    struct alignas(alignment) name##4 {                                                                                                                        \
        T x, y, z, w;                                                                                                                                          \
    }
SETUN_EMU_VECTOR(float, float, 16);
SETUN_EMU_VECTOR(int, int, 16);
SETUN_EMU_VECTOR(uint, unsigned, 16);
SETUN_EMU_VECTOR(char, signed char, 4);
SETUN_EMU_VECTOR(uchar, unsigned char, 4);
#undef SETUN_EMU_VECTOR

static const int warpSize = emu::WARP;
#define threadIdx (emu::running->thread())
#define blockIdx (emu::running->block())
#define blockDim (emu::running->block_size())
#define gridDim (emu::running->grid_size())

#define SETUN_EMU_HERE emu::Site site = emu::Site::here()
inline void __syncthreads(SETUN_EMU_HERE) { emu::running->barrier(site); }
inline void __syncwarp(unsigned mask = 0xffffffffu, SETUN_EMU_HERE) { emu::running->meet("__syncwarp", mask, 0, false, site); }
inline unsigned __ballot_sync(unsigned mask, int vote, SETUN_EMU_HERE) {
    return emu::running->votes(emu::running->meet("__ballot_sync", mask, 0, vote != 0, site));
}
inline int __any_sync(unsigned mask, int vote, SETUN_EMU_HERE) { return emu::running->votes(emu::running->meet("__any_sync", mask, 0, vote != 0, site)) != 0; }
inline int __all_sync(unsigned mask, int vote, SETUN_EMU_HERE) {
    return emu::running->votes(emu::running->meet("__all_sync", mask, 0, vote != 0, site)) == (mask & emu::running->lanes());
}

/* A warp may be cut into groups of `width` lanes; what would come from outside a lane's group is the lane's own value (idx: taken modulo the width). */
#define SETUN_EMU_SHUFFLES(T)                                                                                                                                  \
    inline T __shfl_sync(unsigned mask, T v, int from, int width = 32, SETUN_EMU_HERE) {                                                                       \
        const unsigned lane = emu::running->lane(), w = unsigned(width);                                                                                       \
        return emu::shuffle("__shfl_sync", mask, v, (lane & ~(w - 1)) + (unsigned(from) & (w - 1)), site);                                                     \
    }                                                                                                                                                          \
    inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, SETUN_EMU_HERE) {                                                              \
        const unsigned lane = emu::running->lane(), w = unsigned(width);                                                                                       \
        return emu::shuffle("__shfl_up_sync", mask, v, (lane & (w - 1)) < delta ? emu::WARP : lane - delta, site);                                             \
    }                                                                                                                                                          \
    inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, SETUN_EMU_HERE) {                                                            \
        const unsigned lane = emu::running->lane(), w = unsigned(width);                                                                                       \
        return emu::shuffle("__shfl_down_sync", mask, v, (lane & (w - 1)) + delta >= w ? emu::WARP : lane + delta, site);                                      \
    }                                                                                                                                                          \
    inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, SETUN_EMU_HERE) {                                                                   \
        const unsigned lane = emu::running->lane(), w = unsigned(width), from = lane ^ unsigned(bits);                                                         \
        return emu::shuffle("__shfl_xor_sync", mask, v, (from & ~(w - 1)) > (lane & ~(w - 1)) ? emu::WARP : from, site);                                       \
    }
SETUN_EMU_SHUFFLES(int)
SETUN_EMU_SHUFFLES(unsigned)
SETUN_EMU_SHUFFLES(long long)
SETUN_EMU_SHUFFLES(unsigned long long)
SETUN_EMU_SHUFFLES(float)
SETUN_EMU_SHUFFLES(double)
#undef SETUN_EMU_SHUFFLES

/* One thread runs at a time, so plain code is atomic. A GPU refuses an address that is not a multiple of the size. */
#define SETUN_EMU_ATOMIC(name, T, result)                                                                                                                      \
    inline T name(T *p, T v, SETUN_EMU_HERE) {                                                                                                                 \
        if (reinterpret_cast<uintptr_t>(p) % sizeof(T)) emu::running->trap(#name, ": an address that is not aligned", site);                                   \
        const T old = *p;                                                                                                                                      \
        *p = result;                                                                                                                                           \
        return old;                                                                                                                                            \
    }
/* a sum of ints wraps */
SETUN_EMU_ATOMIC(atomicAdd, int, int(unsigned(old) + unsigned(v)))
SETUN_EMU_ATOMIC(atomicAdd, unsigned, old + v)
SETUN_EMU_ATOMIC(atomicAdd, unsigned long long, old + v)
SETUN_EMU_ATOMIC(atomicAdd, float, old + v)
SETUN_EMU_ATOMIC(atomicAdd, double, old + v)
#define SETUN_EMU_ATOMICS(T)                                                                                                                                   \
    SETUN_EMU_ATOMIC(atomicMin, T, v < old ? v : old)                                                                                                          \
    SETUN_EMU_ATOMIC(atomicMax, T, v > old ? v : old) SETUN_EMU_ATOMIC(atomicOr, T, old | v) SETUN_EMU_ATOMIC(atomicAnd, T, old &v)
SETUN_EMU_ATOMICS(int)
SETUN_EMU_ATOMICS(unsigned)
SETUN_EMU_ATOMICS(long long)
SETUN_EMU_ATOMICS(unsigned long long)
SETUN_EMU_ATOMIC(atomicExch, int, v)
SETUN_EMU_ATOMIC(atomicExch, unsigned, v)
SETUN_EMU_ATOMIC(atomicExch, unsigned long long, v)
SETUN_EMU_ATOMIC(atomicExch, float, v)
#undef SETUN_EMU_ATOMICS
#undef SETUN_EMU_ATOMIC
#define SETUN_EMU_CAS(T)                                                                                                                                       \
    inline T atomicCAS(T *p, T compare, T v, SETUN_EMU_HERE) {                                                                                                 \
        if (reinterpret_cast<uintptr_t>(p) % sizeof(T)) emu::running->trap("atomicCAS", ": an address that is not aligned", site);                             \
        const T old = *p;                                                                                                                                      \
        if (old == compare) *p = v;                                                                                                                            \
        return old;                                                                                                                                            \
    }
SETUN_EMU_CAS(int)
SETUN_EMU_CAS(unsigned)
SETUN_EMU_CAS(unsigned long long)
#undef SETUN_EMU_CAS
#undef SETUN_EMU_HERE
inline void __threadfence() {}
inline void __threadfence_block() {}

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }
inline int __dp4a(int a, int b, int c) {
    unsigned sum = unsigned(c);
    for (int i = 0; i < 32; i += 8) sum += unsigned(int8_t(a >> i) * int8_t(b >> i));
    return int(sum);
}
template <class T> T __ldg(const T *p) { return *p; }

namespace emu {
template <class To, class From> To bits_as(From v) {
    static_assert(sizeof(To) == sizeof(From), "a value of another size");
    To to;
    memcpy(&to, &v, sizeof to);
    return to;
}
} // namespace emu
inline unsigned __float_as_uint(float v) { return emu::bits_as<unsigned>(v); }
inline int __float_as_int(float v) { return emu::bits_as<int>(v); }
inline float __uint_as_float(unsigned v) { return emu::bits_as<float>(v); }
inline float __int_as_float(int v) { return emu::bits_as<float>(v); }
inline long long __double_as_longlong(double v) { return emu::bits_as<long long>(v); }
inline double __longlong_as_double(long long v) { return emu::bits_as<double>(v); }

/* To the nearest, ties to even; what has no value in the type is its end, and NaN as the device has it. */
inline long long __double2ll_rn(double v) {
    if (!(v > -0x1p63)) return LLONG_MIN; /* NaN too */
    return v < 0x1p63 ? llrint(v) : LLONG_MAX;
}
inline int __float2int_rn(float v) {
    if (v != v) return 0;
    return v >= 0x1p31f ? INT_MAX : v <= -0x1p31f ? INT_MIN : int(lrintf(v));
}
/* Never contracted into a fused multiplication and addition, if the compiler is told not to (-ffp-contract=off). */
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }

#endif
