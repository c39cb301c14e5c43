package generate

import (
	"github.com/gobwas/ws"

	"wsecho/internal/netpoll"
	"wsecho/loadtest/wire"
)

// sendMost is the number of bytes after which the other connections have their turn. More would
// wait in the kernel for so long that the caches no longer hold it when the server reads it.
const sendMost = 128 << 10

// flush sends scheduled messages and control frames. It stops when the socket is full, and
// continues on a writable event, or after sendMost bytes, and continues in the next pass.
func (cs *conns) flush(c conn) {
	sent := 0
	for c.written < c.scheduled || c.controlPending {
		if sent >= sendMost {
			cs.requeue(c)
			return
		}
		if c.controlPending && c.offset == 0 { // between two frames
			if !cs.flushControl(c) {
				return
			}
			continue
		}
		p, messages := cs.Payloads.Run(c.base, c.written, c.scheduled-c.written, int(c.offset))
		n, err := netpoll.Send(int(c.fd), p)
		if err != nil {
			cs.lost(c, err)
			return
		}
		sent += n
		c.written, c.offset = cs.Payloads.Advance(c.base, c.written, c.offset, n, len(p), messages)
		if n < len(p) {
			cs.armWrite(c)
			return
		}
	}
}

// armWrite makes the poller report when the socket is writable. It stays armed, since a connection
// that has filled its socket once is likely to do so again.
func (cs *conns) armWrite(c conn) {
	if c.writeArmed {
		return
	}
	c.writeArmed = true
	if err := cs.poller.Modify(int(c.fd), uint32(c.index), netpoll.ReadWrite); err != nil {
		panic("generate: " + err.Error()) // the poller has the socket: a bug
	}
}

// sendControl sends a control frame: at once, or when no frame is partly sent and the socket is
// writable.
func (cs *conns) sendControl(c conn, op ws.OpCode, payload []byte) {
	cs.frame = wire.AppendControlFrame(cs.frame[:0], op, payload)
	if c.controlPending {
		cs.control[c.index] = append(cs.control[c.index], cs.frame...)
		return
	}
	n := 0
	if c.offset == 0 {
		var err error
		if n, err = netpoll.Send(int(c.fd), cs.frame); err != nil {
			cs.lost(c, err)
			return
		}
		if n == len(cs.frame) {
			return
		}
		cs.armWrite(c)
	}
	c.controlPending = true
	cs.control[c.index] = append([]byte(nil), cs.frame[n:]...)
}

// flushControl sends the pending control frames. It reports whether all were sent.
func (cs *conns) flushControl(c conn) bool {
	n, err := netpoll.Send(int(c.fd), cs.control[c.index])
	if err != nil {
		cs.lost(c, err)
		return false
	}
	if n < len(cs.control[c.index]) {
		cs.control[c.index] = cs.control[c.index][n:]
		cs.armWrite(c)
		return false
	}
	delete(cs.control, c.index)
	c.controlPending = false
	return true
}
