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

// The speed of a machine changes from one second to the next, most of all that of a virtual
// machine: by half here, without a trace in /proc/stat. The servers of a round are therefore not
// measured one after the other but in short turns: all but one are stopped (SIGSTOP), each with its
// load generator. A change of speed then affects all servers alike.

// A pair is a server and its load generator.
type pair struct {
	server *running
	load   *exec.Cmd
	out    bytes.Buffer
	errs   bytes.Buffer
	ended  chan error // receives the generator's exit error
	clock  pausedClock
	active time.Duration // total time that the pair was running
}

// startLoad starts wsload against a server. The pair is then running, as at the start of a turn.
func (b *bench) startLoad(p *running, args ...string) (*pair, error) {
	x := &pair{server: p, ended: make(chan error, 1)}
	if err := x.clock.open(); err != nil {
		return nil, err
	}
	args = append(args, "-paused", x.clock.file.Name(), "-url", "ws://"+p.addr+"/", "-pid", strconv.Itoa(p.cmd.Process.Pid))
	x.load = exec.Command(b.dirs.wsload(), args...)
	x.load.Stdout, x.load.Stderr = &x.out, &x.errs
	x.load.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startOn(b.cores.load, x.load); err != nil {
		x.clock.close()
		return nil, err
	}
	go func() { x.ended <- x.load.Wait() }()
	return x, nil
}

// takeTurns runs the pairs one at a time, in their order, each for the duration of a turn, until
// every generator has ended or has run for limit. It calls done with each pair's report, or with
// the error that explains why there is none. The error that takeTurns returns is that of ctx.
func takeTurns(ctx context.Context, pairs []*pair, turn, limit time.Duration, done func(*pair, *report, error)) error {
	defer func() {
		for _, x := range pairs {
			x.end()
		}
	}()
	for len(pairs) > 0 {
		var unfinished []*pair
		for i, x := range pairs {
			r, err := x.turn(ctx, turn, limit, len(pairs) > 1)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, errNotDone):
				unfinished = append(unfinished, x)
			default:
				pairs[i] = nil
				x.end()
				done(x, r, err)
			}
		}
		pairs = unfinished
	}
	return nil
}

var errNotDone = errors.New("the generator is not done")

// turn lets a pair run for one turn, and returns the generator's report if it has ended. If stop is
// true, the pair is stopped between its turns. The error is errNotDone if the pair needs another
// turn.
func (x *pair) turn(ctx context.Context, duration, limit time.Duration, stop bool) (*report, error) {
	began := time.Now()
	if err := x.clock.resume(x.server.cmd.Process, x.load.Process); err != nil {
		return nil, err
	}
	var err error
	select {
	case err = <-x.ended:
	case <-time.After(duration):
		if stop {
			x.clock.pause(x.server.cmd.Process, x.load.Process)
		}
		if x.active += time.Since(began); x.active < limit {
			return nil, errNotDone
		}
		return nil, fmt.Errorf("wsload did not finish within %v: connections were not opened or not closed in time", limit)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	x.ended <- err
	r, parseErr := parseReport(x.out.Bytes())
	if err != nil && parseErr != nil { // a report describes the failure itself
		return nil, fmt.Errorf("wsload: %w: %s", err, oneLine(x.errs.String()))
	}
	return r, parseErr
}

// end kills the generator and continues the server, so that the server can handle SIGTERM.
func (x *pair) end() {
	if x == nil {
		return
	}
	x.load.Process.Kill() // it may have exited already
	<-x.ended
	_ = x.clock.resume(x.server.cmd.Process) // if this fails, running.stop kills the server
	x.clock.close()
	x.server.generator += x.load.ProcessState.UserTime() + x.load.ProcessState.SystemTime()
}

// pausedClock stops processes, and records in a file for how long they were stopped, in all. The
// file is the one that wsload's flag -paused names.
type pausedClock struct {
	file  *os.File
	mem   []byte
	since time.Time // when the processes were stopped; zero: they are running
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

// pause stops the processes with SIGSTOP. It ignores those that have exited.
func (c *pausedClock) pause(processes ...*os.Process) {
	for _, p := range processes {
		p.Signal(syscall.SIGSTOP)
	}
	c.since = time.Now()
}

// resume continues the processes with SIGCONT, after it has recorded the length of the pause.
func (c *pausedClock) resume(processes ...*os.Process) error {
	if c.since.IsZero() {
		return nil
	}
	paused := binary.NativeEndian.Uint64(c.mem) + uint64(time.Since(c.since))
	binary.NativeEndian.PutUint64(c.mem, paused) // wsload is stopped and does not read it
	c.since = time.Time{}
	for _, p := range processes {
		if err := p.Signal(syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	return nil
}
