/* SPDX-License-Identifier: Apache-2.0
 *
 * packed.c: a matrix of codes in any format, row by row. A row's end that is no full block is copied into one, so that what a level provides sees full blocks
 * only. */
#include "packed.h"

#include <setun/backend.h>

void setun_packed_sizes(setun_packed *p) {
    static const struct { int64_t codes, bytes; } blocks[] = {{1, 1}, {1, 1}, {256, 64}, {320, 64}, {256, 40}, {64, 8}}; /* by format */
    p->block = blocks[p->format].codes;
    p->bytes = blocks[p->format].bytes;
    p->full = p->cols / p->block;
    p->tail = p->cols % p->block;
    if (p->tail > 0) {
        p->tail_places = p->format == SETUN_PLANES ? 64 : (p->tail - 1) / (p->block / 64) + 1;
        p->tail_bytes = p->format == SETUN_PLANES ? 8 : p->format == SETUN_FOUR5 ? (p->tail_places + 1) / 2 + (p->tail_places + 7) / 8 : p->tail_places;
    }
    p->row_bytes = p->full * p->bytes + p->tail_bytes;
}

/* The place that lane b of a padded block holds, or -1: four5 has the second half of its places from lane 32 on. */
static int64_t place(const setun_packed *p, int64_t lane) {
    int64_t half = p->format == SETUN_FOUR5 ? (p->tail_places + 1) / 2 : 64, at = lane < half ? lane : -1;
    if (half < 64 && lane >= 32) at = lane - 32 < p->tail_places - half ? half + lane - 32 : -1;
    return at < p->tail_places ? at : -1;
}

void setun_pad_codes(const setun_packed *p, uint8_t *block, const uint8_t *rest) {
    memset(block, 0, 64);
    if (p->format != SETUN_FOUR5) {
        memcpy(block, rest, (size_t)p->tail_bytes);
        return;
    }
    size_t half = (size_t)(p->tail_places + 1) / 2, bytes = (size_t)p->tail_bytes - half; /* half is at most 32 */
    uint64_t signs = 0;
    memcpy(block, rest, half);
    for (size_t i = 0; i < bytes; i++) signs |= (uint64_t)rest[half + i] << 8 * i;
    signs = (signs & (((uint64_t)1 << half) - 1)) | signs >> half << 32;
    for (size_t i = 0; i < 8; i++) block[32 + i] = (uint8_t)(signs >> 8 * i);
}

void setun_pad_values(const setun_packed *p, int8_t *block, const int8_t *rest) {
    memset(block, 0, SETUN_MOST_BLOCK);
    if (p->format == SETUN_PLANES) {
        memcpy(block, rest, (size_t)p->tail);
        return;
    }
    for (int64_t lane = 0; lane < 64; lane++)
        for (int64_t i = place(p, lane), n = 0; i >= 0 && i < p->tail; i += p->tail_places, n++) block[64 * n + lane] = rest[i];
}

/* The codes of a row's rest, plane after plane: four5 has those of each in two parts. */
static void unpad(const setun_packed *p, int8_t *rest, const int8_t *block) {
    int64_t half = p->format == SETUN_FOUR5 ? (p->tail_places + 1) / 2 : p->tail_places;
    for (int64_t i = 0, n = 0; i < p->tail; i += p->tail_places, n++) {
        if (p->rows > 0) { /* copies of a length that the compiler knows; the next one overwrites what was too much */
            memcpy(rest + i, block + 64 * n, 64);
            if (half < p->tail_places) memcpy(rest + i + half, block + 64 * n + 32, 32);
            continue;
        }
        memcpy(rest + i, block + 64 * n, (size_t)setun_least(half, p->tail - i));
        if (p->tail - i > half && half < p->tail_places)
            memcpy(rest + i + half, block + 64 * n + 32, (size_t)setun_least(p->tail_places - half, p->tail - i - half));
    }
}

int64_t setun_unpack(const setun_packed *p, int64_t row, int64_t from, size_t *sign, int8_t *codes) {
    const uint8_t *in = p->codes + row * p->row_bytes + from / p->block * p->bytes, *signs = p->format == SETUN_PLANES ? p->signs + p->index[row] : 0;
    int64_t n = setun_least(SETUN_PIECE, p->cols - from), blocks = n / p->block;
    for (int part = 0; part < 2; part++) { /* full blocks, and the row's rest as one more */
        uint8_t pad[64];
        int8_t one[SETUN_MOST_BLOCK], *to = part ? one : codes;
        size_t count = part ? 1 : (size_t)blocks;
        if (part) {
            if (n == blocks * p->block) break;
            in += blocks * p->bytes;
            int there = p->bytes == 64 && p->codes + p->rows * p->row_bytes - in >= 64; /* as many bytes, of the rows behind */
            if (!there) {
                setun_pad_codes(p, pad, in);
                in = pad;
            }
        }
        switch (p->format) {
        case SETUN_INT8:
            memcpy(to, in, count);
            break;
        case SETUN_2BIT:
            p->isa->unpack2(to, in, count);
            break;
        case SETUN_BASE3:
            p->isa->unpack3(to, in, count);
            break;
        case SETUN_FOUR5:
            p->isa->unpack5(to, in, count);
            break;
        case SETUN_PLANES:
            p->isa->unpack1(to, in, signs, sign, count);
            break;
        }
        if (part) unpad(p, codes + blocks * p->block, one);
    }
    return n;
}
