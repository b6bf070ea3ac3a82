// SPDX-License-Identifier: Apache-2.0
//
// pieces.cpp: see pieces.h.
#include "pieces.h"

#include <stdlib.h>

namespace setun {

namespace {

const int64_t MOST = int64_t(64) << 20; /* bytes of a piece: long enough for the bus, and two of them leave the device to others */
const int PARTS = 3;                    /* of the memory there is, for two pieces and what else they need */

} // namespace

Cut &Cut::add(void *field, const void *base, int64_t bytes, int64_t per, int mode, int64_t total) {
    if (base) fields_[field_count_++] = {offset(field), const_cast<void *>(base), bytes, per, total, mode};
    return *this;
}

void Cut::place(void *to, int64_t first, int64_t n) const {
    char *block = static_cast<char *>(to);
    memcpy(block, block_, size_);
    for (int i = 0; i < field_count_; i++) {
        const Field &f = fields_[i];
        char *at = static_cast<char *>(f.base) + first / f.per * f.bytes;
        memcpy(block + f.at, &at, sizeof at);
    }
    memcpy(block + count_, &n, sizeof n);
    const int64_t before = first * values_;
    if (index_) memcpy(block + index_, &before, sizeof before);
}

int32_t Pieces::begin() {
    if (device.lost()) return device.refuse(call_);
    Current current(device);
    Result r = device.room(&room_);
    return r == DRIVER_OK ? int32_t(SETUN_OK) : device.failure(r, "asking for free memory", call_);
}

void Pieces::commit() {
    for (int i = 0; i < aside_count_; i++) device.copy(asides_[i].host, asides_[i].copy, asides_[i].bytes);
}

int32_t Pieces::finish(int32_t status) {
    if (status == SETUN_OK) commit();
    for (int i = 0; i < aside_count_; i++) free(asides_[i].copy);
    Current current(device);
    for (int i = 0; i < buffer_count_; i++) {
        device.buffers.remove(buffers_[i].at);
        device.release(buffers_[i].at, buffers_[i].bytes);
    }
    device.sweep(0);
    if (status == SETUN_OK && call_->message && call_->message_size > 0) call_->message[0] = 0; /* of the try that had no memory */
    return status;
}

void *Pieces::take(int64_t bytes) {
    if (buffer_count_ == BUFFERS || device.lost()) return nullptr;
    Current current(device);
    Address at = 0;
    if (device.allocate(&at, bytes) != DRIVER_OK) return nullptr;
    if (!device.buffers.add(at, bytes)) {
        device.release(at, bytes);
        return nullptr;
    }
    buffers_[buffer_count_++] = {at, bytes};
    room_ = room_ > bytes ? room_ - bytes : 0;
    return reinterpret_cast<void *>(at);
}

int32_t Pieces::keep(const void **field, int64_t bytes) {
    const void *from = *field;
    if (!from || device.buffers.has(from, bytes)) return SETUN_OK;
    void *at = take(bytes);
    if (!at) return SETUN_ENOMEM;
    *field = at;
    return once([&](Lane &lane) {
        lane.send(at, from, bytes);
        return lane.finish();
    });
}

int32_t Pieces::aside(void *p, int64_t bytes, bool gaps) {
    char *host = static_cast<char *>(p);
    for (int i = 0; i < aside_count_; i++)
        if (asides_[i].host == host) return SETUN_OK;
    char *copy = aside_count_ < ASIDES ? static_cast<char *>(malloc(size_t(bytes))) : nullptr;
    if (!copy) return SETUN_ENOMEM;
    asides_[aside_count_++] = {host, bytes, copy};
    if (gaps) device.copy(copy, host, bytes);
    return SETUN_OK;
}

int32_t Pieces::home(void *to, const void *from, int64_t bytes) {
    if (int32_t rc = aside(to, bytes, false)) return rc;
    char *copy = const_cast<char *>(changed(static_cast<const char *>(to)));
    return once([&](Lane &lane) {
        lane.fetch(copy, from, bytes);
        return lane.finish();
    });
}

struct Pieces::Pass {
    Pieces *pieces;
    const Cut *cut;
    Piece piece;
    int64_t units;                          /* of a piece */
    std::atomic<int64_t> failed{INT64_MAX}; /* the first one that did */
    Mutex mutex;                            /* of what follows, which is said of that one */
    int32_t status = SETUN_OK;
    int64_t bad = -1;
    char text[TEXT] = "";
};

/* One piece, on any thread. Those before one that fails are done in any case: so which one failed first does not depend on who was faster. */
void Pieces::step(void *arg, int64_t i) {
    Pass &p = *static_cast<Pass *>(arg);
    if (p.failed.load() < i) return;
    const int64_t first = i * p.units, left = p.cut->units_ - first, n = left < p.units ? left : p.units;
    char text[TEXT] = "";
    setun_call own = p.pieces->own_;
    own.message = text, own.message_size = TEXT, own.bad_index = -1;
    const int32_t rc = p.piece(p.pieces->device, *p.cut, first, n, &own, p.pieces->asides_, p.pieces->aside_count_);
    if (rc == SETUN_OK) return;
    p.mutex.lock();
    if (i < p.failed.load()) {
        p.failed.store(i);
        p.status = rc;
        p.bad = own.bad_index < 0 ? own.bad_index : first * p.cut->values_ + own.bad_index;
        memcpy(p.text, text, TEXT);
    }
    p.mutex.unlock();
}

int32_t Pieces::attempt(Pass &pass) {
    pass.failed.store(INT64_MAX);
    pass.status = SETUN_OK;
    device.pool.run(threads_, step, &pass, (pass.cut->units_ - 1) / pass.units + 1);
    return pass.status;
}

int32_t Pieces::run(const Cut &cut, Piece piece, int32_t (*begin)(void *), void *arg) {
    int64_t of_unit = cut.extra_;
    for (int i = 0; i < cut.field_count_; i++) {
        const Cut::Field &f = cut.fields_[i];
        const bool there = f.mode == 0 || device.buffers.touches(f.base, 1);
        if (!there) of_unit += (f.bytes - 1) / f.per + 1;
        if (!(f.mode & Cut::OUT)) continue;
        if (there) return SETUN_ENOMEM; /* a failure in the middle would spoil the buffer */
        if (f.mode & Cut::IN)
            if (int32_t rc = aside(f.base, f.total, (f.mode & Cut::GAPS) != 0)) return rc;
    }
    if (of_unit < 1) of_unit = 1;
    Pass pass;
    pass.pieces = this, pass.cut = &cut, pass.piece = piece;
    const int64_t bytes = room_ / PARTS < MOST ? room_ / PARTS : MOST, steps = bytes / of_unit / cut.step_;
    pass.units = steps < 1 ? cut.step_ : steps * cut.step_;
    int32_t rc;
    /* Others may take memory meanwhile, and an op needs more than its arrays: smaller pieces, and at last one at a time. A pass can begin anew at any time. */
    for (;;) {
        if (begin && (rc = begin(arg)) != SETUN_OK) return rc;
        if ((rc = attempt(pass)) != SETUN_ENOMEM) break;
        if (pass.units > cut.step_)
            pass.units = (pass.units / cut.step_ + 1) / 2 * cut.step_, room_ /= 2;
        else if (threads_ > 1)
            threads_ = 1;
        else
            break;
    }
    if (rc == SETUN_OK) return rc;
    call_->bad_index = pass.bad;
    format(call_->message, call_->message_size, "%s", pass.text);
    return rc;
}

} // namespace setun
