/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz.h: what a call is made of, for fuzz.c, which makes it, fuzz_ops.c, which knows the ops, and fuzz_draw.c, which draws numbers. */
#ifndef SETUN_FUZZ_H
#define SETUN_FUZZ_H

#include <setun/backend.h>
#include <stddef.h>
#include <string.h>

enum { IN, OUT, BOTH, SCRATCH }; /* roles of operands */

/* An array of a call. */
typedef struct operand {
    size_t field, also; /* where the block has the pointer to it; also: and once more, for what is done in place */
    int role, floats;   /* floats: bytes of each, for which all NaNs are one; 0 when it holds none */
    size_t bytes;
    uint8_t *base;             /* what now lies in, at its end */
    uint8_t *was, *now, *want; /* before the call, given to the kernel (null: nothing is), after the reference's call */
} operand;

/* What arrays that are read and written hold after a failure. */
enum { KEEPS_NOTHING, KEEPS_INPUT, KEEPS_PARAMS };

/* A call of an op. */
typedef struct plan {
    uint32_t op, amount; /* amount: how large a fault is */
    union {
        setun_call call;
        setun_quantize quantize;
        setun_constrain constrain;
        setun_reduce reduce;
        setun_kmeans kmeans;
        setun_matmul matmul;
        setun_clusters clusters;
        setun_step step;
        setun_activations activations;
        setun_ternary ternary;
        setun_recode recode;
        setun_rmsnorm rmsnorm;
        setun_softmax softmax;
        setun_activate activate;
        setun_update update;
    } args;
    size_t size, needs, space; /* of the block, how much of it kernels refuse to do without (0: all), and where it has a workspace, 0 for none */
    operand operands[16];
    struct {
        size_t field, bytes;
    } results[4];
    struct range {
        size_t field;
        int64_t least, most;
    } ranges[16];
    int count, result_count, range_count;
    int comparable, keeps;
} plan;

/* Draws the arguments of a call of p->op. */
void fuzz_plan(plan *p);

/* Adds an array to the call, of 0xA5 until it is filled. */
operand *give(size_t field, int role, int floats, int64_t bytes);
/* Says that a number in the block is a result. */
void result(size_t field, size_t bytes);
/* Says that every kernel has to refuse a number below least, or above most, which may be INT64_MAX for none. */
void range(size_t field, int64_t least, int64_t most);

/* ---- fuzz_draw.c --------------------------------------------------------------------------------------------------- */

extern int64_t most_values, most_products; /* of an array and of a loop over three sizes: the reference is slow, and the stand-in for a device far slower */
enum { F32 = 4, F64 = 8 };
/* What floats may be: anything, numbers, not negative, or with squares whose sum stays in range. */
enum { ANY, FINITE, POSITIVE, SQUARABLE };

/* Starts with an input. */
void begin(const uint8_t *data, size_t size);
/* Lets what the input is too short for depend on its next bytes. */
void seed(void);
/* A number of 0 .. most from the input; 0 when that has ended. */
uint32_t draw(uint32_t most);
/* A number that depends on seed's bytes only. */
uint32_t more(void);
/* Of 1 .. most: mostly short, now and then past the parts that kernels work in. */
int64_t extent(int64_t most);
/* One of least .. most, or now and then another small number. */
uint32_t pick(uint32_t least, uint32_t most);
double real(void);
/* Fills an array with numbers of one kind, and some from the input where it says. */
operand *numbers(operand *o, int domain);
operand *bytes(operand *o);
void indices(operand *o, int64_t least, int64_t most); /* int32 */
void integers(operand *o);                             /* int64 */
/* The greatest magnitude in an array of float32; null: 0. */
float greatest(const operand *o);

#endif
