// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func get() control
TEXT ·get(SB), NOSPLIT, $8-8
	STMXCSR x-8(SP)
	MOVL    x-8(SP), AX
	MOVQ    AX, ret+0(FP)
	RET

// func set(c control)
TEXT ·set(SB), NOSPLIT, $8-8
	MOVQ    c+0(FP), AX
	MOVL    AX, x-8(SP)
	LDMXCSR x-8(SP)
	RET
