/* SPDX-License-Identifier: Apache-2.0
 *
 * planes.h: codes in planes, which the device works with as bytes: where a code's sign is depends on all codes before it. */
#ifndef SETUN_CUDA_PLANES_H
#define SETUN_CUDA_PLANES_H

#include "lane.h"

namespace setun {

/* Bytes of a row of codes in a format; of planes without the signs (recode.cpp). */
int64_t recode_bytes(uint32_t format, int64_t cols);

/* Codes in planes as bytes, in out on the device. Of the signs those of these rows go up, and as many more as a row can have, should its planes say otherwise
 * than the index. A status other than SETUN_OK ends the call. */
int32_t unpack_planes(Lane &lane, const setun_call *call, const void *codes, const uint8_t *signs, const int64_t *index, int64_t rows, int64_t cols,
                      uint8_t *out);

} // namespace setun

#endif
