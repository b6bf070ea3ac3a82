// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func get() control
TEXT ·get(SB), NOSPLIT, $0-8
	MRS  FPCR, R0
	MOVD R0, ret+0(FP)
	RET

// func set(c control)
TEXT ·set(SB), NOSPLIT, $0-8
	MOVD c+0(FP), R0
	MSR  R0, FPCR
	RET
