/* SPDX-License-Identifier: Apache-2.0
 *
 * isa.h: what an instruction set level has to provide. The ops (quantize.c, reduce.c, kmeans.c) are written once over
 * this table; each isa_*.c fills it in. The comment of each entry IS the loop that it must equal, bit for bit;
 * isa_ref.c is that loop in plain C and is the truth. See docs/numerics.md for the rules named here. */
#ifndef SETUN_ISA_H
#define SETUN_ISA_H

#include <stddef.h>
#include <stdint.h>

#define SETUN_CHUNK 4096   /* elements summed in 32 lanes before a fold */
#define SETUN_MAX_TILE 16  /* rows of a k-means tile, at most */
#define SETUN_MAX_WIDTH 32 /* centroids of a panel, at most */
#define SETUN_MAX_LANES 16 /* candidates kept for a row */

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
    /* r = (float)((double)x[i] * f); out[i] = |r| < 2^-126 ? r * 0 : r. */
    void (*scale)(float *out, const float *x, size_t n, double f);

    /* low[j] = min(low[j], x[i][j]), high likewise; returns the greatest magnitude bits. */
    uint32_t (*range)(const float *x, size_t n, size_t d, float *low, float *high);
    /* sums[j] += rint(w * x[j] * scale[j]), the product in float64; at most 2^51 in magnitude. */
    void (*add_row)(int64_t *sums, const float *x, const double *scale, double w, size_t d);
    /* out[j] = x[j] - mean[j]; returns the smallest magnitude bits that are not 0, 0x7f800000 when all are. */
    uint32_t (*centre)(float *out, const float *x, const float *mean, size_t d);

    /* k-means scores: tile_rows rows (row r at rows + r*d) against a panel of width centroids, element p of centroid
     * c at panel[p*width + c]. a = bias[c]; a = fma(row[p], panel[p*width + c], a) for p = 0 .. d-1. The score competes
     * in lane c % lanes of its row: where a > best, best = a and index = base + c, for rising c. */
    size_t tile_rows, width, lanes;
    void (*tile)(const float *rows, size_t d, const float *panel, const float *bias, int32_t base, float *best, int32_t *index);
    /* 1 when tile and gemm need results below 2^-126 to be exact (they emulate the fused operation). */
    int tile_needs_granule;
    /* Greatest best of the lanes, the lowest index of equals. */
    int32_t (*winner)(const float *best, const int32_t *index);
    /* For rows of t at t + r*d, r < n <= SETUN_MAX_TILE: a = 0; a = fma(t[p], t[p], a); out[r] = a. t has SETUN_MAX_TILE rows. */
    void (*squares)(const float *t, size_t n, size_t d, float *out);

    /* A block of a matrix product: rows <= gemm_rows by gemm_cols. a: gemm_rows values for each p; b: gemm_cols values at b + p*step.
     * s = fresh ? 0 : c[r*ldc + j]; s = fma(a[p*gemm_rows + r], b[p*step + j], s) for p = 0 .. k-1; c[r*ldc + j] = s. */
    size_t gemm_rows, gemm_cols;
    void (*gemm)(const float *a, const float *b, size_t step, size_t k, float *c, size_t ldc, size_t rows, int fresh);
    /* out[p*width + r] = x[r*ld + p] for r < rows, 0 for rows <= r < width, p = 0 .. k-1; width is gemm_rows or gemm_cols. */
    void (*interleave)(float *out, size_t width, const float *x, size_t ld, size_t rows, size_t k);
} setun_isa;

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
                              .range = range,                                                                                                                  \
                              .add_row = add_row,                                                                                                              \
                              .centre = centre,                                                                                                                \
                              .tile = tile,                                                                                                                    \
                              .winner = winner,                                                                                                                \
                              .squares = squares,                                                                                                              \
                              .gemm = gemm,                                                                                                                    \
                              __VA_ARGS__}

extern const setun_isa setun_isa_ref;
extern const setun_isa setun_isa_sse42;
extern const setun_isa setun_isa_avx2;
extern const setun_isa setun_isa_avx512;
extern const setun_isa setun_isa_neon;

/* The exact float32 fused multiply-add, without the instruction (isa_ref.c). */
float setun_fma32(float a, float b, float c);
/* The reference tile for any shape of panel and lanes. */
void setun_tile_ref(const setun_isa *shape, const float *rows, size_t d, const float *panel, const float *bias, int32_t base, float *best, int32_t *index);
/* The reference gemm for any shape of block, and the plain loop of interleave. */
void setun_gemm_ref(const setun_isa *shape, const float *a, const float *b, size_t step, size_t k, float *c, size_t ldc, size_t rows, int fresh);
void setun_interleave_ref(float *out, size_t width, const float *x, size_t ld, size_t rows, size_t k);

#endif
