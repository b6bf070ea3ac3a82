// SPDX-License-Identifier: Apache-2.0
//
// kmeans_seed.cu: the draw of k-means++, where the distances are.
#include "codes.h"
#include "kmeans.h"

SETUN_DEVICE void setun_pick(const float *x, int64_t n, int d, const float *unit, const float *mean, const float *distance, const float *weights,
                             const unsigned long long *top, double bound, const int64_t *sums, uint64_t seed, int t, int k, uint8_t *taken, float *centroid) {
    enum { EACH = SETUN_CHUNK / SETUN_KMEANS_THREADS };
    SETUN_SHARED(long long, part, [SETUN_KMEANS_THREADS]);
    SETUN_SHARED(long long, left, );
    SETUN_SHARED(unsigned long long, at, );
    const int me = threadIdx.x;
    const uint4 word = setun_draw4(seed, t, 2);
    const unsigned long long draw = word.x | (unsigned long long)word.y << 32;
    if (!sums) { /* all rows alike */
        if (me == 0) at = __umul64hi(draw, (unsigned long long)n);
    } else {
        /* The chunk: a thread adds up its share of them, one thread goes through the shares. */
        const int64_t chunks = (n - 1) / SETUN_CHUNK + 1, each = (chunks - 1) / SETUN_KMEANS_THREADS + 1, first = me * each;
        long long sum = 0;
        for (int64_t c = first; c < setun_least(chunks, first + each); c++) sum += sums[c];
        part[me] = sum;
        __syncthreads();
        if (me == 0) {
            long long total = 0;
            for (int g = 0; g < SETUN_KMEANS_THREADS; g++) total += part[g];
            left = -1, at = ~0ull;
            if (total > 0) {
                long long r = (long long)__umul64hi(draw, (unsigned long long)total);
                int g = 0;
                for (; r >= part[g]; g++) r -= part[g];
                int64_t c = g * each;
                for (; r >= sums[c]; c++) r -= sums[c];
                left = r, at = (unsigned long long)c;
            }
        }
        __syncthreads();
        if (left < 0) { /* every row is a centre already: the lowest that is not taken */
            for (int i = me; i <= t; i += SETUN_KMEANS_THREADS)
                if (!taken[i]) atomicMin(&at, (unsigned long long)i);
        } else { /* the row in the chunk, likewise */
            const double s = setun_potential_scale(*top, bound);
            auto share = [&](int64_t row) { return setun_integer((double)(weights ? weights[row] : 1.0f) * (double)(distance ? distance[row] : 1.0f) * s); };
            const int64_t begin = (int64_t)at * SETUN_CHUNK, mine = begin + me * EACH;
            long long of_rows = 0;
            for (int64_t row = mine; row < setun_least(n, mine + EACH); row++) of_rows += share(row);
            part[me] = of_rows;
            __syncthreads();
            if (me == 0) {
                long long r = left;
                int g = 0;
                for (; r >= part[g]; g++) r -= part[g];
                int64_t row = begin + g * EACH;
                for (long long q = share(row); r >= q; q = share(++row)) r -= q;
                at = (unsigned long long)row;
            }
        }
    }
    __syncthreads();
    const int64_t row = (int64_t)at;
    const float u = unit ? unit[row] : 1.0f;
    if (me == 0 && row < k) taken[row] = 1;
    for (int p = me; p < d; p += SETUN_KMEANS_THREADS) centroid[p] = x[row * d + p] * u - mean[p];
}

extern "C" __global__ void __launch_bounds__(SETUN_KMEANS_THREADS)
    kmeans_pick(const float *x, int64_t n, int d, const float *unit, const float *mean, const float *distance, const float *weights,
                const unsigned long long *top, double bound, const int64_t *sums, uint64_t seed, int t, int k, uint8_t *taken, float *centroid) {
    setun_pick(x, n, d, unit, mean, distance, weights, top, bound, sums, seed, t, k, taken, centroid);
}
