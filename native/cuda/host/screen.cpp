// SPDX-License-Identifier: Apache-2.0
//
// screen.cpp: k-means labels by 16-bit scores. The bound that the kernel decides by is found on the device, where the centroids are; docs/numerics.md derives
// it.
#include "kmeans.h"

namespace setun {

namespace {

const int64_t TILE = 128, MOST_COLUMNS = 256;

int64_t pitch_of(int64_t d) { return ceil_of(d, 16) * 16; }
int64_t shared_of(int64_t pitch) { return 3 * 2 * TILE * (pitch + 8); }

} // namespace

bool Screen::fits(const Lane &lane, const Operands &o) const {
    const int64_t STATIC = 6 << 10; /* what the kernels have beside that, and a little */
    const int64_t pitch = pitch_of(o.d);
    const bool small = o.d <= MOST_COLUMNS && o.n <= INT32_MAX && o.k <= INT32_MAX / 2 && shared_of(pitch) + STATIC <= lane.device.shared;
    const bool endless =
        double(o.n) * double(ceil_of(o.k, TILE) * TILE) * double(pitch) > 0x1p46; /* a second or more: the chain goes in pieces, and can be cancelled */
    return small && !endless && lane.has(KERNEL_screen_nearest);
}

void Screen::take(Lane &lane, const Operands &o, bool proven) {
    proven_ = proven;
    k_ = ceil_of(o.k, TILE) * TILE, pitch_ = pitch_of(o.d);
    bias_ = lane.scratch<float>(k_), bound_ = lane.scratch<float>(5);
    centroids_ = lane.scratch<uint16_t>(k_ * pitch_);
    reach_ = lane.scratch<unsigned long long>(3);
    list_ = proven ? lane.scratch<int32_t>(o.n) : nullptr;
    count_ = lane.scratch<unsigned>(2);
}

int32_t Screen::all(Lane &lane, const Operands &o, const Chain &chain, int64_t *exact) {
    const int k = int(o.k), d = int(o.d), wide = int(k_), pitch = int(pitch_);
    unsigned count[2] = {0, 0};
    lane.zero(reach_, 3 * sizeof *reach_);
    lane.zero(count_, sizeof count);
    SETUN_LAUNCH(lane, screen_reach, lane.blocks(o.k, 8), THREADS, o.centroids, o.bias, k, d, reach_);
    SETUN_LAUNCH(lane, screen_terms, 1, THREADS, reach_, o.bias, wide, k, d, bound_, bias_, count_ + 1);
    SETUN_LAUNCH(lane, screen_centroids, lane.blocks(k_ * pitch_, 1024), THREADS, o.centroids, k, d, pitch, k_ * pitch_, bound_, centroids_);
    /* Without the proof a kernel that looks for the greatest alone. */
    if (!proven_)
        SETUN_LAUNCH_SHARED(lane, tensor_nearest, ceil_of(o.n, 128), THREADS, int(shared_of(pitch_)), o.x, o.unit, o.mean, o.n, d, pitch, centroids_, bias_,
                            wide, k, bound_, o.labels, list_, count_);
    else
        SETUN_LAUNCH_SHARED(lane, screen_nearest, ceil_of(o.n, 128), THREADS, int(shared_of(pitch_)), o.x, o.unit, o.mean, o.n, d, pitch, centroids_, bias_,
                            wide, k, bound_, o.labels, list_, count_);
    lane.fetch(count, count_, sizeof count);
    const int32_t rc = lane.wait();
    if (rc != SETUN_OK) return rc;
    const int64_t unsure = count[0];
    const bool every = !count[1] || 2 * unsure > o.n; /* when most rows are in the list, all are scored again */
    *exact += (every ? o.n : unsure) * o.k;
    if (every) return chain.all(lane, o);
    return unsure > 0 ? again(lane, o, chain, unsure, exact) : SETUN_OK;
}

/* The rows of the list in the chain: gathered, some at a time. Where there is no memory to gather them, all rows, which needs no more. */
int32_t Screen::again(Lane &lane, const Operands &o, const Chain &chain, int64_t n, int64_t *exact) {
    const int64_t most = int64_t(1) << 18;
    if (room_ < n && room_ < most) { /* another iteration may have more rows: twice as many, so that not much is taken in all */
        int64_t room = 2 * n < o.n ? 2 * n : o.n;
        room = room < most ? room : most;
        if (float *p = lane.spare<float>(room * (o.d + 2))) { /* the rows, their units and their labels */
            room_ = room, rows_ = p, units_ = o.unit ? p + room * o.d : nullptr;
            found_ = reinterpret_cast<int32_t *>(p + room * (o.d + 1));
        }
    }
    if (room_ == 0) {
        *exact += (o.n - n) * o.k;
        return chain.all(lane, o);
    }
    chain.turn(lane, o);
    int32_t rc = SETUN_OK;
    for (int64_t at = 0; at < n && rc == SETUN_OK; at += room_) {
        const int64_t m = n - at < room_ ? n - at : room_;
        SETUN_LAUNCH(lane, screen_gather, lane.blocks(m, 8), THREADS, o.x, o.unit, int(o.d), list_ + at, m, rows_, units_);
        rc = chain.nearest(lane, o, rows_, m, units_, found_);
        SETUN_LAUNCH(lane, screen_scatter, lane.blocks(m, 256), THREADS, list_ + at, found_, m, o.labels);
    }
    return rc;
}

} // namespace setun
