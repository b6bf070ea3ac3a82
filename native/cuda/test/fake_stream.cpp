// SPDX-License-Identifier: Apache-2.0
//
// fake_stream.cpp: streams and events of the fake driver. Work is held until something waits for it.
#include "fake_state.h"

#include <time.h>

namespace fake {

double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return double(t.tv_sec) * 1e3 + double(t.tv_nsec) * 1e-6;
}

/* Null and 1 are the default stream; 2, one for each thread, is not there. */
std::shared_ptr<Stream> Context::stream(Stream *s) const {
    if (reinterpret_cast<uintptr_t>(s) <= 1) return standard;
    auto i = streams.find(s);
    return i == streams.end() ? nullptr : i->second;
}

Result put(Context &c, Stream *s, std::function<Result()> run, bool kernel) {
    std::shared_ptr<Stream> q = c.stream(s);
    if (!q) return INVALID_HANDLE;
    q->work.push_back({kernel, nullptr, std::move(run)});
    return OK;
}

/* After an error that sticks, work is dropped. */
Step step(Context &c, Stream &s) {
    if (s.work.empty()) return EMPTY;
    if (std::shared_ptr<Mark> wait = s.work.front().wait) {
        std::shared_ptr<Stream> other = wait->stream.lock();
        if (!wait->done && other && !other->work.empty()) return step(c, *other);
    } else if (s.work.front().kernel && driver().hang && c.sticky == OK) {
        return STUCK;
    }
    const Work w = std::move(s.work.front());
    s.work.pop_front();
    if (w.run && c.sticky == OK) {
        const Result r = w.run();
        if (r != OK) c.sticky = r;
    }
    return RAN;
}

/* The lock is let go while a kernel hangs, and for a moment only: the clock of a test may not move. */
static void pause(Lock &lock) {
    lock.unlock();
    const timespec t = {0, 1000000};
    nanosleep(&t, nullptr);
    lock.lock();
}

Result drain(Lock &lock, Context &c, std::shared_ptr<Stream> s) {
    for (;;) {
        const Step did = step(c, *s);
        if (did == EMPTY) return c.sticky;
        if (did == STUCK) pause(lock);
    }
}

Result drain_all(Lock &lock, Context &c, bool blocking_only) {
    std::vector<std::shared_ptr<Stream>> all = {c.standard};
    for (auto &s : c.streams)
        if (!blocking_only || !(s.second->flags & 1)) all.push_back(s.second);
    for (auto &s : all) drain(lock, c, s);
    return c.sticky;
}

static Event *event(Context &c, Event *e) { return c.events.count(e) ? e : nullptr; }

} // namespace fake

using namespace fake;

SETUN_FAKE_API Result cuStreamCreate(Stream **s, unsigned flags) {
    FAKE_ENTER(CONTEXT);
    if (flags > 1) return INVALID_VALUE;
    auto made = std::make_shared<Stream>();
    made->flags = flags;
    current()->streams[ *s = made.get()] = made;
    return OK;
}
SETUN_FAKE_API Result cuStreamDestroy_v2(Stream *s) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!c.streams.count(s)) return INVALID_HANDLE;
    const Result r = drain(lock, c, c.streams[s]);
    c.streams.erase(s);
    return r;
}
SETUN_FAKE_API Result cuStreamSynchronize(Stream *s) {
    FAKE_ENTER(CONTEXT);
    std::shared_ptr<Stream> q = current()->stream(s);
    return q ? drain(lock, *current(), q) : Result(INVALID_HANDLE);
}
/* Each query does a piece of work, so that a caller who polls comes to an end. */
SETUN_FAKE_API Result cuStreamQuery(Stream *s) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    std::shared_ptr<Stream> q = c.stream(s);
    if (!q) return INVALID_HANDLE;
    step(c, *q);
    return c.sticky ? c.sticky : q->work.empty() ? Result(OK) : Result(NOT_READY);
}
SETUN_FAKE_API Result cuStreamWaitEvent(Stream *s, Event *e, unsigned flags) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    std::shared_ptr<Stream> q = c.stream(s);
    if (!q || !event(c, e)) return INVALID_HANDLE;
    if (flags) return INVALID_VALUE;
    if (e->last && !e->last->done) q->work.push_back({false, e->last, nullptr});
    return OK;
}
SETUN_FAKE_API Result cuCtxSynchronize() {
    FAKE_ENTER(CONTEXT);
    return drain_all(lock, *current());
}

SETUN_FAKE_API Result cuEventCreate(Event **e, unsigned flags) {
    FAKE_ENTER(CONTEXT);
    if (flags > 3) return INVALID_VALUE;
    auto made = std::make_unique<Event>();
    made->flags = flags;
    *e = made.get();
    current()->events[*e] = std::move(made);
    return OK;
}
SETUN_FAKE_API Result cuEventDestroy_v2(Event *e) {
    FAKE_ENTER(CONTEXT);
    return current()->events.erase(e) ? Result(OK) : Result(INVALID_HANDLE);
}
SETUN_FAKE_API Result cuEventRecord(Event *e, Stream *s) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    std::shared_ptr<Stream> q = c.stream(s);
    if (!event(c, e) || !q) return INVALID_HANDLE;
    auto mark = std::make_shared<Mark>();
    mark->stream = q;
    e->last = mark;
    return put(c, s, [mark] { return mark->at = now(), mark->done = true, OK; });
}
SETUN_FAKE_API Result cuEventQuery(Event *e) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!event(c, e)) return INVALID_HANDLE;
    std::shared_ptr<Mark> mark = e->last;
    if (!mark || mark->done) return OK;
    if (std::shared_ptr<Stream> q = mark->stream.lock()) step(c, *q);
    return c.sticky ? c.sticky : mark->done ? Result(OK) : Result(NOT_READY);
}
SETUN_FAKE_API Result cuEventSynchronize(Event *e) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!event(c, e)) return INVALID_HANDLE;
    std::shared_ptr<Mark> mark = e->last;
    while (mark && !mark->done && c.sticky == OK) {
        std::shared_ptr<Stream> q = mark->stream.lock();
        const Step did = q ? step(c, *q) : EMPTY;
        if (did == EMPTY) break;
        if (did == STUCK) pause(lock);
    }
    return c.sticky;
}
SETUN_FAKE_API Result cuEventElapsedTime(float *ms, Event *a, Event *b) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!event(c, a) || !event(c, b) || !a->last || !b->last || (a->flags | b->flags) & 2) return INVALID_HANDLE;
    if (!a->last->done || !b->last->done) return NOT_READY;
    *ms = float(b->last->at - a->last->at);
    return OK;
}
