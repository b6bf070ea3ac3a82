/* SPDX-License-Identifier: Apache-2.0
 *
 * test_update.c: activate and update, each against its naive loop. */
#include "test.h"

#include <math.h>

/* Bits of all sorts: exponents from the least to the greatest, NaN and infinities among them. */
static void any(float *x, size_t n, uint32_t one_in) {
    for (size_t i = 0; one_in > 0 && i < n; i++)
        if (next() % one_in == 0) {
            uint32_t u = next() ^ next() << 16;
            memcpy(x + i, &u, sizeof u);
        }
}

static float *copy(const float *x, size_t n, size_t offset) {
    float *y = guarded(n * sizeof *y, 4 * offset % 64);
    memcpy(y, x, n * sizeof *y);
    return y;
}

/* ---- activate ------------------------------------------------------------------------------------------------------- */

typedef struct function {
    size_t rows, cols, offset;
    uint32_t kind;
    int back, in_place;
    const float *x, *dy, *out;
} function;

static void run_function(const setun_kernel *k, int side, void *state) {
    const function *j = state;
    (void)side;
    size_t n = j->rows * j->cols, in = j->kind == SETUN_SWIGLU ? 2 * n : n, size = j->back ? in : n;
    float *x = copy(j->x, in, j->offset), *dy = copy(j->dy, n, j->offset + 1), *out = guarded(size * sizeof *out, 4 * j->offset);
    setun_activate a = {.call = {.size = sizeof a}, .kind = j->kind, .rows = (int64_t)j->rows, .cols = (int64_t)j->cols, .x = x};
    a.out = j->in_place ? x : out;
    if (j->back) a.flags = SETUN_GRADIENT, a.dy = dy;
    int32_t rc = k->run(context, &a);
    expect(rc == SETUN_OK && alike(a.out, j->out, size) && alike(dy, j->dy, n) && (j->in_place || alike(x, j->x, in)), k,
           "%zux%zu kind=%u back=%d in place=%d: rc=%d", j->rows, j->cols, j->kind, j->back, j->in_place, rc);
    release(out), release(dy), release(x);
}

static void naive_function(const function *j, float *out) {
    for (size_t r = 0, c = j->cols; r < j->rows; r++)
        for (size_t i = 0; i < c; i++) {
            float d = j->dy[r * c + i];
            if (j->kind == SETUN_RELU2) {
                float x = j->x[r * c + i], m = x > 0 ? x : 0, twice = m + m;
                out[r * c + i] = j->back ? d * twice : x * m;
                continue;
            }
            float g = j->x[2 * r * c + i], u = j->x[(2 * r + 1) * c + i], e = 1 + naive_exp(-g), s = 1 / e, gated = g * s, rest = g * (1 - s);
            if (!j->back) {
                out[r * c + i] = gated * u;
                continue;
            }
            float slope = s * (1 + rest), passed = d * u;
            out[2 * r * c + i] = passed * slope;
            out[(2 * r + 1) * c + i] = d * gated;
        }
}

static void functions(size_t rows, size_t cols, int kind, uint32_t one_in) {
    size_t n = rows * cols;
    float *x = vector(kind, 2 * n, 0), *dy = vector(PLAIN, n, 0), *out = guarded(2 * n * sizeof *out, 0);
    for (size_t i = 0; kind == PLAIN && i < 2 * n; i++) x[i] *= 8;
    any(x, 2 * n, one_in), any(dy, n, one_in);
    for (int w = 0; w < 6; w++) {
        function j = {rows, cols, (n + (size_t)w) % 16, w < 3 ? SETUN_RELU2 : SETUN_SWIGLU, w % 3 > 0, w % 3 == 2, x, dy, out};
        naive_function(&j, out);
        each(SETUN_OP_ACTIVATE, run_function, &j);
    }
    release(out), release(dy), release(x);
}

/* ---- update --------------------------------------------------------------------------------------------------------- */

typedef struct advance {
    setun_update a; /* the constants */
    const float *value, *grad, *m, *v, *new_m, *new_v, *delta;
    size_t offset;
} advance;

static void run_update(const setun_kernel *k, int side, void *state) {
    const advance *j = state;
    (void)side;
    size_t n = (size_t)j->a.n;
    float *value = copy(j->value, n, j->offset), *grad = copy(j->grad, n, j->offset + 1), *m = copy(j->m, n, j->offset + 2);
    float *v = copy(j->v, n, j->offset + 3), *delta = guarded(n * sizeof *delta, 4 * j->offset);
    setun_update a = j->a;
    a.value = value, a.grad = grad, a.m = m, a.delta = delta;
    if (a.method == SETUN_ADAMW) a.v = v;
    int32_t rc = k->run(context, &a);
    int ok = rc == SETUN_OK && alike(m, j->new_m, n) && alike(v, j->new_v, n) && alike(delta, j->delta, n);
    expect(ok && alike(value, j->value, n) && alike(grad, j->grad, n), k, "n=%zu method=%u: rc=%d", n, a.method, rc);
    release(delta), release(v), release(m), release(grad), release(value);
}

static float flushed(double x) { return fabsf((float)x) < 0x1p-126f ? 0 : (float)x; }

static void naive_update(const advance *j, float *m, float *v, float *delta) {
    const setun_update *a = &j->a;
    for (int64_t i = 0; i < a->n; i++) {
        double g = (double)j->grad[i], kept = a->beta1 * (double)j->m[i], decayed = a->decay * (double)j->value[i], step;
        if (a->method == SETUN_MOMENTUM) {
            m[i] = flushed(kept + g);
            step = (double)m[i];
        } else {
            double fresh = (1 - a->beta1) * g, kept2 = a->beta2 * (double)j->v[i], square = g * g, fresh2 = (1 - a->beta2) * square;
            m[i] = flushed(kept + fresh);
            v[i] = flushed(kept2 + fresh2);
            double mean = (double)m[i] * a->unbias1, below = (double)v[i] * a->unbias2;
            step = mean / (sqrt(below) + a->epsilon);
        }
        double all = -a->rate * (step + decayed);
        delta[i] = (float)all;
    }
}

static void update(size_t n, int kind, uint32_t one_in) {
    float *value = vector(kind, n, 0), *grad = vector(kind, n, 0), *m = vector(kind, n, 0), *v = vector(kind, n, 0);
    float *new_m = guarded(n * sizeof *new_m, 0), *new_v = guarded(n * sizeof *new_v, 0), *delta = guarded(n * sizeof *delta, 0);
    for (size_t i = 0; i < n; i++) v[i] = fabsf(v[i]);
    any(value, n, one_in), any(grad, n, one_in), any(m, n, one_in), any(v, n, one_in);
    for (uint32_t method = SETUN_ADAMW; method <= SETUN_MOMENTUM; method++) {
        advance j = {.a = {.call = {.size = sizeof j.a}, .method = method, .n = (int64_t)n, .rate = 1e-3, .decay = 0.1, .beta1 = 0.9, .beta2 = 0.999}};
        j.a.epsilon = n % 3 == 0 ? 0 : 1e-8, j.a.unbias1 = 10, j.a.unbias2 = 1000;
        j.value = value, j.grad = grad, j.m = m, j.v = v, j.new_m = new_m, j.new_v = new_v, j.delta = delta, j.offset = n % 16;
        memcpy(new_v, v, n * sizeof *v);
        naive_update(&j, new_m, new_v, delta);
        each(SETUN_OP_UPDATE, run_update, &j);
    }
    release(delta), release(new_v), release(new_m), release(v), release(m), release(grad), release(value);
}

/* ---- Refused -------------------------------------------------------------------------------------------------------- */

static void refused_function(const setun_kernel *k, int side, void *state) {
    (void)side, (void)state;
    for (int i = 0; i < 8; i++) {
        float x[4] = {1, 2, 3, 4}, out[4] = {9, 9, 9, 9};
        char message[100] = "";
        setun_activate a = {
            .call = {.size = sizeof a, .message = message, .message_size = sizeof message}, .kind = 1, .rows = 2, .cols = 2, .x = x, .out = out};
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
            a.kind = 3;
            break;
        case 4:
            a.flags = SETUN_GRADIENT;
            break;
        case 5:
            a.flags = SETUN_ADD;
            break;
        case 6:
            a.rows = 0;
            break;
        default:
            a.cols = INT64_MAX / 4;
        }
        int32_t rc = k->run(context, &a);
        expect(rc == SETUN_EINVAL && message[0] && out[0] == 9, k, "refused case %d: rc=%d", i, rc);
    }
}

static void refused_update(const setun_kernel *k, int side, void *state) {
    (void)side, (void)state;
    for (int i = 0; i < 11; i++) {
        float value[2] = {1, 2}, grad[2] = {1, 2}, m[2] = {9, 9}, v[2] = {9, 9}, delta[2] = {9, 9};
        char message[100] = "";
        const volatile int32_t stop = 1;
        setun_update a = {.call = {.size = sizeof a, .message = message, .message_size = sizeof message}, .method = 1, .n = 2, .value = value, .grad = grad};
        a.m = m, a.v = v, a.delta = delta;
        switch (i) {
        case 0:
            a.call.size--;
            break;
        case 1:
            a.value = NULL;
            break;
        case 2:
            a.grad = NULL;
            break;
        case 3:
            a.m = NULL;
            break;
        case 4:
            a.v = NULL;
            break;
        case 5:
            a.delta = NULL;
            break;
        case 6:
            a.n = 0;
            break;
        case 7:
            a.method = 3;
            break;
        case 8:
            a.epsilon = NAN;
            break;
        case 9:
            a.rate = INFINITY;
            break;
        default:
            a.call.cancel = &stop;
        }
        int32_t rc = k->run(context, &a);
        expect((i < 10 ? rc == SETUN_EINVAL && message[0] : rc == SETUN_ECANCELLED) && m[0] == 9 && v[0] == 9 && delta[0] == 9, k, "refused case %d: rc=%d", i,
               rc);
    }
}

void test_update(void) {
    for (size_t n = 1; n <= 70; n++) {
        functions(3, n, PLAIN, n % 3 == 0 ? 10 : 0);
        update(n, PLAIN, n % 3 == 0 ? 10 : 0);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        functions(2, 333, kind, 0);
        update(777, kind, 0);
    }
    functions(200, 300, PLAIN, 5); /* several parts */
    functions(1, 70001, PLAIN, 2);
    update(150001, PLAIN, 2);
    update(65536, WIDE, 0);
    each(SETUN_OP_ACTIVATE, refused_function, NULL);
    each(SETUN_OP_UPDATE, refused_update, NULL);
}
