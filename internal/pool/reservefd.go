package pool

import (
	"sync"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// reserveFD is a descriptor that is open only to be closed when no other can be had, so that a
// connection can still be accepted, answered with 503, and closed.
type reserveFD struct {
	// mu is locked while the reserve is in use, and read-locked during ordinary accepts: one of
	// those could otherwise take the freed descriptor for a connection that stays, after which
	// nothing could be refused any more.
	mu sync.RWMutex
	fd int // 0: none
}

// restore opens the descriptor if it could not be opened again after its last use.
func (r *reserveFD) restore() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open()
}

func (r *reserveFD) open() (err error) {
	if r.fd == 0 {
		// Any descriptor will do; this one needs no file system.
		if r.fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
			r.fd = 0
		}
	}
	return err
}

func (r *reserveFD) close() {
	if r.fd != 0 {
		netpoll.Close(r.fd)
		r.fd = 0
	}
}
