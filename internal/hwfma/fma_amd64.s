// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func fma(dst, a, b, c *float32, n int)
TEXT ·fma(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ c+24(FP), CX
	MOVQ n+32(FP), AX
	XORQ BX, BX

loop:
	VMOVUPS     (SI)(BX*4), Y0
	VMOVUPS     (DX)(BX*4), Y1
	VFMADD213PS (CX)(BX*4), Y1, Y0 // Y0 = Y1*Y0 + c
	VMOVUPS     Y0, (DI)(BX*4)
	ADDQ        $8, BX
	CMPQ        BX, AX
	JLT         loop
	VZEROUPPER
	RET
