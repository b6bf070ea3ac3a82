/* SPDX-License-Identifier: Apache-2.0
 *
 * threads.h: a mutex, a condition, a thread and a clock, of POSIX or of Windows. No exceptions, and no run-time library that a host would have to have. */
#ifndef SETUN_THREADS_H
#define SETUN_THREADS_H

#include <stdint.h>

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

namespace setun {

class Mutex {
  public:
    void lock() { AcquireSRWLockExclusive(&lock_); }
    void unlock() { ReleaseSRWLockExclusive(&lock_); }

  private:
    friend class Condition;
    SRWLOCK lock_ = SRWLOCK_INIT;
};

class Condition {
  public:
    void wait(Mutex &m) { SleepConditionVariableSRW(&condition_, &m.lock_, INFINITE, 0); }
    void wake_one() { WakeConditionVariable(&condition_); }
    void wake_all() { WakeAllConditionVariable(&condition_); }

  private:
    CONDITION_VARIABLE condition_ = CONDITION_VARIABLE_INIT;
};

/* Does not move once it was started. */
class Thread {
  public:
    /* Runs f(arg); false when the system has no thread left. */
    bool start(void (*f)(void *), void *arg) {
        run_ = f, arg_ = arg;
        handle_ = CreateThread(nullptr, 0, enter, this, 0, nullptr);
        return handle_ != nullptr;
    }
    void join() {
        WaitForSingleObject(handle_, INFINITE);
        CloseHandle(handle_);
    }
    static void yield() { SwitchToThread(); }

  private:
    static DWORD WINAPI enter(void *t) {
        static_cast<Thread *>(t)->run_(static_cast<Thread *>(t)->arg_);
        return 0;
    }
    HANDLE handle_ = nullptr;
    void (*run_)(void *) = nullptr;
    void *arg_ = nullptr;
};

/* Nanoseconds since some moment. */
inline int64_t clock_nanos() {
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    return int64_t(double(count.QuadPart) * 1e9 / double(frequency.QuadPart));
}

} // namespace setun

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

namespace setun {

class Mutex {
  public:
    ~Mutex() { pthread_mutex_destroy(&mutex_); }
    /* It is held for some nanoseconds at a time, and to sleep for it costs thousands: so it is tried some times first, as Windows' own does. */
    void lock() {
        for (int i = 0; i < 200; i++)
            if (pthread_mutex_trylock(&mutex_) == 0) return;
        pthread_mutex_lock(&mutex_);
    }
    void unlock() { pthread_mutex_unlock(&mutex_); }

  private:
    friend class Condition;
    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

class Condition {
  public:
    ~Condition() { pthread_cond_destroy(&condition_); }
    void wait(Mutex &m) { pthread_cond_wait(&condition_, &m.mutex_); }
    void wake_one() { pthread_cond_signal(&condition_); }
    void wake_all() { pthread_cond_broadcast(&condition_); }

  private:
    pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
};

/* Does not move once it was started. */
class Thread {
  public:
    /* Runs f(arg) with all signals blocked: the host's are for the host's threads. False when the system has no thread left. */
    bool start(void (*f)(void *), void *arg) {
        sigset_t all, old;
        run_ = f, arg_ = arg;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        int failed = pthread_create(&thread_, nullptr, enter, this);
        pthread_sigmask(SIG_SETMASK, &old, nullptr);
        return failed == 0;
    }
    void join() { pthread_join(thread_, nullptr); }
    static void yield() { sched_yield(); }

  private:
    static void *enter(void *t) {
        static_cast<Thread *>(t)->run_(static_cast<Thread *>(t)->arg_);
        return nullptr;
    }
    pthread_t thread_{};
    void (*run_)(void *) = nullptr;
    void *arg_ = nullptr;
};

/* Nanoseconds since some moment. */
inline int64_t clock_nanos() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return int64_t(t.tv_sec) * 1000000000 + t.tv_nsec;
}

} // namespace setun

#endif

namespace setun {

class Lock {
  public:
    explicit Lock(Mutex &m) : mutex_(m) { m.lock(); }
    ~Lock() { mutex_.unlock(); }
    Lock(const Lock &) = delete;
    Lock &operator=(const Lock &) = delete;

  private:
    Mutex &mutex_;
};

} // namespace setun

#endif
