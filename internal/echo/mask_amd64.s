#include "textflag.h"

// func unmaskVectors(p *byte, n int, mask uint64) (ascii bool)
// Y0: the 8 bytes of mask, four times; Y1: the OR of all unmasked vectors so far.
TEXT ·unmaskVectors(SB), NOSPLIT, $0-25
	MOVQ         p+0(FP), DI
	MOVQ         n+8(FP), CX
	VPBROADCASTQ mask+16(FP), Y0
	VPXOR        Y1, Y1, Y1

four:
	CMPQ    CX, $128
	JB      one
	VPXOR   (DI), Y0, Y2
	VPXOR   32(DI), Y0, Y3
	VPXOR   64(DI), Y0, Y4
	VPXOR   96(DI), Y0, Y5
	VMOVDQU Y2, (DI)
	VMOVDQU Y3, 32(DI)
	VMOVDQU Y4, 64(DI)
	VMOVDQU Y5, 96(DI)
	VPOR    Y2, Y3, Y2
	VPOR    Y4, Y5, Y4
	VPOR    Y2, Y1, Y1
	VPOR    Y4, Y1, Y1
	ADDQ    $128, DI
	SUBQ    $128, CX
	JMP     four

one:
	CMPQ    CX, $32
	JB      done
	VPXOR   (DI), Y0, Y2
	VMOVDQU Y2, (DI)
	VPOR    Y2, Y1, Y1
	ADDQ    $32, DI
	SUBQ    $32, CX
	JMP     one

done:
	VPMOVMSKB Y1, AX
	VZEROUPPER
	TESTL     AX, AX
	SETEQ     ascii+24(FP)
	RET
