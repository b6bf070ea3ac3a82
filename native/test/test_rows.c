/* SPDX-License-Identifier: Apache-2.0
 *
 * test_rows.c: rmsnorm and softmax, each against its naive loop. NaN are compared as such: their bits are not promised. */
#include "test.h"

#include <math.h>

/* Values that hurt, one in so many. */
static void spoil(float *x, size_t n, uint32_t one_in) {
    static const float bad[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 3e38f, -3e38f, 1e-40f};
    for (size_t i = 0; one_in > 0 && i < n; i++)
        if (next() % one_in == 0) x[i] = bad[next() % 8];
}

/* ---- rmsnorm -------------------------------------------------------------------------------------------------------- */

enum { GAIN = 1, DELTA = 2, SUM_IS_X = 4, SUM_IS_DELTA = 8, BACK = 16, ADD = 32, OUT_IS_DY = 64 };

typedef struct norm {
    size_t rows, cols, offset;
    unsigned how;
    double epsilon;
    const float *x, *delta, *gain, *dy, *old, *scale, *old_gain; /* in */
    const float *sum, *out, *new_scale, *new_gain;               /* what has to come out */
} norm;

static float *copy(const float *x, size_t n, size_t offset) {
    float *y = guarded(n * sizeof *y, 4 * offset % 64);
    memcpy(y, x, n * sizeof *y);
    return y;
}

static void run_norm(const setun_kernel *k, int side, void *state) {
    const norm *j = state;
    (void)side;
    size_t n = j->rows * j->cols, blocks = (j->rows + 31) / 32;
    float *x = copy(j->x, n, j->offset), *delta = copy(j->delta, n, j->offset + 1), *gain = copy(j->gain, j->cols, j->offset + 2);
    float *dy = copy(j->how & OUT_IS_DY ? j->old : j->dy, n, j->offset + 3), *out = copy(j->old, n, j->offset + 4), *scale = copy(j->scale, j->rows, 1);
    float *sum = copy(j->old, n, j->offset + 5), *dgain = copy(j->old_gain, j->cols, 3), *parts = guarded(blocks * j->cols * sizeof *parts, 4);
    memset(parts, 0x7f, blocks * j->cols * sizeof *parts);
    setun_rmsnorm a = {.call = {.size = sizeof a}, .rows = (int64_t)j->rows, .cols = (int64_t)j->cols, .x = x, .scale = scale, .epsilon = j->epsilon};
    float *s = j->how & SUM_IS_X ? x : j->how & SUM_IS_DELTA ? delta : sum;
    a.out = j->how & OUT_IS_DY ? dy : out;
    if (j->how & GAIN) a.gain = gain;
    if (j->how & DELTA) a.delta = delta, a.sum = s;
    if (j->how & BACK) a.flags = SETUN_GRADIENT | (j->how & ADD ? SETUN_ADD : 0), a.dy = dy;
    if (j->how & BACK && j->how & GAIN) a.dgain = dgain, a.parts = parts;
    int32_t rc = k->run(context, &a);
    int ok = rc == SETUN_OK && alike(a.out, j->out, n) && alike(scale, j->new_scale, j->rows) && alike(dgain, j->new_gain, j->cols);
    if (j->how & DELTA) ok = ok && alike(s, j->sum, n);
    expect(ok && alike(gain, j->gain, j->cols) && (s == x || alike(x, j->x, n)), k, "%zux%zu how=%u: rc=%d", j->rows, j->cols, j->how, rc);
    release(parts), release(dgain), release(sum), release(scale), release(out), release(dy), release(gain), release(delta), release(x);
}

static void naive_norm(const norm *j, float *sum, float *scale, float *out) {
    for (size_t r = 0, c = j->cols; r < j->rows; r++) {
        for (size_t i = r * c; i < (r + 1) * c; i++) sum[i] = j->how & DELTA ? j->x[i] + j->delta[i] : j->x[i];
        scale[r] = (float)(1 / sqrt(naive_dot(sum + r * c, sum + r * c, c) / (double)c + j->epsilon));
        for (size_t i = 0; i < c; i++) {
            out[r * c + i] = sum[r * c + i] * scale[r];
            if (j->how & GAIN) out[r * c + i] *= j->gain[i];
        }
    }
}

static void naive_norm_gradient(const norm *j, const float *dy, float *out, float *dgain, float *t) {
    size_t c = j->cols;
    for (size_t r = 0; r < j->rows; r++) {
        const float *x = j->x + r * c, *d = dy + r * c, s = j->scale[r];
        for (size_t i = 0; i < c; i++) t[r * c + i] = d[i] * (x[i] * s);
        double mean = (j->how & GAIN ? naive_dot(t + r * c, j->gain, c) : naive_dot(d, x, c) * (double)s) / (double)c;
        for (size_t i = 0; i < c; i++) {
            float n = x[i] * s, e = j->how & GAIN ? d[i] * j->gain[i] : d[i], back = n * (float)mean, g = s * (e - back);
            out[r * c + i] = j->how & ADD ? j->old[r * c + i] + g : g;
        }
    }
    for (size_t i = 0; j->how & GAIN && i < c; i++) {
        double all = 0;
        for (size_t r = 0; r < j->rows;) {
            float block = 0;
            do block += t[r * c + i];
            while (++r < j->rows && r % 32 != 0);
            all += (double)block;
        }
        dgain[i] += (float)all;
    }
}

static void norms(size_t rows, size_t cols, int kind, uint32_t one_in, unsigned only) {
    static const unsigned ways[] = {0,           GAIN,       GAIN | DELTA,      DELTA | SUM_IS_X,        GAIN | DELTA | SUM_IS_DELTA,
                                    BACK | GAIN, BACK | ADD, BACK | GAIN | ADD, BACK | GAIN | OUT_IS_DY, BACK | ADD | OUT_IS_DY,
                                    BACK};
    size_t n = rows * cols;
    float *x = vector(kind, n, 0), *delta = vector(kind, n, 0), *gain = vector(PLAIN, cols, 0), *dy = vector(kind, n, 0), *old = vector(PLAIN, n, 0);
    float *scale = vector(PLAIN, rows, 0), *old_gain = vector(PLAIN, cols, 0), *sum = vector(PLAIN, n, 0), *out = vector(PLAIN, n, 0);
    spoil(x, n, one_in), spoil(delta, n, one_in), spoil(dy, n, one_in), spoil(gain, cols, one_in);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        if (only && !(only >> w & 1)) continue;
        float *new_scale = copy(scale, rows, 0), *new_gain = copy(old_gain, cols, 0);
        norm j = {rows, cols, (n + w) % 16, ways[w], w % 3 == 0 ? 0 : 1e-5, x, delta, gain, dy, old, scale, old_gain, sum, out, new_scale, new_gain};
        if (j.how & BACK)
            naive_norm_gradient(&j, j.how & OUT_IS_DY ? old : dy, out, new_gain, sum);
        else
            naive_norm(&j, sum, new_scale, out);
        each(SETUN_OP_RMSNORM, run_norm, &j);
        release(new_gain), release(new_scale);
    }
    release(out), release(sum), release(old_gain), release(scale), release(old), release(dy), release(gain), release(delta), release(x);
}

/* ---- softmax -------------------------------------------------------------------------------------------------------- */

typedef struct soft {
    size_t rows, cols, period, offset;
    int back;
    float scale;
    double factor;
    const float *x, *p; /* in */
    const float *out;   /* what has to come out */
    const double *stats;
} soft;

static void run_soft(const setun_kernel *k, int side, void *state) {
    const soft *j = state;
    size_t n = j->rows * j->cols;
    for (int keep = 0; keep < 2 - (side & j->back); keep++) {
        float *x = copy(j->x, n, j->offset), *p = copy(j->p, n, j->offset + 1);
        double *stats = guarded(2 * j->rows * sizeof *stats, 8);
        memset(stats, 0, 2 * j->rows * sizeof *stats);
        setun_softmax a = {.call = {.size = sizeof a}, .rows = (int64_t)j->rows, .cols = (int64_t)j->cols, .period = (int64_t)j->period, .x = x};
        a.scale = j->scale, a.factor = j->factor;
        if (j->back)
            a.flags = SETUN_GRADIENT, a.p = p;
        else if (keep)
            a.stats = stats;
        int32_t rc = k->run(context, &a);
        int ok = rc == SETUN_OK && alike(x, j->out, n) && alike(p, j->p, n);
        for (size_t i = 0; a.stats && i < 2 * j->rows; i++)
            ok = ok && (same(stats + i, j->stats + i, sizeof *stats) || (isnan(stats[i]) && isnan(j->stats[i])));
        expect(ok, k, "%zux%zu period=%zu back=%d stats=%d scale=%a factor=%a: rc=%d", j->rows, j->cols, j->period, j->back, keep, (double)j->scale, j->factor,
               rc);
        release(stats), release(p), release(x);
    }
}

static void naive_softmax(const soft *j, float *out, double *stats, float *ones) {
    for (size_t r = 0, c = j->cols; r < j->rows; r++) {
        size_t n = j->period ? c - j->period + 1 + r % j->period : c;
        const float *x = j->x + r * c, *p = j->p + r * c;
        float *y = out + r * c, g = -INFINITY, s;
        for (size_t i = 0; i < c; i++) y[i] = 0, ones[i] = 1;
        if (j->back) {
            s = (float)naive_dot(p, x, n);
            for (size_t i = 0; i < n; i++) {
                float u = j->scale * p[i], v = x[i] - s;
                y[i] = u * v;
            }
            continue;
        }
        for (size_t i = 0; i < n; i++) g = fmaxf(g, x[i]);
        for (size_t i = 0; i < n; i++) {
            float d = x[i] - g;
            y[i] = naive_exp(d * j->scale);
        }
        double sum = naive_dot(y, ones, n);
        s = (float)(j->factor / sum);
        for (size_t i = 0; i < n; i++) y[i] *= s;
        stats[2 * r] = isnan(sum) ? NAN : (double)g + 0.0;
        stats[2 * r + 1] = sum;
    }
}

static void softs(size_t rows, size_t cols, size_t period, int kind, uint32_t one_in) {
    size_t n = rows * cols;
    static const float scales[] = {1, 0.125f, 0, 100};
    float *x = vector(kind, n, 0), *p = vector(PLAIN, n, 0), *out = guarded(n * sizeof *out, 0), *ones = guarded(cols * sizeof *ones, 0);
    double *stats = guarded(2 * rows * sizeof *stats, 0);
    spoil(x, n, one_in), spoil(p, n, one_in);
    for (int w = 0; w < 6; w++) {
        soft j = {rows, cols, period, (n + (size_t)w) % 16, w >= 4, scales[(w + (int)cols) % 4], w % 2 ? 1 : -3.5, x, p, out, stats};
        naive_softmax(&j, out, stats, ones);
        each(SETUN_OP_SOFTMAX, run_soft, &j);
    }
    release(stats), release(ones), release(out), release(p), release(x);
}

/* Every power on its own: rows of two values, the second of which is 0 and the greatest. */
static void every_power(void) {
    enum { ROWS = 4000 };
    float *x = guarded(2 * ROWS * sizeof *x, 0), *out = guarded(2 * ROWS * sizeof *out, 0), ones[2];
    double *stats = guarded(2 * ROWS * sizeof *stats, 0);
    for (size_t r = 0; r < ROWS; r++) {
        float u = (float)(next() % 16777216);
        x[2 * r] = r < 8 ? -104 - (float)r / 4 : r % 4 == 0 ? -ldexpf(u, (int)(next() % 40) - 50) : u * -0x1.ap-18f; /* to -104 */
        x[2 * r + 1] = 0;
    }
    soft j = {ROWS, 2, 0, 0, 0, 1, 1, x, x, out, stats};
    naive_softmax(&j, out, stats, ones);
    each(SETUN_OP_SOFTMAX, run_soft, &j);
    release(stats), release(out), release(x);
}

/* ---- Refused -------------------------------------------------------------------------------------------------------- */

static void refused_norm(const setun_kernel *k, int side, void *state) {
    (void)side, (void)state;
    for (int i = 0; i < 14; i++) {
        float x[4] = {1, 2, 3, 4}, out[4] = {9, 9, 9, 9}, scale[2] = {9, 9}, gain[2] = {9, 9}, parts[2] = {9, 9};
        char message[100] = "";
        setun_rmsnorm a = {.call = {.size = sizeof a, .message = message, .message_size = sizeof message}, .rows = 2, .cols = 2, .x = x, .out = out};
        a.scale = scale;
        if (i >= 8) a.flags = SETUN_GRADIENT, a.dy = x, a.gain = x, a.dgain = gain, a.parts = parts;
        switch (i) {
        case 0:
            a.call.size--;
            break;
        case 1:
            a.x = NULL;
            break;
        case 2:
            a.out = NULL;
            break;
        case 3:
            a.scale = NULL;
            break;
        case 4:
            a.delta = x;
            break;
        case 5:
            a.epsilon = NAN;
            break;
        case 6:
            a.flags = SETUN_ADD;
            break;
        case 7:
            a.epsilon = -1;
            break;
        case 8:
            a.flags = 4;
            break;
        case 9:
            a.dy = NULL;
            break;
        case 10:
            a.dgain = NULL;
            break;
        case 11:
            a.parts = NULL;
            break;
        case 12:
            a.rows = 0;
            break;
        default:
            a.cols = 0;
        }
        int32_t rc = k->run(context, &a);
        expect(rc == SETUN_EINVAL && message[0] && out[0] == 9 && scale[0] == 9 && gain[0] == 9 && parts[0] == 9, k, "refused case %d: rc=%d", i, rc);
    }
    const volatile int32_t stop = 1;
    float x[2] = {1, 2}, out[2], scale;
    setun_rmsnorm a = {.call = {.size = sizeof a, .cancel = &stop}, .rows = 1, .cols = 2, .x = x, .out = out, .scale = &scale};
    int32_t rc = k->run(context, &a);
    expect(rc == SETUN_ECANCELLED, k, "cancelled: rc=%d", rc);
}

static void refused_soft(const setun_kernel *k, int side, void *state) {
    (void)side, (void)state;
    for (int i = 0; i < 9; i++) {
        float x[4] = {1, 2, 3, 4};
        char message[100] = "";
        setun_softmax a = {
            .call = {.size = sizeof a, .message = message, .message_size = sizeof message}, .rows = 2, .cols = 2, .x = x, .scale = 1, .factor = 1};
        switch (i) {
        case 0:
            a.call.size--;
            break;
        case 1:
            a.x = NULL;
            break;
        case 2:
            a.period = -1;
            break;
        case 3:
            a.period = 3;
            break;
        case 4:
            a.scale = NAN;
            break;
        case 5:
            a.scale = -1;
            break;
        case 6:
            a.flags = SETUN_GRADIENT;
            break;
        case 7:
            a.flags = SETUN_ADD;
            break;
        default:
            a.rows = 0;
        }
        int32_t rc = k->run(context, &a);
        expect(rc == SETUN_EINVAL && message[0] && x[0] == 1 && x[3] == 4, k, "refused case %d: rc=%d", i, rc);
    }
    const volatile int32_t stop = 1;
    float x[2] = {1, 2};
    setun_softmax a = {.call = {.size = sizeof a, .cancel = &stop}, .rows = 1, .cols = 2, .x = x, .scale = 1, .factor = 1};
    int32_t rc = k->run(context, &a);
    expect(rc == SETUN_ECANCELLED, k, "cancelled: rc=%d", rc);
}

void test_rows(void) {
    for (size_t cols = 1; cols <= 70; cols++) {
        int kind = cols % 3 == 0 ? (int)(cols / 3 % HUGE_VALUES) : PLAIN;
        norms(3, cols, kind, cols % 5 == 0 ? 20 : 0, 0);
        softs(5, cols, cols % 4 ? 0 : cols, kind, cols % 5 == 0 ? 20 : 0);
        softs(11, cols, (cols + 1) / 2, PLAIN, 0);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        norms(2, 100, kind, 0, 0);
        softs(3, 100, kind % 2 ? 100 : 0, kind, 0);
    }
    norms(70, 37, PLAIN, 0, 0);
    norms(300, 100, PLAIN, 0, 0); /* several parts */
    norms(600, 64, PLAIN, 500, 0);
    norms(2, 4096, PLAIN, 0, 0);
    norms(3, 4097, PLAIN, 0, 0);
    norms(3, 9000, WIDE, 0, 0);
    norms(2, 140001, PLAIN, 0, 1u << 1 | 1u << 7);
    softs(300, 100, 100, PLAIN, 0);
    softs(64, 64, 64, PLAIN, 0);
    softs(2, 4096, 1, PLAIN, 0);
    softs(3, 4097, 0, PLAIN, 0);
    softs(5, 9000, 4500, PLAIN, 9000);
    every_power();
    each(SETUN_OP_RMSNORM, refused_norm, NULL);
    each(SETUN_OP_SOFTMAX, refused_soft, NULL);
}
