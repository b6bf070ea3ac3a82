/* SPDX-License-Identifier: Apache-2.0
 *
 * quantize.h: quantize on device memory, for quantize itself and for step. */
#ifndef SETUN_CUDA_QUANTIZE_H
#define SETUN_CUDA_QUANTIZE_H

#include "../lane.h"

namespace setun {

/* The checks of quantize's block, but for x. */
int32_t check_quantize(const setun_quantize *a);

/* The bytes of a row of codes, and the columns of a block of the format: rows can be cut between blocks. */
int64_t code_bytes(uint32_t format, int64_t cols);
int64_t code_block(uint32_t format);
int64_t common_multiple(int64_t a, int64_t b);

/* Quantizes rows of a tensor, before which so many values lie. */
struct QuantizeRows {
    setun_quantize to;
    int64_t first;
};
int32_t quantize_rows(Lane &lane, QuantizeRows *a);

class Quantizer {
  public:
    /* Takes all device memory that the work needs, so that nothing but the device itself can fail after it. */
    Quantizer(Lane &lane, const setun_quantize *a, int64_t first = 0);
    /* Codes alone, from one scale and its cuts, which are on the device. */
    Quantizer(Lane &lane, const setun_quantize *a, int64_t first, float *scale, float *cuts);
    /* Whether there is one scale, found by way of chunks: then sums and most (the greatest magnitude, as bits) take what first_done says is there. */
    bool chunked() const { return one_scale_ && long_; }
    bool by_greatest() const { return args_->rule == SETUN_ABSMAX || args_->rule == SETUN_STOCHASTIC; }
    double *sums() const { return sums_; }
    unsigned *most() const { return most_; }
    /* Begins all kernels on x, which is on the device; first_done: sums or most have been filled in for x. */
    void run(const float *x, bool first_done);
    /* One word on the device, not 0 after the kernels where x holds a NaN or an infinity. */
    const unsigned *bad() const { return bad_; }
    void codes(const float *x);
    /* Forgets the outputs. */
    void discard();

  private:
    void scales(const float *x, bool first_done);
    bool tiles(const float *x);

    Lane &lane_;
    const setun_quantize *args_;
    int64_t first_; /* how many values of the tensor lie before x: stochastic rounding draws by a value's place */
    bool one_scale_, long_;
    int64_t rows_, cols_, group_; /* of the scales: rows are one where that makes no difference */
    int64_t groups_, chunks_;     /* in all; of a group */
    uint8_t *out_ = nullptr;
    float *scales_ = nullptr, *cuts_ = nullptr;
    double *sums_ = nullptr;
    unsigned long long *counts_ = nullptr;
    unsigned *done_ = nullptr, *most_ = nullptr, *bad_ = nullptr;
};

} // namespace setun

#endif
