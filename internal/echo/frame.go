package echo

import (
	"encoding/binary"
	"math"

	"github.com/gobwas/ws"
)

// RFC 6455, section 5.2: the first two bytes of a frame, and the optional fields after them.
//
//	 7 6 5 4 3 2 1 0   7 6 5 4 3 2 1 0
//	+-+-+-+-+-------+ +-+-------------+ +--------------+ +-----------+
//	|F|R|R|R| op    | |M| length      | | length       | | mask      |
//	|I|S|S|S| code  | |A| 0-125, or   | | 2 bytes (126)| | 4 bytes   |
//	|N|V|V|V|       | |S| 126, or     | | 8 bytes (127)| | if MASK   |
//	| |1|2|3|       | |K| 127         | |              | |           |
//	+-+-+-+-+-------+ +-+-------------+ +--------------+ +-----------+
const (
	finBit   = 0x80
	opBits   = 0x0f
	maskBit  = 0x80
	length16 = 126
	length64 = 127
	maskSize = 4
)

// header holds the fields of a client's frame header. It is passed by value for every frame, so
// all of it must fit into registers. ws.Header does not, because its mask is an array.
type header struct {
	length uint64 // of the payload, in bytes
	mask   uint32 // the masking key, little-endian: its lowest byte is the first
	op     ws.OpCode
	fin    bool
}

// parseHeader parses the header of a client's frame at the front of p and returns its size in
// bytes. A size of 0 means that the header is incomplete. The rules about the first two bytes are
// checked as soon as these have arrived, so the result does not depend on how much follows them.
func parseHeader(p []byte, fragmented bool) (h header, size int, v *Violation) {
	if len(p) < 2 {
		return h, 0, nil
	}
	if !isValidDataHeader(p[0], p[1], fragmented) {
		if v := checkHeader(p[0], p[1], fragmented); v != nil {
			return h, 0, v
		}
	}
	h.op = ws.OpCode(p[0] & opBits)
	h.fin = p[0]&finBit != 0
	h.length = uint64(p[1] &^ maskBit)

	size = 2 + maskSize
	switch h.length {
	case length16:
		size += 2
		if len(p) < size-maskSize {
			return h, 0, nil
		}
		h.length = uint64(binary.BigEndian.Uint16(p[2:]))
		if h.length < length16 {
			return h, 0, errLengthNotMinimal
		}
	case length64:
		size += 8
		if len(p) < size-maskSize {
			return h, 0, nil
		}
		h.length = binary.BigEndian.Uint64(p[2:])
		if h.length > math.MaxInt64 {
			return h, 0, errLengthTopBit
		}
		if h.length <= 0xffff {
			return h, 0, errLengthNotMinimal
		}
	}
	if len(p) < size {
		return h, 0, nil
	}
	h.mask = binary.LittleEndian.Uint32(p[size-maskSize:])
	return h, size, nil
}

// isValidDataHeader reports whether the first two bytes of a frame are those of a data frame that
// is masked, has no reserved bits, and may come at this point. Nearly all frames are like that, and
// need not go through the slower checkHeader.
func isValidDataHeader(first, second byte, fragmented bool) bool {
	op := first &^ finBit // any reserved bits are still in op, so it equals no opcode
	if fragmented {
		return op == byte(ws.OpContinuation) && second&maskBit != 0
	}
	return (op == byte(ws.OpText) || op == byte(ws.OpBinary)) && second&maskBit != 0
}

// checkHeader returns the rule that the first two bytes of a frame break, or nil.
func checkHeader(first, second byte, fragmented bool) *Violation {
	role := ws.StateServerSide
	if fragmented {
		role = role.Set(ws.StateFragmented)
	}
	err := ws.CheckHeader(ws.Header{
		Fin:    first&finBit != 0,
		Rsv:    first >> 4 & 7,
		OpCode: ws.OpCode(first & opBits),
		Masked: second&maskBit != 0,
		Length: int64(second &^ maskBit),
	}, role)
	if err != nil {
		return violationOf(err)
	}
	return nil
}

// headerSize returns the size in bytes of the header of a frame that we send.
func headerSize(payload int) int {
	switch {
	case payload < length16:
		return 2
	case payload <= 0xffff:
		return 4
	}
	return 10
}

// putHeader writes the header of a frame that we send to the first headerSize(payload) bytes of p.
func putHeader(p []byte, op ws.OpCode, fin bool, payload int) {
	p[0] = byte(op)
	if fin {
		p[0] |= finBit
	}
	switch {
	case payload < length16:
		p[1] = byte(payload)
	case payload <= 0xffff:
		p[1] = length16
		binary.BigEndian.PutUint16(p[2:], uint16(payload))
	default:
		p[1] = length64
		binary.BigEndian.PutUint64(p[2:], uint64(payload))
	}
}
