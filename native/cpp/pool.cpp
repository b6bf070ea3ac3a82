// SPDX-License-Identifier: Apache-2.0
//
// pool.cpp: see pool.h.
#include "pool.h"

#include <signal.h>
#include <time.h>

namespace setun {

namespace {

// How long a worker looks around for the next job, and a caller for its last helpers, before it sleeps. To be woken takes 50 us and more on a virtual
// machine, and an iteration of k-means asks every few hundred.
constexpr int64_t kSpinNanos = 100000;

int64_t now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return int64_t(t.tv_sec) * 1000000000 + t.tv_nsec;
}

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Looks until ready() or the time is over.
template <class Ready> bool spin(Ready ready) {
    int64_t end = now() + kSpinNanos;
    do {
        for (int i = 0; i < 32; i++) {
            if (ready()) return true;
            pause();
        }
    } while (now() < end);
    return ready();
}

class Lock {
  public:
    explicit Lock(pthread_mutex_t *m) : mutex_(m) { pthread_mutex_lock(m); }
    ~Lock() { pthread_mutex_unlock(mutex_); }

  private:
    pthread_mutex_t *mutex_;
};

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
    // The host's signals are for the host's threads.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (workers_ < wanted && pthread_create(&threads_[workers_], nullptr, enter, this) == 0) workers_++;
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

void Pool::run(int threads, void (*part)(void *, int64_t), void *arg, int64_t parts) {
    Job job;
    job.part = part;
    job.arg = arg;
    job.parts = parts;
    job.seats = int(threads - 1 < parts - 1 ? threads - 1 : parts - 1);
    int sleepers;
    {
        Lock lock(&mutex_);
        start(threads - 1);
        (newest_ ? newest_->newer : oldest_) = &job;
        job.older = newest_;
        newest_ = &job;
        posted_.fetch_add(1, std::memory_order_release);
        sleepers = asleep_ < job.seats ? asleep_ : job.seats;
    }
    for (int i = 0; i < sleepers; i++) pthread_cond_signal(&wake_);
    job.work();
    {
        Lock lock(&mutex_);
        job.seats = 0; // whoever is not in it now stays out
        (job.older ? job.older->newer : oldest_) = job.newer;
        (job.newer ? job.newer->older : newest_) = job.older;
    }
    if (spin([&] { return job.helpers.load(std::memory_order_acquire) == 0; })) return;
    Lock lock(&mutex_);
    while (job.helpers.load(std::memory_order_acquire) != 0) pthread_cond_wait(&done_, &mutex_);
}

void *Pool::enter(void *pool) {
    static_cast<Pool *>(pool)->serve();
    return nullptr;
}

void Pool::serve() {
    pthread_mutex_lock(&mutex_);
    for (;;) {
        if (Job *j = find()) {
            j->seats--;
            j->helpers.fetch_add(1, std::memory_order_relaxed);
            pthread_mutex_unlock(&mutex_);
            j->work();
            pthread_mutex_lock(&mutex_);
            // The caller may be gone with the job as soon as it sees no helper: this is the last touch.
            if (j->helpers.fetch_sub(1, std::memory_order_release) == 1) pthread_cond_broadcast(&done_);
            continue;
        }
        if (ending_) break;
        uint32_t seen = posted_.load(std::memory_order_relaxed);
        pthread_mutex_unlock(&mutex_);
        bool posted = spin([&] { return posted_.load(std::memory_order_acquire) != seen; });
        pthread_mutex_lock(&mutex_);
        if (posted || ending_ || find()) continue;
        asleep_++;
        while (!ending_ && !find()) pthread_cond_wait(&wake_, &mutex_);
        asleep_--;
    }
    pthread_mutex_unlock(&mutex_);
}

Pool::~Pool() {
    pthread_mutex_lock(&mutex_);
    ending_ = true;
    int n = workers_;
    pthread_cond_broadcast(&wake_);
    pthread_mutex_unlock(&mutex_);
    for (int i = 0; i < n; i++) pthread_join(threads_[i], nullptr);
    pthread_mutex_destroy(&mutex_);
    pthread_cond_destroy(&wake_);
    pthread_cond_destroy(&done_);
}

} // namespace setun
