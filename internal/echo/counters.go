package echo

import "github.com/gobwas/ws"

// Counters count what has been taken and what has been made, by opcode. What
// is read past after our close frame is not taken, nor is what breaks a rule; so of
// payload in text, binary and continuation frames as much goes out as comes
// in. It is counted under the opcode that it has in the reply, for a frame that is cut
// through is one frame in and several out.
type Counters struct {
	FramesIn, FramesOut   [16]uint64
	PayloadIn, PayloadOut [16]uint64 // bytes
	Messages              [3]uint64  // echoed to their end, text and binary
}

func (c *Counters) frameIn(op ws.OpCode, payload int) {
	c.FramesIn[op&15]++
	c.PayloadIn[op&15] += uint64(payload)
}

func (c *Counters) frameOut(op ws.OpCode, payload int) {
	c.FramesOut[op&15]++
	c.PayloadOut[op&15] += uint64(payload)
}

// Add adds what d has counted.
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
