/* SPDX-License-Identifier: Apache-2.0
 *
 * sum.c: see sum.h. A wave of chunks is summed side by side into an array on the stack, which then goes through the tree in order: nothing is allocated,
 * and the tree sees the same values in the same order however many threads there are. */
#include "sum.h"
#include "tree.h"

#define POLL 256  /* chunks between two looks at cancel */
#define WAVE 4096 /* chunks of a wave: 64 MiB of values, some milliseconds from memory */

typedef struct wave {
    const setun_call *call;
    setun_chunk_fn *chunk;
    void *arg;
    int64_t begin, n, each; /* each: chunks a part */
    double *sums;
} wave;

static size_t length(int64_t at, int64_t n) { return (size_t)(n - at < SETUN_CHUNK ? n - at : SETUN_CHUNK); }

static void part(void *arg, int64_t i) {
    wave *w = arg;
    if (setun_cancelled(w->call)) return;
    int64_t at = w->begin + i * w->each * SETUN_CHUNK;
    for (int64_t c = 0; c < w->each && at < w->n; c++, at += SETUN_CHUNK) w->sums[i * w->each + c] = w->chunk(w->arg, at, length(at, w->n));
}

static int32_t in_waves(const setun_team *team, const setun_call *call, setun_chunk_fn *chunk, void *arg, int64_t n, setun_tree *t) {
    double sums[WAVE];
    wave w = {.call = call, .chunk = chunk, .arg = arg, .sums = sums};
    for (; w.begin < n; w.begin += WAVE * SETUN_CHUNK) {
        w.n = n - w.begin < WAVE * SETUN_CHUNK ? n : w.begin + WAVE * SETUN_CHUNK;
        int64_t chunks = (w.n - w.begin - 1) / SETUN_CHUNK + 1;
        w.each = setun_chunks_a_part(team, chunks);
        setun_each(team, (chunks - 1) / w.each + 1, part, &w);
        if (setun_cancelled(call)) return SETUN_ECANCELLED;
        for (int64_t c = 0; c < chunks; c++) setun_tree_add(t, 0, sums[c]);
    }
    return SETUN_OK;
}

int32_t setun_sum(const setun_team *team, const setun_call *call, setun_chunk_fn *chunk, void *arg, int64_t n, double *sum) {
    if (n <= SETUN_CHUNK) {
        *sum = chunk(arg, 0, (size_t)n);
        return SETUN_OK;
    }
    setun_tree t = {0};
    if (team) {
        int32_t rc = in_waves(team, call, chunk, arg, n, &t);
        if (rc != SETUN_OK) return rc;
    } else {
        for (int64_t at = 0, c = 0; at < n; at += SETUN_CHUNK, c++) {
            if (c % POLL == 0 && setun_cancelled(call)) return SETUN_ECANCELLED;
            setun_tree_add(&t, 0, chunk(arg, at, length(at, n)));
        }
    }
    *sum = setun_tree_sum(&t);
    return SETUN_OK;
}
