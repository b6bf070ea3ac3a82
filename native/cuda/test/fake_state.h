/* SPDX-License-Identifier: Apache-2.0
 *
 * fake_state.h: what the files of the fake driver share. */
#ifndef SETUN_CUDA_TEST_FAKE_STATE_H
#define SETUN_CUDA_TEST_FAKE_STATE_H

#include "fake.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace fake {

typedef int Result;
typedef unsigned long long Address;

enum : Result {
    OK = 0,
    INVALID_VALUE = 1,
    NO_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY = 209,
    INVALID_PTX = 218,
    NEWER_PTX = 222,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719
};

/* Not an address that x86-64 or AArch64 can have for a process, so that a touch by the host is a fault; and AArch64 would ignore the top byte. */
constexpr Address OFFSET = Address(1) << 54;

/* Blocks of memory by address, with guards around them. */
struct Block {
    size_t bytes;
    bool mapped; /* kernels may use it */
};
typedef std::map<Address, Block> Blocks;
char *guarded_new(size_t bytes); /* null: no memory */
void guarded_delete(char *p, size_t bytes);
/* Whether the guards are whole; if not, says so once. */
bool guards_hold(char *p, size_t bytes, const char *who);
/* The block in which a range lies, an empty one at its end included, or null. */
const Block *find(const Blocks &blocks, Address at, size_t bytes);
inline void *host(Address at) { return reinterpret_cast<void *>(at - OFFSET); }

struct Stream;
/* One recording of an event. */
struct Mark {
    bool done = false;
    double at = 0; /* milliseconds */
    std::weak_ptr<Stream> stream;
};
struct Event {
    unsigned flags = 0;
    std::shared_ptr<Mark> last;
};
struct Work {
    bool kernel;
    std::shared_ptr<Mark> wait; /* until that is done; or */
    std::function<Result()> run;
};
struct Stream {
    unsigned flags = 0;
    std::deque<Work> work;
};

/* A kernel as the code has it. */
struct Context;
struct Launch {
    unsigned grid[3], block[3];
    size_t shared;
    std::vector<char> values; /* of the parameters, 64 bytes each */
};
constexpr size_t VALUE = 64;
struct Kernel {
    const char *name;
    std::vector<size_t> sizes; /* of the parameters */
    Result (*run)(Context &, const Launch &, const char *name);
};
const std::vector<Kernel> &kernels(); /* of all images */
std::vector<Kernel> kernels80();

struct Function {
    const Kernel *kernel;
    unsigned most_threads;            /* of a block, as the image says */
    size_t shared = size_t(48) << 10; /* dynamic shared memory that a launch may ask for */
};
struct Module {
    std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Context {
    int ordinal = 0, references = 0;
    Result sticky = OK;
    Blocks memory, pinned; /* by the device's address, by the host's */
    size_t used = 0;
    std::shared_ptr<Stream> standard = std::make_shared<Stream>();
    std::map<Stream *, std::shared_ptr<Stream>> streams;
    std::map<Event *, std::unique_ptr<Event>> events;
    std::map<Module *, std::unique_ptr<Module>> modules;
    std::set<Function *> functions;

    bool has(Address at, size_t bytes) const { return find(memory, at, bytes) != nullptr; }
    /* A stream of this context by its handle, or null. */
    std::shared_ptr<Stream> stream(Stream *s) const;
    void end(); /* everything in it is freed, its error forgotten */
};

enum { DEVICES = 8 };
struct Fault {
    std::string name;
    long nth;
    Result code;
};
struct Driver {
    std::mutex mutex; /* of everything here */
    bool initialized = false, hang = false;
    int version = 13000, devices = 1, capability = 90, order = 0;
    size_t memory = size_t(256) << 20;
    long launches = 0, uploaded = 0;
    std::vector<Fault> faults;
    Context contexts[DEVICES];

    Driver();
    void configure(); /* from the environment */
};
Driver &driver();

typedef std::unique_lock<std::mutex> Lock;
Context *current();             /* of this thread, or null */
bool usable(const Context *c);  /* retained by someone */
Result fault(const char *name); /* that is due now */
bool is_sticky(Result r);

enum Need { NOTHING, INITIALIZED, CONTEXT };
Result enter(const char *name, Need need);
#define FAKE_ENTER(need)                                                                                                                                       \
    fake::Lock lock(fake::driver().mutex);                                                                                                                     \
    if (fake::Result entered = fake::enter(__func__, fake::need)) return entered

Result put(Context &c, Stream *s, std::function<Result()> run, bool kernel = false);
enum Step { RAN, EMPTY, STUCK };
Step step(Context &c, Stream &s); /* the next work of a stream, or of one that it waits for */
/* Until a stream is empty, or all of a context. The lock is let go while a kernel hangs. */
Result drain(Lock &lock, Context &c, std::shared_ptr<Stream> s);
Result drain_all(Lock &lock, Context &c, bool blocking_only = false);

double now();

} // namespace fake

#endif
