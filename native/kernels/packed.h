/* SPDX-License-Identifier: Apache-2.0
 *
 * packed.h: a matrix of codes in any format, row by row. */
#ifndef SETUN_PACKED_H
#define SETUN_PACKED_H

#include "codes.h"

enum {
    SETUN_MOST_BLOCK = 320, /* codes of a block */
    SETUN_PIECE = 1280      /* codes unpacked at a time: whole blocks of all formats */
};

typedef struct setun_packed {
    const setun_codes *isa;
    uint32_t format;
    const uint8_t *codes, *signs;
    const int64_t *index;
    int64_t cols;
    int64_t block, bytes, row_bytes;             /* codes and bytes of a full block, bytes of a row */
    int64_t full, tail, tail_places, tail_bytes; /* full blocks of a row; codes, places and bytes of the rest */
    int64_t rows; /* 0, or how many there are: then setun_unpack may write 64 bytes behind the codes, which makes short rows three times as fast */
} setun_packed;

/* Fills in the sizes; format and cols have been checked. */
void setun_packed_sizes(setun_packed *p);
/* The codes of a row from column `from` on, which begins a block: at most SETUN_PIECE. sign is the position in the row's signs, 0 at its start. Returns how
 * many. */
int64_t setun_unpack(const setun_packed *p, int64_t row, int64_t from, size_t *sign, int8_t *codes);
/* The bytes of a row's rest as a full block of 64 bytes; its other places hold anything. */
void setun_pad_codes(const setun_packed *p, uint8_t *block, const uint8_t *rest);
/* Values that belong to a row's rest in the order of that block; 0 elsewhere. block has SETUN_MOST_BLOCK. */
void setun_pad_values(const setun_packed *p, int8_t *block, const int8_t *rest);

static inline int64_t setun_least(int64_t a, int64_t b) { return a < b ? a : b; }

#endif
