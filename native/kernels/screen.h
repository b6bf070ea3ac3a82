/* SPDX-License-Identifier: Apache-2.0
 *
 * screen.h: the nearest centroid by way of 8-bit scores.
 *
 * Points and centroids are rounded to 8 bits, scored in integers at several times the rate of float32, and only the groups of centroids that could hold the
 * winner are scored again in the canonical chain. Nothing is guessed: a bound on all roundings says which groups could, so the labels are those of `nearest`
 * bit for bit. docs/numerics.md derives the bound. Data without clusters, where the bound says little, costs a quarter more and is soon no longer screened. */
#ifndef SETUN_SCREEN_H
#define SETUN_SCREEN_H

#include "isa.h"

/* What an instruction set has to provide. Rows of a panel and groups of centroids are those of the setun_isa that it belongs to. */
struct setun_screen {
    /* codes[p] = rint(x[p] * inverse) + 128 for p < d, 128 from there to the next multiple of 4. norms[0] += x[p]^2, norms[1] += (x[p] - q*quantum)^2 with
     * q = codes[p] - 128, in float32 and in any order. */
    void (*encode)(uint8_t *codes, const float *x, size_t d, float inverse, float quantum, float norms[2]);
    /* out[j] = rint(bias[j] * inverse) - offset[j]. */
    void (*biases)(int32_t *out, const float *bias, const int32_t *offset, size_t k, float inverse);
    /* greatest[g*rows + r] = the greatest over the centroids j of group g of bias[j] + sum over p < 4*quads of panel(p, r) * packed(p, j); returns it for all
     * groups in best[r]. Four codes lie side by side: panel[((p/4)*rows + r)*4 + p%4], packed[first*4*quads + ((p/4)*size + j - first)*4 + p%4] with first and
     * size those of the group. Asks for `lines` cache lines from ahead on. */
    void (*groups)(const uint8_t *panel, size_t quads, const int8_t *packed, const int32_t *bias, size_t k, int32_t *greatest, int32_t *best, const char *ahead,
                   size_t lines);
    /* How many of the n rows' groups have greatest[g*rows + r] >= least[r]. */
    size_t (*count)(const int32_t *greatest, size_t groups, const int32_t *least);
    /* For each row r < n: label[r] = the lowest j with the greatest score among the groups with greatest[g*rows + r] >= least[r]; scores as in setun_isa's
     * nearest, which also says how packed lies. x holds rows of d values, centred. */
    void (*settle)(const float *x, size_t n, size_t d, const float *packed, const float *bias, size_t k, const int32_t *greatest, const int32_t *least,
                   int32_t *label);
};

extern const setun_screen setun_screen_vnni;

/* The centroids of a call in 8 bits. */
typedef struct setun_coded {
    size_t quads;       /* of codes: (d + 3) / 4 */
    int8_t *packed;     /* k*4*quads */
    int32_t *offset;    /* k: 128 times the sum of a centroid's codes, which the points' offset adds */
    float quantum;      /* of every centroid */
    double norm, error; /* the greatest ||c||, ||c - its codes||, at least */
    double bias;        /* the greatest |bias| */
} setun_coded;

/* What a thread needs for a panel. */
typedef struct setun_sieve {
    uint8_t *codes, *panel; /* rows*4*quads */
    int32_t *bias;          /* k */
    int32_t *greatest;      /* groups*rows */
    size_t rest, patience;  /* panels not to be screened; how many after the next one that was no use */
} setun_sieve;

/* Whether a call is screened: sums of products have to stay in 31 bits, and k has to be worth it (setun_screened). */
static inline int setun_screens(const setun_isa *isa, size_t k, size_t d) { return isa->screen && d <= 1 << 14 && 9 * k >= 20 * isa->rows; }

/* Rounds the centroids; fills out but for the pointers, which are given. scratch: 4*quads bytes. */
void setun_code_centroids(const setun_isa *isa, setun_coded *out, const float *centroids, const float *bias, size_t k, size_t d, uint8_t *scratch);
/* Labels n rows, at most isa->rows. Returns how many of the rows*k scores it computed in the canonical chain, or -1: nothing was labelled, `nearest` is to do
 * it. */
int64_t setun_screened(const setun_isa *isa, const setun_coded *coded, setun_sieve *s, const float *x, size_t n, size_t d, const float *packed,
                       const float *bias, size_t k, int32_t *label, const char *ahead, size_t lines);

#endif
