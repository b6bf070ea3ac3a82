// SPDX-License-Identifier: Apache-2.0
//
// fake.cpp: the kernels of the fake driver, and launches. The kernels for newer devices are in fake80.cpp, as they are in an image of their own.
#include "kernels.cu"
#include "kernels.h"

#include "fake_run.h"

namespace fake {

const std::vector<Kernel> &kernels() {
    static const std::vector<Kernel> list = [] {
        std::vector<Kernel> all = {SETUN_CUDA_KERNELS(FAKE_KERNEL)}, newer = kernels80();
        all.insert(all.end(), newer.begin(), newer.end());
        return all;
    }();
    return list;
}

emu::Machine &machine() {
    static emu::Machine *m = new emu::Machine; /* never deleted: threads may outlive static objects */
    return *m;
}

Result damage(Context &c, const char *name) {
    bool whole = true;
    for (auto &m : c.memory) whole &= guards_hold(static_cast<char *>(host(m.first)), m.second.bytes, name);
    for (auto &m : c.pinned) whole &= guards_hold(reinterpret_cast<char *>(m.first), m.second.bytes, name);
    return whole ? OK : ILLEGAL_ADDRESS;
}

} // namespace fake

using namespace fake;

SETUN_FAKE_API Result cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Stream *s,
                                     void **values, void **extra) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!c.functions.count(f)) return INVALID_HANDLE;
    if (gx == 0 || gy == 0 || gz == 0 || gx > 0x7fffffffu || gy > 65535 || gz > 65535) return INVALID_VALUE;
    if (bx == 0 || by == 0 || bz == 0 || bx > 1024 || by > 1024 || bz > 64 || bx * by * bz > f->most_threads) return INVALID_VALUE;
    if (shared > f->shared || extra || (!values && !f->kernel->sizes.empty())) return INVALID_VALUE;
    const Kernel &k = *f->kernel;
    auto l = std::make_shared<Launch>(Launch{{gx, gy, gz}, {bx, by, bz}, shared, std::vector<char>(k.sizes.size() * VALUE)});
    for (size_t i = 0; i < k.sizes.size(); i++) memcpy(l->values.data() + i * VALUE, values[i], k.sizes[i]);
    return put(
        c, s,
        [&c, &k, l] {
            const Result r = fault(k.name);
            return r ? r : k.run(c, *l, k.name);
        },
        true);
}

int cufake_work(void *stream, const char *name, void (*run)(void *), void (*end)(void *), void *data) {
    std::shared_ptr<void> kept(data, end);
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    return put(
        c, static_cast<Stream *>(stream),
        [&c, name, run, kept] {
            if (Result r = fault(name)) return r;
            driver().launches++;
            run(kept.get());
            return damage(c, name);
        },
        true);
}

SETUN_FAKE_API Result cuFuncSetAttribute(Function *f, int attribute, int value) {
    FAKE_ENTER(CONTEXT);
    if (!current()->functions.count(f)) return INVALID_HANDLE;
    if (attribute == 9) return value >= -1 && value <= 100 ? OK : INVALID_VALUE; /* how much of the L1 cache is to be shared memory */
    if (attribute != 8 || value < 0 || value > int(emu::SHARED)) return INVALID_VALUE;
    f->shared = size_t(value);
    return OK;
}
