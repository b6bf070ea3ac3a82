/* SPDX-License-Identifier: Apache-2.0
 *
 * A backend that is wrong by one unit in the last place, in one lane of sixteen: the kernels of the library REAL, whose results it spoils. The suite
 * has to notice, for each op. */
#define _GNU_SOURCE
#include "setun/backend.h"

#include <dlfcn.h>
#include <string.h>

enum { LANE = 13, LANES = 16, OPS = 15 };

static const setun_table *real;
static setun_kernel kernels[OPS];
static setun_table table;

/* The next float from zero, unless v is one that no kernel computed: 0, infinite, not a number. */
static void spoil(float *v) {
    uint32_t u;
    memcpy(&u, v, 4);
    if ((u & 0x7fffffff) != 0 && (u & 0x7f800000) != 0x7f800000) u++;
    memcpy(v, &u, 4);
}

static void spoil_wide(double *v) {
    uint64_t u;
    memcpy(&u, v, 8);
    if ((u << 1) != 0 && (u << 1 >> 53) != 0x7ff) u++;
    memcpy(v, &u, 8);
}

static int32_t run(uint32_t op, setun_ctx *ctx, void *args) {
    for (uint32_t i = 0; i < real->kernel_count; i++) {
        const setun_kernel *k = &real->kernels[i];
        if (k->op != op || strcmp(k->name, "scalar") != 0) continue;
        int32_t rc = k->run(ctx, args);
        if (rc != SETUN_OK) return rc;
        setun_constrain *c = args;
        setun_reduce *r = args;
        setun_kmeans *m = args;
        setun_matmul *p = args;
        setun_clusters *s = args;
        setun_activations *b = args;
        setun_ternary *t = args;
        setun_recode *f = args;
        setun_rmsnorm *n = args;
        setun_softmax *x = args;
        setun_activate *a = args;
        setun_update *u = args;
        switch (op) {
        case SETUN_OP_QUANTIZE:
        case SETUN_OP_STEP:
            if (((setun_quantize *)args)->rows * ((setun_quantize *)args)->cols > LANE) spoil(((setun_quantize *)args)->scales);
            break;
        case SETUN_OP_CONSTRAIN:
            for (int64_t j = LANE; c->norm > c->radius && j < c->n; j += LANES) spoil(c->dst + j);
            break;
        case SETUN_OP_DOT:
        case SETUN_OP_NORM2:
            if (r->n > LANE) spoil_wide(&r->result);
            break;
        case SETUN_OP_KMEANS:
            for (int64_t j = LANE; m->step == SETUN_KMEANS_DISTANCE && j < m->n; j += LANES) spoil(m->distance + j);
            break;
        case SETUN_OP_MATMUL:
            for (int64_t j = LANE; p->workspace_size > 0 && j < p->n; j += LANES) spoil(p->c + j);
            break;
        case SETUN_OP_CONSTRAIN_CLUSTERS:
            for (int64_t j = LANE; j < s->n; j += LANES)
                if (s->norms[0] > s->radii[0]) spoil(s->dst + j);
            break;
        case SETUN_OP_ACTIVATIONS: /* an integer: by one */
            for (int64_t j = LANE; j < b->rows * b->cols; j += LANES) b->out[j] ^= 1;
            break;
        case SETUN_OP_RECODE:
            if (f->cols > LANE) ((uint8_t *)f->out)[0] ^= 1;
            break;
        case SETUN_OP_TERNARY_MATMUL:
            for (int64_t j = LANE; t->workspace && j < t->batch * t->rows; j += LANES) spoil(t->out + j);
            break;
        case SETUN_OP_RMSNORM:
            for (int64_t j = LANE; j < n->rows * n->cols; j += LANES) spoil(n->out + j);
            break;
        case SETUN_OP_SOFTMAX:
            for (int64_t j = LANE; j < x->rows * x->cols; j += LANES) spoil(x->x + j);
            break;
        case SETUN_OP_ACTIVATE:
            for (int64_t j = LANE; j < a->rows * a->cols; j += LANES) spoil(a->out + j);
            break;
        case SETUN_OP_UPDATE:
            for (int64_t j = LANE; j < u->n; j += LANES) spoil(u->delta + j);
            break;
        }
        return rc;
    }
    return SETUN_EUNSUPPORTED;
}

#define RUN(op)                                                                                                                                                \
    static int32_t run_##op(setun_ctx *ctx, void *args) { return run(op, ctx, args); }
RUN(1)
RUN(2)
RUN(3)
RUN(4)
RUN(5)
RUN(6)
RUN(7)
RUN(8)
RUN(9)
RUN(10)
RUN(11)
RUN(12)
RUN(13)
RUN(14)
RUN(15)

SETUN_EXPORT const setun_table *setun_backend(uint32_t abi) {
    void *library = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
    const setun_table *(*entry)(uint32_t) = NULL;
    if (library) *(void **)&entry = dlsym(library, "setun_backend");
    if (!entry || !(real = entry(abi))) return NULL;
    int32_t (*const runs[OPS])(setun_ctx *, void *) = {run_1, run_2,  run_3,  run_4,  run_5,  run_6,  run_7, run_8,
                                                       run_9, run_10, run_11, run_12, run_13, run_14, run_15};
    for (uint32_t i = 0; i < OPS; i++) kernels[i] = (setun_kernel){"planted", i + 1, 1, runs[i]};
    table = *real;
    table.name = "planted", table.kernels = kernels, table.kernel_count = OPS;
    return &table;
}
