/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_draw.c: numbers and arrays from the fuzzer's bytes. */
#include "fuzz.h"

#include <math.h>

/* ---- Bytes --------------------------------------------------------------------------------------------------------- */

static const uint8_t *input;
static size_t left;
static uint64_t state; /* of what the input has no bytes for */
int64_t most_values = 36000, most_products = 1 << 15;

void begin(const uint8_t *data, size_t size) { input = data, left = size, state = 88172645463325252ull; }

void seed(void) {
    for (int i = 0; i < 4; i++) state = state * 31 + draw(255);
}

uint32_t draw(uint32_t most) {
    uint32_t v = 0;
    for (uint32_t n = most; n > 0; n >>= 8) {
        v = v << 8 | (left > 0 ? *input : 0);
        if (left > 0) input++, left--;
    }
    return most == UINT32_MAX ? v : v % (most + 1);
}

uint32_t more(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* ---- Numbers ------------------------------------------------------------------------------------------------------- */

int64_t extent(int64_t most) {
    uint32_t kind = draw(255);
    int64_t n = 1 + (kind < 205 ? draw(39) : kind < 238 ? draw(349) : kind < 251 ? draw(4999) : draw((uint32_t)most_values - 1));
    return n < most ? n : most < 1 ? 1 : most;
}

uint32_t pick(uint32_t least, uint32_t most) {
    uint32_t v = draw(255);
    return v >= 250 ? v - 250 + (v == 255 ? 1000 : 0) : least + v % (most - least + 1);
}

double real(void) {
    uint64_t bits;
    double v;
    switch (draw(7)) {
    case 0:
        return 0;
    case 1:
        return INFINITY;
    case 2:
        return draw(7) ? 1e-5 : NAN;
    case 3:
        return draw(7) ? 3 : -1;
    case 4:
        bits = (uint64_t)draw(UINT32_MAX) << 32 | draw(UINT32_MAX);
        memcpy(&v, &bits, sizeof v);
        return v;
    }
    return ldexp((double)draw(255), (int)draw(31) - 16);
}

/* ---- Arrays -------------------------------------------------------------------------------------------------------- */

static void put(operand *o, int64_t i, float v, int domain) {
    if (domain != ANY && v - v != 0) v = 1;
    if (domain == POSITIVE) v = fabsf(v);
    if (domain == SQUARABLE && fabsf(v) > 0x1p24f) v = ldexpf(frexpf(v, &(int){0}), 24);
    double wide = (double)v;
    if (o->floats == F32)
        memcpy(o->was + 4 * i, &v, sizeof v);
    else
        memcpy(o->was + 8 * i, &wide, sizeof wide);
}

operand *numbers(operand *o, int domain) {
    int64_t n = (int64_t)o->bytes / o->floats;
    uint32_t kind = draw(7), scale = draw(63);
    for (int64_t i = 0; i < n; i++) {
        uint32_t b = more();
        float v, u = (float)(b >> 8) / 8388608.0f - 1;
        if (kind == 0) memcpy(&v, &b, sizeof v);
        if (kind == 1) v = (float)((int)(b % 5) - 2) / 2;
        if (kind == 2) v = b & 1 ? 0.0f : -0.0f;
        if (kind == 3) b &= 0x80ffffffu, memcpy(&v, &b, sizeof v); /* subnormal, or next to that */
        if (kind >= 4) v = kind == 4 ? ldexpf(u, (int)scale * 2 - 64) : u;
        put(o, i, v, domain);
    }
    for (uint32_t some = draw(3); some > 0; some--) {
        int64_t i = draw(UINT16_MAX) % n;
        uint32_t b = draw(UINT32_MAX);
        float v;
        memcpy(&v, &b, sizeof v);
        put(o, i, v, domain);
    }
    return o;
}

float greatest(const operand *o) {
    float top = 0, v;
    for (size_t i = 0; o && i < o->bytes; i += 4) {
        memcpy(&v, o->was + i, sizeof v);
        top = fmaxf(top, fabsf(v));
    }
    return top;
}

operand *bytes(operand *o) {
    for (size_t i = 0; i < o->bytes; i++) o->was[i] = (uint8_t)more();
    return o;
}

void indices(operand *o, int64_t least, int64_t most) {
    for (size_t i = 0; i < o->bytes / 4; i++) {
        int32_t v = (int32_t)(least + more() % (most - least + 1));
        memcpy(o->was + 4 * i, &v, sizeof v);
    }
}

void integers(operand *o) {
    for (size_t i = 0; i < o->bytes / 8; i++) {
        int64_t v = (int64_t)more() - (int64_t)more();
        memcpy(o->was + 8 * i, &v, sizeof v);
    }
}
