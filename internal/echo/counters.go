package echo

import "github.com/gobwas/ws"

// Counters count frames and payload bytes by opcode, received and sent.
//
// Frames that violate the protocol, and those discarded after our close frame, do not count as
// received. As many payload bytes of text, binary and continuation frames are therefore sent as
// received. A frame that is cut through counts as one frame received and several sent; its payload
// counts under the opcodes of the frames sent.
type Counters struct {
	FramesIn, FramesOut   [16]uint64
	PayloadIn, PayloadOut [16]uint64 // bytes
	Messages              [3]uint64  // echoed completely, by opcode: text and binary
}

func (c *Counters) frameIn(op ws.OpCode, payload int) {
	c.FramesIn[op&15]++
	c.PayloadIn[op&15] += uint64(payload)
}

func (c *Counters) frameOut(op ws.OpCode, payload int) {
	c.FramesOut[op&15]++
	c.PayloadOut[op&15] += uint64(payload)
}

// Add adds the counts of d to c.
func (c *Counters) Add(d *Counters) {
	for op := range c.FramesIn {
		c.FramesIn[op] += d.FramesIn[op]
		c.FramesOut[op] += d.FramesOut[op]
		c.PayloadIn[op] += d.PayloadIn[op]
		c.PayloadOut[op] += d.PayloadOut[op]
	}
	for op := range c.Messages {
		c.Messages[op] += d.Messages[op]
	}
}
