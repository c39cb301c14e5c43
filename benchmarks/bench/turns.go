package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A machine's speed is not the same from one second to the next, least of all a virtual one's: by half here, without a sign of it in
// /proc/stat. So the servers of a round are not measured one after the other, but by short turns: all but one
// are stopped (SIGSTOP), each with its load generator, and what the machine's speed does it does to all of them.

// A pair is a server under its load.
type pair struct {
	server *running
	load   *exec.Cmd
	out    bytes.Buffer
	errs   bytes.Buffer
	ended  chan error // of the generator
	clock  pausedClock
	active time.Duration // in which it was not stopped
}

// startLoad starts wsload against a server. It is stopped at the end of the turn that begins with this.
func (b *bench) startLoad(p *running, args ...string) (*pair, error) {
	x := &pair{server: p, ended: make(chan error, 1)}
	if err := x.clock.open(); err != nil {
		return nil, err
	}
	args = append(args, "-paused", x.clock.file.Name(), "-url", "ws://"+p.addr+"/", "-pid", strconv.Itoa(p.cmd.Process.Pid))
	x.load = exec.Command(b.workshop.wsload(), args...)
	x.load.Stdout, x.load.Stderr = &x.out, &x.errs
	x.load.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startOn(b.cores.load, x.load); err != nil {
		x.clock.close()
		return nil, err
	}
	go func() { x.ended <- x.load.Wait() }()
	return x, nil
}

// takeTurns has one of the pairs at a time run, in their order, until all generators have ended or have had the time that they may take. What they have to
// report, or why they have nothing, is told to done. An error is ctx's.
func takeTurns(ctx context.Context, pairs []*pair, turn, limit time.Duration, done func(*pair, *report, error)) error {
	defer func() {
		for _, x := range pairs {
			x.end()
		}
	}()
	for len(pairs) > 0 {
		var left []*pair
		for i, x := range pairs {
			r, err := x.turn(ctx, turn, limit, len(pairs) > 1)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, errNotDone):
				left = append(left, x)
			default:
				pairs[i] = nil
				x.end()
				done(x, r, err)
			}
		}
		pairs = left
	}
	return nil
}

var errNotDone = errors.New("the generator is not done")

// turn lets a pair run for a while; if it is not alone, it is stopped before and behind that. The error is errNotDone if it wants another turn.
func (x *pair) turn(ctx context.Context, lasts, limit time.Duration, stops bool) (*report, error) {
	began := time.Now()
	if err := x.clock.resume(x.server.cmd.Process, x.load.Process); err != nil {
		return nil, err
	}
	var err error
	select {
	case err = <-x.ended:
	case <-time.After(lasts):
		if stops {
			x.clock.pause(x.server.cmd.Process, x.load.Process)
		}
		if x.active += time.Since(began); x.active < limit {
			return nil, errNotDone
		}
		return nil, fmt.Errorf("wsload was not done within %v: connections were not opened in time, or not closed", limit)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	x.ended <- err
	r, parseErr := parseReport(x.out.Bytes())
	if err != nil && parseErr != nil { // with a report, its verdict says what was wrong
		return nil, fmt.Errorf("wsload: %w: %s", err, oneLine(x.errs.String()))
	}
	return r, parseErr
}

// end ends the generator, and lets the server go on, so that it can be ended.
func (x *pair) end() {
	if x == nil {
		return
	}
	x.load.Process.Kill() // which may have ended
	<-x.ended
	_ = x.clock.resume(x.server.cmd.Process) // a server that stays stopped is killed next
	x.clock.close()
	x.server.generator += x.load.ProcessState.UserTime() + x.load.ProcessState.SystemTime()
}

// pausedClock stops processes, and keeps in a file for how long: see wsload's -paused.
type pausedClock struct {
	file  *os.File
	mem   []byte
	since time.Time // zero: they are not stopped
}

func (c *pausedClock) open() (err error) {
	if c.file, err = os.CreateTemp("", "wsecho-bench-paused-"); err != nil {
		return err
	}
	const size = 8
	if err = c.file.Truncate(size); err == nil {
		c.mem, err = unix.Mmap(int(c.file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		c.close()
	}
	return err
}

func (c *pausedClock) close() {
	if c.mem != nil {
		_ = unix.Munmap(c.mem)
	}
	c.file.Close()
	os.Remove(c.file.Name())
}

// pause stops them. One that has ended stays so.
func (c *pausedClock) pause(processes ...*os.Process) {
	for _, p := range processes {
		p.Signal(syscall.SIGSTOP)
	}
	c.since = time.Now()
}

// resume lets them go on.
func (c *pausedClock) resume(processes ...*os.Process) error {
	if c.since.IsZero() {
		return nil
	}
	paused := binary.NativeEndian.Uint64(c.mem) + uint64(time.Since(c.since))
	binary.NativeEndian.PutUint64(c.mem, paused) // no process reads it meanwhile
	c.since = time.Time{}
	for _, p := range processes {
		if err := p.Signal(syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	return nil
}
