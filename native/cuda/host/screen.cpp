// SPDX-License-Identifier: Apache-2.0
//
// screen.cpp: k-means labels by 16-bit scores: the scale of the centroids and the bound that the kernel decides by. docs/numerics.md derives it.
#include "kmeans.h"

#include <math.h>
#include <string.h>

namespace setun {

namespace {

const int64_t TILE = 128, MOST_COLUMNS = 256;

struct Bound {
    int exponent;   /* centroids are multiplied by 2^exponent */
    float terms[4]; /* as setun_decide has them */
    bool good;
};

Bound bound_of(const setun_kmeans *a) {
    Bound b = {};
    float most = 0, bias = 0;
    double reach = 0;
    for (int64_t j = 0; j < a->k; j++) {
        /* In eight lanes, which a processor works on at once. */
        const float *c = a->centroids + j * a->d;
        float top[8] = {0};
        double squares[8] = {0};
        for (int64_t p = 0; p < a->d; p += 8)
            for (int64_t l = 0; l < 8 && p + l < a->d; l++) {
                const float v = fabsf(c[p + l]);
                top[l] = v > top[l] ? v : top[l];
                squares[l] += double(v) * double(v);
            }
        double sum = 0;
        for (int l = 0; l < 8; l++) most = top[l] > most ? top[l] : most, sum += squares[l];
        reach = sum > reach ? sum : reach;
        bias = fabsf(a->bias[j]) > bias ? fabsf(a->bias[j]) : bias;
    }
    int e = 0;
    frexp(double(most), &e);
    b.exponent = most > 0 ? 9 - e : 0; /* to 2^8 .. 2^9 */
    /* Smaller centroids come near to where the canonical chain underflows; and biases must stay exact. */
    b.good = b.exponent <= 40 && b.exponent >= -64;
    const double scale = ldexp(1, b.exponent), d = double(a->d);
    for (int64_t j = 0; b.good && j < a->k; j++) {
        const double v = double(a->bias[j]) * scale;
        b.good = double(float(v)) == v;
    }
    b.terms[0] = float(1.01 * (0x1p-10 + 0x1p-18 + (d + 16) * 0x1p-21 + 2 * d * 0x1p-24));
    b.terms[1] = float(1.001 * scale * sqrt(reach));
    b.terms[2] = float(1.01 * 0x1p-25 * sqrt(d));
    b.terms[3] = float(1.01 * 0x1p-24 * (d + 72) * double(bias) * scale);
    return b;
}

/* The rows of a list again, in the chain: gathered, some at a time, or all rows when most of them are in it. */
int32_t again(Lane &lane, const setun_kmeans *a, const float *x, const float *unit, const float *mean, int32_t *labels, const int32_t *list, int64_t n) {
    if (2 * n > a->n) return nearest(lane, a, x, a->n, unit, mean, labels);
    const int64_t most = int64_t(1) << 18, each = n < most ? n : most;
    float *rows = lane.scratch<float>(each * a->d), *units = unit ? lane.scratch<float>(each) : nullptr;
    int32_t *found = lane.scratch<int32_t>(each), rc = SETUN_OK;
    for (int64_t at = 0; at < n && rc == SETUN_OK; at += each) {
        const int64_t m = n - at < each ? n - at : each;
        SETUN_LAUNCH(lane, screen_gather, lane.blocks(m, 8), 256, x, unit, int(a->d), list + at, m, rows, units);
        rc = nearest(lane, a, rows, m, units, mean, found);
        SETUN_LAUNCH(lane, screen_scatter, lane.blocks(m, 256), 256, list + at, found, m, labels);
    }
    return rc;
}

} // namespace

int32_t screened(Lane &lane, const setun_kmeans *a, const float *x, const float *unit, const float *mean, int32_t *labels, bool proven, int64_t *exact) {
    const Bound b = bound_of(a);
    *exact = a->n * a->k;
    const int64_t k = (a->k - 1) / TILE * TILE + TILE, pitch = (a->d - 1) / 16 * 16 + 16, shared = 3 * 2 * TILE * (pitch + 8);
    const int64_t STATIC = 6 << 10; /* what the kernels have beside that, and a little */
    const bool fits = a->d <= MOST_COLUMNS && a->n <= INT32_MAX && a->k <= INT32_MAX / 2 && shared + STATIC <= lane.device.shared;
    const bool endless = double(a->n) * double(k) * double(pitch) > 0x1p46; /* a second or more: nearest goes in pieces, and can be cancelled */
    if (!b.good || !fits || endless || !lane.has(KERNEL_screen_nearest)) return nearest(lane, a, x, a->n, unit, mean, labels);
    float *given = lane.scratch<float>(a->k * a->d), *bias = lane.scratch<float>(k), *terms = lane.scratch<float>(4);
    uint16_t *centroids = lane.scratch<uint16_t>(k * pitch);
    int32_t *list = proven ? lane.scratch<int32_t>(a->n) : nullptr;
    unsigned *count = lane.scratch<unsigned>(1), unsure = 0;
    lane.zero(count, sizeof *count);
    lane.send(given, a->centroids, a->k * a->d * int64_t(sizeof *given));
    lane.send(terms, b.terms, sizeof b.terms);
    /* The biases, scaled, a piece at a time; of fillers, one that no score comes near to, as far as it goes. */
    for (int64_t j = 0; j < k;) {
        float piece[1024];
        const int64_t n = k - j < 1024 ? k - j : 1024;
        for (int64_t i = 0; i < n; i++) piece[i] = j + i < a->k ? float(ldexp(double(a->bias[j + i]), b.exponent)) : -0x1p79f;
        lane.send(bias + j, piece, n * int64_t(sizeof *piece));
        j += n;
    }
    SETUN_LAUNCH(lane, screen_centroids, lane.blocks(k * pitch, 1024), 256, given, int(a->k), int(a->d), int(pitch), k * pitch, float(ldexp(1, b.exponent)),
                 centroids);
    /* Without the proof a kernel that looks for the greatest alone. */
    if (!proven)
        SETUN_LAUNCH_SHARED(lane, tensor_nearest, (a->n - 1) / 128 + 1, 256, int(shared), x, unit, mean, a->n, int(a->d), int(pitch), centroids, bias, int(k),
                            int(a->k), terms, labels, list, count);
    else
        SETUN_LAUNCH_SHARED(lane, screen_nearest, (a->n - 1) / 128 + 1, 256, int(shared), x, unit, mean, a->n, int(a->d), int(pitch), centroids, bias, int(k),
                            int(a->k), terms, labels, list, count);
    lane.fetch(&unsure, count, sizeof unsure);
    int32_t rc = lane.wait();
    *exact = 2 * int64_t(unsure) > a->n ? a->n * a->k : int64_t(unsure) * a->k;
    return rc == SETUN_OK && unsure > 0 ? again(lane, a, x, unit, mean, labels, list, unsure) : rc;
}

} // namespace setun
