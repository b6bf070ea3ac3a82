/* SPDX-License-Identifier: Apache-2.0
 *
 * kmeans.c: the steps of Lloyd's algorithm over a range of rows.
 *
 * Assign works on blocks of rows, centred into scratch that stays in the second cache. Each panel of centroids passes over
 * the block once, tile by tile, and every row keeps its best candidates between panels; so the n*k scores never exist. The
 * same hot rows are then added to the integer sums. */
#include "ops.h"
#include "bits.h"

#include <math.h>

#define BLOCK_BYTES (96 * 1024) /* of centred rows: with a panel and the candidates it fits in L2 */

#define POLL_VALUES (1 << 20) /* between two looks at cancel */

/* Where things are in the workspace. Everything is a multiple of 64 bytes. */
typedef struct plan {
    size_t panels, block; /* block: rows, a multiple of the tile */
    float *packed, *bias, *rows, *best;
    int32_t *index;
} plan;

static size_t round64(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Lays out the workspace at base (may be null) and returns its size. */
static size_t lay_out(const setun_isa *isa, const setun_kmeans *a, char *base, plan *p) {
    size_t d = (size_t)a->d, tile = a->step == SETUN_KMEANS_ASSIGN ? isa->tile_rows : SETUN_MAX_TILE;
    p->panels = a->step == SETUN_KMEANS_ASSIGN ? ((size_t)a->k - 1) / isa->width + 1 : 0;
    size_t rows = BLOCK_BYTES / sizeof(float) / d / tile * tile, most = ((size_t)a->n - 1) / tile * tile + tile;
    p->block = rows < tile ? tile : rows > 16 * tile ? 16 * tile : rows;
    if (p->block > most) p->block = most;
    size_t at = 0;
    p->packed = (float *)(base + at);
    at += round64(p->panels * isa->width * d * sizeof(float));
    p->bias = (float *)(base + at);
    at += round64(p->panels * isa->width * sizeof(float));
    p->rows = (float *)(base + at);
    at += round64(p->block * d * sizeof(float));
    p->best = (float *)(base + at);
    at += round64(p->block * isa->lanes * sizeof(float));
    p->index = (int32_t *)(base + at);
    return at + round64(p->block * isa->lanes * sizeof(int32_t));
}

/* g with every value of these magnitude bits or above a multiple of 2^g. */
static int granule(uint32_t u) { return (int)(u >> 23 > 1 ? u >> 23 : 1) - 150; }

/* Interleaves the centroids into panels; returns the smallest magnitude bits that are not 0. */
static uint32_t pack(const setun_isa *isa, const setun_kmeans *a, const plan *p) {
    size_t d = (size_t)a->d, k = (size_t)a->k, width = isa->width;
    uint32_t low = SETUN_INF_BITS;
    for (size_t q = 0; q < p->panels; q++) {
        float *panel = p->packed + q * width * d;
        for (size_t c = 0; c < width; c++) {
            size_t j = q * width + c;
            p->bias[j] = j < k ? a->bias[j] : -INFINITY; /* with zeros for values it never wins */
            if (j >= k)
                for (size_t i = 0; i < d; i++) panel[i * width + c] = 0;
        }
        for (size_t i = 0; i < d; i++)
            for (size_t c = 0; c < width && q * width + c < k; c++) {
                float v = a->centroids[(q * width + c) * d + i];
                uint32_t u = setun_bits(v) & SETUN_ABS_MASK;
                if (u != 0 && u < low) low = u;
                panel[i * width + c] = v;
            }
    }
    return low;
}

/* Asks for the rows of a tile of the next block, while this one is worked on: centring them would wait for memory. */
static void fetch_ahead(const setun_isa *isa, const setun_kmeans *a, size_t row) {
    size_t n = (size_t)a->n, d = (size_t)a->d;
    if (row >= n) return;
    const char *from = (const char *)(a->x + row * d), *end = from + (n - row < isa->tile_rows ? n - row : isa->tile_rows) * d * sizeof *a->x;
    for (; from < end; from += 64) __builtin_prefetch(from, 0, 2);
}

/* Labels the rows of a block, which begins at row first. */
static void label_block(const setun_isa *isa, setun_kmeans *a, const plan *p, size_t first, size_t n, int c_granule) {
    size_t d = (size_t)a->d, lanes = isa->lanes, tiles = (n - 1) / isa->tile_rows + 1;
    uint32_t low = SETUN_INF_BITS;
    for (size_t r = 0; r < n; r++) {
        uint32_t u = isa->centre(p->rows + r * d, a->x + (first + r) * d, a->mean, d);
        low = u < low ? u : low;
    }
    if (tiles * isa->tile_rows > n) memset(p->rows + n * d, 0, (tiles * isa->tile_rows - n) * d * sizeof(float));
    for (size_t i = 0; i < tiles * isa->tile_rows * lanes; i++) {
        p->best[i] = -INFINITY;
        p->index[i] = 0;
    }
    int careful = isa->tile_needs_granule && granule(low) + c_granule < -149;
    for (size_t q = 0; q < p->panels; q++) {
        const float *panel = p->packed + q * isa->width * d, *bias = p->bias + q * isa->width;
        int32_t base = (int32_t)(q * isa->width);
        for (size_t t = 0; t < tiles; t++) {
            size_t r = t * isa->tile_rows;
            if (q == 0) fetch_ahead(isa, a, first + p->block + r);
            if (careful)
                setun_tile_ref(isa, p->rows + r * d, d, panel, bias, base, p->best + r * lanes, p->index + r * lanes);
            else
                isa->tile(p->rows + r * d, d, panel, bias, base, p->best + r * lanes, p->index + r * lanes);
        }
    }
    for (size_t r = 0; r < n; r++) {
        int32_t j = isa->winner(p->best + r * lanes, p->index + r * lanes);
        a->changed += a->labels[first + r] != j;
        a->labels[first + r] = j;
    }
    if (!a->sums) return;
    for (size_t r = 0; r < n; r++) { /* by itself: the rows do not wait for their labels */
        int32_t j = a->labels[first + r];
        double w = a->weights ? (double)a->weights[first + r] : 1;
        isa->add_row(a->sums + (size_t)j * d, p->rows + r * d, a->scale, w, d);
        a->counts[j]++;
        if (a->weights) a->weight_sums[j] += setun_rint(w * a->weight_scale);
    }
}

static int32_t assign(const setun_isa *isa, setun_kmeans *a, const plan *p) {
    int c_granule = granule(pack(isa, a, p));
    a->changed = 0;
    for (size_t i = 0, n = (size_t)a->n; i < n; i += p->block) {
        if (setun_cancelled(&a->call)) return SETUN_ECANCELLED;
        label_block(isa, a, p, i, n - i < p->block ? n - i : p->block, c_granule);
    }
    return SETUN_OK;
}

static int32_t distance(const setun_isa *isa, setun_kmeans *a, const plan *p) {
    size_t d = (size_t)a->d, n = (size_t)a->n;
    size_t polled = (POLL_VALUES / d / SETUN_MAX_TILE + 1) * SETUN_MAX_TILE;
    float out[SETUN_MAX_TILE];
    for (size_t i = 0; i < n; i += SETUN_MAX_TILE) {
        if (i % polled == 0 && setun_cancelled(&a->call)) return SETUN_ECANCELLED;
        size_t m = n - i < SETUN_MAX_TILE ? n - i : SETUN_MAX_TILE;
        for (size_t r = 0; r < m; r++) {
            float *t = p->rows + r * d;
            isa->centre(t, a->x + (i + r) * d, a->mean, d);
            isa->centre(t, t, a->centroids + (a->labels ? (size_t)a->labels[i + r] * d : 0), d);
        }
        isa->squares(p->rows, m, d, out);
        for (size_t r = 0; r < m; r++)
            if (!(a->flags & SETUN_KMEANS_KEEP_MIN) || out[r] < a->distance[i + r]) a->distance[i + r] = out[r];
    }
    return SETUN_OK;
}

/* Range and mean. */
static int32_t columns(const setun_isa *isa, setun_kmeans *a) {
    size_t n = (size_t)a->n, d = (size_t)a->d, some = POLL_VALUES / d + 1;
    for (size_t i = 0; i < n; i += some) {
        if (setun_cancelled(&a->call)) return SETUN_ECANCELLED;
        size_t end = n - i < some ? n : i + some;
        if (a->step == SETUN_KMEANS_MEAN)
            for (size_t r = i; r < end; r++) isa->add_row(a->sums, a->x + r * d, a->scale, 1, d);
        else if (isa->range(a->x + i * d, end - i, d, a->low, a->high) >= SETUN_INF_BITS) {
            a->call.bad_index = (int64_t)(i * d) + setun_find_bad(a->x + i * d, (int64_t)((end - i) * d));
            return SETUN_ENONFINITE;
        }
    }
    return SETUN_OK;
}

static int32_t check(const setun_kmeans *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "kmeans: the argument block is too small");
    if (!a->x || a->n < 1 || a->d < 1 || a->n > INT64_MAX / 64 / a->d) return setun_invalid(c, "kmeans: x is null, n or d < 1, or too many values");
    switch (a->step) {
    case SETUN_KMEANS_RANGE:
        return a->low && a->high ? SETUN_OK : setun_invalid(c, "kmeans: low or high is null");
    case SETUN_KMEANS_MEAN:
        return a->scale && a->sums ? SETUN_OK : setun_invalid(c, "kmeans: scale or sums is null");
    case SETUN_KMEANS_ASSIGN:
        if (!a->labels || !a->bias || (a->sums && (!a->counts || !a->scale || (a->weights && !a->weight_sums))))
            return setun_invalid(c, "kmeans: labels, bias, scale or an array of sums is null");
        break;
    case SETUN_KMEANS_DISTANCE:
        if (!a->distance) return setun_invalid(c, "kmeans: distance is null");
        break;
    default:
        return setun_invalid(c, "kmeans: unknown step");
    }
    if (!a->mean || !a->centroids || a->k < 1 || a->k > INT32_MAX || a->k > INT64_MAX / 256 / a->d)
        return setun_invalid(c, "kmeans: mean or centroids is null, or k is out of range");
    return SETUN_OK;
}

int32_t setun_op_kmeans(const setun_isa *isa, const setun_team *team, setun_kmeans *a) {
    (void)team;
    int32_t rc = check(a);
    if (rc != SETUN_OK) return rc;
    if (a->step == SETUN_KMEANS_RANGE || a->step == SETUN_KMEANS_MEAN) {
        if (!a->workspace) {
            a->workspace_size = 64; /* none is used; a size above 0 keeps callers simple */
            return SETUN_OK;
        }
        return columns(isa, a);
    }
    plan p;
    size_t need = lay_out(isa, a, a->workspace, &p);
    if (!a->workspace) {
        a->workspace_size = (int64_t)need;
        return SETUN_OK;
    }
    if ((uintptr_t)a->workspace % 64 != 0 || (uint64_t)a->workspace_size < need)
        return setun_invalid(&a->call, "kmeans: the workspace is too small or not aligned to 64 bytes");
    return a->step == SETUN_KMEANS_ASSIGN ? assign(isa, a, &p) : distance(isa, a, &p);
}
