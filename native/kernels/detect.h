/* SPDX-License-Identifier: Apache-2.0
 *
 * detect.h: which instruction set levels this machine can run. */
#ifndef SETUN_DETECT_H
#define SETUN_DETECT_H

/* How many levels above the scalar reference are there: x86-64: 0, 1 (SSE4.2), 2 (AVX2 and FMA), 3 (AVX-512 F, BW, DQ, VL), 4 (and VNNI);
 * arm64: 1 (NEON). A level counts only when the operating system saves its registers, and only on top of the one below. */
int setun_detect(void);

#endif
