/* SPDX-License-Identifier: Apache-2.0
 *
 * device.h: one device. Calls share it by lanes: each call takes one, which has a stream and scratch memory of its own, so calls from several threads do not
 * wait for each other. */
#ifndef SETUN_CUDA_DEVICE_H
#define SETUN_CUDA_DEVICE_H

#include "cublas.h"
#include "driver.h"
#include "kernels80.h"
#include "pool.h"

#include <setun/device.h>

namespace setun {

#define SETUN_ID(name) KERNEL_##name,
enum Kernel { SETUN_CUDA_KERNELS(SETUN_ID) KERNELS_75, LAST_75 = KERNELS_75 - 1, SETUN_CUDA_KERNELS80(SETUN_ID) KERNELS };
#undef SETUN_ID

class Lane;

/* Addresses and sizes of the buffers that a context has given out, in rising order. */
class Buffers {
  public:
    ~Buffers();
    bool add(Address at, int64_t bytes);   /* false: no memory for it */
    int64_t remove(Address at);            /* its bytes, or -1 */
    bool pop(Address *at, int64_t *bytes); /* any one; false: there is none */
    /* Whether the range lies in one buffer; partly in one is no. */
    bool has(const void *p, int64_t bytes);
    bool touches(const void *p, int64_t bytes);
    Address at(int i) const { return list_[i].at; }
    int count() const { return count_; }

  private:
    struct Buffer {
        Address at;
        int64_t bytes;
    };
    int below(Address at) const; /* how many begin at or below it */
    Buffer *list_ = nullptr;
    int count_ = 0, room_ = 0;
    Mutex mutex_;
};

class Device {
  public:
    /* Opens the device of that number; SETUN_OK, or a status with a message. */
    int32_t open(uint32_t ordinal, char *message, uint32_t size);
    /* Gives everything back, unless a kernel does not end: the driver would wait for it. No call may be in flight. */
    void close();

    Lane *take(); /* null: no memory */
    void give(Lane *lane);

    /* Device memory within the limit. Where there is none left, idle lanes give up theirs first. */
    Result allocate(Address *at, int64_t bytes);
    /* Gives memory back with the next sweep: to free it the driver waits for all kernels, also for one of another call that does not end. */
    void release(Address at, int64_t bytes);
    /* Frees what was released, unless more than so many calls are on the device or it would not matter yet. */
    void sweep(int calls);
    /* Takes the scratch of idle lanes; false: they had none. */
    bool trim();
    /* How much a call could have that begins now, after idle lanes have given up theirs. */
    Result room(int64_t *bytes);
    /* Copies the host's memory, with as many threads as copiers. */
    void copy(char *to, const char *from, int64_t bytes);

    /* A driver's error as a status, in words; from an error that outlasts the call on, the device is lost. */
    int32_t failure(Result r, const char *doing, const setun_call *call);
    Result lost() const { return lost_.load(std::memory_order_relaxed); }
    int32_t refuse(const setun_call *call) const; /* what a lost device answers */
    /* A kernel does not end: the device is lost, and nothing that the driver would make wait for it is asked any more, in the whole process. */
    void hang();
    bool hung() const { return hung_.load(std::memory_order_relaxed); }

    const Driver *driver = nullptr;
    void *functions[KERNELS] = {};                              /* null: the device is too old for it */
    Cublas cublas;                                              /* once it has been attached */
    Buffers buffers, pinned;                                    /* of the device, and of the host */
    Pool pool;                                                  /* copies between pageable and pinned memory */
    int32_t units = 0, major = 0, minor = 0, shared = 48 << 10; /* shared: bytes of shared memory that a block can have when it asks */
    /* Before a kernel is started with more shared memory than any may have without asking. */
    Result ask(Kernel k, int bytes);
    int copiers = 1; /* threads of such a copy */
    int64_t total = 0;
    uint32_t ordinal = 0;
    int64_t timeout = 0; /* nanoseconds that a call waits for its kernels before it gives the device up */
    std::atomic<int64_t> limit{0}, taken{0}, launches{0};

  private:
    friend class Current;
    friend class Lane;
    Result load(int image, const char *text, int first, int last);
    Result allocate_once(Address *at, int64_t bytes);
    void *context_ = nullptr, *modules_[2] = {};
    std::atomic<Result> lost_{0};
    int asked_[KERNELS] = {}; /* guarded by asking_: only ever raised, for calls side by side */
    Mutex asking_;
    std::atomic<bool> hung_{false};
    Mutex mutex_; /* of idle_ */
    Lane *idle_ = nullptr;
    std::atomic<int> busy_{0}; /* lanes that calls have */
    Buffers released_;
    std::atomic<int64_t> waiting_{0}; /* bytes of those */
};

/* Makes the device's context current on this thread as long as it lives, and then what was current before. */
class Current {
  public:
    explicit Current(const Device &d);
    ~Current();
    Current(const Current &) = delete;
    Current &operator=(const Current &) = delete;

  private:
    const Driver *driver_;
    void *before_ = nullptr, *now_;
};

} // namespace setun

#endif
