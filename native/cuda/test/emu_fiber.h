/* SPDX-License-Identifier: Apache-2.0
 *
 * emu_fiber.h: from one stack to another, for threads that take turns on one of the system's. Some ns on x86-64, elsewhere by ucontext. */
#ifndef SETUN_EMU_FIBER_H
#define SETUN_EMU_FIBER_H

#include "emu_guard.h"

#include <stddef.h>

#if defined(__x86_64__) && !defined(SETUN_EMU_UCONTEXT)
#define SETUN_EMU_SWITCH 1
#else
#include <ucontext.h>
#endif

#pragma GCC visibility push(hidden)
namespace emu {

#ifdef SETUN_EMU_ASAN
constexpr size_t STACK = 128 << 10; /* its frames are larger */
#else
constexpr size_t STACK = 64 << 10;
#endif

#ifdef SETUN_EMU_SWITCH
extern "C" __attribute__((visibility("hidden"))) void setun_emu_switch(void **save, void *load);
asm(R"(
.pushsection .text.setun_emu_switch,"axG",@progbits,setun_emu_switch,comdat
.weak setun_emu_switch
.hidden setun_emu_switch
.type setun_emu_switch,@function
setun_emu_switch:
pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
movq %rsp, (%rdi)
movq %rsi, %rsp
popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
ret
.size setun_emu_switch, .-setun_emu_switch
.popsection
)");
#endif

/* Where code stopped, to go on from there. */
struct Context {
#ifdef SETUN_EMU_SWITCH
    void *sp = nullptr;
#else
    ucontext_t at;
#endif
    /* It begins with entry, which never returns, on a stack of so many bytes. */
    void start(char *stack, size_t size, void (*entry)()) {
#ifdef SETUN_EMU_SWITCH
        void **top = reinterpret_cast<void **>(stack + size);
        *--top = nullptr; /* where entry would return to */
        *--top = reinterpret_cast<void *>(entry);
        for (int i = 0; i < 6; i++) *--top = nullptr;
        sp = top;
#else
        getcontext(&at);
        at.uc_stack.ss_sp = stack;
        at.uc_stack.ss_size = size;
        at.uc_link = nullptr;
        makecontext(&at, entry, 0);
#endif
    }
};

inline void switch_context(Context &from, Context &to) {
#ifdef SETUN_EMU_SWITCH
    setun_emu_switch(&from.sp, to.sp);
#else
    swapcontext(&from.at, &to.at);
#endif
}

} // namespace emu
#pragma GCC visibility pop

#endif
