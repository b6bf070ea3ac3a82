/* SPDX-License-Identifier: Apache-2.0
 *
 * screen.c: which groups of centroids could hold the nearest one, and the bound that proves it (docs/numerics.md, "Screening"). */
#include "screen.h"
#include "bits.h"

#include <math.h>
#include <string.h>

#define BIAS_ROOM 0x1p29     /* the most that a bias, and the most that a sum of products, takes of a score's 31 bits */
#define TINY_SQUARES 0x1p-74 /* above sqrt(2^-149): what a square that underflows can hide, for each value */
enum { PATIENCE = 64 };      /* the most panels that a width is left out for */

static double greater(double a, double b) { return a > b ? a : b; }

/* An upper bound of the root of a sum of n squares added in float32, each term with at most n + 3 roundings of 2^-24. */
static double root(float sum, size_t n) { return sqrt((double)sum * (1 + (double)(n + 32) * 0x1p-23)) + (double)n * TINY_SQUARES; }

/* The quantum of n rows whose greatest norm is given: 8 bits hold the greatest value, a sum of products of 16 bits the product of the norms. */
static float quantum_of(const setun_isa *isa, int width, const float *x, size_t n, double norm) {
    return width == SETUN_NARROW ? setun_float(isa->abs_max(x, n)) / 126.5f : (float)(norm / 23000); /* (23000 + sqrt(2^14)/2)^2 < 2^29 */
}

void setun_code_centroids(const setun_isa *isa, int width, setun_coded *out, const float *centroids, const float *bias, size_t k, size_t d, int32_t *scratch) {
    out->words = setun_words(d, width);
    out->norm = out->error = 0;
    out->bias = (double)setun_float(isa->abs_max(bias, k));
    for (size_t j = 0; j < k; j++) {
        float square;
        isa->screen->lengths(&square, centroids + j * d, 1, d);
        out->norm = greater(out->norm, root(square, d));
    }
    out->quantum = quantum_of(isa, width, centroids, k * d, out->norm);
    if (!(out->quantum > 0x1p-100f)) out->quantum = 0x1p-100f;
    for (size_t j = 0, g; j < k; j += g) {
        g = setun_group(k, isa->group, j);
        for (size_t c = 0; c < g; c++) {
            out->error = greater(out->error, root(isa->screen->encode[width](scratch, centroids + (j + c) * d, d, 1 / out->quantum, out->quantum), d));
            int32_t sum = 0, *to = out->packed + j * out->words + c;
            int8_t *code = (int8_t *)scratch;
            for (size_t i = 0; width == SETUN_NARROW && i < 4 * out->words; i++) sum += code[i] = (int8_t)(code[i] ^ -128);
            out->offset[j + c] = 128 * sum;
            for (size_t w = 0; w < out->words; w++) to[w * g] = scratch[w];
        }
    }
}

/* The score, in units of the two quanta, below which a centroid cannot be the nearest one of a row whose greatest score is best; x and error are at least its
 * norm and that of what its codes leave. */
static int32_t least_score(const setun_coded *coded, double unit, int32_t best, double x, double error, size_t d) {
    double codes = error * coded->norm + (x + error) * coded->error;                                      /* (x - x^).c + x^.(c - c^) */
    double chain = (double)(d + 2) * 0x1.04p-24 * (coded->bias + x * coded->norm) + (double)d * 0x1p-149; /* the canonical chain's roundings */
    double width = 2 * ((codes + chain + coded->bias * 0x1p-22) / unit + 0.51) * (1 + 0x1p-40);           /* and the bias's */
    double least = (double)best - ceil(width);
    return least > INT32_MIN ? (int32_t)least : INT32_MIN;
}

/* Scores n rows in codes. Labels those that leave no doubt; returns how many groups the others, those with a least score, have to be scored against, or -1
 * where the values do not fit. */
static int64_t score(const setun_isa *isa, int width, const setun_coded *coded, setun_sieve *s, const float *x, size_t n, size_t d, const float *bias, size_t k,
                     int32_t *label, int32_t *least, const char *ahead, size_t lines) {
    const setun_screen *screen = isa->screen;
    float squares[SETUN_MAX_ROWS];
    double norm[SETUN_MAX_ROWS], error[SETUN_MAX_ROWS], longest = 0;
    screen->lengths(squares, x, n, d);
    for (size_t r = 0; r < n; r++) longest = greater(longest, norm[r] = root(squares[r], d));
    double room = coded->bias / (BIAS_ROOM * (double)coded->quantum); /* rows much shorter than the centroids: the bias still has to fit */
    float quantum = (float)greater((double)quantum_of(isa, width, x, n * d, longest), room * (1 + 0x1p-20));
    double unit = (double)quantum * (double)coded->quantum;
    if (!(quantum > 0x1p-100f && unit > 0x1p-100 && unit < 0x1p100)) return -1;
    for (size_t r = 0; r < n; r++) error[r] = root(screen->encode[width](s->codes + r * coded->words, x + r * d, d, 1 / quantum, quantum), d);
    isa->panel((float *)s->panel, (const float *)s->codes, n, coded->words, 0); /* words move like floats */
    screen->biases(s->bias, bias, coded->offset, k, (float)(1 / unit));
    setun_standing now;
    screen->groups[width](s->panel, coded->words, coded->packed, s->bias, k, s->greatest, &now, ahead, lines);
    for (size_t r = 0; r < isa->rows; r++) {
        least[r] = r < n ? least_score(coded, unit, now.first[r], norm[r], error[r], d) : INT32_MAX;
        if (r < n) label[r] = now.index[r];
        if (now.second[r] < least[r]) least[r] = INT32_MAX; /* there is one candidate */
    }
    return (int64_t)screen->count(s->greatest, (k - 1) / isa->group + 1, least);
}

int64_t setun_screened(const setun_isa *isa, const setun_coded coded[SETUN_WIDTHS], setun_sieve *s, const float *x, size_t n, size_t d, const float *packed,
                       const float *bias, size_t k, int32_t *label, const char *ahead, size_t lines) {
    /* Costs are in d multiply-adds of 16 lanes, as measured on Zen 4. The plain way takes 2k a panel; a width a quarter or half of that and 5k/d to compare,
     * 1.2 + 60/d for each row around the scores, and 1.6 for each group scored again. */
    double rows = (double)n, share = rows / (double)isa->rows, plain = 2 * (double)k * share, around = rows * (1.2 + 60 / (double)d);
    int32_t least[SETUN_MAX_ROWS];
    for (int width = SETUN_NARROW; width < SETUN_WIDTHS; width++) {
        if (s->rest[width] > 0) {
            s->rest[width]--;
            continue;
        }
        int64_t left = score(isa, width, &coded[width], s, x, n, d, bias, k, label, least, ahead, lines);
        if (left < 0) return -1;
        double again = 1.6 * (double)left, scores = plain / (width == SETUN_NARROW ? 4 : 2) + 2.5 * plain / (double)d, other = 0.95 * plain;
        if (width == SETUN_NARROW && s->rest[SETUN_WIDE] == 0 && scores + plain / 4 + around < other) other = scores + plain / 4 + around;
        if (scores + around + again > other) {
            s->rest[width] = s->patience[width];
            s->patience[width] = 2 * s->patience[width] + 1 < PATIENCE ? 2 * s->patience[width] + 1 : PATIENCE;
            if (again > other - around) continue; /* what was spent is spent: is the rest worth it? */
        } else {
            s->patience[width] /= 2;
        }
        isa->screen->settle(x, n, d, packed, bias, k, s->greatest, least, label);
        return left * (int64_t)isa->group;
    }
    return -1;
}
