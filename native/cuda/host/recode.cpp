// SPDX-License-Identifier: Apache-2.0
//
// recode.cpp: codes of any format as bytes, 2 bits or base 3.
#include "planes.h"

namespace setun {

int64_t recode_bytes(uint32_t format, int64_t cols) {
    if (format == SETUN_INT8) return cols;
    if (format == SETUN_2BIT) return (cols - 1) / 4 + 1;
    if (format == SETUN_BASE3) return (cols - 1) / 5 + 1;
    if (format == SETUN_PLANES) return ((cols - 1) / 64 + 1) * 8;
    int64_t places = (cols % 256 + 3) / 4; /* four5: of the rest */
    return cols / 256 * 40 + (places + 1) / 2 + (places + 7) / 8;
}

int32_t unpack_planes(Lane &lane, const setun_call *call, const void *codes, const uint8_t *signs, const int64_t *index, int64_t rows, int64_t cols,
                      uint8_t *out) {
    const uint8_t *planes = lane.in(static_cast<const uint8_t *>(codes), rows * recode_bytes(SETUN_PLANES, cols));
    const int64_t *at = lane.in(index, rows + 1);
    int64_t ends[2] = {0, 0};
    if (lane.resident(index)) {
        lane.fetch(ends, at, sizeof *ends);
        lane.fetch(ends + 1, at + rows, sizeof *ends);
        int32_t rc = lane.wait();
        if (rc != SETUN_OK) return rc;
    } else {
        ends[0] = index[0], ends[1] = index[rows];
    }
    if (ends[0] < 0 || ends[1] < ends[0] || ends[1] - ends[0] > INT64_MAX / 64) return invalid(call, "planes: the index is not one");
    const uint8_t *sign = lane.in(signs + ends[0], ends[1] - ends[0] + (cols - 1) / 8 + 1);
    SETUN_LAUNCH(lane, recode_planes_int8, lane.blocks(rows, 8), 256, planes, sign, at, ends[0], rows, cols, out);
    return SETUN_OK; /* what went wrong sticks to the lane */
}

int32_t op_recode(Lane &lane, setun_recode *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return invalid(c, "recode: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->cols > int64_t(1) << 45 || a->rows > (int64_t(1) << 45) / a->cols)
        return invalid(c, "recode: rows or cols is out of range");
    if (a->from < SETUN_INT8 || a->from > SETUN_PLANES || a->to < SETUN_INT8 || a->to > SETUN_BASE3)
        return invalid(c, "recode: unknown format, or one that is not a result");
    if (!a->codes || !a->out || (a->from == SETUN_PLANES && (!a->signs || !a->index))) return invalid(c, "recode: codes, signs, index or out is null");
    int64_t rows = a->rows, cols = a->cols;
    uint32_t from = a->from;
    const uint8_t *codes = from == SETUN_PLANES ? nullptr : lane.in(static_cast<const uint8_t *>(a->codes), rows * recode_bytes(from, cols));
    uint8_t *out = lane.out(static_cast<uint8_t *>(a->out), rows * recode_bytes(a->to, cols));
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    if (from == SETUN_PLANES) {
        uint8_t *bytes = a->to == SETUN_INT8 ? out : lane.scratch<uint8_t>(rows * cols);
        int32_t rc = unpack_planes(lane, c, a->codes, a->signs, a->index, rows, cols, bytes);
        if (rc != SETUN_OK) return rc;
        codes = bytes;
        from = SETUN_INT8;
    } else if (from == SETUN_INT8 && a->to == SETUN_INT8) {
        lane.move(out, codes, rows * cols);
    }
    /* Rows that end with a block of both formats are as one row. */
    if (cols % 1280 == 0) cols *= rows, rows = 1;
    int64_t units = a->to == SETUN_INT8 ? rows * ((cols - 1) / 512 + 1) * 32 : rows * ((recode_bytes(a->to, cols) - 1) / 4 + 1);
    int64_t blocks = lane.blocks(units, 256);
#define RECODE(name) SETUN_LAUNCH(lane, name, blocks, 256, codes, rows, cols, out)
    switch (8 * from + a->to) {
    case 8 * SETUN_INT8 + SETUN_2BIT:
        RECODE(recode_int8_2bit);
        break;
    case 8 * SETUN_INT8 + SETUN_BASE3:
        RECODE(recode_int8_base3);
        break;
    case 8 * SETUN_2BIT + SETUN_INT8:
        RECODE(recode_2bit_int8);
        break;
    case 8 * SETUN_2BIT + SETUN_2BIT:
        RECODE(recode_2bit_2bit);
        break;
    case 8 * SETUN_2BIT + SETUN_BASE3:
        RECODE(recode_2bit_base3);
        break;
    case 8 * SETUN_BASE3 + SETUN_INT8:
        RECODE(recode_base3_int8);
        break;
    case 8 * SETUN_BASE3 + SETUN_2BIT:
        RECODE(recode_base3_2bit);
        break;
    case 8 * SETUN_BASE3 + SETUN_BASE3:
        RECODE(recode_base3_base3);
        break;
    case 8 * SETUN_FOUR5 + SETUN_INT8:
        RECODE(recode_four5_int8);
        break;
    case 8 * SETUN_FOUR5 + SETUN_2BIT:
        RECODE(recode_four5_2bit);
        break;
    case 8 * SETUN_FOUR5 + SETUN_BASE3:
        RECODE(recode_four5_base3);
        break;
    }
#undef RECODE
    return lane.finish();
}

} // namespace setun
