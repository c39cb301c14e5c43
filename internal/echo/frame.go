package echo

import (
	"encoding/binary"

	"github.com/gobwas/ws"
)

// RFC 6455, section 5.2: the first two bytes of a frame, and what may follow.
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
	maskBit  = 0x80
	length16 = 126
	length64 = 127
	maskSize = 4
)

// parseHeader reads the header of a client's frame from the front of p and
// says how long it is. A size of 0 means that p has not enough bytes yet. Rules
// that two bytes are enough to break are checked on those, so that the verdict does not
// depend on how much has arrived.
func parseHeader(p []byte, fragmented bool) (h ws.Header, size int, v *Violation) {
	if len(p) < 2 {
		return h, 0, nil
	}
	h = ws.Header{
		Fin:    p[0]&finBit != 0,
		Rsv:    p[0] >> 4 & 7,
		OpCode: ws.OpCode(p[0] & 15),
		Masked: p[1]&maskBit != 0,
		Length: int64(p[1] &^ maskBit),
	}
	role := ws.StateServerSide
	if fragmented {
		role = role.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(h, role); err != nil {
		return h, 0, violated(err)
	}

	size = 2 + maskSize
	switch h.Length {
	case length16:
		size += 2
		if len(p) < size-maskSize {
			return h, 0, nil
		}
		h.Length = int64(binary.BigEndian.Uint16(p[2:]))
		if h.Length < length16 {
			return h, 0, errLengthNotMinimal
		}
	case length64:
		size += 8
		if len(p) < size-maskSize {
			return h, 0, nil
		}
		h.Length = int64(binary.BigEndian.Uint64(p[2:]))
		if h.Length < 0 {
			return h, 0, errLengthTopBit
		}
		if h.Length <= 0xffff {
			return h, 0, errLengthNotMinimal
		}
	}
	if len(p) < size {
		return h, 0, nil
	}
	h.Mask = [maskSize]byte(p[size-maskSize:])
	return h, size, nil
}

// headerSize is the length of the header of a frame that we send.
func headerSize(payload int) int {
	switch {
	case payload < length16:
		return 2
	case payload <= 0xffff:
		return 4
	}
	return 10
}

// putHeader writes the header of a frame that we send, in headerSize(payload)
// bytes of p.
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
