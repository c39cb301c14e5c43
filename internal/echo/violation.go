package echo

import "github.com/gobwas/ws"

// A Violation is a rule of RFC 6455 that a peer has broken after the
// handshake. There is one for each rule; Code is the close code that it earns and Rule the
// reason that goes with it, so that whoever wrote the peer can see what is wrong.
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
	errInsideMessage       = &Violation{ws.StatusProtocolError, "new message inside a fragmented one (5.4)"}
	errNothingToContinue   = &Violation{ws.StatusProtocolError, "continuation of nothing (5.4)"}
	errLengthNotMinimal    = &Violation{ws.StatusProtocolError, "length is not in its shortest form (5.2)"}
	errLengthTopBit        = &Violation{ws.StatusProtocolError, "length has its top bit set (5.2)"}
	errCloseBodyTooShort   = &Violation{ws.StatusProtocolError, "close frame with a body of one byte (5.5.1)"}
	errCloseCode           = &Violation{ws.StatusProtocolError, "close code must not be sent (7.4)"}
	errCloseReasonNotUTF8  = &Violation{ws.StatusInvalidFramePayloadData, "close reason is not UTF-8 (5.5.1)"}
	errTextNotUTF8         = &Violation{ws.StatusInvalidFramePayloadData, "text is not UTF-8 (8.1)"}
	errMessageTooLong      = &Violation{ws.StatusMessageTooBig, "message is longer than this server takes (10.4)"}
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

// violated turns the verdict of ws.CheckHeader into the rule that it stands for.
func violated(err error) *Violation {
	v, ok := violationOfHeaderCheck[err]
	if !ok {
		panic("echo: unknown verdict on a frame header: " + err.Error())
	}
	return v
}
