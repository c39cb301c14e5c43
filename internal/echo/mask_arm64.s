#include "textflag.h"

// func unmaskVectors(p *byte, n int, mask uint64) (ascii bool)
// V0: the 8 bytes of mask, twice; V1: the OR of all unmasked vectors so far.
TEXT ·unmaskVectors(SB), NOSPLIT, $0-25
	MOVD p+0(FP), R0
	MOVD n+8(FP), R1
	MOVD mask+16(FP), R2
	VDUP R2, V0.D2
	VEOR V1.B16, V1.B16, V1.B16

four:
	CMP  $64, R1
	BLO  one
	VLD1 (R0), [V2.B16, V3.B16, V4.B16, V5.B16]
	VEOR V2.B16, V0.B16, V2.B16
	VEOR V3.B16, V0.B16, V3.B16
	VEOR V4.B16, V0.B16, V4.B16
	VEOR V5.B16, V0.B16, V5.B16
	VST1 [V2.B16, V3.B16, V4.B16, V5.B16], (R0)
	VORR V2.B16, V3.B16, V2.B16
	VORR V4.B16, V5.B16, V4.B16
	VORR V2.B16, V4.B16, V2.B16
	VORR V2.B16, V1.B16, V1.B16
	ADD  $64, R0
	SUB  $64, R1
	B    four

one:
	CBZ  R1, done
	VLD1 (R0), [V2.B16]
	VEOR V2.B16, V0.B16, V2.B16
	VST1 [V2.B16], (R0)
	VORR V2.B16, V1.B16, V1.B16
	ADD  $16, R0
	SUB  $16, R1
	B    one

done:
	VMOV V1.D[0], R0
	VMOV V1.D[1], R1
	ORR  R1, R0
	TST  $0x8080808080808080, R0
	CSET EQ, R0
	MOVB R0, ascii+24(FP)
	RET
