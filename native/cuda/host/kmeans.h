/* SPDX-License-Identifier: Apache-2.0
 *
 * host/kmeans.h: what the steps of k-means share, and the two ways to the nearest centroids. */
#ifndef SETUN_CUDA_HOST_KMEANS_H
#define SETUN_CUDA_HOST_KMEANS_H

#include "lane.h"

#include <math.h>

namespace setun {

const int64_t CHUNK = 4096;
const int THREADS = 256;

inline int64_t ceil_of(int64_t n, int64_t each) { return (n - 1) / each + 1; }

/* How the kernels that go by column share a row: ops/kmeans.h. */
struct Shape {
    int d, width;
    int64_t passes, rows; /* widths in a row, at most as many as a grid can have; rows that a block has at a time */
};

inline Shape shape_of(int64_t d) {
    int64_t passes = ceil_of(d, THREADS), width = ceil_of(d, passes);
    return {int(d), int(width), passes < 65535 ? passes : 65535, THREADS / width};
}

/* Values by column or centroid on the device, followed by `pad` bytes up to room values. */
template <class T> T *sent(Lane &lane, const T *p, int64_t n, int64_t room, uint8_t pad) {
    T *at = lane.scratch<T>(room);
    if (room > n) lane.fill(at, pad, room * int64_t(sizeof(T)));
    lane.send(at, p, n * int64_t(sizeof(T)));
    return at;
}

template <class T> const T *sent(Lane &lane, const T *p, int64_t n) { return sent(lane, const_cast<T *>(p), n, n, 0); }

inline float *sent_mean(Lane &lane, const setun_kmeans *a) { return sent(lane, a->mean, a->d, ceil_of(a->d, 32) * 32, 0); }

inline const float *points(Lane &lane, const setun_kmeans *a) { return lane.in(a->x, a->n * a->d); }
template <class T> const T *optional(Lane &lane, const T *p, int64_t n) { return p ? lane.in(p, n) : nullptr; }

/* Whether rows can be read four values at a time. */
inline bool in_quads(const float *x, int64_t d) { return d % 4 == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0; }

/* s of kmeans_potential, from the greatest product and 2^B. */
inline double potential_scale(double top, double bound) {
    int e = 0;
    frexp(top, &e);
    return ldexp(bound, -e);
}

/* Whether the block is new enough to have problems, and has them. */
inline bool problems(const setun_kmeans *a) { return a->call.size >= sizeof *a && a->problems; }

/* How labels are found. */
enum Way { CHAIN, SCREEN, TENSOR };

int32_t assign(Lane &lane, setun_kmeans *a, Way way);
int32_t iterate(Lane &lane, setun_kmeans *a, Way way);
int32_t seed(Lane &lane, setun_kmeans *a);
int32_t many(Lane &lane, setun_kmeans *a);     /* a step for problems, which have been checked */
int64_t many_workspace(const setun_kmeans *a); /* bytes */
inline setun_problem &problem(const setun_kmeans *a, int64_t i) {
    return *reinterpret_cast<setun_problem *>(reinterpret_cast<char *>(a->problems) + i * a->problem_size);
}

/* The least and greatest values of n columns, which the device has as unsigned integers in their order, taken into low and high. */
void widen(const uint32_t *least, const uint32_t *most, int64_t n, float *low, float *high);

/* How a kernel adds rows to the sums of k clusters. */
struct Adding {
    Shape shape;
    bool shared; /* in a block's memory first, of so many bytes */
    int bytes;
    int64_t each; /* rows that a block takes at a time */
};
Adding adding_of(const Lane &lane, int64_t d, int64_t k);

/* Rows and centroids on the device. */
struct Operands {
    const float *x, *unit, *mean; /* mean is followed by zeros up to a multiple of 32 */
    int64_t n, d, k;
    float *centroids, *bias; /* bias is followed by NaN, greater than nothing, up to a multiple of 128 */
    int32_t *labels;         /* out */
};

/* Centroids as kmeans_nearest reads them: lines of columns, a tile at a time, of the width that wastes least. */
struct Tiles {
    int tile;
    int64_t columns, lines;
    int64_t size() const { return columns * lines + 8 * tile; } /* values, with those that are read behind the last */
};
Tiles tiles_of(int64_t d, int64_t k);

/* Labels in the canonical chain. What it needs of the device is taken once, however often it is used in a call. */
class Chain {
  public:
    int32_t take(Lane &lane, const Operands &o);
    /* Reads the centroids. Of rows that come after, labels are of those. */
    void turn(Lane &lane, const Operands &o) const;
    /* Labels of n rows, of o's or others. */
    int32_t nearest(Lane &lane, const Operands &o, const float *x, int64_t n, const float *unit, int32_t *labels) const;
    int32_t all(Lane &lane, const Operands &o) const {
        turn(lane, o);
        return nearest(lane, o, o.x, o.n, o.unit, o.labels);
    }
    int64_t work(int64_t n) const { return n * tiles_.columns * tiles_.lines; } /* fused multiply-adds */

  private:
    Tiles tiles_ = {0, 0, 0};
    float *turned_ = nullptr;
};

/* Labels by 16-bit scores: ops/screen.cu. proven: those of the canonical chain, in which exact scores are computed where it takes that; otherwise close ones.
 */
class Screen {
  public:
    /* false: the device or the shape does not lend itself to it. */
    bool fits(const Lane &lane, const Operands &o) const;
    void take(Lane &lane, const Operands &o, bool proven);
    /* Labels of all rows; where the centroids do not lend themselves to it, by the chain. Waits once. */
    int32_t all(Lane &lane, const Operands &o, const Chain &chain, int64_t *exact);

  private:
    int32_t again(Lane &lane, const Operands &o, const Chain &chain, int64_t n, int64_t *exact);
    bool proven_ = false;
    int64_t k_ = 0, pitch_ = 0;
    float *bias_ = nullptr, *bound_ = nullptr;
    uint16_t *centroids_ = nullptr;
    unsigned long long *reach_ = nullptr;
    int32_t *list_ = nullptr, *found_ = nullptr;
    unsigned *count_ = nullptr; /* rows in the list, and whether the centroids are good */
    int64_t room_ = 0;          /* rows that can be gathered at a time */
    float *rows_ = nullptr, *units_ = nullptr;
};

} // namespace setun

#endif
