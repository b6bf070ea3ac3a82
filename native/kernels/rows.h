/* SPDX-License-Identifier: Apache-2.0
 *
 * rows.h: rows added to their sums, for any instruction set. The file that includes it gives add_row, always inlined. */
static void add_rows(int64_t *sums, const int32_t *label, const float *x, size_t n, size_t d, const double *scales, const float *weights) {
    for (size_t r = 0; r < n; r++) {
        int64_t *to = sums + (label ? (size_t)label[r] * d : 0);
        if (weights)
            add_row(to, x + r * d, d, scales, weights + r);
        else
            add_row(to, x + r * d, d, scales, 0); /* a row of weight 1 needs no product */
    }
}
