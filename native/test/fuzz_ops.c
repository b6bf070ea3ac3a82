/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_ops.c: the arguments of each op, drawn from the fuzzer's bytes. Sizes of arrays are those that backend.h says. */
#include "fuzz.h"

#include <math.h>

#define F(member) (offsetof(plan, member) - offsetof(plan, args)) /* place in the block */
#define MATRIX (((int64_t)1 << 62) - 1)

/* ---- quantize, constrain, dot, norm2, step, activations ------------------------------------------------------------ */

static int64_t row_bytes(uint32_t format, int64_t cols) { return format == SETUN_2BIT ? (cols + 3) / 4 : format == SETUN_BASE3 ? (cols + 4) / 5 : cols; }

static int64_t scale_count(int64_t rows, int64_t cols, int64_t group) { return group > 0 ? rows * ((cols - 1) / group + 1) : 1; }

/* All but x. The block of step begins with that of quantize. */
static void quantize_fields(setun_quantize *a) {
    a->levels = draw(1) ? SETUN_QUINARY : pick(SETUN_TERNARY, SETUN_TERNARY);
    a->rule = pick(SETUN_ABSMEAN, SETUN_STOCHASTIC);
    a->format = a->levels == SETUN_QUINARY ? pick(SETUN_INT8, SETUN_INT8) : pick(SETUN_INT8, SETUN_BASE3);
    a->rows = extent(most_values), a->cols = extent(most_values / a->rows);
    a->group = draw(1) ? 0 : 1 + (int64_t)draw(UINT16_MAX) % a->cols;
    a->seed = draw(UINT32_MAX);
    range(F(args.quantize.rows), 1, MATRIX);
    range(F(args.quantize.cols), 1, MATRIX);
    range(F(args.quantize.group), 0, a->cols);
    give(F(args.quantize.out), OUT, 0, a->rows * row_bytes(a->format, a->cols));
    give(F(args.quantize.scales), OUT, F32, 4 * scale_count(a->rows, a->cols, a->group));
}

static void quantize(plan *p) {
    setun_quantize *a = &p->args.quantize;
    quantize_fields(a);
    numbers(give(F(args.quantize.x), IN, F32, 4 * a->rows * a->cols), ANY);
}

static void step(plan *p) {
    setun_step *a = &p->args.step;
    quantize_fields(&a->to);
    int64_t n = a->to.rows * a->to.cols;
    a->radius = real();
    numbers(give(F(args.step.params), BOTH, F32, 4 * n), ANY);
    numbers(give(F(args.step.delta), IN, F32, 4 * n), ANY);
    give(F(args.step.scratch), SCRATCH, 0, 8 * ((n + 4095) / 4096));
    result(F(args.step.norm), sizeof a->norm);
    p->keeps = KEEPS_PARAMS;
}

static void constrain(plan *p) {
    setun_constrain *a = &p->args.constrain;
    a->n = extent(most_values), a->radius = real();
    range(F(args.constrain.n), 1, INT64_MAX);
    if (draw(1)) {
        numbers(give(F(args.constrain.dst), BOTH, F32, 4 * a->n), ANY)->also = F(args.constrain.x);
    } else {
        give(F(args.constrain.dst), OUT, F32, 4 * a->n);
        numbers(give(F(args.constrain.x), IN, F32, 4 * a->n), ANY);
    }
    result(F(args.constrain.norm), sizeof a->norm);
    p->keeps = KEEPS_INPUT;
}

static void reduce(plan *p) {
    setun_reduce *a = &p->args.reduce;
    a->n = extent(most_values);
    range(F(args.reduce.n), 1, INT64_MAX);
    numbers(give(F(args.reduce.x), IN, F32, 4 * a->n), ANY);
    if (p->op == SETUN_OP_DOT) numbers(give(F(args.reduce.y), IN, F32, 4 * a->n), ANY);
    result(F(args.reduce.result), sizeof a->result);
}

static void activations(plan *p) {
    setun_activations *a = &p->args.activations;
    a->rows = extent(most_values), a->cols = extent(most_values / a->rows);
    range(F(args.activations.rows), 1, MATRIX);
    range(F(args.activations.cols), 1, MATRIX);
    numbers(give(F(args.activations.x), IN, F32, 4 * a->rows * a->cols), ANY);
    give(F(args.activations.out), OUT, 0, a->rows * a->cols);
    give(F(args.activations.scales), OUT, F32, 4 * a->rows);
}

/* ---- kmeans -------------------------------------------------------------------------------------------------------- */

/* Values are such that scores and integer sums stay in range, as the host sees to. */
static void kmeans(plan *p) {
    setun_kmeans *a = &p->args.kmeans;
    a->step = pick(SETUN_KMEANS_RANGE, SETUN_KMEANS_UNIT), a->flags = draw(3);
    p->needs = offsetof(setun_kmeans, next);
    a->d = extent(5000), a->k = extent(most_products / 16 / a->d), a->n = extent(most_products / a->d / a->k);
    int range_step = a->step == SETUN_KMEANS_RANGE, assign = a->step == SETUN_KMEANS_ASSIGN, far = a->step == SETUN_KMEANS_DISTANCE;
    int potential = a->step == SETUN_KMEANS_POTENTIAL, summed = assign && draw(3) != 0, added = summed || a->step == SETUN_KMEANS_MEAN;
    int all = range_step || a->step == SETUN_KMEANS_UNIT;
    operand *unit = 0, *mean = 0, *weights = 0, *x = numbers(give(F(args.kmeans.x), IN, F32, 4 * a->n * a->d), all ? ANY : SQUARABLE);
    range(F(args.kmeans.n), 1, MATRIX);
    range(F(args.kmeans.d), 1, MATRIX);
    if (!all && draw(3) == 0) unit = numbers(give(F(args.kmeans.unit), IN, F32, 4 * a->n), SQUARABLE);
    if (assign || far) {
        range(F(args.kmeans.k), 1, INT32_MAX);
        mean = numbers(give(F(args.kmeans.mean), IN, F32, 4 * a->d), SQUARABLE);
        numbers(give(F(args.kmeans.centroids), IN, F32, 4 * a->k * a->d), SQUARABLE);
    }
    if (assign) numbers(give(F(args.kmeans.bias), IN, F32, 4 * a->k), SQUARABLE);
    if (range_step) {
        numbers(give(F(args.kmeans.low), BOTH, F32, 4 * a->d), FINITE);
        numbers(give(F(args.kmeans.high), BOTH, F32, 4 * a->d), FINITE);
    }
    if (assign || (far && draw(1))) indices(give(F(args.kmeans.labels), assign ? BOTH : IN, 0, 4 * a->n), 0, a->k - 1);
    if (far || potential || a->step == SETUN_KMEANS_UNIT) numbers(give(F(args.kmeans.distance), potential ? IN : BOTH, F32, 4 * a->n), POSITIVE);
    if ((summed || potential) && draw(1)) weights = numbers(give(F(args.kmeans.weights), IN, F32, 4 * a->n), potential ? POSITIVE : SQUARABLE);
    a->weight_scale = 0x1p20;
    if (added) {
        /* also where unit or weights become null */
        double top = (double)greatest(x) * fmax((double)greatest(unit), 1) + (double)greatest(mean), one;
        int e;
        frexp(top * fmax((double)greatest(weights), 1), &e);
        one = ldexp(1, 44 - e);
        operand *scale = give(F(args.kmeans.scale), IN, F64, 8 * a->d);
        for (int64_t i = 0; i < a->d; i++) memcpy(scale->was + 8 * i, &one, sizeof one);
        integers(give(F(args.kmeans.sums), BOTH, 0, 8 * a->d * (summed ? a->k : 1)));
    }
    if (summed) {
        integers(give(F(args.kmeans.counts), BOTH, 0, 8 * a->k));
        if (weights) integers(give(F(args.kmeans.weight_sums), BOTH, 0, 8 * a->k));
    }
    if (assign) result(F(args.kmeans.changed), sizeof a->changed);
    if (potential) {
        give(F(args.kmeans.sums), OUT, 0, 8 * ((a->n + 4095) / 4096));
        result(F(args.kmeans.weight_scale), sizeof a->weight_scale);
    }
    p->space = F(args.kmeans.workspace);
}

/* ---- matmul -------------------------------------------------------------------------------------------------------- */

/* A row's stride and a product's, and the bytes of all products. */
static int64_t strides(int64_t rows, int64_t cols, int64_t batch, int shared, int64_t *ld, int64_t *stride) {
    *ld = cols + (draw(3) ? 0 : draw(20));
    int64_t one = (rows - 1) * *ld + cols;
    *stride = shared && draw(1) ? 0 : one + (draw(3) ? 0 : draw(20));
    return 4 * ((batch - 1) * *stride + one);
}

static void matmul(plan *p) {
    setun_matmul *a = &p->args.matmul;
    a->flags = pick(0, 7);
    a->m = extent(most_values), a->n = extent(most_products / a->m), a->k = extent(most_products / a->m / a->n), a->batch = draw(3) ? 1 : 1 + draw(4);
    int ta = a->flags & SETUN_MATMUL_TRANS_A, tb = a->flags & SETUN_MATMUL_TRANS_B;
    int64_t size = strides(ta ? a->k : a->m, ta ? a->m : a->k, a->batch, 1, &a->lda, &a->stride_a);
    numbers(give(F(args.matmul.a), IN, F32, size), ANY);
    size = strides(tb ? a->n : a->k, tb ? a->k : a->n, a->batch, 1, &a->ldb, &a->stride_b);
    numbers(give(F(args.matmul.b), IN, F32, size), ANY);
    numbers(give(F(args.matmul.c), BOTH, F32, strides(a->m, a->n, a->batch, 0, &a->ldc, &a->stride_c)), ANY);
    range(F(args.matmul.m), 1, MATRIX);
    range(F(args.matmul.n), 1, MATRIX);
    range(F(args.matmul.k), 1, MATRIX);
    range(F(args.matmul.batch), 1, INT64_MAX);
    range(F(args.matmul.lda), ta ? a->m : a->k, MATRIX);
    range(F(args.matmul.ldb), tb ? a->k : a->n, MATRIX);
    range(F(args.matmul.ldc), a->n, MATRIX);
    range(F(args.matmul.stride_a), 0, INT64_MAX);
    range(F(args.matmul.stride_b), 0, INT64_MAX);
    range(F(args.matmul.stride_c), a->batch > 1 ? (a->m - 1) * a->ldc + a->n : 0, INT64_MAX);
    p->space = F(args.matmul.workspace);
}

/* ---- constrain clusters -------------------------------------------------------------------------------------------- */

static void clusters(plan *p) {
    setun_clusters *a = &p->args.clusters;
    a->k = extent(2000);
    int wrong = draw(7) == 0; /* a label or offsets that do not belong there */
    if (draw(1)) {
        a->rows = extent(most_values), a->n = a->rows * extent(most_values / a->rows);
        operand *labels = give(F(args.clusters.labels), IN, 0, 4 * a->rows);
        indices(labels, -1, a->k - 1);
        if (wrong) memcpy(labels->was + 4 * (more() % a->rows), &(int32_t){draw(1) ? (int32_t)a->k : -2}, 4);
        give(F(args.clusters.scratch), SCRATCH, 0, 8 * (2 * a->rows + a->k));
        range(F(args.clusters.rows), 1, a->n);
    } else {
        a->n = extent(most_values);
        operand *offsets = give(F(args.clusters.offsets), IN, 0, 8 * (a->k + 1));
        for (int64_t i = 0, at = 0, step = 2 * a->n / a->k + 1; i <= a->k; i++) {
            memcpy(offsets->was + 8 * i, &at, sizeof at);
            at += more() % step - wrong;
            if (at > a->n || i == a->k - 1) at = a->n;
        }
    }
    range(F(args.clusters.n), 1, INT64_MAX);
    range(F(args.clusters.k), 1, INT64_MAX);
    if (draw(1)) {
        numbers(give(F(args.clusters.dst), BOTH, F32, 4 * a->n), ANY)->also = F(args.clusters.x);
    } else {
        give(F(args.clusters.dst), OUT, F32, 4 * a->n);
        numbers(give(F(args.clusters.x), IN, F32, 4 * a->n), ANY);
    }
    numbers(give(F(args.clusters.radii), IN, F64, 8 * a->k), draw(15) ? POSITIVE : ANY);
    give(F(args.clusters.norms), OUT, F64, 8 * a->k);
    p->keeps = KEEPS_INPUT;
}

/* ---- ternary matmul, recode ---------------------------------------------------------------------------------------- */

/* Bytes of a row: blocks of so many codes, and a last one of as few places as will do. */
static int64_t packed_bytes(uint32_t format, int64_t cols) {
    int64_t n = cols % 256, m = (n + 3) / 4;
    switch (format) {
    case SETUN_FOUR5:
        return cols / 256 * 40 + (m + 1) / 2 + (m + 7) / 8;
    case SETUN_PLANES:
        return (cols + 63) / 64 * 8;
    }
    return row_bytes(format, cols);
}

/* Bytes that are codes; in one of eight calls any bytes, of which nothing is promised but that nobody reads beyond them. */
static void codes(plan *p, size_t codes_field, size_t signs_field, size_t index_field, uint32_t format, int most, int64_t rows, int64_t cols) {
    operand *o = bytes(give(codes_field, IN, 0, rows * packed_bytes(format, cols)));
    int any = draw(7) == 0;
    p->comparable = !any;
    for (size_t i = 0; i < o->bytes && !any; i++) {
        uint32_t v = o->was[i];
        if (format == SETUN_INT8) o->was[i] = (uint8_t)((int)(v % (uint32_t)(2 * most + 1)) - most);
        if (format == SETUN_BASE3) o->was[i] = (uint8_t)((v % 243 * 256 + 242) / 243);
        if (format == SETUN_2BIT) o->was[i] = (uint8_t)(v % 3 | v / 3 % 3 << 2 | v / 9 % 3 << 4 | v / 27 % 3 << 6);
    }
    if (format != SETUN_PLANES) return;
    operand *index = give(index_field, IN, 0, 8 * (rows + 1));
    int64_t at = 0, each = packed_bytes(format, cols), most_signs = rows * (cols / 8 + 1);
    for (int64_t r = 0; r <= rows; r++) {
        int64_t set = 0, begin = any ? more() % (most_signs + 1) : at;
        memcpy(index->was + 8 * r, &begin, sizeof begin);
        for (int64_t i = 0; r < rows && i < 8 * each; i++) {
            uint8_t *byte = o->was + r * each + i / 8;
            if (!any && i >= cols) *byte &= (uint8_t) ~(1u << i % 8);
            set += *byte >> i % 8 & 1;
        }
        at += (set + 7) / 8;
    }
    bytes(give(signs_field, IN, 0, (any ? most_signs : at) + cols / 8 + 16));
}

static void ternary(plan *p) {
    setun_ternary *a = &p->args.ternary;
    a->format = pick(SETUN_INT8, SETUN_PLANES);
    a->levels = a->format == SETUN_FOUR5 ? pick(SETUN_SPARSE, SETUN_SPARSE) : pick(SETUN_TERNARY, a->format == SETUN_INT8 ? SETUN_QUINARY : SETUN_SPARSE);
    a->rows = extent(most_values), a->cols = extent(most_values / a->rows);
    int64_t longer = a->rows > a->cols ? a->rows : a->cols, fewer = most_products / a->rows / a->cols;
    a->batch = extent(most_values / longer < fewer ? most_values / longer : fewer);
    a->group = draw(1) ? 0 : 1 + (int64_t)draw(UINT16_MAX) % a->cols;
    range(F(args.ternary.rows), 1, (int64_t)1 << 45);
    range(F(args.ternary.cols), 1, (int64_t)1 << 45);
    range(F(args.ternary.batch), 1, (int64_t)1 << 45);
    range(F(args.ternary.group), 0, a->cols);
    codes(p, F(args.ternary.codes), F(args.ternary.signs), F(args.ternary.index), a->format, a->levels == SETUN_QUINARY ? 2 : 1, a->rows, a->cols);
    numbers(give(F(args.ternary.scales), IN, F32, 4 * scale_count(a->rows, a->cols, a->group)), FINITE);
    bytes(give(F(args.ternary.x), IN, 0, a->batch * a->cols));
    numbers(give(F(args.ternary.x_scales), IN, F32, 4 * a->batch), FINITE);
    give(F(args.ternary.out), OUT, F32, 4 * a->batch * a->rows);
    p->space = F(args.ternary.workspace);
}

static void recode(plan *p) {
    setun_recode *a = &p->args.recode;
    a->from = pick(SETUN_INT8, SETUN_PLANES), a->to = pick(SETUN_INT8, SETUN_BASE3);
    a->rows = extent(most_values), a->cols = extent(most_values / a->rows);
    range(F(args.recode.rows), 1, (int64_t)1 << 45);
    range(F(args.recode.cols), 1, (int64_t)1 << 45);
    codes(p, F(args.recode.codes), F(args.recode.signs), F(args.recode.index), a->from, 1, a->rows, a->cols);
    give(F(args.recode.out), OUT, 0, a->rows * row_bytes(a->to, a->cols));
}

/* ---- rmsnorm, softmax, activate, update ---------------------------------------------------------------------------- */

static void rmsnorm(plan *p) {
    setun_rmsnorm *a = &p->args.rmsnorm;
    a->flags = pick(0, SETUN_GRADIENT | SETUN_ADD), a->epsilon = real();
    a->rows = extent(most_values), a->cols = extent(most_values / a->rows);
    int64_t n = a->rows * a->cols;
    int back = a->flags & SETUN_GRADIENT, gain = draw(1), delta = !back && draw(1), place = (int)draw(2);
    range(F(args.rmsnorm.rows), 1, MATRIX);
    range(F(args.rmsnorm.cols), 1, MATRIX);
    operand *x = numbers(give(F(args.rmsnorm.x), delta && place == 0 ? BOTH : IN, F32, 4 * n), ANY);
    if (gain) numbers(give(F(args.rmsnorm.gain), IN, F32, 4 * a->cols), ANY);
    if (delta) {
        operand *d = numbers(give(F(args.rmsnorm.delta), place == 1 ? BOTH : IN, F32, 4 * n), ANY);
        if (place == 2)
            give(F(args.rmsnorm.sum), OUT, F32, 4 * n);
        else
            (place ? d : x)->also = F(args.rmsnorm.sum);
    }
    numbers(give(F(args.rmsnorm.scale), back ? IN : OUT, F32, 4 * a->rows), ANY);
    if (back && gain) {
        numbers(give(F(args.rmsnorm.dgain), BOTH, F32, 4 * a->cols), ANY);
        give(F(args.rmsnorm.parts), SCRATCH, 0, 4 * a->cols * ((a->rows - 1) / SETUN_NORM_BLOCK + 1));
    }
    if (back && !(a->flags & SETUN_ADD) && place == 0) {
        numbers(give(F(args.rmsnorm.out), BOTH, F32, 4 * n), ANY)->also = F(args.rmsnorm.dy);
        return;
    }
    if (back) numbers(give(F(args.rmsnorm.dy), IN, F32, 4 * n), ANY);
    operand *out = give(F(args.rmsnorm.out), a->flags & SETUN_ADD ? BOTH : OUT, F32, 4 * n);
    if (a->flags & SETUN_ADD) numbers(out, ANY);
}

static void softmax(plan *p) {
    setun_softmax *a = &p->args.softmax;
    a->flags = pick(0, SETUN_GRADIENT), a->factor = real(), a->scale = (float)real();
    a->rows = extent(most_values), a->cols = extent(most_values / a->rows);
    a->period = draw(1) ? 0 : 1 + (int64_t)draw(UINT16_MAX) % a->cols;
    range(F(args.softmax.rows), 1, MATRIX);
    range(F(args.softmax.cols), 1, MATRIX);
    range(F(args.softmax.period), 0, a->cols);
    numbers(give(F(args.softmax.x), BOTH, F32, 4 * a->rows * a->cols), ANY);
    if (a->flags & SETUN_GRADIENT) numbers(give(F(args.softmax.p), IN, F32, 4 * a->rows * a->cols), ANY);
    if (!(a->flags & SETUN_GRADIENT) && draw(1)) give(F(args.softmax.stats), OUT, F64, 16 * a->rows);
}

static void activate(plan *p) {
    setun_activate *a = &p->args.activate;
    a->kind = pick(SETUN_RELU2, SETUN_SWIGLU), a->flags = pick(0, SETUN_GRADIENT);
    a->rows = extent(most_values), a->cols = extent(most_values / a->rows);
    int64_t n = a->rows * a->cols, wide = a->kind == SETUN_SWIGLU ? 2 * n : n;
    range(F(args.activate.rows), 1, MATRIX);
    range(F(args.activate.cols), 1, MATRIX);
    if (a->flags & SETUN_GRADIENT) numbers(give(F(args.activate.dy), IN, F32, 4 * n), ANY);
    if ((a->flags & SETUN_GRADIENT) && draw(1)) {
        numbers(give(F(args.activate.x), BOTH, F32, 4 * wide), ANY)->also = F(args.activate.out);
        return;
    }
    numbers(give(F(args.activate.x), IN, F32, 4 * wide), ANY);
    give(F(args.activate.out), OUT, F32, 4 * (a->flags & SETUN_GRADIENT ? wide : n));
}

static void update(plan *p) {
    setun_update *a = &p->args.update;
    a->method = pick(SETUN_ADAMW, SETUN_MOMENTUM), a->n = extent(most_values);
    a->rate = real(), a->decay = real(), a->beta1 = real(), a->beta2 = real(), a->epsilon = real(), a->unbias1 = real(), a->unbias2 = real();
    range(F(args.update.n), 1, INT64_MAX);
    numbers(give(F(args.update.value), IN, F32, 4 * a->n), ANY);
    numbers(give(F(args.update.grad), IN, F32, 4 * a->n), ANY);
    numbers(give(F(args.update.m), BOTH, F32, 4 * a->n), ANY);
    if (a->method == SETUN_ADAMW) numbers(give(F(args.update.v), BOTH, F32, 4 * a->n), ANY);
    give(F(args.update.delta), OUT, F32, 4 * a->n);
}

/* ---- All ----------------------------------------------------------------------------------------------------------- */

void fuzz_plan(plan *p) {
#define OP(number, name, type) [number] = { name, sizeof(type) }
    static const struct {
        void (*plan)(plan *);
        size_t size;
    } ops[] = {OP(SETUN_OP_QUANTIZE, quantize, setun_quantize),
               OP(SETUN_OP_CONSTRAIN, constrain, setun_constrain),
               OP(SETUN_OP_DOT, reduce, setun_reduce),
               OP(SETUN_OP_NORM2, reduce, setun_reduce),
               OP(SETUN_OP_KMEANS, kmeans, setun_kmeans),
               OP(SETUN_OP_MATMUL, matmul, setun_matmul),
               OP(SETUN_OP_CONSTRAIN_CLUSTERS, clusters, setun_clusters),
               OP(SETUN_OP_STEP, step, setun_step),
               OP(SETUN_OP_ACTIVATIONS, activations, setun_activations),
               OP(SETUN_OP_TERNARY_MATMUL, ternary, setun_ternary),
               OP(SETUN_OP_RECODE, recode, setun_recode),
               OP(SETUN_OP_RMSNORM, rmsnorm, setun_rmsnorm),
               OP(SETUN_OP_SOFTMAX, softmax, setun_softmax),
               OP(SETUN_OP_ACTIVATE, activate, setun_activate),
               OP(SETUN_OP_UPDATE, update, setun_update)};
    p->size = ops[p->op].size;
    ops[p->op].plan(p);
}
