// SPDX-License-Identifier: Apache-2.0
//
// ternary.cpp: packed ternary codes times int8 activations.
#include "planes.h"

namespace setun {

namespace {

const int64_t ROWS = 32, COLUMNS = int64_t(1) << 20; /* of a tile; of a panel at most, whose sums are of 32 bits */
const int64_t WORK = int64_t(1) << 24;               /* columns of a launch's blocks, if all run at the same time: a fifth of a second at the slowest */
const int64_t MOST_BLOCKS = int64_t(1) << 30;
enum { ALIGNED = 1, EACH_ROW = 2 }; /* flags of the kernels: rows of codes are aligned to 16 bytes; each row has scales */

int32_t check(const setun_ternary *a) {
    const setun_call *c = &a->call;
    const int64_t most = int64_t(1) << 45;
    if (c->size < sizeof *a) return invalid(c, "ternary: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->batch < 1 || a->rows > most || a->cols > most || a->batch > most)
        return invalid(c, "ternary: rows, cols or batch is out of range");
    if (a->rows > most / a->cols || a->batch > most / a->cols || a->batch > most / a->rows) return invalid(c, "ternary: a matrix is too large");
    if (a->group < 0 || a->group > a->cols) return invalid(c, "ternary: group is not within 0 .. cols");
    if (a->levels != SETUN_TERNARY && a->levels != SETUN_QUINARY && a->levels != SETUN_SPARSE) return invalid(c, "ternary: unknown levels");
    if (a->format < SETUN_INT8 || a->format > SETUN_PLANES) return invalid(c, "ternary: unknown format");
    if ((a->levels == SETUN_QUINARY && a->format != SETUN_INT8) || (a->levels != SETUN_SPARSE && a->format == SETUN_FOUR5))
        return invalid(c, "ternary: the format does not hold such levels");
    if (!a->codes || !a->scales || !a->x || !a->x_scales || !a->out || (a->format == SETUN_PLANES && (!a->signs || !a->index)))
        return invalid(c, "ternary: codes, signs, index, scales, x, x_scales or out is null");
    return SETUN_OK;
}

int64_t pieces(int64_t n, int64_t size) { return (n - 1) / size + 1; }

/* Whether rows at `at`, `pitch` bytes apart, are aligned to 16 bytes. */
bool aligned(const void *at, int64_t pitch) { return (reinterpret_cast<uintptr_t>(at) | uint64_t(pitch)) % 16 == 0; }

} // namespace

int32_t op_ternary(Lane &lane, setun_ternary *a) {
    int32_t rc = check(a);
    if (rc != SETUN_OK) return rc;
    if (!a->workspace) {
        a->workspace_size = 64; /* not used: what the device needs lies there */
        return SETUN_OK;
    }
    const bool planes = a->format == SETUN_PLANES;
    const int format = planes ? int(SETUN_INT8) : int(a->format);
    const int64_t block = format == SETUN_INT8 ? 1 : format == SETUN_BASE3 ? 320 : 256, bytes = format == SETUN_INT8 ? 1 : format == SETUN_FOUR5 ? 40 : 64;
    const int64_t full = a->cols / block, tail = a->cols % block, places = tail > 0 ? pieces(tail, format == SETUN_INT8 ? 1 : block / 64) : 1;
    const int64_t rest = tail == 0 ? 0 : format == SETUN_FOUR5 ? (places + 1) / 2 + (places + 7) / 8 : places, row_bytes = full * bytes + rest;
    const int64_t group = a->group ? a->group : a->cols, groups = pieces(a->cols, group);
    uint8_t *unpacked = planes ? lane.scratch<uint8_t>(a->rows * row_bytes) : nullptr;
    const uint8_t *codes = planes ? unpacked : lane.in(static_cast<const uint8_t *>(a->codes), a->rows * row_bytes);
    const float *scales = lane.in(a->scales, a->group ? a->rows * groups : 1), *x_scales = lane.in(a->x_scales, a->batch);
    const int8_t *x = lane.in(a->x, a->batch * a->cols);
    float *out = lane.out(a->out, a->batch * a->rows);
    if (planes && (rc = unpack_planes(lane, &a->call, a->codes, a->signs, a->index, a->rows, a->cols, unpacked)) != SETUN_OK) return rc;

    /* By blocks: whole ones where activations are aligned and no group ends but between 64 columns, otherwise, and in a row's rest, by what each group has of
     * them. Four codes of five bits, and short groups, code by code. */
    const bool by_blocks = format != SETUN_FOUR5 && (groups == 1 || group >= 64), whole = by_blocks && aligned(x, a->cols) && (groups == 1 || group % 64 == 0);
    const int unit = by_blocks ? (format == SETUN_2BIT ? 256 : format == SETUN_BASE3 ? 320 : 64) : group < 64 ? 8 : 64;
    const bool matrix = lane.device.functions[KERNEL_ternary_few] != nullptr, many = matrix && a->batch > 16;
    const int64_t each_group = many ? 4608 : 1152, room = groups == 1 ? 1 : many ? 10 : 36; /* groups of a panel */
    int64_t panel = groups == 1 ? COLUMNS / unit : group % unit == 0 ? room * (group / unit) : ((room - 2) * group + 1) / unit;
    if (panel > COLUMNS / unit) panel = COLUMNS / unit;
    const int shared = int(room * each_group), flags = (aligned(codes, row_bytes) ? ALIGNED : 0) | (a->group ? EACH_ROW : 0);
    const double factor = a->levels == SETUN_QUINARY ? 0.5 : 1;
    const int64_t tiles = pieces(a->rows, ROWS) * pieces(a->batch, many ? 32 : 8), units = lane.device.units > 0 ? lane.device.units : 1;
    int64_t each = units * (a->cols < WORK ? WORK / a->cols : 1); /* blocks of a launch */
    if (each > MOST_BLOCKS) each = MOST_BLOCKS;

    for (int64_t first = 0; first < tiles && lane.ok(); first += each) {
        if (first > 0) lane.wait(); /* so that what is asked to stop has not been started yet */
        if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
        const int64_t count = tiles - first < each ? tiles - first : each, blocks = whole ? a->cols / unit : 0;
        if (many)
            SETUN_LAUNCH_SHARED(lane, ternary_many, count, 256, shared, codes, scales, x, x_scales, out, a->rows, a->cols, group, a->batch, row_bytes, full,
                                blocks, panel, int(places), unit, format, flags, factor, first);
        else if (matrix)
            SETUN_LAUNCH_SHARED(lane, ternary_few, count, 256, shared, codes, scales, x, x_scales, out, a->rows, a->cols, group, a->batch, row_bytes, full,
                                blocks, panel, int(places), unit, format, flags, factor, first);
        else
            SETUN_LAUNCH_SHARED(lane, ternary_dots, count, 256, shared, codes, scales, x, x_scales, out, a->rows, a->cols, group, a->batch, row_bytes, full,
                                blocks, panel, int(places), unit, format, flags, factor, first);
    }
    return lane.finish();
}

} // namespace setun
