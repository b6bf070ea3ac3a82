/* SPDX-License-Identifier: Apache-2.0
 *
 * port.h: lets the same .cu files be compiled three ways, with no CUDA header needed:
 *   1. nvcc: the real thing, nothing to add;
 *   2. clang -x cuda -nocudainc -nocudalib --cuda-device-only: PTX without a toolkit;
 *   3. any C++17 compiler with -DSETUN_EMU: the emulator of test/emu.h, for tests of their logic.
 * Kernels use only what is named here, so that the three mean the same: float and double arithmetic that is rounded to nearest once an operation
 * (built with -ffp-contract=off or --fmad=false), fused only where fmaf is written. */
#ifndef SETUN_CUDA_PORT_H
#define SETUN_CUDA_PORT_H

#if defined(SETUN_EMU)
#include "emu.h"
#define SETUN_UNROLL
#define SETUN_ROLL

#elif defined(__CUDACC__) && !(defined(__clang__) && defined(__CUDA__))
#include <stdint.h>
#define SETUN_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define SETUN_DYNAMIC(type, name) extern __shared__ __align__(16) type name[]
#define SETUN_UNROLL _Pragma("unroll")
#define SETUN_ROLL _Pragma("unroll 1")

#elif defined(__CUDA__) && defined(__clang__)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __forceinline__ inline __attribute__((always_inline))
#define SETUN_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define SETUN_DYNAMIC(type, name) extern __shared__ __attribute__((aligned(16))) type name[]
#define SETUN_UNROLL _Pragma("unroll")
#define SETUN_ROLL _Pragma("unroll 1")

/* Special registers, read where they are named. */
#define SETUN_SREG(type, var, reg)                                                                                                                             \
    struct type {                                                                                                                                              \
        static __device__ __forceinline__ unsigned gx() { return __nvvm_read_ptx_sreg_##reg##_x(); }                                                           \
        static __device__ __forceinline__ unsigned gy() { return __nvvm_read_ptx_sreg_##reg##_y(); }                                                           \
        static __device__ __forceinline__ unsigned gz() { return __nvvm_read_ptx_sreg_##reg##_z(); }                                                           \
        __declspec(property(get = gx)) unsigned x;                                                                                                             \
        __declspec(property(get = gy)) unsigned y;                                                                                                             \
        __declspec(property(get = gz)) unsigned z;                                                                                                             \
    };                                                                                                                                                         \
    extern const __device__ type var
SETUN_SREG(setun_tid, threadIdx, tid);
SETUN_SREG(setun_ctaid, blockIdx, ctaid);
SETUN_SREG(setun_ntid, blockDim, ntid);
SETUN_SREG(setun_nctaid, gridDim, nctaid);
#undef SETUN_SREG

#define SETUN_VECTOR(bytes, name, ...)                                                                                                                         \
    struct __attribute__((aligned(bytes))) name {                                                                                                              \
        __VA_ARGS__;                                                                                                                                           \
    }
SETUN_VECTOR(8, float2, float x, y);
SETUN_VECTOR(16, float4, float x, y, z, w);
SETUN_VECTOR(16, double2, double x, y);
SETUN_VECTOR(8, int2, int x, y);
SETUN_VECTOR(16, int4, int x, y, z, w);
SETUN_VECTOR(8, uint2, unsigned x, y);
SETUN_VECTOR(16, uint4, unsigned x, y, z, w);
SETUN_VECTOR(4, char4, signed char x, y, z, w);
SETUN_VECTOR(4, uchar4, unsigned char x, y, z, w);
#undef SETUN_VECTOR

/* __syncthreads is a clang builtin of that name. */
#define SETUN_D static __device__ __forceinline__
SETUN_D void __syncwarp(unsigned m = 0xffffffffu) { __nvvm_bar_warp_sync(m); }
#define SETUN_SHUFFLE(name, builtin, arg)                                                                                                                      \
    SETUN_D int name(unsigned m, int v, arg, int = 32) { return builtin##i32(m, v, l, 31); }                                                                   \
    SETUN_D unsigned name(unsigned m, unsigned v, arg, int = 32) { return (unsigned)builtin##i32(m, (int)v, l, 31); }                                          \
    SETUN_D float name(unsigned m, float v, arg, int = 32) { return builtin##f32(m, v, l, 31); }                                                               \
    SETUN_D long long name(unsigned m, long long v, arg, int = 32) {                                                                                           \
        int low = builtin##i32(m, (int)v, l, 31), high = builtin##i32(m, (int)(v >> 32), l, 31);                                                               \
        return (long long)(((unsigned long long)(unsigned)high << 32) | (unsigned)low);                                                                        \
    }                                                                                                                                                          \
    SETUN_D unsigned long long name(unsigned m, unsigned long long v, arg, int = 32) { return (unsigned long long)name(m, (long long)v, l); }                  \
    SETUN_D double name(unsigned m, double v, arg, int = 32) { return __builtin_bit_cast(double, name(m, __builtin_bit_cast(long long, v), l)); }
SETUN_SHUFFLE(__shfl_down_sync, __nvvm_shfl_sync_down_, unsigned l)
SETUN_SHUFFLE(__shfl_xor_sync, __nvvm_shfl_sync_bfly_, int l)
SETUN_SHUFFLE(__shfl_sync, __nvvm_shfl_sync_idx_, int l)
#undef SETUN_SHUFFLE
SETUN_D unsigned __ballot_sync(unsigned m, int p) { return __nvvm_vote_ballot_sync(m, p); }
SETUN_D int __any_sync(unsigned m, int p) { return __nvvm_vote_any_sync(m, p); }
SETUN_D int __all_sync(unsigned m, int p) { return __nvvm_vote_all_sync(m, p); }
SETUN_D int atomicAdd(int *p, int v) { return __nvvm_atom_add_gen_i(p, v); }
SETUN_D unsigned atomicAdd(unsigned *p, unsigned v) { return (unsigned)__nvvm_atom_add_gen_i((int *)p, (int)v); }
SETUN_D unsigned long long atomicAdd(unsigned long long *p, unsigned long long v) {
    return (unsigned long long)__nvvm_atom_add_gen_ll((long long *)p, (long long)v);
}
SETUN_D unsigned atomicMax(unsigned *p, unsigned v) { return __nvvm_atom_max_gen_ui(p, v); }
SETUN_D unsigned atomicMin(unsigned *p, unsigned v) { return __nvvm_atom_min_gen_ui(p, v); }
SETUN_D unsigned long long atomicMax(unsigned long long *p, unsigned long long v) { return __nvvm_atom_max_gen_ull(p, v); }
SETUN_D unsigned long long atomicMin(unsigned long long *p, unsigned long long v) { return __nvvm_atom_min_gen_ull(p, v); }
SETUN_D unsigned atomicOr(unsigned *p, unsigned v) { return (unsigned)__nvvm_atom_or_gen_i((int *)p, (int)v); }
SETUN_D void __threadfence() { __nvvm_membar_gl(); }
SETUN_D float fabsf(float v) { return __builtin_fabsf(v); }
SETUN_D double fabs(double v) { return __builtin_fabs(v); }
SETUN_D float fmaxf(float a, float b) { return __nvvm_fmax_f(a, b); } /* the other one where one is NaN */
SETUN_D float fminf(float a, float b) { return __nvvm_fmin_f(a, b); }
SETUN_D float fmaf(float a, float b, float c) { return __nvvm_fma_rn_f(a, b, c); }
SETUN_D double sqrt(double a) { return __nvvm_sqrt_rn_d(a); }
SETUN_D double rint(double v) { return __builtin_rint(v); }
SETUN_D unsigned __float_as_uint(float v) { return __builtin_bit_cast(unsigned, v); }
SETUN_D float __uint_as_float(unsigned v) { return __builtin_bit_cast(float, v); }
SETUN_D long long __double_as_longlong(double v) { return __builtin_bit_cast(long long, v); }
SETUN_D double __longlong_as_double(long long v) { return __builtin_bit_cast(double, v); }
SETUN_D int __popc(unsigned v) { return __builtin_popcount(v); }
SETUN_D int __ffs(int v) { return __builtin_ffs(v); }
SETUN_D int __clz(int v) { return v == 0 ? 32 : __builtin_clz((unsigned)v); }
SETUN_D unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
SETUN_D unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return __nvvm_mulhi_ull(a, b); }
SETUN_D int __dp4a(int a, int b, int c) {
    int r;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
template <class T> SETUN_D T __ldg(const T *p) { return *p; }
/* Whole, where the compiler might take the values one by one. */
SETUN_D float4 __ldg(const float4 *p) {
    typedef float V __attribute__((ext_vector_type(4)));
    V v = __nvvm_ldg_f4((const V *)p);
    return {v.x, v.y, v.z, v.w};
}
SETUN_D uint4 __ldg(const uint4 *p) {
    typedef unsigned V __attribute__((ext_vector_type(4)));
    V v = __nvvm_ldg_ui4((const V *)p);
    return {v.x, v.y, v.z, v.w};
}
#else
#error "port.h: compile with nvcc, with clang -x cuda, or with -DSETUN_EMU"
#endif

#endif
