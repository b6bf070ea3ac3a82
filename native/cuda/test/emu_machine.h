/* SPDX-License-Identifier: Apache-2.0
 *
 * emu_machine.h: runs the blocks of a kernel on the CPU, each CUDA thread a fiber, to test the kernel's logic.
 *
 * What a GPU leaves undefined is an error here, with the place, the block and the thread: a barrier that not every thread reaches, or that threads reach at
 * different places; a warp operation that some lanes of its mask never reach; a write past a shared array. Threads run one at a time, each until it has to
 * wait, in an order that can be changed: what depends on the order lacks a barrier. Shared memory starts as NaN in every block.
 *
 * Blocks run one after the other, so a race between blocks shows only where their order matters. A loop that waits for another thread never ends. */
#ifndef SETUN_EMU_MACHINE_H
#define SETUN_EMU_MACHINE_H

#include "emu_fiber.h"
#include "emu_guard.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

/* Hidden: a program with kernels of its own may load a library with others, and each has its machine. */
#pragma GCC visibility push(hidden)
namespace emu {

constexpr unsigned WARP = 32, THREADS = 1024;
constexpr size_t STATIC = 48 << 10, SHARED = 227 << 10; /* bytes of shared arrays, and of all shared memory, that a block may have on compute capability 9.0 */
constexpr size_t GUARD = 64;

/* Where an operation is called: as a default argument it takes its caller's place. */
struct Site {
    const char *file = "";
    int line = 0;
    static constexpr Site here(const char *f = __builtin_FILE(), int l = __builtin_LINE()) { return {f, l}; }
    bool operator!=(const Site &o) const { return line != o.line || (file != o.file && strcmp(file, o.file) != 0); }
};

/* What a shared array's declaration remembers: its address in the block that runs. One for each declaration, instance of a template, and host thread. */
struct Slot {
    uint64_t block = 0;
    void *at = nullptr;
};

enum State { READY, AT_BARRIER, AT_WARP, DONE };

struct Fiber {
    Context context;
    State state = DONE;
    uint3 thread = {0, 0, 0};
    unsigned index = 0, meeting = 0; /* the meeting of its warp that it waits for */
    Site site;
};
/* The lanes of a mask meet, and each leaves a value and a vote. Two sets of slots are enough: a lane can be one meeting ahead of another, never two. */
struct Warp {
    uint64_t slot[2][WARP];
    unsigned vote[2] = {0, 0}, arrived = 0, mask = 0, meeting = 0;
    const char *operation = "";
    Site site;
};

class Machine {
  public:
    int order = 0; /* of threads and blocks. 0: forward, 1: backward, above: random, seeded by it */
    uint64_t switches = 0;
    std::string error; /* why the last launch failed */

    Machine() = default;
    Machine(const Machine &) = delete;
    ~Machine() {
        if (stacks) munmap(stacks, THREADS * stride);
        if (arena) forbid(arena, ARENA, false), munmap(arena, ARENA);
    }
    inline bool launch(dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()> &kernel);

    /* For the code of a thread that runs. */
    const uint3 &thread() const { return current->thread; }
    const uint3 &block() const { return block_index; }
    const dim3 &block_size() const { return block_shape; }
    const dim3 &grid_size() const { return grid_shape; }
    unsigned lane() const { return current->index % WARP; }
    unsigned lanes() const { /* that its warp has */
        unsigned rest = count - current->index / WARP * WARP;
        return rest < WARP ? (1u << rest) - 1 : ~0u;
    }
    void *dynamic() { return arena + FRONT; }
    inline void barrier(Site site);
    inline unsigned meet(const char *operation, unsigned mask, uint64_t value, bool vote, Site site);
    uint64_t slot(unsigned meeting, unsigned lane) const { return warp[current->index / WARP].slot[meeting & 1][lane]; }
    unsigned votes(unsigned meeting) const { return warp[current->index / WARP].vote[meeting & 1]; }
    inline void *shared(Slot *slot, size_t bytes, size_t alignment, const char *name, Site site);
    /* Ends the launch with an error. The thread is never resumed: nothing on its stack may own memory. */
    void trap(const char *operation, const char *what, Site site) {
        fail(std::string(operation) + what, site, current->index);
        leave();
    }

  private:
    /* The dynamic memory is aligned to 16 bytes and to no more. */
    static constexpr size_t FRONT = GUARD + 16, ARENA = SHARED + 256 * GUARD;
    struct Array {
        char *end;
        const char *name;
        Site site;
    };
    dim3 grid_shape, block_shape;
    uint3 block_index = {0, 0, 0};
    Fiber *current = nullptr;
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<unsigned> turns;
    Fiber *fiber = nullptr; /* those, and how many threads there are, for what runs millions of times */
    Warp *warp = nullptr;
    unsigned *turn = nullptr, count = 0, at = 0, end = 0; /* at .. end: turns of this pass that are still to come */
    std::vector<Array> arrays;                            /* of this block, the dynamic one first */
    uint64_t serial = 0;                                  /* of this block, among those of all machines */
    char *arena = nullptr, *stacks = nullptr;
    size_t stride = 0, dynamic_size = 0, static_size = 0;
    const std::function<void()> *body = nullptr;
    Context main;

    /* AddressSanitizer has to know which stack is in use. */
    bool from_main = false; /* that was left last */
#ifdef SETUN_EMU_ASAN
    const void *main_stack = nullptr;
    size_t main_size = 0;
    void leaving(void **state, const Fiber *to) { __sanitizer_start_switch_fiber(state, to ? stack_of(*to) : main_stack, to ? STACK : main_size); }
    void arrived(void *state) {
        __sanitizer_finish_switch_fiber(state, from_main ? &main_stack : nullptr, from_main ? &main_size : nullptr), from_main = false;
    }
#else
    void leaving(void **, const Fiber *) {}
    void arrived(void *) {}
#endif
    /* The next thread of the pass that need not wait. */
    Fiber *due() {
        while (at < end) {
            Fiber &f = fiber[turn[at++]];
            if (f.state == AT_WARP && warp[f.index / WARP].meeting != f.meeting) f.state = READY;
            if (f.state == READY) return &f;
        }
        return nullptr;
    }
    /* Leaves the thread that runs for the next one, or for the loop over the passes. */
    void leave() {
        Fiber *self = current, *next = error.empty() ? due() : nullptr;
        void *state = nullptr;
        switches++;
        leaving(&state, next);
        current = next;
        switch_context(self->context, next ? next->context : main);
        arrived(state);
    }
    char *stack_of(const Fiber &f) const { return stacks + f.index * stride + (stride - STACK); }
    /* Gives each of some turns' threads the processor once, where it need not wait. Whether there was one; false after an error. */
    bool pass(unsigned first, unsigned last) {
        void *state = nullptr;
        at = first, end = last;
        if (!(current = due())) return false;
        switches++;
        from_main = true;
        leaving(&state, current);
        switch_context(main, current->context);
        arrived(state);
        return error.empty();
    }
    bool fail(const std::string &what, Site site, unsigned thread) {
        if (!error.empty()) return false;
        char where[160];
        const char *slash = strrchr(site.file, '/');
        snprintf(where, sizeof where, "%s:%d: ", slash ? slash + 1 : site.file, site.line);
        error = (site.line ? where : "") + what;
        snprintf(where, sizeof where, ": block (%u,%u,%u) thread %u", block_index.x, block_index.y, block_index.z, thread);
        error += where;
        return false;
    }
    inline static void entry();
    inline void prepare(Fiber &f);
    inline bool allocate();
    inline void clear_shared();
    inline bool check_shared();
    inline bool check_waiting();
    inline bool run_block();
    template <class T> void permute(std::vector<T> &v, uint64_t &random) {
        for (size_t i = v.size(); i > 1; i--) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            std::swap(v[i - 1], v[random % i]);
        }
    }
};

/* The machine whose thread this code is. Read at every step: without a call, though the library was loaded by dlopen. */
inline thread_local Machine *running __attribute__((tls_model("initial-exec"))) = nullptr;

inline void Machine::entry() {
    Machine *m = running;
    m->arrived(nullptr);
    (*m->body)();
    m->current->state = DONE;
    m->leave();
}

inline void Machine::prepare(Fiber &f) {
    const size_t size = STACK - f.index % WARP * 128; /* tops that do not all fall into the same set of a cache */
    f.state = READY;
    forbid(stack_of(f) + size - 1024, 1024, false); /* marks of the thread before, which left from within entry */
    f.context.start(stack_of(f), size, &entry);
}

/* A page below each stack that may not be touched, so that an overflow ends the process rather than spoils another thread. */
inline bool Machine::allocate() {
    if (arena) return true;
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    const int use = PROT_READ | PROT_WRITE, map = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    stride = STACK + page;
    void *s = mmap(nullptr, THREADS * stride, use, map, -1, 0), *a = mmap(nullptr, ARENA, use, map, -1, 0);
    if (s != MAP_FAILED) stacks = static_cast<char *>(s);
    if (a != MAP_FAILED) arena = static_cast<char *>(a);
    for (size_t i = 0; stacks && i < THREADS; i++) mprotect(stacks + i * stride, page, PROT_NONE);
    return stacks && arena;
}

inline void Machine::clear_shared() {
    static std::atomic<uint64_t> blocks{0};
    serial = ++blocks;
    const size_t used = arrays.empty() ? size_t(ARENA) : size_t(arrays.back().end + GUARD - arena); /* by the block before */
    arrays.clear();
    static_size = 0;
    forbid(arena, used, true), forbid(arena, FRONT + dynamic_size + GUARD, false);
    fill_guard(arena, FRONT);
    char *end = arena + FRONT + dynamic_size;
    memset(arena + FRONT, 0xFF, dynamic_size);
    fill_guard(end, GUARD);
    arrays.push_back({end, "the dynamic shared memory", Site()});
    forbid(arena, FRONT, true), forbid(end, GUARD, true);
}

inline void *Machine::shared(Slot *slot, size_t bytes, size_t alignment, const char *name, Site site) {
    if (slot->block == serial) return slot->at;
    static_size += bytes;
    if (static_size > STATIC) trap("", "more than 48 KiB of shared arrays", site);
    if (static_size + dynamic_size > SHARED || arrays.size() > 160) trap("", "more shared memory than a block can have", site);
    /* An odd multiple of the alignment: what needs a greater one than its declaration asks for fails here too. */
    char *last = arrays.back().end;
    const size_t at = reinterpret_cast<uintptr_t>(last) + GUARD, odd = (3 * alignment - at % (2 * alignment)) % (2 * alignment);
    char *p = last + GUARD + odd, *end = p + bytes;
    forbid(last, size_t(end + GUARD - last), false);
    memset(p, 0xFF, bytes);
    fill_guard(last, size_t(p - last)), fill_guard(end, GUARD);
    forbid(last, size_t(p - last), true), forbid(end, GUARD, true);
    arrays.push_back({end, name, site});
    slot->block = serial;
    return slot->at = p;
}

inline bool Machine::check_shared() {
    forbid(arena, size_t(arrays.back().end + GUARD - arena), false);
    if (find_damage(arena, FRONT)) return fail("written before the dynamic shared memory", Site(), 0);
    for (const Array &a : arrays)
        if (find_damage(a.end, GUARD)) return fail(std::string("written past the end of ") + a.name, a.site, 0);
    return true;
}

inline void Machine::barrier(Site site) {
    current->site = site;
    current->state = AT_BARRIER;
    leave();
}

/* Returns the number of the meeting, for slot and votes. Masks that differ within a warp at one time are not modelled, but seen. */
inline unsigned Machine::meet(const char *operation, unsigned mask, uint64_t value, bool vote, Site site) {
    Warp &w = warp[current->index / WARP];
    const unsigned me = 1u << lane(), meeting = w.meeting;
    if (!(mask & me)) trap(operation, ": the lane is not in its own mask", site);
    mask &= lanes();
    if (!w.arrived)
        w.vote[meeting & 1] = 0, w.mask = mask, w.operation = operation, w.site = site;
    else if (w.site != site || (w.operation != operation && strcmp(w.operation, operation) != 0)) {
        char text[80];
        snprintf(text, sizeof text, ": other lanes of the warp are at %s in line %d", w.operation, w.site.line);
        trap(operation, text, site);
    } else if (w.mask != mask)
        trap(operation, ": lanes that meet have different masks", site);
    w.slot[meeting & 1][lane()] = value;
    if (vote) w.vote[meeting & 1] |= me;
    w.arrived |= me;
    if (w.arrived == mask) {
        w.arrived = 0;
        w.meeting++;
    } else {
        current->meeting = meeting;
        current->state = AT_WARP;
        current->site = site;
        leave();
    }
    return meeting;
}

/* No thread can go on: true where that is because all are at the same barrier, or done (then every state is DONE). */
inline bool Machine::check_waiting() {
    const Fiber *waits = nullptr, *late = nullptr;
    for (const Fiber &f : fibers) {
        if (f.state == AT_WARP) {
            const Warp &w = warps[f.index / WARP];
            char text[120];
            snprintf(text, sizeof text, "%s: lanes %08x of its mask %08x never arrive", w.operation, w.mask & ~w.arrived, w.mask);
            return fail(text, f.site, f.index);
        }
        if (f.state == DONE) late = &f;
        if (f.state == AT_BARRIER && !waits) waits = &f;
    }
    if (!waits) return true;
    if (late) return fail("__syncthreads: not reached by thread " + std::to_string(late->index), waits->site, waits->index);
    for (const Fiber &f : fibers)
        if (f.site != waits->site) return fail("__syncthreads: another thread is at that of line " + std::to_string(f.site.line), waits->site, waits->index);
    return true;
}

inline bool Machine::run_block() {
    uint64_t random =
        0x9e3779b97f4a7c15ull * (unsigned(order) + (uint64_t(block_index.x) << 32) + 0x10001ull * block_index.y + 0x30007ull * block_index.z + 1) | 1;
    const unsigned n = unsigned(fibers.size());
    clear_shared();
    for (Warp &w : warps) w.arrived = w.meeting = 0;
    for (Fiber &f : fibers) prepare(f);
    for (unsigned i = 0; i < n; i++) turns[i] = order == 1 ? n - 1 - i : i;
    for (;;) {
        bool moved = false;
        if (order > 1) {
            permute(turns, random);
            moved = pass(0, n);
        }
        for (unsigned first = 0; first < n && order <= 1 && error.empty(); first += WARP) /* each warp as far as it can go: its stacks stay in the cache */
            while (pass(first, first + WARP < n ? first + WARP : n)) moved = true;
        if (!error.empty()) return false;
        if (moved) continue;
        if (!check_waiting()) return false;
        if (fibers[0].state == DONE) return check_shared();
        for (Fiber &f : fibers) f.state = READY;
    }
}

inline bool Machine::launch(dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()> &kernel) {
    const uint64_t n = uint64_t(block.x) * block.y * block.z, blocks = uint64_t(grid.x) * grid.y * grid.z;
    error.clear();
    block_index = {0, 0, 0};
    if (running) return fail("a launch from within a kernel", Site(), 0);
    if (n == 0 || n > THREADS || block.z > 64 || blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || dynamic_bytes > SHARED)
        return fail("a launch with a shape that no device has", Site(), 0);
    if (!allocate()) return fail("no memory for stacks", Site(), 0);
    grid_shape = grid, block_shape = block, dynamic_size = dynamic_bytes, body = &kernel;
    fibers.resize(n), warps.resize((n + WARP - 1) / WARP), turns.resize(n);
    fiber = fibers.data(), warp = warps.data(), turn = turns.data(), count = unsigned(n);
    for (unsigned i = 0; i < n; i++) fibers[i].index = i, fibers[i].thread = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    std::vector<uint64_t> sequence;
    if (order > 1) {
        uint64_t random = 0x2545f4914f6cdd1dull * unsigned(order);
        sequence.resize(blocks);
        for (uint64_t i = 0; i < blocks; i++) sequence[i] = i;
        permute(sequence, random);
    }
    running = this;
    for (uint64_t i = 0; i < blocks && error.empty(); i++) {
        const uint64_t b = order > 1 ? sequence[i] : order == 1 ? blocks - 1 - i : i;
        block_index = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)};
        run_block();
    }
    running = nullptr;
    if (!error.empty()) forbid(stacks, n * stride, false); /* threads that did not end have left marks on theirs */
    return error.empty();
}

/* One for each host thread, for tests that launch a kernel by itself. */
inline Machine &machine() {
    static thread_local Machine m;
    return m;
}
inline bool launch(dim3 grid, dim3 block, size_t dynamic_bytes, const std::function<void()> &kernel) {
    return machine().launch(grid, block, dynamic_bytes, kernel);
}

/* What a lane has from lane `source`: its own value where source is no lane, and NaN where that lane is not in the mask. */
template <class T> T shuffle(const char *operation, unsigned mask, T value, unsigned source, Site site) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take 32 and 64 bits");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    const unsigned meeting = running->meet(operation, mask, bits, false, site);
    if (source >= WARP) return value;
    bits = mask & running->lanes() & 1u << source ? running->slot(meeting, source) : ~uint64_t(0);
    memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace emu
#pragma GCC visibility pop

#endif
