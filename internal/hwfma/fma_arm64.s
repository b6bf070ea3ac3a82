// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func fma(dst, a, b, c *float32, n int)
TEXT ·fma(SB), NOSPLIT, $0-40
	MOVD dst+0(FP), R0
	MOVD a+8(FP), R1
	MOVD b+16(FP), R2
	MOVD c+24(FP), R3
	MOVD n+32(FP), R4

loop:
	FMOVS.P 4(R1), F0
	FMOVS.P 4(R2), F1
	FMOVS.P 4(R3), F2
	FMADDS  F1, F2, F0, F3 // F3 = F0*F1 + F2
	FMOVS.P F3, 4(R0)
	SUBS    $1, R4, R4
	BNE     loop
	RET
