/* SPDX-License-Identifier: Apache-2.0
 *
 * fake_run.h: the way from the untyped values of a launch to a kernel on the emulator. Each image of kernels is a file that includes its kernels, then this. */
#ifndef SETUN_CUDA_TEST_FAKE_RUN_H
#define SETUN_CUDA_TEST_FAKE_RUN_H

#include "fake_state.h"

#include "emu_machine.h"

#include <tuple>
#include <type_traits>

namespace fake {

emu::Machine &machine();                     /* that runs all kernels, one at a time */
Result damage(Context &c, const char *name); /* whether a kernel has written around a block */

/* A parameter: a pointer loses its offset. */
template <class A> A value(const Context &c, const char *bytes, bool *bad) {
    static_assert(sizeof(A) <= VALUE && std::is_trivially_copyable<A>::value, "a parameter that cannot be passed");
    A a;
    memcpy(&a, bytes, sizeof a);
    if constexpr (std::is_pointer<A>::value) {
        const Address at = reinterpret_cast<Address>(a);
        if (at == 0) return a;
        if (c.has(at, 0)) return reinterpret_cast<A>(const_cast<void *>(static_cast<const void *>(host(at))));
        const Block *pinned = find(c.pinned, at, 0);
        if (!pinned || !pinned->mapped) *bad = true;
    }
    return a;
}

template <class... A, size_t... I> Result call(void (*kernel)(A...), Context &c, const Launch &l, const char *name, std::index_sequence<I...>) {
    bool bad[sizeof...(A) + 1] = {};
    std::tuple<A...> args{value<A>(c, l.values.data() + I * VALUE, bad + I)...};
    for (size_t i = 0; i < sizeof...(A); i++)
        if (bad[i]) {
            fprintf(stderr, "libcuda_fake: %s: parameter %zu is no address in memory of the device\n", name, i);
            return ILLEGAL_ADDRESS;
        }
    machine().order = driver().order;
    driver().launches++;
    if (machine().launch(dim3(l.grid[0], l.grid[1], l.grid[2]), dim3(l.block[0], l.block[1], l.block[2]), l.shared, [&] { std::apply(kernel, args); }))
        return damage(c, name);
    fprintf(stderr, "libcuda_fake: %s: %s\n", name, machine().error.c_str());
    return LAUNCH_FAILED;
}

template <auto K> struct Run;
template <class... A, void (*K)(A...)> struct Run<K> {
    static Result run(Context &c, const Launch &l, const char *name) { return call(K, c, l, name, std::index_sequence_for<A...>()); }
    static std::vector<size_t> sizes() { return {sizeof(A)...}; }
};

/* For the X-macro that lists an image's kernels. */
#define FAKE_KERNEL(name) {#name, fake::Run<::name>::sizes(), fake::Run<::name>::run},

} // namespace fake

#endif
