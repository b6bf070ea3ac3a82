// SPDX-License-Identifier: Apache-2.0
//
// pool.cpp: see pool.h.
#include "pool.h"

namespace setun {

namespace {

// How long a worker looks around for the next job, and a caller for its last helpers, before it sleeps. To be woken takes 50 us and more on a virtual
// machine, and an iteration of k-means asks every few hundred. At first it only pauses; then it lets whoever else wants the core have it.
constexpr int64_t kSpinNanos = 1000000, kPauseNanos = 50000;

// What waking workers costs: the caller's time, and that until they are there.
constexpr int64_t kWakeNanos = 60000;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Looks until ready() or the time is over.
template <class Ready> bool spin(Ready ready) {
    int64_t begin = clock_nanos(), spent = 0;
    do {
        for (int i = 0; i < 32; i++) {
            if (ready()) return true;
            pause();
        }
        spent = clock_nanos() - begin;
        if (spent > kPauseNanos) Thread::yield();
    } while (spent < kSpinNanos);
    return ready();
}

} // namespace

// Does one part; false when there is none left.
bool Pool::Job::step() {
    int64_t i = next.fetch_add(1, std::memory_order_relaxed);
    if (i >= parts) return false;
    part(arg, i);
    return true;
}

Pool::Job *Pool::find() const {
    Job *j = oldest_;
    while (j && !j->open()) j = j->newer;
    return j;
}

// Wakes so many workers, and starts what is missing of them. The mutex is held.
void Pool::call(int wanted) {
    int sleepers = asleep_ < wanted ? asleep_ : wanted;
    for (int i = 0; i < sleepers; i++) wake_.wake_one();
    for (int i = sleepers; i < wanted && workers_ < kMaxWorkers && threads_[workers_].start(enter, this); i++) workers_++;
}

// Does a job that lacks helpers, and calls them once that pays.
void Pool::alone(Job &job, int missing, int64_t owed) {
    int64_t begin = clock_nanos(), done = 0, check = 1, took = 0;
    bool called = false;
    while (job.step()) {
        if (called || ++done < check) continue;
        check *= 2;
        took = clock_nanos() - begin;
        int64_t left = job.parts - job.next.load(std::memory_order_relaxed);
        double rest = double(took) / double(done) * double(left);
        if (left > 0 && (rest > kWakeNanos || (owed >= kWakeNanos && rest > took))) {
            Lock lock(mutex_);
            call(missing);
            owed_ = 0;
            called = true;
        }
    }
    if (called) return;
    int64_t now = clock_nanos();
    Lock lock(mutex_);
    owed_ = (begin - last_ < kSpinNanos ? owed_ : 0) + (now - begin) * missing / (missing + 1);
    last_ = now;
}

void Pool::run(int threads, void (*part)(void *, int64_t), void *arg, int64_t parts) {
    Job job;
    job.part = part;
    job.arg = arg;
    job.parts = parts;
    job.seats = int(threads - 1 < parts - 1 ? threads - 1 : parts - 1);
    int missing;
    int64_t owed;
    {
        Lock lock(mutex_);
        (newest_ ? newest_->newer : oldest_) = &job;
        job.older = newest_;
        newest_ = &job;
        posted_.fetch_add(1, std::memory_order_release);
        int busy = workers_ - asleep_ - looking_;
        missing = job.seats - looking_ - busy;
        owed = owed_;
    }
    if (missing > 0)
        alone(job, missing, owed);
    else
        while (job.step()) {
        }
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
            while (j->step()) {
            }
            mutex_.lock();
            // The caller may be gone with the job as soon as it sees no helper: this is the last touch.
            if (j->helpers.fetch_sub(1, std::memory_order_release) == 1) done_.wake_all();
            continue;
        }
        if (ending_) break;
        uint32_t seen = posted_.load(std::memory_order_relaxed);
        looking_++;
        mutex_.unlock();
        bool posted = spin([&] { return posted_.load(std::memory_order_acquire) != seen; });
        mutex_.lock();
        looking_--;
        if (posted || ending_ || find()) continue;
        asleep_++;
        wake_.wait(mutex_);
        asleep_--; // the job may be over, and the next one about to come: it looks around again
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
