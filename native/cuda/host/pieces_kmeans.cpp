// SPDX-License-Identifier: Apache-2.0
//
// pieces_kmeans.cpp: steps of k-means in pieces, by rows. What has the size of the columns or centroids goes up once a pass; sums are integers, which all
// pieces add to on the device and which come home at the end. Runs of iterations and k-means++ want all rows at once: a host that has got out of memory for
// those does the steps one by one.
#include "../pieces.h"
#include "kmeans.h"

#include <stdlib.h>

namespace setun {

namespace {

const int64_t ROWS = 128; /* of a block: fewer take as long, and where so many do not fit the processor is sooner done */

/* What a step has by column or centroid, in one piece of the device's memory. */
class Columns {
  public:
    explicit Columns(Pieces &p) : pieces_(p) {}
    /* An array that the block has in a field; a null one stays null. sums: pieces add to it. */
    template <class T> void add(T *&field, int64_t n, bool sums = false) {
        if (!field) return;
        const int64_t bytes = n * int64_t(sizeof(T));
        list_[count_++] = {&field, const_cast<void *>(static_cast<const void *>(field)), size_, bytes, sums};
        size_ += (bytes + 255) / 256 * 256;
    }
    /* Takes the memory, which the fields have from here on. */
    int32_t take() {
        if (count_ == 0) return SETUN_OK;
        for (int i = 0; i < count_; i++)
            if (list_[i].sums && pieces_.writes_buffer(list_[i].host)) return SETUN_ENOMEM;
        memory_ = pieces_.buffer<char>(size_);
        if (!memory_) return SETUN_ENOMEM;
        for (int i = 0; i < count_; i++) {
            char *at = memory_ + list_[i].at;
            memcpy(list_[i].field, &at, sizeof at);
        }
        return SETUN_OK;
    }
    int32_t send() {
        if (count_ == 0) return SETUN_OK;
        return pieces_.once([&](Lane &lane) {
            for (int i = 0; i < count_; i++) lane.send(memory_ + list_[i].at, list_[i].host, list_[i].bytes);
            return lane.finish();
        });
    }
    int32_t home() {
        int32_t rc = SETUN_OK;
        for (int i = 0; i < count_ && rc == SETUN_OK; i++)
            if (list_[i].sums) rc = pieces_.home(list_[i].host, memory_ + list_[i].at, list_[i].bytes);
        return rc;
    }

  private:
    Pieces &pieces_;
    struct Array {
        void *field, *host;
        int64_t at, bytes;
        bool sums;
    } list_[7];
    int count_ = 0;
    int64_t size_ = 0;
    char *memory_ = nullptr;
};

/* What pieces find out beside that. */
struct Found {
    std::atomic<int64_t> changed{0}, exact{0};
    Mutex mutex;            /* of the ranges */
    float *range = nullptr; /* d of low, d of high */
};

struct Rows {
    setun_kmeans a;
    Found *found;
};

template <int32_t (*op)(Lane &, setun_kmeans *)> int32_t rows_of(Lane &lane, Rows *r) {
    const int32_t rc = op(lane, &r->a);
    if (rc != SETUN_OK) return rc;
    r->found->changed += r->a.changed;
    r->found->exact += r->a.exact;
    return rc;
}

/* Each piece finds ranges of its own: they are the host's, and pieces come side by side. */
template <int32_t (*op)(Lane &, setun_kmeans *)> int32_t range_of(Lane &lane, Rows *r) {
    const int64_t d = r->a.d;
    float *own = static_cast<float *>(malloc(size_t(2 * d) * sizeof *own)), *all = r->found->range;
    if (!own) return SETUN_ENOMEM;
    for (int64_t j = 0; j < d; j++) own[j] = HUGE_VALF, own[d + j] = -HUGE_VALF;
    r->a.low = own, r->a.high = own + d;
    const int32_t rc = op(lane, &r->a);
    if (rc == SETUN_OK) {
        r->found->mutex.lock();
        for (int64_t j = 0; j < d; j++) {
            all[j] = (own[j] < all[j] ? own[j] : all[j]) + 0.0f; /* never -0 */
            all[d + j] = (own[d + j] > all[d + j] ? own[d + j] : all[d + j]) + 0.0f;
        }
        r->found->mutex.unlock();
    }
    free(own);
    return rc;
}

template <int32_t (*op)(Lane &, setun_kmeans *)> int32_t range(Pieces &pieces, const Cut &cut, Found *found, setun_kmeans *a) {
    const size_t bytes = size_t(a->d) * sizeof *a->low;
    if (pieces.writes_buffer(a->low) || pieces.writes_buffer(a->high)) return SETUN_ENOMEM;
    found->range = static_cast<float *>(malloc(2 * bytes));
    if (!found->range) return SETUN_ENOMEM;
    memcpy(found->range, a->low, bytes), memcpy(found->range + a->d, a->high, bytes);
    const int32_t rc = pieces.pass<Rows, range_of<op>>(cut);
    if (rc == SETUN_OK) memcpy(a->low, found->range, bytes), memcpy(a->high, found->range + a->d, bytes);
    free(found->range);
    return rc;
}

/* Products of weights and distances: their greatest, of all rows, and then their sums by chunk, whose scale depends on it. */
struct Products {
    setun_call call;
    const float *distance, *weights;
    int64_t n;
    unsigned long long *top;
    double bound;
    int64_t *sums;
};
int32_t top_of(Lane &lane, Products *p) {
    const float *distance = lane.in(p->distance, p->n), *weights = optional(lane, p->weights, p->n);
    SETUN_LAUNCH(lane, kmeans_top, lane.blocks(p->n, THREADS * 8, 4), THREADS, distance, weights, p->n, p->top);
    return lane.finish();
}
int32_t sums_of(Lane &lane, Products *p) {
    const int64_t chunks = ceil_of(p->n, CHUNK);
    const float *distance = lane.in(p->distance, p->n), *weights = optional(lane, p->weights, p->n);
    int64_t *sums = lane.out(p->sums, chunks);
    SETUN_LAUNCH(lane, kmeans_potential, lane.blocks(chunks, 1), THREADS, distance, weights, p->n, p->top, p->bound, sums);
    return lane.finish();
}

int32_t potential(Pieces &pieces, setun_kmeans *a) {
    Products p = {{}, a->distance, a->weights, a->n, pieces.buffer<unsigned long long>(1), a->weight_scale, a->sums};
    if (!p.top || pieces.writes_buffer(a->sums)) return SETUN_ENOMEM;
    double top = 0;
    int32_t rc = pieces.once([&](Lane &lane) {
        lane.zero(p.top, sizeof *p.top);
        return lane.finish();
    });
    Cut all(p, &p.n, CHUNK);
    all.in(p.distance, 4).in(p.weights, 4);
    if (rc == SETUN_OK) rc = pieces.pass<Products, top_of>(all);
    if (rc == SETUN_OK) rc = pieces.pass<Products, sums_of>(all.out(p.sums, 8, CHUNK));
    if (rc != SETUN_OK) return rc;
    rc = pieces.once([&](Lane &lane) {
        lane.fetch(&top, p.top, sizeof top);
        return lane.finish();
    });
    if (rc == SETUN_OK) a->weight_scale = potential_scale(top, a->weight_scale);
    return rc;
}

template <int32_t (*op)(Lane &, setun_kmeans *)> int32_t cut_steps(Pieces &pieces, setun_kmeans *a, Way way) {
    if (problems(a)) return SETUN_ENOMEM; /* each is small */
    if (a->step == SETUN_KMEANS_POTENTIAL) return potential(pieces, a);
    Found found;
    Rows r = {{}, &found};
    setun_kmeans &b = r.a;
    memcpy(static_cast<void *>(&b), a, a->call.size < sizeof b ? a->call.size : sizeof b); /* an older host's block is shorter */
    Columns columns(pieces);
    Cut cut(r, &b.n, ROWS, b.d);
    cut.in(b.x, 4 * b.d);
    if (b.step != SETUN_KMEANS_UNIT) cut.in(b.unit, 4);
    switch (b.step) {
    case SETUN_KMEANS_RANGE:
        return range<op>(pieces, cut, &found, a);
    case SETUN_KMEANS_MEAN:
        columns.add(b.scale, b.d);
        columns.add(b.sums, b.d, true);
        break;
    case SETUN_KMEANS_ASSIGN:
        columns.add(b.mean, b.d);
        columns.add(b.centroids, b.k * b.d);
        columns.add(b.bias, b.k);
        cut.inout(b.labels, 4, 4 * b.n).scratch(4);
        if (way != CHAIN) cut.scratch(4 * b.d + 12); /* rows that are scored again are gathered */
        if (!b.sums) break;
        cut.in(b.weights, 4);
        columns.add(b.scale, b.d);
        columns.add(b.sums, b.k * b.d, true);
        columns.add(b.counts, b.k, true);
        if (b.weights) columns.add(b.weight_sums, b.k, true);
        break;
    case SETUN_KMEANS_DISTANCE:
        columns.add(b.mean, b.d);
        columns.add(b.centroids, (b.labels ? b.k : 1) * b.d);
        cut.in(b.labels, 4);
        if (b.flags & SETUN_KMEANS_KEEP_MIN)
            cut.inout(b.distance, 4, 4 * b.n);
        else
            cut.out(b.distance, 4);
        break;
    case SETUN_KMEANS_UNIT:
        cut.out(b.distance, 4).scratch(b.d > CHUNK ? 8 * ceil_of(b.d, CHUNK) : 0);
        break;
    default:
        return SETUN_ENOMEM;
    }
    int32_t rc = columns.take();
    if (rc != SETUN_OK) return rc;
    rc = pieces.pass<Rows, rows_of<op>>(cut, [&] {
        found.changed = found.exact = 0;
        return columns.send();
    });
    if (rc == SETUN_OK) rc = columns.home();
    if (rc != SETUN_OK) return rc;
    a->changed = found.changed;
    a->exact = found.exact;
    return rc;
}

} // namespace

int32_t cut_kmeans(Pieces &pieces, setun_kmeans *a) { return cut_steps<op_kmeans>(pieces, a, CHAIN); }
int32_t cut_kmeans_screen(Pieces &pieces, setun_kmeans *a) { return cut_steps<op_kmeans_screen>(pieces, a, SCREEN); }
int32_t cut_kmeans_tensor(Pieces &pieces, setun_kmeans *a) { return cut_steps<op_kmeans_tensor>(pieces, a, TENSOR); }

} // namespace setun
