/* SPDX-License-Identifier: Apache-2.0
 *
 * isa.h: what an instruction set level has to provide. The ops (quantize.c, reduce.c, kmeans.c) are written once over
 * this table; each isa_*.c fills it in. The comment of each entry IS the loop that it must equal, bit for bit;
 * isa_ref.c is that loop in plain C and is the truth. See docs/numerics.md for the rules named here. */
#ifndef SETUN_ISA_H
#define SETUN_ISA_H

#include <stddef.h>
#include <stdint.h>

#define SETUN_CHUNK 4096                     /* elements summed in 32 lanes before a fold */
#define SETUN_MAX_ROWS 32                    /* of a panel */
#define SETUN_RINT_BITS 0x4338000000000000ll /* the bits of 3*2^51 */

typedef struct setun_screen setun_screen; /* screen.h */
typedef struct setun_codes setun_codes;   /* codes.h */
typedef struct setun_layers setun_layers; /* layers.h */

typedef struct setun_isa {
    const char *name;

    /* A chunk of at most SETUN_CHUNK values: float32 lane[i % 32] += |x[i]|, widened, then the fold. */
    double (*abs_chunk)(const float *x, size_t n);
    /* float64 lane[i % 32] += x[i] * x[i], then the fold. */
    double (*square_chunk)(const float *x, size_t n);
    /* float64 lane[i % 32] += x[i] * y[i], then the fold. */
    double (*dot_chunk)(const float *x, const float *y, size_t n);
    /* The greatest bits(x[i]) & 0x7fffffff: the magnitude for finite values, 0x7f800000 or above otherwise. */
    uint32_t (*abs_max)(const float *x, size_t n);
    /* m = |x[i]|; v[i] = m > two ? m : m > one ? small * m : 0; counts[0] += m > one; counts[1] += m > two. */
    void (*select)(float *v, const float *x, size_t n, float one, float two, float small, int64_t counts[2]);

    /* out[i] = (x[i] > cut) - (x[i] < -cut). */
    void (*ternary)(int8_t *out, const float *x, size_t n, float cut);
    /* out[i] = (x[i] > one) + (x[i] > two) - (x[i] < -one) - (x[i] < -two). */
    void (*quinary)(int8_t *out, const float *x, size_t n, float one, float two);
    /* Full blocks: 256 codes to 64 bytes, out[b] = t0 + 4 t1 + 16 t2 + 64 t3 with t_p = codes[b + 64p] + 1. */
    void (*pack2)(uint8_t *out, const int8_t *codes, size_t blocks);
    /* Full blocks: 320 codes to 64 bytes, v = 81 t0 + 27 t1 + 9 t2 + 3 t3 + t4, out[b] = ceil(256 v / 243). */
    void (*pack3)(uint8_t *out, const int8_t *codes, size_t blocks);
    /* Packed codes, for levels that have ternary matmul. */
    const setun_codes *codes;
    /* out[i] = rint(x[i] * f) in float64, ties to even; at most 127 in magnitude. */
    void (*bytes)(int8_t *out, const float *x, size_t n, double f);
    /* memcpy past the caches; other threads see it after drain. */
    void (*stream)(void *out, const void *in, size_t bytes);
    void (*drain)(void);
    /* r = (float)((double)x[i] * f); out[i] = |r| < 2^-126 ? r * 0 : r. */
    void (*scale)(float *out, const float *x, size_t n, double f);
    /* What rmsnorm, softmax, activate and update are made of. */
    const setun_layers *layers;

    /* low[j] = min(low[j], x[i][j]), high likewise; returns the greatest magnitude bits. */
    uint32_t (*range)(const float *x, size_t n, size_t d, float *low, float *high);
    /* out[r*d + p] = x[r*d + p] * unit[r] - mean[p], less c[r][p] when c is not null; unit null: 1. All roundings are float32's. */
    void (*centre)(float *out, const float *x, size_t n, size_t d, const float *unit, const float *mean, const float *const *c);
    /* A panel holds `rows` rows turned, so that lanes are points: panel[p*rows + r] = x[r*d + p] - mean[p] for r < n, 0 for n <= r < rows; mean null: 0. */
    size_t rows;
    void (*panel)(float *panel, const float *x, size_t n, size_t d, const float *mean);
    /* s = bias[j]; s = fma(panel[p*rows + r], value p of centroid j, s) for p = 0 .. d-1; label[r] = the lowest j with the greatest s.
     * Centroids come in groups of the sizes of setun_group: value p of centroid j at packed[first*d + p*size + j - first] with first and
     * size those of its group. Meanwhile `lines` cache lines from ahead on are asked for. */
    size_t group;
    void (*nearest)(const float *panel, size_t d, const float *packed, const float *bias, size_t k, int32_t *label, const char *ahead, size_t lines);
    /* The same labels by way of 8-bit scores; null where a level does not do it. */
    const setun_screen *screen;
    /* a = 0; a = fma(panel[p*rows + r], panel[p*rows + r], a) for p = 0 .. d-1; out[r] = a. */
    void (*squares)(const float *panel, size_t d, float *out);
    /* For each row r < n: sums[label[r]*d + p] += rint(w * x[r*d + p] * scale[p]) + SETUN_RINT_BITS, w = 1 without weights, label 0 without labels. The
     * product is exact and at most 2^51 in magnitude: adding it to 3*2^51 in float64 rounds it and leaves the integer in the low bits. */
    void (*add_rows)(int64_t *sums, const int32_t *label, const float *x, size_t n, size_t d, const double *scale, const float *weights);

    /* A block of a matrix product: rows <= gemm_rows by gemm_cols. a: gemm_rows values for each p; b: gemm_cols values at b + p*step.
     * s = fresh ? 0 : c[r*ldc + j]; s = fma(a[p*gemm_rows + r], b[p*step + j], s) for p = 0 .. k-1; c[r*ldc + j] = s. */
    size_t gemm_rows, gemm_cols;
    void (*gemm)(const float *a, const float *b, size_t step, size_t k, float *c, size_t ldc, size_t rows, int fresh);
    /* out[p*width + r] = x[r*ld + p] for r < rows, 0 for rows <= r < width, p = 0 .. k-1; width is gemm_rows or gemm_cols. */
    void (*interleave)(float *out, size_t width, const float *x, size_t ld, size_t rows, size_t k);
} setun_isa;

/* The size of the group that begins at centroid j of k: as few groups of at most `most` as will do, as even as can be, the greater ones first.
 * A short last group would leave the multiply-add units waiting. */
static inline size_t setun_group(size_t k, size_t most, size_t j) {
    size_t groups = (k - 1) / most + 1, size = k / groups, greater = k % groups;
    return j < greater * (size + 1) ? size + 1 : size;
}

/* The table of a file that has given its functions the names of the entries; what differs in shape follows. */
#define SETUN_ISA(symbol, text, ...)                                                                                                                           \
    const setun_isa symbol = {.name = text,                                                                                                                    \
                              .abs_chunk = abs_chunk,                                                                                                          \
                              .square_chunk = square_chunk,                                                                                                    \
                              .dot_chunk = dot_chunk,                                                                                                          \
                              .abs_max = abs_max,                                                                                                              \
                              .select = select_codes,                                                                                                          \
                              .ternary = ternary,                                                                                                              \
                              .quinary = quinary,                                                                                                              \
                              .pack2 = pack2,                                                                                                                  \
                              .pack3 = pack3,                                                                                                                  \
                              .scale = scale,                                                                                                                  \
                              .stream = stream,                                                                                                                \
                              .drain = drain,                                                                                                                  \
                              __VA_ARGS__}

/* The entries of k-means, for a level that has a fused multiply-add. */
#define SETUN_ISA_KMEANS(r, g)                                                                                                                                 \
    .range = range, .rows = r, .group = g, .centre = centre, .panel = panel, .nearest = nearest, .squares = squares, .add_rows = add_rows
/* Those of matrix products, */
#define SETUN_ISA_MATMUL .gemm_rows = GEMM_ROWS, .gemm_cols = GEMM_COLS, .gemm = gemm, .interleave = interleave
/* and of packed codes. */
#define SETUN_ISA_CODES(table) .bytes = bytes, .codes = &table

extern const setun_isa setun_isa_ref;
extern const setun_isa setun_isa_sse42;
extern const setun_isa setun_isa_avx2;
extern const setun_isa setun_isa_avx512;
extern const setun_isa setun_isa_avx512vnni; /* avx512, a screen, and codes by products of bytes */
extern const setun_isa setun_isa_avx512vbmi; /* codes by permutations of bytes too */
extern const setun_isa setun_isa_neon;
extern const setun_isa setun_isa_neondot; /* codes by dot products of bytes */

/* The exact float32 fused multiply-add, without the instruction (isa_ref.c). */
float setun_fma32(float a, float b, float c);

#endif
