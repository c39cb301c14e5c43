package echo

import "github.com/gobwas/ws"

// A Violation is a rule of RFC 6455 that a peer can break after the handshake; there is one value
// per rule. The peer gets a close frame with its Code and, as the reason, its Rule, which tells the
// peer's authors what is wrong.
type Violation struct {
	Code ws.StatusCode
	Rule string
}

func (v *Violation) Error() string { return v.Rule }

var (
	errOpCodeReserved      = &Violation{ws.StatusProtocolError, "opcode is reserved (5.2)"}
	errControlTooLong      = &Violation{ws.StatusProtocolError, "control frame is longer than 125 bytes (5.5)"}
	errControlFragmented   = &Violation{ws.StatusProtocolError, "control frame is fragmented (5.5)"}
	errReservedBits        = &Violation{ws.StatusProtocolError, "reserved bits are set without an extension (5.2)"}
	errNotMasked           = &Violation{ws.StatusProtocolError, "client frame is not masked (5.1)"}
	errInsideMessage       = &Violation{ws.StatusProtocolError, "new message before the end of a fragmented one (5.4)"}
	errNothingToContinue   = &Violation{ws.StatusProtocolError, "continuation frame without a message to continue (5.4)"}
	errLengthNotMinimal    = &Violation{ws.StatusProtocolError, "length is not in its shortest form (5.2)"}
	errLengthTopBit        = &Violation{ws.StatusProtocolError, "length has its top bit set (5.2)"}
	errCloseBodyTooShort   = &Violation{ws.StatusProtocolError, "close frame has a body of one byte (5.5.1)"}
	errCloseCode           = &Violation{ws.StatusProtocolError, "close code is not allowed (7.4)"}
	errCloseReasonNotUTF8  = &Violation{ws.StatusInvalidFramePayloadData, "close reason is not UTF-8 (5.5.1)"}
	errTextNotUTF8         = &Violation{ws.StatusInvalidFramePayloadData, "text is not UTF-8 (8.1)"}
	errMessageTooLong      = &Violation{ws.StatusMessageTooBig, "message is longer than the server's limit (-max-message)"}
	violationOfHeaderCheck = map[error]*Violation{
		ws.ErrProtocolOpCodeReserved:         errOpCodeReserved,
		ws.ErrProtocolControlPayloadOverflow: errControlTooLong,
		ws.ErrProtocolControlNotFinal:        errControlFragmented,
		ws.ErrProtocolNonZeroRsv:             errReservedBits,
		ws.ErrProtocolMaskRequired:           errNotMasked,
		ws.ErrProtocolContinuationExpected:   errInsideMessage,
		ws.ErrProtocolContinuationUnexpected: errNothingToContinue,
	}
)

// violationOf returns the rule for an error of ws.CheckHeader.
func violationOf(err error) *Violation {
	v, ok := violationOfHeaderCheck[err]
	if !ok {
		panic("echo: unknown error of ws.CheckHeader: " + err.Error())
	}
	return v
}
