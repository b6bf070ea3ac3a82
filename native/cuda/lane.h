/* SPDX-License-Identifier: Apache-2.0
 *
 * lane.h: what a call works with. Errors stick to the lane: after the first one everything else does nothing, and finish says which it was, so an op
 * reads as the list of what it does. */
#ifndef SETUN_CUDA_LANE_H
#define SETUN_CUDA_LANE_H

#include "device.h"

namespace setun {

template <class T> struct Same { typedef T type; };

/* An array of the host's that a call changes in place, and memory of the host's where what comes back goes first. */
struct Aside {
    char *host;
    int64_t bytes;
    char *copy;
};

class Lane {
  public:
    explicit Lane(Device &d) : device(d) {}
    int32_t open(); /* a setun_status */
    void close();
    bool shed(); /* gives the scratch memory back; false: there was none */

    /* Begins a call on this lane. What it changes in place in one of these arrays comes to the copy, and stays there. */
    void begin(setun_call *call, const Aside *asides = nullptr, int aside_count = 0);

    /* An array of the call on the device: itself when it lies in a buffer, otherwise a copy. in: with its content; out: what is there when the call ends well
     * is copied back; inout: both. What is in and out keeps its content when the call fails, but for what lies in a buffer. Content goes up with the first
     * kernel, move or fetch: a call for which there is no memory has copied nothing. */
    template <class T> const T *in(const T *p, int64_t n) { return static_cast<const T *>(stage(const_cast<T *>(p), n * int64_t(sizeof(T)), IN)); }
    template <class T> T *out(T *p, int64_t n) { return static_cast<T *>(stage(p, n * int64_t(sizeof(T)), OUT)); }
    template <class T> T *inout(T *p, int64_t n) { return static_cast<T *>(stage(p, n * int64_t(sizeof(T)), IN | OUT)); }
    /* Whether an array lies in a buffer: nothing is copied for it. */
    bool has(Kernel k) const { return device.functions[k] != nullptr; } /* whether the device can run it */
    bool resident(const void *p) { return device.buffers.has(p, 1); }
    /* Forgets that an array is to be copied back: it was not written. */
    void keep(const void *p);

    /* Device memory for the time of the call, of any content, aligned to 256 bytes. */
    template <class T> T *scratch(int64_t n) { return static_cast<T *>(room(n * int64_t(sizeof(T)))); }
    /* Likewise, but null where there is none, as if it had not been asked for. */
    template <class T> T *spare(int64_t n) { return static_cast<T *>(room(n * int64_t(sizeof(T)), false)); }
    void zero(void *p, int64_t bytes) { fill(p, 0, bytes); }
    void fill(void *p, uint8_t value, int64_t bytes);
    /* Host memory to the device: p is read before this returns. What lies in a buffer is copied there. */
    void send(void *to, const void *p, int64_t bytes);
    /* Device memory to the host: there after the next wait. */
    void fetch(void *to, const void *from, int64_t bytes);
    void move(void *to, const void *from, int64_t bytes); /* on the device */

    /* Starts a kernel: a grid of so many blocks, or as many as fill the device when there is work for more. */
    template <class... P> void launch(Kernel k, void (*)(P...), int64_t blocks, int threads, int shared, typename Same<P>::type... args) {
        void *list[] = {&args...};
        start(k, unsigned(blocks), 1, 1, threads, shared, list);
    }
    template <class... P> void launch3(Kernel k, void (*)(P...), int64_t x, int64_t y, int64_t z, int threads, int shared, typename Same<P>::type... args) {
        void *list[] = {&args...};
        start(k, unsigned(x), unsigned(y), unsigned(z), threads, shared, list);
    }
    /* A product by cuBLAS, which has been attached. */
    void multiply(const Gemm &g);
    bool forget(); /* gives cuBLAS's handle back, for which all of the device is waited for; false: there was none */
    /* Blocks for a loop over n items, each block with `each` of them at a time: at most `waves` for each place on the device. */
    int64_t blocks(int64_t n, int64_t each, int waves = 16) const;

    /* Waits until all of it is done. */
    int32_t wait();
    /* Copies back what is to be, and waits. The call's status. */
    int32_t finish();
    /* Waits, copies nothing back, and returns the status, or the given one when all went well. */
    int32_t abandon(int32_t status);
    /* After a failure: waits for whatever still runs. */
    void drain() {
        if (!device.hung()) settle(nullptr);
    }
    bool ok() const { return status_ == SETUN_OK; }
    bool cancelled() const { return call_->cancel && *call_->cancel; }

    Device &device;
    Lane *next = nullptr; /* in the list of idle ones */

  private:
    enum { IN = 1, OUT = 2, STAGED = 24, FETCHED = 16 };
    static constexpr int64_t PIECE = int64_t(4) << 20; /* bytes of a copy through pinned memory */
    enum { SLOTS = 4 };

    void *stage(void *p, int64_t bytes, int mode);
    void *room(int64_t bytes, bool must = true);
    void bring(); /* the content of what was staged */
    char *elsewhere(const void *p) const;
    void start(Kernel k, unsigned x, unsigned y, unsigned z, int threads, int shared, void **args);
    void check(Result r, const char *doing);
    bool agreed(int status, const char *doing); /* check for cuBLAS; whether all is well */
    Result settle(void *event);                 /* waits for an event, or for the stream */
    void upload(Address to, const char *from, int64_t bytes);
    void download(char *to, Address from, int64_t bytes);
    bool slot(int i);
    bool fits(int64_t bytes) const; /* whether there is room for so much in small_ */

    setun_call *call_ = nullptr;
    int32_t status_ = SETUN_OK;
    bool started_ = false; /* kernels, since the call began */
    bool changes_ = false; /* what a buffer holds */
    void *stream_ = nullptr;
    void *blas_ = nullptr; /* cuBLAS's handle, from the first product on */

    struct Segment {
        Address at;
        int64_t bytes;
    };
    enum { SEGMENTS = 48 };
    Segment segments_[SEGMENTS];
    int segment_count_ = 0;
    int64_t used_ = 0; /* of the last segment */

    struct Staged {
        void *host;
        Address at;
        int64_t bytes;
        int mode;
        char *aside; /* where it comes back to first */
    } staged_[STAGED];
    int staged_count_ = 0, brought_ = 0;
    const Aside *asides_ = nullptr;
    int aside_count_ = 0;

    struct Fetched {
        void *to;
        int64_t at, bytes; /* in small_ */
    } fetched_[FETCHED];
    int fetched_count_ = 0;
    char *small_ = nullptr; /* pinned, for results and arguments */
    int64_t small_used_ = 0;

    char *slots_[SLOTS] = {};
    void *events_[SLOTS] = {};
    bool busy_[SLOTS] = {};
};

/* Starts a kernel of kernels.h: LAUNCH(lane, name, blocks, threads, its arguments). */
#define SETUN_LAUNCH(lane, name, blocks, threads, ...)                                                                                                         \
    (lane).launch(setun::KERNEL_##name, static_cast<decltype(&::name)>(nullptr), blocks, threads, 0, __VA_ARGS__)
#define SETUN_LAUNCH_SHARED(lane, name, blocks, threads, shared, ...)                                                                                          \
    (lane).launch(setun::KERNEL_##name, static_cast<decltype(&::name)>(nullptr), blocks, threads, shared, __VA_ARGS__)
#define SETUN_LAUNCH3(lane, name, x, y, z, threads, ...)                                                                                                       \
    (lane).launch3(setun::KERNEL_##name, static_cast<decltype(&::name)>(nullptr), x, y, z, threads, 0, __VA_ARGS__)

/* Writes a message and returns SETUN_EINVAL. */
int32_t invalid(const setun_call *call, const char *message);

/* The ops: each checks its block, works on a lane that has begun, and returns a setun_status. These can be done in pieces (pieces.h). */
#define SETUN_CUDA_CUT_OPS(X)                                                                                                                                  \
    X(quantize, SETUN_OP_QUANTIZE, setun_quantize)                                                                                                             \
    X(constrain, SETUN_OP_CONSTRAIN, setun_constrain)                                                                                                          \
    X(dot, SETUN_OP_DOT, setun_reduce)                                                                                                                         \
    X(norm2, SETUN_OP_NORM2, setun_reduce)                                                                                                                     \
    X(matmul, SETUN_OP_MATMUL, setun_matmul)                                                                                                                   \
    X(step, SETUN_OP_STEP, setun_step)                                                                                                                         \
    X(activations, SETUN_OP_ACTIVATIONS, setun_activations)                                                                                                    \
    X(ternary, SETUN_OP_TERNARY_MATMUL, setun_ternary)                                                                                                         \
    X(recode, SETUN_OP_RECODE, setun_recode)                                                                                                                   \
    X(rmsnorm, SETUN_OP_RMSNORM, setun_rmsnorm)                                                                                                                \
    X(softmax, SETUN_OP_SOFTMAX, setun_softmax)                                                                                                                \
    X(activate, SETUN_OP_ACTIVATE, setun_activate)                                                                                                             \
    X(update, SETUN_OP_UPDATE, setun_update)                                                                                                                   \
    X(clusters, SETUN_OP_CONSTRAIN_CLUSTERS, setun_clusters)
/* Kernels with flags, or other ones of an op: X(op_..., number, block, name of the kernel, flags). Those that can be done in pieces, and one that cannot. */
#define SETUN_CUDA_CUT_OTHERS(X)                                                                                                                               \
    X(kmeans, SETUN_OP_KMEANS, setun_kmeans, "cuda", SETUN_ITERATES | SETUN_GATHERS)                                                                           \
    X(kmeans_screen, SETUN_OP_KMEANS, setun_kmeans, "screen", SETUN_ITERATES)                                                                                  \
    X(kmeans_tensor, SETUN_OP_KMEANS, setun_kmeans, "tensor", SETUN_FAST | SETUN_ITERATES)
#define SETUN_CUDA_OTHERS(X) X(cublas, SETUN_OP_MATMUL, setun_matmul, "cublas", SETUN_FAST)
#define SETUN_DECLARE(name, number, type, ...) int32_t op_##name(Lane &lane, type *a);
SETUN_CUDA_CUT_OPS(SETUN_DECLARE)
SETUN_CUDA_CUT_OTHERS(SETUN_DECLARE)
SETUN_CUDA_OTHERS(SETUN_DECLARE)
#undef SETUN_DECLARE

/* The part of every call that is the same: takes a lane, works on it, and gives it back. */
template <class Args, class Work> int32_t with_lane(Device &d, Args *args, Work work, const Aside *asides = nullptr, int aside_count = 0) {
    setun_call *call = reinterpret_cast<setun_call *>(args);
    if (d.lost()) return d.refuse(call);
    if (call->cancel && *call->cancel) return SETUN_ECANCELLED;
    Lane *lane = d.take();
    if (!lane) return SETUN_ENOMEM;
    Current current(d);
    lane->begin(call, asides, aside_count);
    int32_t rc = lane->open();
    if (rc == SETUN_OK) rc = work(*lane, args);
    /* A call that failed half-way may have left work behind that reads the caller's memory. */
    if (rc != SETUN_OK) lane->drain();
    d.give(lane);
    return rc;
}

/* The lowest index of a value that is not finite, or -1; waits for it. */
int64_t find_not_finite(Lane &lane, const float *x, int64_t n);

} // namespace setun

#endif
