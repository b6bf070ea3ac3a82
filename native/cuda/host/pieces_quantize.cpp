// SPDX-License-Identifier: Apache-2.0
//
// pieces_quantize.cpp: quantize and step in pieces. Rows with scales of their own take one pass. One scale for the tensor takes two, for its sum and for the
// codes; the rules that find it in rounds would take up to 17 and are not cut.
#include "quantize.h"
#include "sums.h"

namespace setun {

namespace {

/* Cuts a block with a quantization in it: by rows, or by values where the ends of rows make no difference, between blocks of codes and groups. Draws come by
 * four values. values: bytes of a value in the other arrays of the block, which the caller adds with `each`. */
template <class Block> Cut cut_rows(Block &block, setun_quantize &q, int64_t *each) {
    const int64_t codes = code_block(q.format), group = q.group > 0 ? q.group : 1;
    const bool flat = q.rows == 1 || (q.cols % codes == 0 && q.cols % group == 0);
    if (flat) q.cols *= q.rows, q.rows = 1;
    *each = flat ? 1 : q.cols;
    const int64_t step = flat ? common_multiple(common_multiple(codes, 4), group) : q.rule == SETUN_STOCHASTIC ? 4 : 1;
    Cut cut(block, flat ? &q.cols : &q.rows, step, *each);
    cut.index(block.first);
    if (flat)
        cut.out(q.out, code_bytes(q.format, codes), codes);
    else
        cut.out(q.out, code_bytes(q.format, q.cols));
    if (q.group == 0) return cut;
    const int64_t groups = flat ? 1 : (q.cols - 1) / group + 1;
    return cut.out(q.scales, 4 * groups, flat ? group : 1).scratch(flat ? 8 / group : 8 * groups);
}

/* What quantize of a tensor with one scale keeps on the device from pass to pass: a word each, zero at first. */
struct One {
    float scale, pad;
    float cuts[2];
    unsigned long long counts[4];
    unsigned most, done, bad, pad2;
};

/* The sums of the chunks of |x|, or the greatest. */
struct Measure {
    setun_call call;
    const float *x;
    int64_t n;
    double *sums; /* null: the greatest */
    unsigned *most;
};
int32_t measure_piece(Lane &lane, Measure *a) {
    const float *x = lane.in(a->x, a->n);
    const int64_t blocks = lane.blocks(chunks_of(a->n), 8);
    if (a->sums)
        SETUN_LAUNCH(lane, group_magnitudes, blocks, 256, x, 1, a->n, a->n, a->sums);
    else
        SETUN_LAUNCH(lane, group_greatest, blocks, 256, x, 1, a->n, a->n, a->most);
    return lane.finish();
}

struct Codes {
    setun_quantize to;
    int64_t first;
    One *one;
};
int32_t codes_piece(Lane &lane, Codes *a) {
    const float *x = lane.in(a->to.x, a->to.rows * a->to.cols);
    Quantizer q(lane, &a->to, a->first, &a->one->scale, a->one->cuts);
    if (lane.cancelled()) return lane.abandon(SETUN_ECANCELLED);
    q.codes(x);
    return lane.finish();
}

/* Whether one scale for the tensor can be found in pieces. */
bool one_pass(const setun_quantize *a) { return a->rule != SETUN_LEAST_SQUARES && a->rule != SETUN_MAGNITUDE && a->rows * a->cols > CHUNK; }
bool by_greatest(const setun_quantize *a) { return a->rule == SETUN_ABSMAX || a->rule == SETUN_STOCHASTIC; }

struct OneScale {
    Pieces &pieces;
    setun_quantize *a;
    One *one = nullptr;
    double *sums = nullptr;
    const int64_t n, chunks;

    OneScale(Pieces &p, setun_quantize *args) : pieces(p), a(args), n(a->rows * a->cols), chunks(chunks_of(n)) {}
    int32_t begin() {
        one = pieces.buffer<One>(1);
        if (!by_greatest(a)) sums = pieces.buffer<double>(chunks);
        if (!one || (!sums && !by_greatest(a))) return SETUN_ENOMEM;
        return pieces.once([&](Lane &lane) {
            lane.zero(one, sizeof *one);
            return lane.finish();
        });
    }
    /* The scale, from what a pass has found of all chunks. bad: a value is not finite. */
    int32_t find(unsigned *bad) {
        return pieces.once([&](Lane &lane) {
            SETUN_LAUNCH(lane, group_first, 1, chunks <= CHUNK ? 32 : 1024, sums, &one->most, 1, n, n, int(a->rule), int(a->levels), &one->scale, one->cuts,
                         one->counts, &one->done, &one->bad);
            lane.fetch(bad, &one->bad, sizeof *bad);
            lane.fetch(a->scales, &one->scale, sizeof *a->scales);
            return lane.finish();
        });
    }
    int32_t codes(const float *x) {
        Codes c = {*a, 0, one};
        c.to.x = x;
        int64_t each;
        Cut cut = cut_rows(c, c.to, &each);
        return pieces.pass<Codes, codes_piece>(cut.in(c.to.x, 4 * each));
    }
};

} // namespace

int32_t cut_quantize(Pieces &pieces, setun_quantize *a) {
    if (pieces.writes_buffer(a->out) || pieces.writes_buffer(a->scales)) return SETUN_ENOMEM;
    if (a->group > 0) {
        QuantizeRows rows = {*a, 0};
        int64_t each;
        Cut cut = cut_rows(rows, rows.to, &each);
        return pieces.pass<QuantizeRows, quantize_rows>(cut.in(rows.to.x, 4 * each));
    }
    if (!one_pass(a)) return SETUN_ENOMEM;
    OneScale s(pieces, a);
    int32_t rc = s.begin();
    if (rc != SETUN_OK) return rc;
    Measure m = {{}, a->x, s.n, s.sums, &s.one->most};
    Cut cut(m, &m.n, CHUNK);
    rc = pieces.pass<Measure, measure_piece>(cut.in(m.x, 4).own(m.sums, sizeof *m.sums, CHUNK));
    unsigned bad = 0;
    if (rc == SETUN_OK) rc = s.find(&bad);
    if (rc != SETUN_OK) return rc;
    if (!bad) return s.codes(a->x);
    rc = find_not_finite(pieces, a->x, s.n);
    return rc == SETUN_OK ? int32_t(SETUN_ENONFINITE) : rc;
}

/* ---- step -------------------------------------------------------------------------------------------------------------- */

namespace {

/* Applies the step, and measures the new parameters where there is one scale. */
struct Apply {
    setun_call call;
    float *params;
    const float *delta;
    int64_t n;
    const double *state;
    double *sums;
    unsigned *most;
};
int32_t apply_piece(Lane &lane, Apply *a) {
    float *params = lane.inout(a->params, a->n);
    const float *delta = lane.in(a->delta, a->n);
    SETUN_LAUNCH(lane, step_apply, lane.blocks(chunks_of(a->n), 8), 256, params, delta, a->n, a->state, a->sums, a->most);
    return lane.finish();
}

/* Applies the step and quantizes rows. What is not finite does not stop it: the step is applied completely. */
struct StepRows {
    setun_quantize to;
    int64_t first;
    float *params;
    const float *delta;
    const double *state;
    std::atomic<int64_t> *bad; /* the first such value */
};
int32_t step_rows(Lane &lane, StepRows *a) {
    const int64_t n = a->to.rows * a->to.cols;
    if (a->to.group > a->to.cols) a->to.group = a->to.cols; /* the end of a row that was cut */
    float *params = lane.inout(a->params, n);
    const float *delta = lane.in(a->delta, n);
    Quantizer q(lane, &a->to, a->first);
    unsigned found = 0;
    SETUN_LAUNCH(lane, step_apply, lane.blocks(chunks_of(n), 8), 256, params, delta, n, a->state, nullptr, nullptr);
    q.run(params, false);
    lane.fetch(&found, q.bad(), sizeof found);
    int32_t rc = lane.wait();
    if (rc != SETUN_OK) return rc;
    if (found) {
        const int64_t at = a->first + find_not_finite(lane, params, n);
        for (int64_t least = a->bad->load(); at < least && !a->bad->compare_exchange_weak(least, at);) {
        }
    }
    return lane.finish();
}

/* The new parameters are applied, and at `at` not finite. */
int32_t applied_not_finite(Pieces &pieces, setun_step *a, int64_t at) {
    pieces.commit();
    a->to.call.bad_index = a->to.rows * a->to.cols + at;
    return SETUN_ENONFINITE;
}

int32_t step_one_scale(Pieces &pieces, setun_step *a, const double *state) {
    OneScale s(pieces, &a->to);
    int32_t rc = s.begin();
    if (rc != SETUN_OK) return rc;
    Apply p = {{}, a->params, a->delta, s.n, state, s.sums, s.sums ? nullptr : &s.one->most};
    Cut cut(p, &p.n, CHUNK);
    cut.inout(p.params, 4, 4 * s.n).in(p.delta, 4).own(p.sums, sizeof *p.sums, CHUNK);
    rc = pieces.pass<Apply, apply_piece>(cut);
    unsigned bad = 0;
    if (rc == SETUN_OK) rc = s.find(&bad);
    if (rc != SETUN_OK) return rc;
    const float *applied = pieces.changed(a->params);
    if (!bad) return s.codes(applied);
    rc = find_not_finite(pieces, applied, s.n);
    return rc == SETUN_ENONFINITE ? applied_not_finite(pieces, a, a->to.call.bad_index) : rc;
}

} // namespace

int32_t cut_step(Pieces &pieces, setun_step *a) {
    const int64_t n = a->to.rows * a->to.cols;
    if (pieces.writes_buffer(a->params) || pieces.writes_buffer(a->to.out) || pieces.writes_buffer(a->to.scales)) return SETUN_ENOMEM;
    if (a->to.group == 0 && !one_pass(&a->to)) return SETUN_ENOMEM;
    double *state = pieces.buffer<double>(2), found[2] = {0, 0};
    if (!state) return SETUN_ENOMEM;
    int32_t rc = find_ball(pieces, a->delta, n, a->radius, state, found);
    if (rc != SETUN_OK) return rc;
    pieces.complete();
    a->norm = found[0];
    if (a->to.group == 0) return step_one_scale(pieces, a, state);
    std::atomic<int64_t> bad{INT64_MAX};
    StepRows rows = {a->to, 0, a->params, a->delta, state, &bad};
    int64_t each;
    Cut cut = cut_rows(rows, rows.to, &each);
    cut.inout(rows.params, 4 * each, 4 * n).in(rows.delta, 4 * each);
    rc = pieces.pass<StepRows, step_rows>(cut);
    return rc == SETUN_OK && bad.load() != INT64_MAX ? applied_not_finite(pieces, a, bad.load()) : rc;
}

} // namespace setun
