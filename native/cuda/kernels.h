/* SPDX-License-Identifier: Apache-2.0
 *
 * kernels.h: every kernel by name, and its parameters. The host part takes the types of a launch from here. */
#ifndef SETUN_CUDA_KERNELS_H
#define SETUN_CUDA_KERNELS_H

#if !(defined(__CUDA__) && defined(__clang__)) /* port.h has the types there */
#include <stdint.h>
#endif

#define SETUN_CUDA_KERNELS(X)                                                                                                                                  \
    SETUN_SUM_KERNELS(X)                                                                                                                                       \
    SETUN_CONSTRAIN_KERNELS(X)                                                                                                                                 \
    SETUN_KMEANS_KERNELS(X)                                                                                                                                    \
    SETUN_MANY_KERNELS(X)                                                                                                                                      \
    SETUN_QUANTIZE_KERNELS(X) SETUN_STEP_KERNELS(X) SETUN_RECODE_KERNELS(X) SETUN_MATMUL_KERNELS(X) SETUN_TERNARY_KERNELS(X) SETUN_LAYER_KERNELS(X)

#ifndef SETUN_KERNEL
#define SETUN_KERNEL extern "C"
#endif

/* ---- sums: reduce.cu ---------------------------------------------------------------------------------------------- */

#define SETUN_SUM_KERNELS(X) X(sum_squares) X(sum_products) X(sum_tree) X(find_bad)

/* sums[c] is the chunk c of S(x*x), and of S(x*y). A warp a chunk. */
SETUN_KERNEL void sum_squares(const float *x, int64_t n, double *sums);
SETUN_KERNEL void sum_products(const float *x, const float *y, int64_t n, double *sums);
/* One block: out[0] = the tree over n chunk sums, which are used up. */
SETUN_KERNEL void sum_tree(double *sums, int64_t n, double *out);
/* bad[0] = the lowest index of a value that is not finite, or as it was. */
SETUN_KERNEL void find_bad(const float *x, int64_t n, unsigned long long *bad);

/* ---- constrain.cu -------------------------------------------------------------------------------------------------- */

#define SETUN_CONSTRAIN_KERNELS(X) X(ball) X(project)

/* One block: state[0] = the norm from n chunk sums, state[1] = the factor, 1 inside the ball, NaN where the norm is not finite. */
SETUN_KERNEL void ball(double *sums, int64_t n, double radius, double *state);
/* dst = x times the factor; inside the ball a copy, or nothing where dst is x. */
SETUN_KERNEL void project(float *dst, const float *x, int64_t n, const double *state);

/* ---- kmeans.cu, kmeans_assign.cu, kmeans_move.cu, kmeans_seed.cu: x' = x * unit - mean --------------------------------------------------------------
 *
 * width: columns that neighbouring threads have (ops/kmeans.h). mean is followed by zeros up to a multiple of 32 values. The variants without "any" want d to
 * be a multiple of 4 and x aligned to 16 bytes. */

#define SETUN_KMEANS_KERNELS(X)                                                                                                                                \
    X(kmeans_range)                                                                                                                                            \
    X(kmeans_mean)                                                                                                                                             \
    X(kmeans_distance)                                                                                                                                         \
    X(kmeans_distance_any)                                                                                                                                     \
    X(kmeans_top)                                                                                                                                              \
    X(kmeans_potential)                                                                                                                                        \
    X(kmeans_unit)                                                                                                                                             \
    X(kmeans_unit_long)                                                                                                                                        \
    X(kmeans_turn)                                                                                                                                             \
    X(kmeans_nearest_32)                                                                                                                                       \
    X(kmeans_nearest_64)                                                                                                                                       \
    X(kmeans_nearest_128)                                                                                                                                      \
    X(kmeans_nearest_any_32)                                                                                                                                   \
    X(kmeans_nearest_any_64)                                                                                                                                   \
    X(kmeans_nearest_any_128)                                                                                                                                  \
    X(kmeans_add)                                                                                                                                              \
    X(kmeans_relabel)                                                                                                                                          \
    X(kmeans_look)                                                                                                                                             \
    X(kmeans_move)                                                                                                                                             \
    X(kmeans_shift)                                                                                                                                            \
    X(kmeans_still)                                                                                                                                            \
    X(kmeans_pick)

/* low and high, in the order of unsigned integers, take in x * unit; bad is set where that is not finite. */
SETUN_KERNEL void kmeans_range(const float *x, int64_t n, int d, int width, const float *unit, unsigned *low, unsigned *high, unsigned *bad);
/* sums[j] += sum of rint(x_j * unit * scale[j]) */
SETUN_KERNEL void kmeans_mean(const float *x, int64_t n, int d, int width, const float *unit, const double *scale, int64_t *sums);
/* distance[i] = |x' - centroid|^2, that of the label or the first; keep_min: unless it is smaller already. */
#define SETUN_PARAMETERS                                                                                                                                       \
    const float *x, int64_t n, int d, const float *unit, const float *mean, const float *centroids, int k, const int32_t *labels, int keep_min, float *distance
SETUN_KERNEL void kmeans_distance(SETUN_PARAMETERS);
SETUN_KERNEL void kmeans_distance_any(SETUN_PARAMETERS);
#undef SETUN_PARAMETERS
/* top[0] = the bits of the greatest weights[i] * distance[i], or as it was. Here and below distances are all 1 where they are null. */
SETUN_KERNEL void kmeans_top(const float *distance, const float *weights, int64_t n, unsigned long long *top);
/* sums[c] = sum over a chunk of rint(weights[i] * distance[i] * s), s = bound / 2^(exponent of top[0]). */
SETUN_KERNEL void kmeans_potential(const float *distance, const float *weights, int64_t n, const unsigned long long *top, double bound, int64_t *sums);
/* Draws a row by those sums, or among all rows alike where sums is null, or where the sums are 0 the lowest that is not taken; its x' is the
 * centroid. taken: of the first k rows, k being more than t. One block. */
SETUN_KERNEL void kmeans_pick(const float *x, int64_t n, int d, const float *unit, const float *mean, const float *distance, const float *weights,
                              const unsigned long long *top, double bound, const int64_t *sums, uint64_t seed, int t, int k, uint8_t *taken, float *centroid);
/* unit[i] = 1 / |x_i| of rows of at most a chunk; of longer ones, with room for n * chunks sums. */
SETUN_KERNEL void kmeans_unit(const float *x, int64_t n, int d, float *unit);
SETUN_KERNEL void kmeans_unit_long(const float *x, int64_t n, int64_t d, double *sums, float *unit);
/* Centroids a tile at a time: value p of centroid j at turned[(j / tile * lines + p) * tile + j % tile] for p < lines and j < columns; 0 past the ends. columns
 * is a multiple of tile, that of 32, lines one of 8. */
SETUN_KERNEL void kmeans_turn(const float *c, int k, int d, float *turned, int columns, int lines, int tile);
/* The nearest centroid of each of 128 rows a block. The tile of turned is the number in the name; another 8 * tile values are read behind it. */
#define SETUN_PARAMETERS                                                                                                                                       \
    const float *x, int64_t n, int d, const float *unit, const float *mean, const float *turned, int columns, const float *bias, int32_t *labels
SETUN_KERNEL void kmeans_nearest_32(SETUN_PARAMETERS);
SETUN_KERNEL void kmeans_nearest_64(SETUN_PARAMETERS);
SETUN_KERNEL void kmeans_nearest_128(SETUN_PARAMETERS);
SETUN_KERNEL void kmeans_nearest_any_32(SETUN_PARAMETERS);
SETUN_KERNEL void kmeans_nearest_any_64(SETUN_PARAMETERS);
SETUN_KERNEL void kmeans_nearest_any_128(SETUN_PARAMETERS);
#undef SETUN_PARAMETERS
/* sums of labels[i] += rint(weight * x' * scale); before not null: only of rows whose label was another, and taken from the sums of that. shared: in 8 * k *
 * width bytes of dynamic shared memory first. Nothing, like kmeans_relabel, once a run has stopped; record may be null. */
SETUN_KERNEL void kmeans_add(const float *x, int64_t n, int d, int width, const float *unit, const float *mean, const double *scale, const float *weights,
                             const int32_t *labels, const int32_t *before, int k, int64_t *sums, int shared, const unsigned long long *record);
/* labels = fresh, counted in changed where they differ; counts and weight_sums unless counts is null: of all rows, or of those that moved. */
SETUN_KERNEL void kmeans_relabel(const int32_t *fresh, int32_t *labels, int64_t n, int k, const float *weights, double weight_scale, int moved, int64_t *counts,
                                 int64_t *weight_sums, unsigned long long *changed, const unsigned long long *record);
/* A run of iterations has a record: why it stopped, 0 for not yet, and how many were begun. kmeans_look counts one, and stops the run where nothing changed or
 * a mass is 0. */
SETUN_KERNEL void kmeans_look(const int64_t *mass, int k, const unsigned long long *changed, unsigned long long *record);
/* The centroids to the means of their clusters, of length 1 if sphere says so, where they were to before, and the biases. sums null: the biases alone. parts
 * has room for k times the chunks of d. A block a centroid. */
SETUN_KERNEL void kmeans_move(const int64_t *sums, const int64_t *mass, const double *scale, double weight_scale, const float *mean, int sphere, int k, int d,
                              float *centroids, float *before, float *bias, double *parts, const unsigned long long *record);
/* Chunks of the squared movement of n values; and whether it is at most the limit. */
SETUN_KERNEL void kmeans_shift(const float *centroids, const float *before, int64_t n, double *parts, const unsigned long long *record);
SETUN_KERNEL void kmeans_still(double *parts, int64_t chunks, double limit, unsigned long long *record);
/* In record[0], as SETUN_RUN_... of backend.h. */
enum { SETUN_STOP_SETTLED = 1, SETUN_STOP_UNMOVED = 2, SETUN_STOP_STILL = 3 };

/* ---- kmeans_many.cu: the same for a list of problems, that of blockIdx.z --------------------------------------------
 *
 * x, unit, labels and distances are those of all problems; a part has its rows of them. Other arrays have d, k, k*d or so many values for each index. */

#define SETUN_MANY_KERNELS(X)                                                                                                                                  \
    X(many_pad)                                                                                                                                                \
    X(many_range)                                                                                                                                              \
    X(many_mean)                                                                                                                                               \
    X(many_distance)                                                                                                                                           \
    X(many_distance_any)                                                                                                                                       \
    X(many_top)                                                                                                                                                \
    X(many_potential)                                                                                                                                          \
    X(many_pick)                                                                                                                                               \
    X(many_turn)                                                                                                                                               \
    X(many_nearest_32)                                                                                                                                         \
    X(many_nearest_64)                                                                                                                                         \
    X(many_nearest_128)                                                                                                                                        \
    X(many_nearest_any_32)                                                                                                                                     \
    X(many_nearest_any_64)                                                                                                                                     \
    X(many_nearest_any_128)                                                                                                                                    \
    X(many_add)                                                                                                                                                \
    X(many_relabel)                                                                                                                                            \
    X(many_look)                                                                                                                                               \
    X(many_move)                                                                                                                                               \
    X(many_shift)                                                                                                                                              \
    X(many_still)

struct setun_part {
    int64_t first, n;    /* rows */
    double bound, limit; /* of potentials; of the movement, negative where there is none */
    int index, moved;    /* where its part of other arrays is; only rows that move are added, in the first iteration of a run too */
};
enum { SETUN_AHEAD = 8 };
struct setun_record {
    unsigned long long stopped, begun, changed[SETUN_AHEAD];
};

/* Rows of d values become rows of wide ones, with others behind. */
SETUN_KERNEL void many_pad(const float *in, int64_t rows, int d, int wide, float fill, float *out);
SETUN_KERNEL void many_range(const setun_part *list, const float *x, int d, int width, const float *unit, unsigned *low, unsigned *high, unsigned *bad);
SETUN_KERNEL void many_mean(const setun_part *list, const float *x, int d, int width, const float *unit, const double *scale, int64_t *sums);
/* stride: values from the centroids of a problem to the next. */
#define SETUN_PARAMETERS                                                                                                                                       \
    const setun_part *list, const float *x, int d, const float *unit, const float *mean, int wide, const float *centroids, int64_t stride, int k,              \
        const int32_t *labels, int keep_min, float *distance
SETUN_KERNEL void many_distance(SETUN_PARAMETERS);
SETUN_KERNEL void many_distance_any(SETUN_PARAMETERS);
#undef SETUN_PARAMETERS
SETUN_KERNEL void many_top(const setun_part *list, const float *distance, unsigned long long *top);
/* chunks: sums of a problem. */
SETUN_KERNEL void many_potential(const setun_part *list, const float *distance, const unsigned long long *top, int64_t chunks, int64_t *sums);
SETUN_KERNEL void many_pick(const setun_part *list, const float *x, int d, const float *unit, const float *mean, int wide, const float *distance,
                            const unsigned long long *top, int64_t chunks, const int64_t *sums, uint64_t seed, int t, int k, uint8_t *taken, float *centroids);
/* size: values of a problem in turned. */
SETUN_KERNEL void many_turn(const setun_part *list, const float *c, int k, int d, int64_t size, float *turned, int columns, int lines, int tile);
#define SETUN_PARAMETERS                                                                                                                                       \
    const setun_part *list, const float *x, int d, const float *unit, const float *mean, int wide, const float *turned, int64_t size, int columns,             \
        const float *bias, int32_t *labels
SETUN_KERNEL void many_nearest_32(SETUN_PARAMETERS);
SETUN_KERNEL void many_nearest_64(SETUN_PARAMETERS);
SETUN_KERNEL void many_nearest_128(SETUN_PARAMETERS);
SETUN_KERNEL void many_nearest_any_32(SETUN_PARAMETERS);
SETUN_KERNEL void many_nearest_any_64(SETUN_PARAMETERS);
SETUN_KERNEL void many_nearest_any_128(SETUN_PARAMETERS);
#undef SETUN_PARAMETERS
/* first: of a run's iterations. */
SETUN_KERNEL void many_add(const setun_part *list, const float *x, int d, int width, const float *unit, const float *mean, int wide, const double *scale,
                           const int32_t *labels, const int32_t *before, int first, int k, int64_t *sums, int shared, const setun_record *records);
SETUN_KERNEL void many_relabel(const setun_part *list, const int32_t *fresh, int32_t *labels, int first, int k, int64_t *counts, int iteration,
                               setun_record *records);
SETUN_KERNEL void many_look(const setun_part *list, const int64_t *counts, int k, int iteration, setun_record *records);
SETUN_KERNEL void many_move(const setun_part *list, const int64_t *sums, const int64_t *counts, const double *scale, const float *mean, int wide, int sphere,
                            int k, int d, float *centroids, float *before, float *bias, int columns, double *parts, const setun_record *records);
SETUN_KERNEL void many_shift(const setun_part *list, const float *centroids, const float *before, int64_t values, double *parts, const setun_record *records);
SETUN_KERNEL void many_still(const setun_part *list, double *parts, int64_t chunks, setun_record *records);

/* ---- quantize: quantize.cu, codes.cu ------------------------------------------------------------------------------- */

#define SETUN_QUANTIZE_KERNELS(X)                                                                                                                              \
    X(group_scale)                                                                                                                                             \
    X(group_rounds)                                                                                                                                            \
    X(group_magnitudes)                                                                                                                                        \
    X(group_squares)                                                                                                                                           \
    X(group_greatest)                                                                                                                                          \
    X(group_selected)                                                                                                                                          \
    X(group_first)                                                                                                                                             \
    X(group_round)                                                                                                                                             \
    X(group_energy)                                                                                                                                            \
    X(codes_int8)                                                                                                                                              \
    X(codes_int8_random)                                                                                                                                       \
    X(codes_int8_groups)                                                                                                                                       \
    X(codes_int8_groups_random)                                                                                                                                \
    X(codes_2bit)                                                                                                                                              \
    X(codes_2bit_random)                                                                                                                                       \
    X(codes_2bit_groups)                                                                                                                                       \
    X(codes_2bit_groups_random)                                                                                                                                \
    X(codes_base3) X(codes_base3_random) X(codes_base3_groups) X(codes_base3_groups_random) SETUN_TILES_KERNELS(X)

/* Scale and cuts of groups of at most 4096 values, by the rules with rounds of least squares and by the others; a warp a group. bad[0] = 1 where a value is
 * not finite. */
SETUN_KERNEL void group_rounds(const float *x, int64_t rows, int64_t cols, int64_t group, int rule, int levels, float *scales, float *cuts, unsigned *bad);
SETUN_KERNEL void group_scale(const float *x, int64_t rows, int64_t cols, int64_t group, int rule, int levels, float *scales, float *cuts, unsigned *bad);
/* Longer groups: sums of their chunks, of |x| and x*x; the greatest |x| as bits; sums of what the cuts select, and how many values that are. */
SETUN_KERNEL void group_magnitudes(const float *x, int64_t rows, int64_t cols, int64_t group, double *sums);
SETUN_KERNEL void group_squares(const float *x, int64_t rows, int64_t cols, int64_t group, double *sums);
SETUN_KERNEL void group_greatest(const float *x, int64_t rows, int64_t cols, int64_t group, unsigned *most);
SETUN_KERNEL void group_selected(const float *x, int64_t rows, int64_t cols, int64_t group, int levels, const float *cuts, const unsigned *done, double *sums,
                                 unsigned long long *counts);
/* The first scale and its cuts, a round of least squares, and the scale of the magnitude rule; a block a group. */
SETUN_KERNEL void group_first(double *sums, const unsigned *most, int64_t rows, int64_t cols, int64_t group, int rule, int levels, float *scales, float *cuts,
                              unsigned long long *counts, unsigned *done, unsigned *bad);
SETUN_KERNEL void group_round(double *sums, int64_t rows, int64_t cols, int64_t group, int levels, int round, float *scales, float *cuts,
                              unsigned long long *counts, unsigned *done);
SETUN_KERNEL void group_energy(double *sums, int64_t rows, int64_t cols, int64_t group, int levels, const unsigned long long *counts, float *scales);
/* Codes. group is that of the scales, 2^shift unless shift is negative; unused by those with one scale. first: how many values of the tensor lie before x, a
 * multiple of 4; read by those that draw. */
#define SETUN_CODES_KERNEL(name)                                                                                                                               \
    SETUN_KERNEL void name(const float *x, int64_t rows, int64_t cols, int64_t group, int shift, const float *cuts, const float *scales, int levels,           \
                           uint64_t seed, int64_t first, uint8_t *out)
SETUN_CODES_KERNEL(codes_int8);
SETUN_CODES_KERNEL(codes_int8_random);
SETUN_CODES_KERNEL(codes_int8_groups);
SETUN_CODES_KERNEL(codes_int8_groups_random);
SETUN_CODES_KERNEL(codes_2bit);
SETUN_CODES_KERNEL(codes_2bit_random);
SETUN_CODES_KERNEL(codes_2bit_groups);
SETUN_CODES_KERNEL(codes_2bit_groups_random);
SETUN_CODES_KERNEL(codes_base3);
SETUN_CODES_KERNEL(codes_base3_random);
SETUN_CODES_KERNEL(codes_base3_groups);
SETUN_CODES_KERNEL(codes_base3_groups_random);
/* Scales and codes in one reading, by the rules without rounds and draws: whole groups of at most 512 values, the long ones 1024, a multiple of 4; x aligned to
 * 16 bytes. A warp has 4/parts groups. Packed codes: tiles of at most 8192 values, of `lines` rows where tile is cols, else of so many columns of one row:
 * whole groups, and whole blocks of codes. */
#define SETUN_TILES_KERNELS(X) X(tiles_int8) X(tiles_2bit) X(tiles_base3) X(tiles_long_int8) X(tiles_long_2bit) X(tiles_long_base3)
#define SETUN_TILES_KERNEL(name)                                                                                                                               \
    SETUN_KERNEL void name##_int8(const float *x, int64_t groups, int group, int parts, int rule, int levels, float *scales, unsigned *bad, uint8_t *out);     \
    SETUN_KERNEL void name##_2bit(const float *x, int64_t rows, int64_t cols, int group, int parts, int tile, int lines, int rule, float *scales,              \
                                  unsigned *bad, uint8_t *out);                                                                                                \
    SETUN_KERNEL void name##_base3(const float *x, int64_t rows, int64_t cols, int group, int parts, int tile, int lines, int rule, float *scales,             \
                                   unsigned *bad, uint8_t *out)
SETUN_TILES_KERNEL(tiles);
SETUN_TILES_KERNEL(tiles_long);

/* ---- step.cu, clusters.cu, activations.cu ---------------------------------------------------------------------------- */

#define SETUN_STEP_KERNELS(X)                                                                                                                                  \
    X(step_apply) X(segment_squares) X(row_trees) X(row_order) X(cluster_norms) X(segment_project) X(row_project) X(activations_warp) X(activations_block)

/* params += delta times the factor of ball, unless that is NaN; then the chunk sums of |params| and the greatest, each unless null. */
SETUN_KERNEL void step_apply(float *params, const float *delta, int64_t n, const double *state, double *sums, unsigned *most);
/* first[c] is how many chunks the segments before c have; null: each has one. */
SETUN_KERNEL void segment_squares(const float *x, const int64_t *offsets, const int64_t *first, int64_t k, int64_t chunks, double *sums);
SETUN_KERNEL void row_trees(double *sums, int64_t rows, int64_t chunks);
SETUN_KERNEL void row_order(const double *sums, int64_t rows, int64_t chunks, const int64_t *places, double *sorted, unsigned *bad);
SETUN_KERNEL void cluster_norms(double *sums, const int64_t *begin, int64_t k, const double *radii, double *norms, double *factors, unsigned *bad);
/* dst = x times the factors, unless bad[0]. */
SETUN_KERNEL void segment_project(float *dst, const float *x, const int64_t *offsets, const int64_t *first, int64_t k, int64_t chunks, const double *factors,
                                  const unsigned *bad);
SETUN_KERNEL void row_project(float *dst, const float *x, int64_t rows, int64_t cols, const int32_t *labels, const double *factors, const unsigned *bad);
/* Codes and scales of rows; bad[0] = 1 where a value is not finite. */
SETUN_KERNEL void activations_warp(const float *x, int64_t rows, int64_t cols, uint8_t *out, float *scales, unsigned *bad);
SETUN_KERNEL void activations_block(const float *x, int64_t rows, int64_t cols, uint8_t *out, float *scales, unsigned *bad);

/* ---- recode.cu -------------------------------------------------------------------------------------------------------- */

#define SETUN_RECODE_KERNELS(X)                                                                                                                                \
    X(recode_int8_2bit)                                                                                                                                        \
    X(recode_int8_base3)                                                                                                                                       \
    X(recode_2bit_int8)                                                                                                                                        \
    X(recode_2bit_2bit)                                                                                                                                        \
    X(recode_2bit_base3)                                                                                                                                       \
    X(recode_base3_int8) X(recode_base3_2bit) X(recode_base3_base3) X(recode_four5_int8) X(recode_four5_2bit) X(recode_four5_base3) X(recode_planes_int8)

#define SETUN_RECODE_KERNEL(name) SETUN_KERNEL void name(const uint8_t *codes, int64_t rows, int64_t cols, uint8_t *out)
SETUN_RECODE_KERNEL(recode_int8_2bit);
SETUN_RECODE_KERNEL(recode_int8_base3);
SETUN_RECODE_KERNEL(recode_2bit_int8);
SETUN_RECODE_KERNEL(recode_2bit_2bit);
SETUN_RECODE_KERNEL(recode_2bit_base3);
SETUN_RECODE_KERNEL(recode_base3_int8);
SETUN_RECODE_KERNEL(recode_base3_2bit);
SETUN_RECODE_KERNEL(recode_base3_base3);
SETUN_RECODE_KERNEL(recode_four5_int8);
SETUN_RECODE_KERNEL(recode_four5_2bit);
SETUN_RECODE_KERNEL(recode_four5_base3);
/* signs: from the position `first` on. */
SETUN_KERNEL void recode_planes_int8(const uint8_t *codes, const uint8_t *signs, const int64_t *index, int64_t first, int64_t rows, int64_t cols, uint8_t *out);

/* ---- matmul.cu ----------------------------------------------------------------------------------------------------- */

#define SETUN_MATMUL_KERNELS(X) X(matmul_128) X(matmul_64) X(matmul_thin)

/* Tiles of C = A B, the block's index being `first` + its number: all tiles of a product, then those of the next one of the batch. flags: those of the call,
 * and 8, 16, 32 where a, b, c have quads of values aligned to 16 bytes. 256 threads. */
SETUN_KERNEL void matmul_128(const float *a, const float *b, float *c, int64_t m, int64_t n, int k, int64_t lda, int64_t ldb, int64_t ldc, int64_t stride_a,
                             int64_t stride_b, int64_t stride_c, int flags, int64_t first);
SETUN_KERNEL void matmul_64(const float *a, const float *b, float *c, int64_t m, int64_t n, int k, int64_t lda, int64_t ldb, int64_t ldc, int64_t stride_a,
                            int64_t stride_b, int64_t stride_c, int flags, int64_t first);
/* Tiles of 8 rows and 32 columns; C's values are `down` and `across` apart. */
SETUN_KERNEL void matmul_thin(const float *a, const float *b, float *c, int64_t m, int64_t n, int k, int64_t lda, int64_t ldb, int64_t down, int64_t across,
                              int64_t stride_a, int64_t stride_b, int64_t stride_c, int flags, int64_t first);

/* ---- ternary.cu ---------------------------------------------------------------------------------------------------- */

#define SETUN_TERNARY_KERNELS(X) X(ternary_dots)

/* Elements of a ternary matmul in tiles of 32 rows by 8 of activations, the block's index being `first` + its number, activations first. A row has `full`
 * blocks of the format and then so many places. Columns are taken in units of `unit`, `panel` units at a time, the first `blocks` units being blocks of the
 * format (64 columns for bytes) which groups do not cut but between 64 columns. flags: 1 where rows of codes are
 * aligned to 16 bytes, as rows of activations have to be where `blocks` is not 0; 2 where each row has scales. 256 threads; shared memory of 1152 bytes for
 * each group that a panel touches. */
SETUN_KERNEL void ternary_dots(const uint8_t *codes, const float *scales, const int8_t *x, const float *x_scales, float *out, int64_t rows, int64_t cols,
                               int64_t group, int64_t batch, int64_t row_bytes, int64_t full, int64_t blocks, int64_t panel, int places, int unit, int format,
                               int flags, double factor, int64_t first);

/* ---- norm.cu, softmax.cu, activate.cu, update.cu: backend.h and docs/numerics.md have the arithmetic ----------------- */

#define SETUN_LAYER_KERNELS(X)                                                                                                                                 \
    X(norm_rows)                                                                                                                                               \
    X(norm_squares)                                                                                                                                            \
    X(norm_scales)                                                                                                                                             \
    X(norm_apply)                                                                                                                                              \
    X(norm_gradient)                                                                                                                                           \
    X(norm_products)                                                                                                                                           \
    X(norm_gradient_long)                                                                                                                                      \
    X(norm_gain)                                                                                                                                               \
    X(softmax_short)                                                                                                                                           \
    X(softmax_rows)                                                                                                                                            \
    X(softmax_gradient)                                                                                                                                        \
    X(softmax_most)                                                                                                                                            \
    X(softmax_powers)                                                                                                                                          \
    X(softmax_divide) X(softmax_products) X(softmax_slope) X(relu2) X(relu2_gradient) X(swiglu) X(swiglu_gradient) X(update_adamw) X(update_momentum)

/* Rows of at most 4096 values, a warp each; delta and gain may be null. */
SETUN_KERNEL void norm_rows(const float *x, const float *delta, const float *gain, int64_t rows, int64_t cols, double epsilon, float *sum, float *scale,
                            float *out);
/* Longer ones, of so many chunks: their chunk sums of (x + delta)^2, which is stored; the scales from those, a block a row; x * scale * gain. */
SETUN_KERNEL void norm_squares(const float *x, const float *delta, int64_t rows, int64_t cols, int64_t chunks, float *sum, double *sums);
SETUN_KERNEL void norm_scales(double *sums, int64_t rows, int64_t cols, int64_t chunks, double epsilon, float *scale);
SETUN_KERNEL void norm_apply(const float *x, const float *gain, const float *scale, int64_t rows, int64_t cols, int64_t chunks, float *out);
/* The gradient, in place of what out holds or added to it, and with gain the sums of blocks of 32 rows in parts; 1024 threads. Rows of at most 4096 values; or
 * longer ones, from the sums of norm_products after row_trees. */
SETUN_KERNEL void norm_gradient(const float *x, const float *gain, const float *dy, const float *scale, int64_t rows, int64_t cols, int add, float *out,
                                float *parts);
SETUN_KERNEL void norm_products(const float *x, const float *gain, const float *dy, const float *scale, int64_t rows, int64_t cols, int64_t chunks,
                                double *sums);
SETUN_KERNEL void norm_gradient_long(const float *x, const float *gain, const float *dy, const float *scale, const double *sums, int64_t rows, int64_t cols,
                                     int64_t chunks, int add, float *out, float *parts);
/* dgain += the sums of the blocks' parts. */
SETUN_KERNEL void norm_gain(const float *parts, int64_t blocks, int64_t cols, float *dgain);

/* Rows of at most 1024 values, and of at most 4096; a warp each. stats may be null. */
SETUN_KERNEL void softmax_short(float *x, int64_t rows, int64_t cols, int64_t period, float scale, double factor, double *stats);
SETUN_KERNEL void softmax_rows(float *x, int64_t rows, int64_t cols, int64_t period, float scale, double factor, double *stats);
SETUN_KERNEL void softmax_gradient(const float *p, float *x, int64_t rows, int64_t cols, int64_t period, float scale);
/* Longer ones: the greatest of each row, as unsigned integers from 0 on; powers and their chunk sums; after row_trees the quotients. */
SETUN_KERNEL void softmax_most(const float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, unsigned *most);
SETUN_KERNEL void softmax_powers(float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, float scale, const unsigned *most, double *sums);
SETUN_KERNEL void softmax_divide(float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, double factor, const unsigned *most, const double *sums,
                                 double *stats);
SETUN_KERNEL void softmax_products(const float *p, const float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, double *sums);
SETUN_KERNEL void softmax_slope(const float *p, float *x, int64_t rows, int64_t cols, int64_t period, int64_t chunks, float scale, const double *sums);

SETUN_KERNEL void relu2(const float *x, float *out, int64_t n);
SETUN_KERNEL void relu2_gradient(const float *x, const float *dy, float *out, int64_t n);
SETUN_KERNEL void swiglu(const float *x, float *out, int64_t rows, int64_t cols);
SETUN_KERNEL void swiglu_gradient(const float *x, const float *dy, float *out, int64_t rows, int64_t cols);

/* rest: 1 - beta; rate: of the other sign than the call's. */
SETUN_KERNEL void update_adamw(const float *value, const float *grad, float *m, float *v, float *delta, int64_t n, double beta1, double beta2, double rest1,
                               double rest2, double unbias1, double unbias2, double epsilon, double decay, double rate);
SETUN_KERNEL void update_momentum(const float *value, const float *grad, float *m, float *delta, int64_t n, double beta, double decay, double rate);

#endif
