package pool

import (
	"sync"

	"golang.org/x/sys/unix"

	"wsecho/internal/netpoll"
)

// reserveFD is a descriptor that is kept open so that it can be closed when all others are in use.
// Then there is one descriptor with which to accept a connection, answer it with 503, and close it.
type reserveFD struct {
	// mu is locked while the reserve is in use, and read-locked during ordinary accepts. Otherwise
	// one of those could take the descriptor for a connection that stays open, after which no
	// connection could be refused any more.
	mu sync.RWMutex
	fd int // 0: none
}

// restore opens the descriptor unless it is open. After its last use that may have failed.
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
