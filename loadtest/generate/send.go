package generate

import (
	"github.com/gobwas/ws"

	"wsecho/internal/netpoll"
	"wsecho/loadtest/wire"
)

// sendMost is the number of bytes of long messages after which the other connections have their
// turn. More would lie unread in the kernel, in memory that no cache holds when the server reads
// it.
const sendMost = 128 << 10

// flush sends what there is to send until the kernel takes no more, or sendMost. After the first
// there is an event when there is room; after the second the connection continues in another turn.
func (cs *conns) flush(c conn) {
	sent := 0
	for c.written < c.asked || c.speaks {
		if sent >= sendMost {
			cs.goOn(c)
			return
		}
		if c.speaks && c.offset == 0 { // between two frames
			if !cs.sendControl(c) {
				return
			}
			continue
		}
		p, messages := cs.Payloads.Run(c.base, c.written, c.asked-c.written, int(c.offset))
		n, err := netpoll.Send(int(c.fd), p)
		if err != nil {
			cs.lost(c, err)
			return
		}
		sent += n
		c.written, c.offset = cs.Payloads.Advance(c.base, c.written, c.offset, n, len(p), messages)
		if n < len(p) {
			cs.awaitRoom(c)
			return
		}
	}
}

// awaitRoom has the poller report when there is room to write. It does so from then on, since a
// connection that has filled its socket once will do so again.
func (cs *conns) awaitRoom(c conn) {
	if c.awaitsRoom {
		return
	}
	c.awaitsRoom = true
	if err := cs.poller.Modify(int(c.fd), uint32(c.index), netpoll.ReadWrite); err != nil {
		panic("generate: " + err.Error()) // the poller has it
	}
}

// say sends a control frame: at once, or as soon as no frame is half sent and there is room.
func (cs *conns) say(c conn, op ws.OpCode, payload []byte) {
	cs.frame = wire.AppendControlFrame(cs.frame[:0], op, payload)
	if c.speaks {
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
		cs.awaitRoom(c)
	}
	c.speaks = true
	cs.control[c.index] = append([]byte(nil), cs.frame[n:]...)
}

// sendControl sends the control frames that are still to be sent. It reports whether the kernel has
// taken all of them.
func (cs *conns) sendControl(c conn) bool {
	n, err := netpoll.Send(int(c.fd), cs.control[c.index])
	if err != nil {
		cs.lost(c, err)
		return false
	}
	if n < len(cs.control[c.index]) {
		cs.control[c.index] = cs.control[c.index][n:]
		cs.awaitRoom(c)
		return false
	}
	delete(cs.control, c.index)
	c.speaks = false
	return true
}
