/* SPDX-License-Identifier: Apache-2.0
 *
 * test_fma.c: setun_fma32, the emulated float32 fused multiply-add of the scalar reference, against the processor's instruction, which this file is compiled
 * for.
 *
 *     test_fma          a sample of triples of any bits and of the kinds where rounding twice goes wrong
 *     test_fma 28       2^28 of each */
#include "isa.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252ull;

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
}

static float from(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

enum { ANY, HALF_WAY, HALF_PRODUCT, TINY, OVERFLOWING, CANCEL, KINDS_OF_TRIPLES };
static const char *const names[] = {"any bits", "half way", "half-way product", "subnormal", "overflow", "cancellation"};

/* ±2^e (1 + i 2^-23) (1 + j 2^-23), i and j from -1 to 1, as a product. */
static void powers(int e, uint32_t choice, float *a, float *b) {
    int half = e / 2 + (int)(choice >> 4 & 15) - 8;
    *a = ldexpf((float)(0x800000u + (choice & 3) % 3 - 1), half - 23);
    *b = ldexpf((float)(0x800000u + (choice >> 2 & 3) % 3 - 1), e - half - 23);
    if (choice >> 8 & 1) *a = -*a;
}

static void triple(int kind, float *a, float *b, float *c) {
    uint64_t u = draw(), v = draw();
    uint32_t choice = (uint32_t)(v >> 32);
    *a = from((uint32_t)u), *b = from((uint32_t)(u >> 32)), *c = from((uint32_t)v);
    int e = (int)(bits(*c) >> 23 & 0xff), z = 1 + (int)(choice % 22);
    switch (kind) {
    case HALF_WAY: /* about half a unit of c's last place */
        powers((e > 1 ? e : 1) - 151 + (int)(choice >> 16 & 3) % 3 - 1, choice, a, b);
        break;
    case HALF_PRODUCT: /* 48 bits whose last is bit 23, and an addend far below */
        *a = ldexpf((float)(((bits(*a) & 0x7fffff) | 0x800000) >> z | 1), z - 23);
        *b = ldexpf((float)(((bits(*b) & 0x7fffff) | 0x800000) >> (23 - z) | 1), -z);
        *c = ldexpf(*c, -20 - (e - 127) - (int)(choice >> 16 & 127));
        break;
    case TINY:
        powers(-149 - (int)(choice >> 16 & 3), choice, a, b);
        *c = from(bits(*c) & 0x80ffffff);
        break;
    case OVERFLOWING:
        powers(102 + (int)(choice >> 16 & 3), choice, a, b);
        *c = from(0x7f7fffff - (choice >> 24 & 3));
        if (choice >> 8 & 1) *c = -*c;
        break;
    case CANCEL:
        *a = from((bits(*a) & 0x807fffff) | 0x3f800000), *b = from((bits(*b) & 0x807fffff) | 0x3f800000);
        if (choice & 1) *a = from(bits(*a) & ~0xfffu), *b = from(bits(*b) & ~0xfffu);
        *c = from(bits(-*a * *b) + (choice >> 1 & 3) - 1);
        break;
    }
}

static int compare(int kind, long n) {
    long twice = 0;
    for (long i = 0; i < n; i++) {
        float a, b, c;
        triple(kind, &a, &b, &c);
        float want = fmaf(a, b, c), got = setun_fma32(a, b, c);
        if (bits(want) != bits((float)((double)a * b + (double)c)) && want == want) twice++;
        if (bits(want) == bits(got) || (want != want && got != got)) continue;
        printf("MISMATCH %s: fma(%a, %a, %a) = %a, the processor says %a\n", names[kind], (double)a, (double)b, (double)c, (double)got, (double)want);
        return 1;
    }
    printf("%s %ld (%ld rounded twice are wrong)%s", names[kind], n, twice, kind + 1 < KINDS_OF_TRIPLES ? ", " : "\n");
    if (twice > 0 || kind == ANY || kind == CANCEL) return 0;
    printf("MISMATCH %s: no triple is hard\n", names[kind]);
    return 1;
}

int main(int argc, char **argv) {
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("fma")) {
        printf("SKIP: this processor has no fused multiply-add\n");
        return 77;
    }
#endif
    long n = 1L << (argc > 1 ? atoi(argv[1]) : 20);
    int wrong = 0;
    for (int kind = 0; kind < KINDS_OF_TRIPLES; kind++) wrong |= compare(kind, n);
    return wrong;
}
