// SPDX-License-Identifier: Apache-2.0
//
// pool.cpp: see pool.h.
#include "pool.h"

namespace setun {

namespace {

// How long a worker looks around for the next job, and a caller for its last helpers, before it sleeps. To be woken takes 50 us and more on a virtual
// machine, and an iteration of k-means asks every few hundred.
constexpr int64_t kSpinNanos = 100000;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Looks until ready() or the time is over.
template <class Ready> bool spin(Ready ready) {
    int64_t end = clock_nanos() + kSpinNanos;
    do {
        for (int i = 0; i < 32; i++) {
            if (ready()) return true;
            pause();
        }
    } while (clock_nanos() < end);
    return ready();
}

} // namespace

void Pool::Job::work() {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < parts;) part(arg, i);
}

Pool::Job *Pool::find() const {
    Job *j = oldest_;
    while (j && !j->open()) j = j->newer;
    return j;
}

// Starts workers until there are as many as wanted. The mutex is held.
void Pool::start(int wanted) {
    if (wanted > kMaxWorkers) wanted = kMaxWorkers;
    if (workers_ >= wanted) return;
    while (workers_ < wanted && threads_[workers_].start(enter, this)) workers_++;
}

void Pool::run(int threads, void (*part)(void *, int64_t), void *arg, int64_t parts) {
    Job job;
    job.part = part;
    job.arg = arg;
    job.parts = parts;
    job.seats = int(threads - 1 < parts - 1 ? threads - 1 : parts - 1);
    int sleepers;
    {
        Lock lock(mutex_);
        start(threads - 1);
        (newest_ ? newest_->newer : oldest_) = &job;
        job.older = newest_;
        newest_ = &job;
        posted_.fetch_add(1, std::memory_order_release);
        sleepers = asleep_ < job.seats ? asleep_ : job.seats;
    }
    for (int i = 0; i < sleepers; i++) wake_.wake_one();
    job.work();
    {
        Lock lock(mutex_);
        job.seats = 0; // whoever is not in it now stays out
        (job.older ? job.older->newer : oldest_) = job.newer;
        (job.newer ? job.newer->older : newest_) = job.older;
    }
    if (spin([&] { return job.helpers.load(std::memory_order_acquire) == 0; })) return;
    Lock lock(mutex_);
    while (job.helpers.load(std::memory_order_acquire) != 0) done_.wait(mutex_);
}

void Pool::enter(void *pool) { static_cast<Pool *>(pool)->serve(); }

void Pool::serve() {
    mutex_.lock();
    for (;;) {
        if (Job *j = find()) {
            j->seats--;
            j->helpers.fetch_add(1, std::memory_order_relaxed);
            mutex_.unlock();
            j->work();
            mutex_.lock();
            // The caller may be gone with the job as soon as it sees no helper: this is the last touch.
            if (j->helpers.fetch_sub(1, std::memory_order_release) == 1) done_.wake_all();
            continue;
        }
        if (ending_) break;
        uint32_t seen = posted_.load(std::memory_order_relaxed);
        mutex_.unlock();
        bool posted = spin([&] { return posted_.load(std::memory_order_acquire) != seen; });
        mutex_.lock();
        if (posted || ending_ || find()) continue;
        asleep_++;
        while (!ending_ && !find()) wake_.wait(mutex_);
        asleep_--;
    }
    mutex_.unlock();
}

Pool::~Pool() {
    mutex_.lock();
    ending_ = true;
    int n = workers_;
    wake_.wake_all();
    mutex_.unlock();
    for (int i = 0; i < n; i++) threads_[i].join();
}

} // namespace setun
