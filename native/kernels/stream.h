/* SPDX-License-Identifier: Apache-2.0
 *
 * stream.h: stores past the caches, for x86. Results too large for any cache need not be read into it to be written, nor push out what is there. */
#ifndef SETUN_STREAM_H
#define SETUN_STREAM_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

static void stream(void *to, const void *from, size_t bytes) {
    char *out = to;
    const char *in = from;
    size_t head = (64 - (uintptr_t)out % 64) % 64;
    if (head > bytes) head = bytes;
    memcpy(out, in, head);
    out += head, in += head, bytes -= head;
    for (; bytes >= 64; out += 64, in += 64, bytes -= 64)
        for (int i = 0; i < 64; i += 16) _mm_stream_si128((__m128i *)(out + i), _mm_loadu_si128((const __m128i *)(in + i)));
    memcpy(out, in, bytes);
}

static void drain(void) { _mm_sfence(); }

#endif
