/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz.c: libFuzzer's bytes become a call of one op, made to the kernels of all libraries that SETUN_FUZZ names (paths with colons between them; the first
 * library has the reference, its scalar kernels). What a call may read and write lies in blocks of the heap of exactly that size, for AddressSanitizer to
 * watch; what a kernel returns and writes has to be what the reference does, bit for bit. fuzz_ops.c knows the ops. Built and run by `make fuzz-native`.
 *
 * About half of the calls are as they should be. In the others one thing is not: a number out of its range, which every kernel has to refuse without having
 * written anything, a null pointer, a workspace that is too small or misaligned, a block of another version's size, a caller that cancels. */
#define _POSIX_C_SOURCE 200112L
#include "fuzz.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIBRARIES = 3, FULL = 0xA5 };

static struct library {
    const setun_table *table;
    setun_ctx *context;
} libraries[LIBRARIES];
static int loaded;

/* ---- A call -------------------------------------------------------------------------------------------------------- */

static plan p;

operand *give(size_t field, int role, int floats, int64_t bytes) {
    operand *o = &p.operands[p.count++];
    *o = (operand){.field = field, .also = field, .role = role, .floats = floats, .bytes = (size_t)bytes};
    o->was = malloc(o->bytes + !o->bytes);
    memset(o->was, FULL, o->bytes);
    return o;
}

void result(size_t field, size_t bytes) {
    p.results[p.result_count].field = field;
    p.results[p.result_count++].bytes = bytes;
}

void range(size_t field, int64_t least, int64_t most) { p.ranges[p.range_count++] = (struct range){field, least, most}; }

static void fail(const setun_kernel *k, int32_t rc, int32_t want, const char *what, size_t at) {
    fprintf(stderr, "MISMATCH op %u kernel %s: %s %zu; returned %d, the reference %d\n", k->op, k->name, what, at, rc, want);
    abort();
}

/* Compares floats bit for bit, but for what a NaN holds. */
static int alike(const uint8_t *a, const uint8_t *b, size_t bytes, int floats) {
    if (memcmp(a, b, bytes) == 0) return 1;
    for (size_t i = 0; floats && i < bytes; i += (size_t)floats) {
        double x, y;
        float u, v;
        memcpy(&x, a + i, floats == 8 ? 8 : 0), memcpy(&y, b + i, floats == 8 ? 8 : 0);
        memcpy(&u, a + i, 4), memcpy(&v, b + i, 4);
        int nan = floats == 8 ? x != x && y != y : u != u && v != v;
        if (!nan && memcmp(a + i, b + i, (size_t)floats) != 0) return 0;
    }
    return floats != 0;
}

/* What is wrong with a call, if something is. */
enum { FINE = 8, RANGE, NULL_POINTER, SHORT_BLOCK, LONG_BLOCK, CANCEL, SHORT_SPACE, ODD_SPACE, ASK, FAULTS };

/* Calls a kernel with a block that ends where it says, after asking for the workspace that the op wants. */
static int32_t call(const struct library *l, const setun_kernel *k, int fault, plan *to) {
    size_t size = p.size + (fault == LONG_BLOCK ? 16 : 0), least = fault == SHORT_BLOCK ? sizeof(setun_call) + p.amount % (p.needs - sizeof(setun_call)) : size;
    uint8_t *a = malloc(least);
    setun_call *c = (setun_call *)(void *)a;
    static const volatile int32_t yes = 1;
    memset(a, 0, least);
    memcpy(a, &p.args, p.size < least ? p.size : least);
    c->size = (uint32_t)least;
    c->bad_index = -1;
    c->cancel = fault == CANCEL ? &yes : NULL;
    c->message_size = p.amount % 40;
    c->message = c->message_size > 0 || p.amount & 64 ? malloc(c->message_size) : NULL;
    if (c->message_size > 0) memset(c->message, FULL, c->message_size);
    void **space = (void **)(void *)(a + p.space), *base = NULL;
    int32_t rc = SETUN_OK;
    if (p.space && fault != SHORT_BLOCK) {
        *space = NULL;
        rc = k->run(l->context, a);
        int64_t need;
        memcpy(&need, space + 1, sizeof need);
        if (rc == SETUN_OK && fault != ASK) {
            if (need < 0 || need > 1 << 30) fail(k, rc, rc, "workspace of", (size_t)need);
            if (fault == SHORT_SPACE && need > 0) need -= 1 + p.amount % need;
            size_t odd = fault == ODD_SPACE ? 1 + p.amount % 63 : 0;
            if (posix_memalign(&base, 64, (size_t)need + odd)) abort();
            memset(base, FULL, (size_t)need + odd);
            if (fault == SHORT_SPACE && p.amount & 1) need = -1 - need;
            *space = (char *)base + odd;
            memcpy(space + 1, &need, sizeof need);
        }
    }
    if (rc == SETUN_OK && (!p.space || fault != ASK)) rc = k->run(l->context, a);
    if (rc == SETUN_EINVAL && base && fault != SHORT_SPACE && fault != ODD_SPACE && (p.comparable || !l->table->device)) /* (see compare) */
        fail(k, rc, SETUN_OK, "it refuses the workspace that it asked for", 0);
    if (rc == SETUN_EINVAL && c->message_size > 0 && !memchr(c->message, 0, c->message_size)) fail(k, rc, rc, "no end of the message within", c->message_size);
    memcpy(&to->args, a, p.size < least ? p.size : least);
    free(base);
    free(c->message);
    free(a);
    return rc;
}

static void fill(void) {
    for (int i = 0; i < p.count; i++)
        if (p.operands[i].now) memcpy(p.operands[i].now, p.operands[i].was, p.operands[i].bytes);
}

/* Holds what a kernel did against the reference. */
static void compare(const struct library *l, const setun_kernel *k, int fault, int32_t rc, int32_t want, const plan *got, const plan *wanted) {
    int refused = rc == SETUN_EINVAL || rc == SETUN_EUNSUPPORTED, unused = rc == SETUN_OK && (fault == SHORT_SPACE || fault == ODD_SPACE);
    /* A device has not all of an op, and may look at what it has to copy: codes that are none, which others read as they are. */
    int lacking = l->table->device && (rc == SETUN_EUNSUPPORTED || (rc == SETUN_EINVAL && want == SETUN_OK && !p.comparable));
    if (rc != want && !lacking && !(rc == SETUN_ECANCELLED && fault == CANCEL) && !unused) fail(k, rc, want, "status", 0);
    if (rc == SETUN_ENONFINITE && got->args.call.bad_index != wanted->args.call.bad_index) fail(k, rc, want, "bad index", (size_t)got->args.call.bad_index);
    for (int i = 0; i < p.count; i++) {
        operand *o = &p.operands[i];
        if (!o->now || o->role == SCRATCH) continue;
        int kept = o->role == IN || (refused && (o->role == BOTH || rc == SETUN_EINVAL)) || (o->role == BOTH && rc != SETUN_OK && p.keeps == KEEPS_INPUT) ||
                   (o->role == BOTH && rc == SETUN_ECANCELLED && p.keeps == KEEPS_PARAMS);
        if (kept && memcmp(o->now, o->was, o->bytes) != 0) fail(k, rc, want, "it has written to operand", (size_t)i);
        if (o->role == IN || !p.comparable || rc != want) continue;
        if ((rc == SETUN_OK || (o->role == BOTH && p.keeps == KEEPS_PARAMS && rc == SETUN_ENONFINITE)) && !alike(o->now, o->want, o->bytes, o->floats))
            fail(k, rc, want, "other values in operand", (size_t)i);
    }
    for (int i = 0; i < p.result_count && rc == SETUN_OK && want == SETUN_OK && p.comparable; i++) {
        size_t f = p.results[i].field;
        if (memcmp((const uint8_t *)&got->args + f, (const uint8_t *)&wanted->args + f, p.results[i].bytes) != 0) fail(k, rc, want, "another result at", f);
    }
}

/* Spoils the call. Returns whether every kernel has to refuse it. */
static int spoil(int fault) {
    if (fault == NULL_POINTER) p.operands[p.amount % (uint32_t)p.count].now = NULL;
    if (fault == SHORT_BLOCK) return 1;
    if ((fault == RANGE || fault == ASK) && p.range_count > 0) {
        struct range r = p.ranges[p.amount % (uint32_t)p.range_count];
        const int64_t low[] = {INT64_MIN, -1, r.least - 1, -(int64_t)more()}, high[] = {INT64_MAX, r.most < INT64_MAX ? r.most + 1 : 0},
                      any = (int64_t)((uint64_t)more() << (more() % 32));
        int64_t v = p.amount & 0x100 || r.most == INT64_MAX ? low[p.amount >> 9 & 3] : high[p.amount >> 9 & 1];
        if (v >= r.least && v <= r.most) v = INT64_MIN;
        if (fault == ASK) v = any;
        memcpy((uint8_t *)&p.args + r.field, &v, sizeof v);
        return fault == RANGE;
    }
    return 0;
}

/* The kernels that a call is made to: all of one thread, and those of one other number of threads. */
static int chosen(const setun_kernel *k) {
    static const uint32_t threads[] = {2, 3, 2, 4, 2, 7, 3, 16};
    return k->op == p.op && !(k->flags & SETUN_FAST) && (k->threads <= 1 || k->threads == threads[p.amount >> 12 & 7]);
}

static const setun_kernel *scalar(uint32_t op) {
    for (uint32_t i = 0; i < libraries[0].table->kernel_count; i++)
        if (libraries[0].table->kernels[i].op == op && strcmp(libraries[0].table->kernels[i].name, "scalar") == 0) return &libraries[0].table->kernels[i];
    fprintf(stderr, "op %u has no scalar kernel in the first library of SETUN_FUZZ\n", op);
    exit(1);
}

static void leave(void) {
    for (int i = 0; i < loaded; i++)
        if (libraries[i].table->close) libraries[i].table->close(libraries[i].context);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    char *list = getenv("SETUN_FUZZ"), message[200] = "no such library";
    for (char *path = list ? strtok(list, ":") : NULL; path && loaded < LIBRARIES; path = strtok(NULL, ":")) {
        void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        const setun_table *(*entry)(uint32_t);
        void *symbol = handle ? dlsym(handle, "setun_backend") : NULL;
        memcpy(&entry, &symbol, sizeof entry);
        struct library *l = &libraries[loaded++];
        l->table = symbol ? entry(SETUN_ABI) : NULL;
        if (!l->table || (l->table->open && l->table->open(&l->context, message, sizeof message) != SETUN_OK)) {
            fprintf(stderr, "%s: %s\n", path, handle ? message : dlerror());
            exit(1);
        }
        if (l->table->device) most_values = 6000, most_products = 1 << 12;
    }
    if (loaded == 0) {
        fprintf(stderr, "SETUN_FUZZ names no library\n");
        exit(1);
    }
    return atexit(leave); /* what is left then is a leak */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    begin(data, size);
    p = (plan){.comparable = 1};
    p.op = 1 + draw(SETUN_OP_UPDATE - 1);
    int fault = (int)draw(FAULTS - 1);
    fault = fault < FINE ? FINE : fault;
    p.amount = draw(UINT16_MAX);
    seed();
    fuzz_plan(&p);
    if (!p.needs) p.needs = p.size;
    if (!p.space && fault >= SHORT_SPACE) fault = FINE;
    for (int i = 0; i < p.count; i++) {
        operand *o = &p.operands[i];
        o->want = malloc(o->bytes);
        size_t odd = o->floats == F32 ? p.amount >> 3 & 12 : 0; /* floats need no more alignment than that */
        o->base = malloc(odd + o->bytes);
        o->now = o->base + odd;
    }
    int refused = spoil(fault);
    for (int i = 0; i < p.count; i++) {
        memcpy((uint8_t *)&p.args + p.operands[i].field, &p.operands[i].now, sizeof(void *));
        memcpy((uint8_t *)&p.args + p.operands[i].also, &p.operands[i].now, sizeof(void *));
    }
    static plan got, wanted;
    const setun_kernel *first = scalar(p.op);
    fill();
    int32_t want = call(&libraries[0], first, fault == CANCEL ? FINE : fault, &wanted);
    if (refused && want != SETUN_EINVAL) fail(first, want, SETUN_EINVAL, "a call that has to be refused, fault", (size_t)fault);
    for (int i = 0; i < p.count; i++)
        if (p.operands[i].now) memcpy(p.operands[i].want, p.operands[i].now, p.operands[i].bytes);
    compare(&libraries[0], first, fault, want, want, &wanted, &wanted);
    for (int n = 0; n < loaded; n++)
        for (uint32_t i = 0; i < libraries[n].table->kernel_count; i++) {
            const setun_kernel *k = &libraries[n].table->kernels[i];
            if (!chosen(k) || (k == first && fault != CANCEL)) continue;
            fill();
            int32_t rc = call(&libraries[n], k, fault, &got);
            compare(&libraries[n], k, fault, rc, want, &got, &wanted);
        }
    for (int i = 0; i < p.count; i++) {
        free(p.operands[i].was);
        free(p.operands[i].base);
        free(p.operands[i].want);
    }
    return 0;
}
