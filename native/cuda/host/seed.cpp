// SPDX-License-Identifier: Apache-2.0
//
// seed.cpp: k-means++, all centres in one call. Distances, their sums and the rows that are drawn stay on the device.
#include "kmeans.h"

namespace setun {

int32_t seed(Lane &lane, setun_kmeans *a) {
    const float *x = points(lane, a), *unit = optional(lane, a->unit, a->n), *mean = sent_mean(lane, a), *weights = optional(lane, a->weights, a->n);
    float *distance = lane.resident(a->distance) ? lane.out(a->distance, a->n) : lane.scratch<float>(a->n), *centroids = lane.scratch<float>(a->k * a->d);
    const int64_t chunks = ceil_of(a->n, CHUNK), values = a->n * a->d;
    int64_t *sums = lane.scratch<int64_t>(chunks);
    uint8_t *taken = lane.scratch<uint8_t>(a->k); /* of the first k rows, those that are centres: where no other is left to draw, the lowest of the others is */
    unsigned long long *top = lane.scratch<unsigned long long>(1);
    const bool quads = in_quads(x, a->d);
    const int d = int(a->d);
    int64_t started = 0;
    lane.zero(taken, a->k);
    for (int64_t t = 0; t < a->k && lane.ok(); t++) {
        if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
        const float *given = t > 0 ? distance : nullptr; /* the first is drawn by weight alone */
        const bool alike = !given && !weights;
        if (!alike) {
            lane.zero(top, sizeof *top);
            SETUN_LAUNCH(lane, kmeans_top, lane.blocks(a->n, THREADS * 8, 4), THREADS, given, weights, a->n, top);
            SETUN_LAUNCH(lane, kmeans_potential, lane.blocks(chunks, 1), THREADS, given, weights, a->n, top, a->weight_scale, sums);
        }
        float *centroid = centroids + t * a->d;
        SETUN_LAUNCH(lane, kmeans_pick, 1, THREADS, x, a->n, d, unit, mean, given, weights, top, a->weight_scale, alike ? nullptr : sums, a->seed, int(t),
                     int(a->k), taken, centroid);
        if (t + 1 == a->k) break;
        if (quads)
            SETUN_LAUNCH(lane, kmeans_distance, lane.blocks(a->n, 128), 128, x, a->n, d, unit, mean, centroid, 1, nullptr, t > 0, distance);
        else
            SETUN_LAUNCH(lane, kmeans_distance_any, lane.blocks(a->n, 128), 128, x, a->n, d, unit, mean, centroid, 1, nullptr, t > 0, distance);
        /* Some ten milliseconds of work are started before the host looks at cancel again. */
        started += values + (1 << 24); /* a draw takes its time however little there is to draw from */
        if (started < int64_t(1) << 33) continue;
        started = 0;
        if (lane.wait() != SETUN_OK) break;
    }
    lane.fetch(a->next, centroids, a->k * a->d * int64_t(sizeof *a->next));
    return lane.finish();
}

} // namespace setun
