// SPDX-License-Identifier: Apache-2.0
//
// quantize.cpp: quantize. All launches are queued at once: rounds of least squares that turn out not to be needed return without reading a value.
#include "quantize.h"

namespace setun {

namespace {

const int64_t CHUNK = 4096;
const int ROUNDS = 16; /* of the least-squares rule, at most */

int power_of(int64_t v) {
    int p = 0;
    while (v > 1 && v % 2 == 0) v /= 2, p++;
    return v == 1 ? p : -1;
}

} // namespace

int64_t common_multiple(int64_t a, int64_t b) {
    int64_t u = a, v = b;
    while (v != 0) {
        const int64_t rest = u % v;
        u = v, v = rest;
    }
    return a / u * b;
}
int64_t code_bytes(uint32_t format, int64_t cols) { return format == SETUN_2BIT ? (cols - 1) / 4 + 1 : format == SETUN_BASE3 ? (cols - 1) / 5 + 1 : cols; }
int64_t code_block(uint32_t format) { return format == SETUN_2BIT ? 256 : format == SETUN_BASE3 ? 320 : 1; }

int32_t check_quantize(const setun_quantize *a) {
    const setun_call *c = &a->call;
    if (!a->out || !a->scales) return invalid(c, "quantize: x, out or scales is null");
    if (a->rows < 1 || a->cols < 1 || a->rows > INT64_MAX / 8 / a->cols) return invalid(c, "quantize: rows or cols < 1, or too many values");
    if (a->group < 0 || a->group > a->cols) return invalid(c, "quantize: the group is not within 0..cols");
    if (a->levels != SETUN_TERNARY && a->levels != SETUN_QUINARY) return invalid(c, "quantize: unknown levels");
    if (a->rule < SETUN_ABSMEAN || a->rule > SETUN_STOCHASTIC) return invalid(c, "quantize: unknown rule");
    if (a->format < SETUN_INT8 || a->format > SETUN_BASE3) return invalid(c, "quantize: unknown format");
    if (a->levels == SETUN_QUINARY && a->format != SETUN_INT8) return invalid(c, "quantize: packed formats hold ternary codes only");
    return SETUN_OK;
}

Quantizer::Quantizer(Lane &lane, const setun_quantize *a, int64_t first) : lane_(lane), args_(a), first_(first) {
    one_scale_ = a->group == 0;
    rows_ = a->rows, cols_ = a->cols, group_ = a->group;
    if (one_scale_ || cols_ % group_ == 0) cols_ *= rows_, rows_ = 1;
    if (one_scale_) group_ = cols_;
    groups_ = rows_ * ((cols_ - 1) / group_ + 1);
    chunks_ = (group_ - 1) / CHUNK + 1;
    long_ = chunks_ > 1;
    out_ = lane.out(static_cast<uint8_t *>(a->out), a->rows * code_bytes(a->format, a->cols));
    scales_ = lane.out(a->scales, groups_);
    cuts_ = lane.scratch<float>(2 * groups_);
    bad_ = lane.scratch<unsigned>(1);
    if (!long_) return;
    sums_ = lane.scratch<double>(groups_ * chunks_);
    counts_ = lane.scratch<unsigned long long>(4 * groups_);
    done_ = lane.scratch<unsigned>(groups_);
    most_ = lane.scratch<unsigned>(groups_);
}

Quantizer::Quantizer(Lane &lane, const setun_quantize *a, int64_t first, float *scale, float *cuts)
    : lane_(lane), args_(a), first_(first), one_scale_(true), scales_(scale), cuts_(cuts) {
    out_ = lane.out(static_cast<uint8_t *>(a->out), a->rows * code_bytes(a->format, a->cols));
}

void Quantizer::discard() {
    lane_.keep(args_->out);
    lane_.keep(args_->scales);
}

void Quantizer::scales(const float *x, bool first_done) {
    int rule = int(args_->rule), levels = int(args_->levels);
    bool rounds = args_->rule == SETUN_LEAST_SQUARES || args_->rule == SETUN_MAGNITUDE;
    if (!long_ && rounds) {
        SETUN_LAUNCH(lane_, group_rounds, lane_.blocks(groups_, 8), 256, x, rows_, cols_, group_, rule, levels, scales_, cuts_, bad_);
        return;
    }
    if (!long_) {
        SETUN_LAUNCH(lane_, group_scale, lane_.blocks(groups_, 8), 256, x, rows_, cols_, group_, rule, levels, scales_, cuts_, bad_);
        return;
    }
    int64_t all = groups_ * chunks_, wide = lane_.blocks(all, 8), each = lane_.blocks(groups_, 1);
    int threads = chunks_ <= CHUNK ? 32 : 1024; /* of a block with the tree of a group */
    if (!first_done) {
        if (by_greatest()) {
            lane_.zero(most_, groups_ * int64_t(sizeof *most_));
            SETUN_LAUNCH(lane_, group_greatest, wide, 256, x, rows_, cols_, group_, most_);
        } else {
            SETUN_LAUNCH(lane_, group_magnitudes, wide, 256, x, rows_, cols_, group_, sums_);
        }
    }
    SETUN_LAUNCH(lane_, group_first, each, threads, sums_, most_, rows_, cols_, group_, rule, levels, scales_, cuts_, counts_, done_, bad_);
    if (!rounds) return;
    for (int round = 0; round <= ROUNDS; round++) {
        SETUN_LAUNCH(lane_, group_selected, wide, 256, x, rows_, cols_, group_, levels, cuts_, done_, sums_, counts_);
        SETUN_LAUNCH(lane_, group_round, each, threads, sums_, rows_, cols_, group_, levels, round, scales_, cuts_, counts_, done_);
    }
    if (args_->rule != SETUN_MAGNITUDE) return;
    SETUN_LAUNCH(lane_, group_squares, wide, 256, x, rows_, cols_, group_, sums_);
    SETUN_LAUNCH(lane_, group_energy, each, threads, sums_, rows_, cols_, group_, levels, counts_, scales_);
}

void Quantizer::codes(const float *x) {
    const setun_quantize *a = args_;
    int64_t rows = a->rows, cols = a->cols, group = a->group;
    /* Rows that end with a block, and with a group, are as one row. */
    if (cols % code_block(a->format) == 0 && (one_scale_ || cols % group == 0)) cols *= rows, rows = 1;
    int64_t units = a->format == SETUN_INT8 ? rows * ((cols - 1) / 512 + 1) * 32 : rows * ((code_bytes(a->format, cols) - 1) / 4 + 1);
    int64_t blocks = lane_.blocks(units, 256);
    int shift = one_scale_ ? 0 : power_of(group), levels = int(a->levels);
    bool random = a->rule == SETUN_STOCHASTIC;
#define MAKE(name) SETUN_LAUNCH(lane_, name, blocks, 256, x, rows, cols, group, shift, cuts_, scales_, levels, a->seed, first_, out_)
#define MAKE_FORMAT(name)                                                                                                                                      \
    if (one_scale_ && random)                                                                                                                                  \
        MAKE(name##_random);                                                                                                                                   \
    else if (one_scale_)                                                                                                                                       \
        MAKE(name);                                                                                                                                            \
    else if (random)                                                                                                                                           \
        MAKE(name##_groups_random);                                                                                                                            \
    else                                                                                                                                                       \
        MAKE(name##_groups)
    if (a->format == SETUN_INT8) {
        MAKE_FORMAT(codes_int8);
    } else if (a->format == SETUN_2BIT) {
        MAKE_FORMAT(codes_2bit);
    } else {
        MAKE_FORMAT(codes_base3);
    }
#undef MAKE_FORMAT
#undef MAKE
}

/* Both at once, where groups are short and whole; false: it was not done. */
bool Quantizer::tiles(const float *x) {
    const setun_quantize *a = args_;
    if (one_scale_ || a->group > 1024 || a->group % 4 != 0 || a->cols % a->group != 0 || reinterpret_cast<uintptr_t>(x) % 16 != 0) return false;
    if (a->rule != SETUN_ABSMEAN && a->rule != SETUN_ABSMAX) return false;
    const bool far = a->group > 512;
    const int group = int(a->group), parts = group > 256 ? 4 : group > 128 ? 2 : 1, rule = int(a->rule), levels = int(a->levels);
    if (a->format == SETUN_INT8) {
        const int64_t blocks = lane_.blocks(groups_, 8 * 4 / parts);
        if (far)
            SETUN_LAUNCH(lane_, tiles_long_int8, blocks, 256, x, groups_, group, parts, rule, levels, scales_, bad_, out_);
        else
            SETUN_LAUNCH(lane_, tiles_int8, blocks, 256, x, groups_, group, parts, rule, levels, scales_, bad_, out_);
        return true;
    }
    const int64_t most = 8192, block = code_block(a->format); /* values of a tile, whose codes lie in shared memory */
    int64_t rows = a->rows, cols = a->cols;
    if (cols % block == 0) cols *= rows, rows = 1; /* rows that end with a block are as one */
    int64_t tile = cols, lines = most / cols;
    if (lines == 0) {
        tile = common_multiple(block, group), lines = 1;
        if (tile > most) return false;
        tile *= most / tile;
    }
    const int64_t blocks = lane_.blocks(rows * cols, tile * lines);
#define MAKE(name) SETUN_LAUNCH(lane_, name, blocks, 256, x, rows, cols, group, parts, int(tile), int(lines), rule, scales_, bad_, out_)
    if (a->format == SETUN_2BIT) {
        if (far)
            MAKE(tiles_long_2bit);
        else
            MAKE(tiles_2bit);
    } else if (far) {
        MAKE(tiles_long_base3);
    } else {
        MAKE(tiles_base3);
    }
#undef MAKE
    return true;
}

void Quantizer::run(const float *x, bool first_done) {
    lane_.zero(bad_, sizeof *bad_);
    if (tiles(x)) return;
    scales(x, first_done);
    codes(x);
}

int32_t quantize_rows(Lane &lane, QuantizeRows *rows) {
    setun_quantize *a = &rows->to;
    if (a->group > a->cols) a->group = a->cols; /* the end of a row that was cut */
    int64_t n = a->rows * a->cols;
    unsigned bad = 0;
    const float *x = lane.in(a->x, n);
    Quantizer q(lane, a, rows->first);
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    q.run(x, false);
    lane.fetch(&bad, q.bad(), sizeof bad);
    int32_t rc = lane.wait();
    if (rc != SETUN_OK) return rc;
    if (bad) {
        a->call.bad_index = find_not_finite(lane, x, n);
        return lane.abandon(SETUN_ENONFINITE);
    }
    return lane.finish();
}

int32_t op_quantize(Lane &lane, setun_quantize *a) {
    if (a->call.size < sizeof *a) return invalid(&a->call, "quantize: the argument block is too small");
    if (!a->x) return invalid(&a->call, "quantize: x, out or scales is null");
    int32_t rc = check_quantize(a);
    if (rc != SETUN_OK) return rc;
    QuantizeRows rows = {*a, 0};
    rc = quantize_rows(lane, &rows);
    a->call.bad_index = rows.to.call.bad_index;
    return rc;
}

} // namespace setun
