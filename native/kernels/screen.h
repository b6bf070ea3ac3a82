/* SPDX-License-Identifier: Apache-2.0
 *
 * screen.h: the nearest centroid by way of scores in integers.
 *
 * Points and centroids are rounded to codes of 8 or 16 bits, scored at four times or twice the rate of float32, and only the groups of centroids that could
 * hold the winner are scored again in the canonical chain. Nothing is guessed: a bound on all roundings says which groups could, so the labels are those of
 * `nearest` bit for bit; docs/numerics.md derives it. 8 bits do for data that has clusters, 16 for nearly all; where neither saves work, panels are no longer
 * screened. */
#ifndef SETUN_SCREEN_H
#define SETUN_SCREEN_H

#include "isa.h"

/* Codes of 8 bits, four a word, and of 16 bits, two a word. */
enum { SETUN_NARROW, SETUN_WIDE, SETUN_WIDTHS };

/* How a panel's rows stand: the greatest score, whose it is, and the greatest of all others. */
typedef struct setun_standing {
    int32_t first[SETUN_MAX_ROWS], second[SETUN_MAX_ROWS], index[SETUN_MAX_ROWS];
} setun_standing;

/* What an instruction set has to provide. Rows of a panel and groups of centroids are those of the setun_isa that it belongs to. */
struct setun_screen {
    /* out[r] = the sum of x[r*d + p]^2, in float32 and in any order. */
    void (*lengths)(float *out, const float *x, size_t n, size_t d);
    /* q = rint(x[p] * inverse); the code is q + 128 if narrow, q if wide, for p < d, and that of 0 from there to the end of the word. Returns the sum of
     * (x[p] - q*quantum)^2, in float32 and in any order. */
    float (*encode[SETUN_WIDTHS])(void *codes, const float *x, size_t d, float inverse, float quantum);
    /* out[j] = rint(bias[j] * inverse) - offset[j]. */
    void (*biases)(int32_t *out, const float *bias, const int32_t *offset, size_t k, float inverse);
    /* greatest[g*rows + r] = the greatest over the centroids j of group g of bias[j] + the sum over w < words of the products of the codes in panel[w*rows + r]
     * and in packed[first*words + w*size + j - first], with first and size those of the group; standing is of all groups. Narrow codes are unsigned
     * in the panel and signed in packed. Asks for `lines` cache lines from ahead on. */
    void (*groups[SETUN_WIDTHS])(const int32_t *panel, size_t words, const int32_t *packed, const int32_t *bias, size_t k, int32_t *greatest,
                                 setun_standing *standing, const char *ahead, size_t lines);
    /* How many greatest[g*rows + r] >= least[r] there are. */
    size_t (*count)(const int32_t *greatest, size_t groups, const int32_t *least);
    /* For each row r < n with such a group: label[r] = the lowest j with the greatest score among the groups with greatest[g*rows + r] >= least[r]; scores as
     * in setun_isa's nearest, which also says how packed lies. x holds rows of d values, centred. */
    void (*settle)(const float *x, size_t n, size_t d, const float *packed, const float *bias, size_t k, const int32_t *greatest, const int32_t *least,
                   int32_t *label);
};

extern const setun_screen setun_screen_vnni;

/* The centroids of a call in codes. */
typedef struct setun_coded {
    size_t words;       /* of a row */
    int32_t *packed;    /* k*words */
    int32_t *offset;    /* k: what the points' offset adds to a score */
    float quantum;      /* of every centroid */
    double norm, error; /* the greatest ||c||, ||c - its codes||, at least */
    double bias;        /* the greatest |bias| */
} setun_coded;

/* What a thread needs for a panel, and what it has learnt. */
typedef struct setun_sieve {
    int32_t *codes, *panel;                            /* rows * the words of wide codes */
    int32_t *bias;                                     /* k */
    int32_t *greatest;                                 /* groups*rows */
    size_t rest[SETUN_WIDTHS], patience[SETUN_WIDTHS]; /* panels that a width is left out for; for how many after the next one that was no use */
} setun_sieve;

/* Whether a call is screened: longer rows leave the codes too few bits, and fewer or shorter centroids are scored sooner the plain way. The host's cost model
 * has the same limits (`broad` in dispatch/shape.go). */
static inline int setun_screens(const setun_isa *isa, size_t k, size_t d) { return isa->screen && d >= 24 && d <= 1 << 14 && k >= 64 && k * d >= 6144; }

/* The words of a row in codes of a width. */
static inline size_t setun_words(size_t d, int width) { return width == SETUN_NARROW ? (d + 3) / 4 : (d + 1) / 2; }

/* Rounds the centroids; fills out but for the pointers, which are given. scratch: the words of a row. */
void setun_code_centroids(const setun_isa *isa, int width, setun_coded *out, const float *centroids, const float *bias, size_t k, size_t d, int32_t *scratch);
/* Labels n rows, at most isa->rows, of which x holds the centred values. Returns how many of the n*k scores it computed in the canonical chain, or -1: nothing
 * was labelled, `nearest` is to do it. */
int64_t setun_screened(const setun_isa *isa, const setun_coded coded[SETUN_WIDTHS], setun_sieve *s, const float *x, size_t n, size_t d, const float *packed,
                       const float *bias, size_t k, int32_t *label, const char *ahead, size_t lines);

#endif
