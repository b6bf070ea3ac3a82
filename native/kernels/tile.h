/* SPDX-License-Identifier: Apache-2.0
 *
 * tile.h: what a level provides for packed ternary codes times many rows of activations. A panel holds some rows of codes, unpacked once and turned, so that
 * lanes are rows: the codes of a step (as many columns as an instruction adds up in a lane) of each row lie side by side, step after step. All sums are of
 * integers of 32 bits, exact and so the same in any order. */
#ifndef SETUN_TILE_H
#define SETUN_TILE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    SETUN_TILE_ROWS = 32,      /* of codes, at most */
    SETUN_TILE_BATCH = 12,     /* rows of activations, at most */
    SETUN_TILE_LAID = 16,      /* steps that lay writes at a time */
    SETUN_TILE_DEPTH = 1 << 14 /* columns of a call at most: 255 * 128 times that is below 2^31 */
};

typedef struct setun_tile {
    int32_t rows, batch; /* of codes in a panel; of activations of a call at most */
    int32_t step;        /* columns of a step */
    int32_t lines;       /* rows of codes that lay takes */
    int32_t more, reach; /* what a panel's bytes have more than the codes, which may be of this magnitude at most */
    int64_t from;        /* rows of activations from which on all this is faster than a row at a time: unpacking takes as long as three or four of them */
    /* panel[(s*rows + r)*step + i] = codes[r*stride + s*step + i] + more for the rows r < lines and steps s < count, that rounded up to SETUN_TILE_LAID. */
    void (*lay)(uint8_t *panel, const int8_t *codes, size_t stride, size_t count);
    /* sums[t*rows + r] = the sum of byte s, i of row r times x[t*ld + s*step + i], t < batch. Bytes of 0 meet any activation, up to the end of a step. */
    void (*products)(int32_t *sums, const uint8_t *panel, size_t steps, const int8_t *x, size_t ld, size_t batch);
    /* The sum of n activations. */
    int32_t (*sum)(const int8_t *x, size_t n);
    /* p = (double)(sums[r] - less) * scales[r] for each of the rows; v null: out[r] = (float)((0 + p) * unit); else v[r] += p. */
    void (*scale)(double *v, float *out, const int32_t *sums, int32_t less, const float *scales, double unit);
} setun_tile;

extern const setun_tile setun_tile_avx2;
extern const setun_tile setun_tile_vnni;
extern const setun_tile setun_tile_neon;
extern const setun_tile setun_tile_neondot;

#endif
