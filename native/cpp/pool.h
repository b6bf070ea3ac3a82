/* SPDX-License-Identifier: Apache-2.0
 *
 * pool.h: the threads of the C++ backend.
 *
 * A caller works on its own job and up to `threads - 1` workers help. Any number of callers may be at it at once: each can finish alone, so none waits for a
 * worker that another one has, and helpers go to the oldest job with work left. Without work they look around for a millisecond,
 * because the next job of a k-means iteration is about to come, and then sleep. A worker that cannot be started is done without: results do
 * not depend on who did what.
 *
 * Waking a worker that sleeps (or starting one) costs the caller some 10 us and brings help only 50 us and more later. So a caller begins alone and
 * wakes sleepers when it pays: when the rest of its job, going by the parts done, takes longer than that, or when the jobs that came
 * one soon after the other have together lost as much for want of help as waking costs (as one rents skis until the rent has reached the price). A threaded
 * call therefore never takes much longer than one on a single thread, whoever sleeps.
 *
 * The library is built without exceptions and links no C++ run-time. */
#ifndef SETUN_POOL_H
#define SETUN_POOL_H

#include "team.h"
#include "threads.h"

#include <atomic>

namespace setun {

class Pool {
  public:
    static constexpr int kMaxWorkers = 255;

    Pool() = default;
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;
    /* Ends the workers. No job may be running. */
    ~Pool();

    /* Calls part(arg, i) once for each i in 0 .. parts-1 on at most `threads` threads, and returns when all are done. */
    void run(int threads, void (*part)(void *arg, int64_t i), void *arg, int64_t parts);

  private:
    /* A job lies on its caller's stack; it is in the list as long as it may be helped. */
    struct Job {
        void (*part)(void *, int64_t);
        void *arg;
        int64_t parts;
        std::atomic<int64_t> next{0};
        int seats;                   /* helpers that may still join; guarded by mutex_ */
        std::atomic<int> helpers{0}; /* that are in it */
        Job *older = nullptr, *newer = nullptr;

        bool open() const { return seats > 0 && next.load(std::memory_order_relaxed) < parts; }
        bool step();
    };

    static void enter(void *pool);
    void serve();
    Job *find() const;
    void call(int wanted);
    void alone(Job &job, int missing, int64_t owed);

    Mutex mutex_;
    Condition wake_; /* work has come, or the end */
    Condition done_; /* a helper has left a job */
    Job *oldest_ = nullptr, *newest_ = nullptr;
    int workers_ = 0, asleep_ = 0, looking_ = 0;
    int64_t owed_ = 0, last_ = 0; /* what jobs lost for want of help, and when the latest of them ended, in nanoseconds */
    bool ending_ = false;
    std::atomic<uint32_t> posted_{0}; /* jobs so far: what a worker that looks around watches */
    Thread threads_[kMaxWorkers];
};

} // namespace setun

#endif
