/* SPDX-License-Identifier: Apache-2.0
 *
 * clusters.c: constrain, each cluster of a step on the ball of its own radius. */
#include "ball.h"
#include "ops.h"
#include "tree.h"

#include <math.h>

#define POLL 256                 /* chunks between two looks at cancel */
#define BLOCK (16 * SETUN_CHUNK) /* values of a part; longer clusters are scaled backwards by blocks */

enum { SUM = 1, SCALE = 2 };

typedef struct job {
    const setun_isa *isa;
    setun_clusters *a;
    int what;         /* SUM, SCALE or both: what a part does to a segment */
    int64_t parts;    /* of the loop that runs */
    int64_t cols;     /* labels: of a row */
    double *row_sums; /* labels */
} job;

/* S(x*x); anything once the call is cancelled. */
static double squares(const job *j, const float *x, int64_t n) {
    if (n == 0) return 0;
    if (n <= SETUN_CHUNK) return j->isa->square_chunk(x, (size_t)n);
    setun_tree t = {0};
    for (int64_t i = 0, c = 0; i < n; i += SETUN_CHUNK, c++) {
        if (c % POLL == 0 && setun_cancelled(&j->a->call)) break;
        setun_tree_add(&t, 0, j->isa->square_chunk(x + i, (size_t)(n - i < SETUN_CHUNK ? n - i : SETUN_CHUNK)));
    }
    return setun_tree_sum(&t);
}

/* Scales n values at an offset, or copies them when they are inside the ball; a cluster c below 0 has none. */
static void project(const job *j, int64_t at, int64_t n, int64_t c) {
    const float *x = j->a->x + at;
    float *dst = j->a->dst + at;
    if (c < 0 || !(j->a->norms[c] > j->a->radii[c])) {
        if (dst != x) memcpy(dst, x, (size_t)n * sizeof *x);
        return;
    }
    /* Backwards: the end of x is still in the cache from the sum. */
    double f = setun_ball_factor(j->a->radii[c], j->a->norms[c]);
    for (int64_t end = n; end > 0;) {
        int64_t begin = (end - 1) / BLOCK * BLOCK;
        j->isa->scale(dst + begin, x + begin, (size_t)(end - begin), f);
        end = begin;
    }
}

/* ---- Segments ----------------------------------------------------------------------------------------------------- */

/* The first cluster that begins at v or later. */
static int64_t first_from(const setun_clusters *a, int64_t v) {
    int64_t low = 0, high = a->k;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        if (a->offsets[mid] < v)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The clusters that begin in a block of values. */
static void segments(void *arg, int64_t part) {
    job *j = arg;
    setun_clusters *a = j->a;
    int64_t end = part + 1 < j->parts ? first_from(a, (part + 1) * BLOCK) : a->k;
    for (int64_t c = first_from(a, part * BLOCK); c < end; c++) {
        int64_t n = a->offsets[c + 1] - a->offsets[c];
        if (j->what & SUM) a->norms[c] = sqrt(squares(j, a->x + a->offsets[c], n));
        if (j->what & SCALE) project(j, a->offsets[c], n, c);
        if ((j->what & SUM) && setun_cancelled(&a->call)) return;
    }
}

static int32_t all_finite(setun_clusters *a, const double *v, int64_t n) {
    if (setun_cancelled(&a->call)) return SETUN_ECANCELLED;
    for (int64_t i = 0; i < n; i++)
        if (v[i] - v[i] != 0) {
            a->call.bad_index = setun_find_bad(a->x, a->n);
            return SETUN_ENONFINITE;
        }
    return SETUN_OK;
}

static int32_t by_segment(job *j, const setun_team *team) {
    setun_clusters *a = j->a;
    j->parts = (a->n - 1) / BLOCK + 1;
    /* In place nothing may be written before all values are known to be finite. */
    j->what = a->dst == a->x ? SUM : SUM | SCALE;
    setun_each(team, j->parts, segments, j);
    int32_t rc = all_finite(a, a->norms, a->k);
    if (rc != SETUN_OK || j->what & SCALE) return rc;
    j->what = SCALE;
    setun_each(team, j->parts, segments, j);
    return SETUN_OK;
}

/* ---- Labels ------------------------------------------------------------------------------------------------------- */

/* The rows of a part: as many as fill a block. */
static int64_t rows_of(const job *j, int64_t part, int64_t *begin) {
    int64_t rows = (j->a->rows - 1) / j->parts + 1;
    *begin = part * rows;
    return *begin + rows < j->a->rows ? *begin + rows : j->a->rows;
}

static void sum_rows(void *arg, int64_t part) {
    job *j = arg;
    int64_t r, end = rows_of(j, part, &r);
    for (; r < end && !setun_cancelled(&j->a->call); r++) j->row_sums[r] = squares(j, j->a->x + r * j->cols, j->cols);
}

static void project_rows(void *arg, int64_t part) {
    job *j = arg;
    int64_t begin, r = rows_of(j, j->parts - 1 - part, &begin); /* backwards, as in project */
    while (r-- > begin) project(j, r * j->cols, j->cols, j->a->labels[r]);
}

/* S over n values that are sums themselves. */
static double sum_values(const double *v, int64_t n) {
    if (n <= SETUN_CHUNK) {
        double lane[32] = {0};
        for (int64_t i = 0; i < n; i++) lane[i % 32] += v[i];
        return setun_fold(lane);
    }
    setun_tree t = {0};
    for (int64_t i = 0; i < n; i++) setun_tree_add(&t, 0, v[i]);
    return setun_tree_sum(&t);
}

/* Sorts the row sums by cluster, rows rising, and sums each cluster's. */
static void sum_clusters(job *j) {
    setun_clusters *a = j->a;
    double *sorted = j->row_sums + a->rows;
    int64_t *next = (void *)(sorted + a->rows), begin = 0;
    memset(next, 0, (size_t)a->k * sizeof *next);
    for (int64_t r = 0; r < a->rows; r++)
        if (a->labels[r] >= 0) next[a->labels[r]]++;
    for (int64_t c = 0; c < a->k; c++) {
        int64_t rows = next[c];
        next[c] = begin;
        begin += rows;
    }
    for (int64_t r = 0; r < a->rows; r++)
        if (a->labels[r] >= 0) sorted[next[a->labels[r]]++] = j->row_sums[r];
    begin = 0;
    for (int64_t c = 0; c < a->k; c++) { /* next is now where each cluster ends */
        a->norms[c] = sqrt(sum_values(sorted + begin, next[c] - begin));
        begin = next[c];
    }
}

static int32_t by_label(job *j, const setun_team *team) {
    setun_clusters *a = j->a;
    j->cols = a->n / a->rows;
    j->row_sums = a->scratch;
    j->parts = (a->n - 1) / BLOCK + 1;
    if (j->parts > a->rows) j->parts = a->rows;
    setun_each(team, j->parts, sum_rows, j);
    int32_t rc = all_finite(a, j->row_sums, a->rows);
    if (rc != SETUN_OK) return rc;
    sum_clusters(j);
    setun_each(team, j->parts, project_rows, j);
    return SETUN_OK;
}

/* ---- The op ------------------------------------------------------------------------------------------------------- */

static int32_t check(const setun_clusters *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "clusters: the argument block is too small");
    if (!a->x || !a->dst || !a->radii || !a->norms || a->n < 1 || a->k < 1) return setun_invalid(c, "clusters: a pointer is null, or n or k < 1");
    for (int64_t i = 0; i < a->k; i++)
        if (!(a->radii[i] >= 0)) return setun_invalid(c, "clusters: a radius is negative or not a number");
    if (a->offsets) {
        if (a->offsets[0] != 0 || a->offsets[a->k] != a->n) return setun_invalid(c, "clusters: the offsets do not go from 0 to n");
        for (int64_t i = 0; i < a->k; i++)
            if (a->offsets[i] > a->offsets[i + 1]) return setun_invalid(c, "clusters: the offsets fall");
        return SETUN_OK;
    }
    if (!a->labels || !a->scratch || a->rows < 1 || a->n % a->rows != 0)
        return setun_invalid(c, "clusters: labels or scratch is null, or n is not rows of values");
    for (int64_t r = 0; r < a->rows; r++)
        if (a->labels[r] < -1 || a->labels[r] >= a->k) return setun_invalid(c, "clusters: a label is not within -1..k-1");
    return SETUN_OK;
}

int32_t setun_op_clusters(const setun_isa *isa, const setun_team *team, setun_clusters *a) {
    int32_t rc = check(a);
    if (rc != SETUN_OK) return rc;
    job j = {.isa = isa, .a = a};
    return a->offsets ? by_segment(&j, team) : by_label(&j, team);
}
