/* SPDX-License-Identifier: Apache-2.0
 *
 * recode.c: codes of any format as bytes, 2 bits or base 3, by way of bytes in the first cache. */
#include "ops.h"
#include "packed.h"

typedef struct job {
    const setun_isa *isa;
    const setun_recode *a;
    setun_packed in;
    int64_t out_bytes, each; /* bytes of a row of the result, rows a part */
} job;

/* The end of a row, less than a block, one place at a time. */
static void pack_rest(uint32_t format, uint8_t *out, const int8_t *codes, int64_t n) {
    int64_t planes = format == SETUN_2BIT ? 4 : 5, m = (n - 1) / planes + 1;
    for (int64_t b = 0; b < m; b++) {
        uint32_t v = 0;
        for (int64_t p = 0; p < planes; p++) {
            uint32_t t = b + p * m < n ? (uint32_t)(codes[b + p * m] + 1) : 1;
            v = format == SETUN_2BIT ? v | t << 2 * p : 3 * v + t;
        }
        out[b] = format == SETUN_2BIT ? (uint8_t)v : (uint8_t)((256 * v + 242) / 243);
    }
}

static void some_rows(void *arg, int64_t i) {
    const job *j = arg;
    const setun_recode *a = j->a;
    int64_t end = setun_least((i + 1) * j->each, a->rows);
    for (int64_t row = i * j->each; row < end && !setun_cancelled(&a->call); row++) {
        uint8_t *out = (uint8_t *)a->out + row * j->out_bytes;
        size_t sign = 0;
        for (int64_t at = 0, n; at < a->cols; at += n) {
            int8_t codes[SETUN_PIECE];
            if (a->to == SETUN_INT8 && a->cols - at >= SETUN_PIECE) {
                n = setun_unpack(&j->in, row, at, &sign, (int8_t *)out + at);
                continue;
            }
            n = setun_unpack(&j->in, row, at, &sign, codes);
            if (a->to == SETUN_INT8) {
                memcpy(out + at, codes, (size_t)n);
                continue;
            }
            int64_t block = a->to == SETUN_2BIT ? 256 : 320, full = n / block;
            (a->to == SETUN_2BIT ? j->isa->pack2 : j->isa->pack3)(out + at / block * 64, codes, (size_t)full);
            if (n % block > 0) pack_rest(a->to, out + (at / block + full) * 64, codes + full * block, n % block);
        }
    }
}

int32_t setun_op_recode(const setun_isa *isa, const setun_team *team, setun_recode *a) {
    const setun_call *c = &a->call;
    if (c->size < sizeof *a) return setun_invalid(c, "recode: the argument block is too small");
    if (a->rows < 1 || a->cols < 1 || a->cols > (int64_t)1 << 45 || a->rows > ((int64_t)1 << 45) / a->cols)
        return setun_invalid(c, "recode: rows or cols is out of range");
    if (a->from < SETUN_INT8 || a->from > SETUN_PLANES || a->to < SETUN_INT8 || a->to > SETUN_BASE3)
        return setun_invalid(c, "recode: unknown format, or one that is not a result");
    if (!a->codes || !a->out || (a->from == SETUN_PLANES && (!a->signs || !a->index))) return setun_invalid(c, "recode: codes, signs, index or out is null");
    job j = {.isa = isa, .a = a, .in = {.isa = isa->codes, .format = a->from, .codes = a->codes, .signs = a->signs, .index = a->index, .cols = a->cols}};
    setun_packed_sizes(&j.in);
    j.out_bytes = a->to == SETUN_INT8 ? a->cols : a->to == SETUN_2BIT ? (a->cols - 1) / 4 + 1 : (a->cols - 1) / 5 + 1;
    int64_t least = (32768 - 1) / a->cols + 1, even = (a->rows - 1) / (4 * setun_threads(team)) + 1;
    j.each = even > least ? even : least;
    setun_each(team, (a->rows - 1) / j.each + 1, some_rows, &j);
    return setun_cancelled(c) ? SETUN_ECANCELLED : SETUN_OK;
}
