/* SPDX-License-Identifier: Apache-2.0
 *
 * tree.h: the recursive part of the rule S as a stream of chunk sums: O(1) memory for any length. */
#ifndef SETUN_TREE_H
#define SETUN_TREE_H

#include "bits.h"
#include "isa.h"

#define SETUN_LEVELS 5 /* 4096^5 chunks outlast int64_t */

typedef struct setun_tree {
    double lane[SETUN_LEVELS][32];
    uint32_t n[SETUN_LEVELS];
} setun_tree;

static inline void setun_tree_add(setun_tree *t, int level, double v) {
    for (int l = level; l < SETUN_LEVELS; l++) {
        t->lane[l][t->n[l] % 32] += v;
        if (++t->n[l] < SETUN_CHUNK) return;
        v = setun_fold(t->lane[l]);
        memset(t->lane[l], 0, sizeof t->lane[l]);
        t->n[l] = 0;
    }
}

static inline double setun_tree_sum(setun_tree *t) {
    for (int l = 0; l + 1 < SETUN_LEVELS; l++)
        if (t->n[l] > 0) setun_tree_add(t, l + 1, setun_fold(t->lane[l]));
    return setun_fold(t->lane[SETUN_LEVELS - 1]);
}

#endif
