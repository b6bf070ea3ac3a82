/* SPDX-License-Identifier: Apache-2.0
 *
 * pieces.h: calls for which the device has not enough memory at once, on arrays of the host's. A pass cuts a block into pieces, each a block like it with its
 * pointers moved on, and runs the op itself on them, two at a time: each has a lane, so that one piece is copied while the other is computed. What an op says
 * here is how its arrays are cut; sums over pieces go to memory of the device that stays for the call.
 *
 * Only the host's arrays are written by a call in pieces, and what is read there too only when all pieces have come: until then the results are in memory
 * aside. So a failure in the middle leaves them as they were, and the host may try another kernel. */
#ifndef SETUN_CUDA_PIECES_H
#define SETUN_CUDA_PIECES_H

#include "lane.h"

#include <stddef.h>
#include <string.h>

namespace setun {

/* How a block is cut: so many units, rows or values, of which pieces have a multiple of `step`, but for the last. */
class Cut {
  public:
    /* count: the field of the block that says how many units there are; values: of a unit, for the index of one that is not finite. */
    template <class Args>
    Cut(Args &block, int64_t *count, int64_t step, int64_t values = 1)
        : units_(*count), step_(step), values_(values), block_(reinterpret_cast<char *>(&block)), size_(sizeof block), count_(offset(count)) {}
    /* Arrays with so many bytes for each `per` units: read; written; both, with how many bytes from the first to the last; the pass's own, on the device. A
     * null one stays null. */
    template <class T> Cut &in(T *&field, int64_t bytes, int64_t per = 1) { return add(&field, field, bytes, per, IN, 0); }
    template <class T> Cut &out(T *&field, int64_t bytes, int64_t per = 1) { return add(&field, field, bytes, per, OUT, 0); }
    template <class T> Cut &inout(T *&field, int64_t bytes, int64_t total, bool gaps = false) {
        return add(&field, field, bytes, 1, IN | OUT | (gaps ? GAPS : 0), total);
    }
    template <class T> Cut &own(T *&field, int64_t bytes, int64_t per = 1) { return add(&field, field, bytes, per, 0, 0); }
    /* Device memory that a piece takes for a unit beside its arrays. */
    Cut &scratch(int64_t bytes) {
        extra_ += bytes;
        return *this;
    }
    /* A field that says how many values lie before the piece. */
    Cut &index(int64_t &field) {
        index_ = offset(&field);
        return *this;
    }
    /* The block of n units from the first on, in `to`. */
    void place(void *to, int64_t first, int64_t n) const;

  private:
    friend class Pieces;
    enum { IN = 1, OUT = 2, GAPS = 4, FIELDS = 10 };
    struct Field {
        size_t at; /* in the block */
        void *base;
        int64_t bytes, per, total;
        int mode;
    };
    size_t offset(const void *field) const { return size_t(static_cast<const char *>(field) - block_); }
    Cut &add(void *field, const void *base, int64_t bytes, int64_t per, int mode, int64_t total);

    int64_t units_, step_, values_, extra_ = 0;
    const char *block_;
    size_t size_, count_, index_ = 0;
    Field fields_[FIELDS];
    int field_count_ = 0;
};

class Pieces {
  public:
    Pieces(Device &d, setun_call *call) : device(d), call_(call), own_(*call) {}
    int32_t begin();
    /* Brings home what lies aside. It cannot fail. */
    void commit();
    /* Gives everything back; when the call went well it commits first. The call's status, from that of the work. */
    int32_t finish(int32_t status);

    /* Runs work on all pieces of the cut's block. On a failure: the status of the first piece that failed, its message, and its bad_index, counted in the
     * whole. */
    template <class Args, int32_t (*work)(Lane &, Args *)> int32_t pass(const Cut &cut) { return run(cut, piece<Args, work>, nullptr, nullptr); }
    /* begin comes before the first piece, and again where the pass begins anew with smaller ones: there what pieces add to is as it was. */
    template <class Args, int32_t (*work)(Lane &, Args *), class Begin> int32_t pass(const Cut &cut, Begin begin) {
        return run(
            cut, piece<Args, work>, [](void *b) { return (*static_cast<Begin *>(b))(); }, &begin);
    }
    /* Work that is not cut. */
    template <class Work> int32_t once(Work work) {
        return with_lane(device, &own_, [&](Lane &lane, setun_call *) { return work(lane); });
    }
    /* Device memory for the call, of any content; null where there is none. What is asked for is given back with the call. */
    template <class T> T *buffer(int64_t n) { return static_cast<T *>(take(n * int64_t(sizeof(T)))); }
    /* The array on the device, whole, for all pieces: itself where it lies in a buffer. */
    template <class T> int32_t whole(const T *&field, int64_t bytes) {
        const void *at = field;
        int32_t rc = keep(&at, bytes);
        field = static_cast<const T *>(at);
        return rc;
    }
    /* Brings memory of the device to an array that the call changes: aside, like what passes change in place. */
    int32_t home(void *to, const void *from, int64_t bytes);
    /* Whether an array that the call writes lies in a buffer, which a failure in the middle would spoil: then it is not cut. */
    bool writes_buffer(const void *p) { return device.buffers.touches(p, 1); }
    /* Where the new content of an array lies that passes have changed in place. */
    template <class T> const T *changed(const T *p) const;
    /* From here on the call completes: cancel is not looked at any more. */
    void complete() { own_.cancel = nullptr; }

    Device &device;

  private:
    typedef int32_t (*Piece)(Device &, const Cut &, int64_t first, int64_t n, setun_call *own, const Aside *, int);
    struct Pass;
    enum { ASIDES = 4, BUFFERS = 8, TEXT = 256 };

    template <class Args, int32_t (*work)(Lane &, Args *)>
    static int32_t piece(Device &device, const Cut &cut, int64_t first, int64_t n, setun_call *own, const Aside *asides, int aside_count) {
        Args block;
        cut.place(&block, first, n);
        own->size = sizeof block;
        memcpy(static_cast<void *>(&block), own, sizeof *own);
        int32_t rc = with_lane(device, &block, work, asides, aside_count);
        memcpy(own, static_cast<void *>(&block), sizeof *own);
        return rc;
    }
    int32_t run(const Cut &cut, Piece piece, int32_t (*begin)(void *), void *arg);
    int32_t attempt(Pass &pass);
    static void step(void *pass, int64_t i);
    int32_t aside(void *p, int64_t bytes, bool gaps);
    void *take(int64_t bytes);
    int32_t keep(const void **field, int64_t bytes);

    setun_call *call_;
    setun_call own_; /* what pieces and once are called with */
    int64_t room_ = 0;
    int threads_ = 2;
    Aside asides_[ASIDES];
    int aside_count_ = 0;
    struct Buffer {
        Address at;
        int64_t bytes;
    } buffers_[BUFFERS];
    int buffer_count_ = 0;
};

template <class T> const T *Pieces::changed(const T *p) const {
    for (int i = 0; i < aside_count_; i++)
        if (asides_[i].host == reinterpret_cast<const char *>(p)) return reinterpret_cast<const T *>(asides_[i].copy);
    return p;
}

/* How the ops are cut; each is called after the op itself has answered out of memory, so the block has been checked. SETUN_ENOMEM: it cannot be cut. */
#define SETUN_DECLARE(name, number, type, ...) int32_t cut_##name(Pieces &pieces, type *a);
SETUN_CUDA_CUT_OPS(SETUN_DECLARE)
SETUN_CUDA_CUT_OTHERS(SETUN_DECLARE)
#undef SETUN_DECLARE

} // namespace setun

#endif
