/* SPDX-License-Identifier: Apache-2.0
 *
 * screen.c: which groups of centroids could hold the nearest one, and the bound that proves it (docs/numerics.md, "Screening"). */
#include "screen.h"
#include "bits.h"

#include <math.h>
#include <string.h>

enum { TOP = 127 };          /* codes are -127 .. 127 */
#define HALF_TOP 126.5f      /* the greatest value times the inverse of the quantum: rounding cannot pass TOP */
#define BIAS_ROOM 0x1p29     /* the greatest bias in units of a score */
#define PATIENCE 64          /* the most panels that pass before another is tried */
#define TINY_SQUARES 0x1p-74 /* above sqrt(2^-149): what a square that underflows can hide, for each value */

static double greater(double a, double b) { return a > b ? a : b; }

/* An upper bound of the root of a sum of n squares added in float32, each term with at most n + 3 roundings of 2^-24. */
static double root(float sum, size_t n) { return sqrt((double)sum * (1 + (double)(n + 32) * 0x1p-23)) + (double)n * TINY_SQUARES; }

void setun_code_centroids(const setun_isa *isa, setun_coded *out, const float *centroids, const float *bias, size_t k, size_t d, uint8_t *scratch) {
    size_t each = 4 * out->quads;
    float reach = setun_float(isa->abs_max(centroids, k * d));
    out->quantum = reach > 0x1p-100f ? reach / HALF_TOP : 0x1p-106f;
    out->norm = out->error = 0;
    out->bias = (double)setun_float(isa->abs_max(bias, k));
    for (size_t j = 0, g; j < k; j += g) {
        g = setun_group(k, isa->group, j);
        for (size_t c = 0; c < g; c++) {
            float norms[2] = {0, 0};
            isa->screen->encode(scratch, centroids + (j + c) * d, d, 1 / out->quantum, out->quantum, norms);
            int32_t sum = 0;
            for (size_t q = 0; q < out->quads; q++)
                for (size_t i = 0; i < 4; i++) {
                    int32_t v = scratch[4 * q + i] - 128;
                    sum += v;
                    out->packed[j * each + (q * g + c) * 4 + i] = (int8_t)v;
                }
            out->offset[j + c] = 128 * sum;
            out->norm = greater(out->norm, root(norms[0], d));
            out->error = greater(out->error, root(norms[1], d));
        }
    }
}

/* The score, in units of quantum*coded->quantum, below which a centroid cannot be the nearest one of a row whose greatest score is best. */
static int32_t least_score(const setun_coded *coded, double unit, int32_t best, const float norms[2], size_t d) {
    double x = root(norms[0], d), error = root(norms[1], d);
    double codes = error * coded->norm + (x + error) * coded->error;                                      /* (x - x^).c + x^.(c - c^) */
    double chain = (double)(d + 2) * 0x1.04p-24 * (coded->bias + x * coded->norm) + (double)d * 0x1p-149; /* the canonical chain's roundings */
    double width = 2 * ((codes + chain + coded->bias * 0x1p-22) / unit + 0.51) * (1 + 0x1p-40);           /* and the bias's */
    double least = (double)best - ceil(width);
    return least > INT32_MIN ? (int32_t)least : INT32_MIN;
}

int64_t setun_screened(const setun_isa *isa, const setun_coded *coded, setun_sieve *s, const float *x, size_t n, size_t d, const float *packed,
                       const float *bias, size_t k, int32_t *label, const char *ahead, size_t lines) {
    const setun_screen *screen = isa->screen;
    size_t each = 4 * coded->quads, groups = (k - 1) / isa->group + 1;
    if (s->rest > 0) {
        s->rest--;
        return -1;
    }
    float reach = setun_float(isa->abs_max(x, n * d));
    double room = coded->bias / (BIAS_ROOM * (double)coded->quantum); /* rows much shorter than the centroids: the bias still has to fit */
    float quantum = (float)greater((double)(reach / HALF_TOP), room * (1 + 0x1p-20));
    double unit = (double)quantum * (double)coded->quantum;
    if (!(quantum > 0x1p-100f && unit > 0x1p-100 && unit < 0x1p100)) return -1;

    float norms[SETUN_MAX_ROWS][2] = {{0}};
    for (size_t r = 0; r < n; r++) screen->encode(s->codes + r * each, x + r * d, d, 1 / quantum, quantum, norms[r]);
    isa->panel((float *)s->panel, (const float *)s->codes, n, coded->quads, 0); /* four codes move like one float */
    screen->biases(s->bias, bias, coded->offset, k, (float)(1 / unit));

    int32_t best[SETUN_MAX_ROWS], least[SETUN_MAX_ROWS];
    screen->groups(s->panel, coded->quads, coded->packed, s->bias, k, s->greatest, best, ahead, lines);
    for (size_t r = 0; r < isa->rows; r++) least[r] = r < n ? least_score(coded, unit, best[r], norms[r], d) : INT32_MAX;
    size_t again = screen->count(s->greatest, groups, least);
    /* In multiply-adds of 16 lanes, as measured on Zen 4: a group scored again takes d of them and a half, a row d and 40 around the scores, the plain way 2 d
     * k a panel, and the screen a quarter of that. */
    if (10 * (again * d + n * (d + 40)) * isa->rows > 9 * n * k * d) {
        s->rest = s->patience;
        s->patience = 2 * s->patience + 1 < PATIENCE ? 2 * s->patience + 1 : PATIENCE;
        if (4 * again * isa->rows > 5 * n * k) return -1;
    } else {
        s->patience /= 2;
    }
    screen->settle(x, n, d, packed, bias, k, s->greatest, least, label);
    return (int64_t)(again * isa->group);
}
