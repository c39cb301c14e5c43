// Command server is wsecho: a WebSocket server that sends back what it is sent.
//
//	wsecho -listen :8080
//
// See wsecho -h for its flags, and docs/DESIGN.md for how it works.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"wsecho/internal/admin"
	"wsecho/internal/flags"
	"wsecho/internal/limits"
	"wsecho/internal/pool"
)

// gcPercent is what Go's heap grows by before it is collected, unless GOGC is set. It has nothing of a connection in it, and so is
// of a MiB or two however many there are; the runtime's least heap, 4 MiB at 100 %, is smaller in proportion.
const gcPercent = 25

// Exit statuses.
const (
	exitDrained = 0 // asked to stop, and every connection was told
	exitFailed  = 1 // could not start, a part failed, or was told a second time to stop
	exitUsage   = flags.ExitUsage
)

func main() {
	// SIGPIPE would end the server when it writes to a pipe without a reader, SIGTTOU would stop it
	// when it writes to a terminal with tostop. Ignored, the write fails or passes.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGTTOU)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup(1) has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, signals))
}

// run is the program: from arguments to exit status.
func run(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	s, err := parse(args)
	lines, flush := newLogQueue(stderr, s.logFormat), flushTimeout
	defer func() { lines.close(flush) }()
	if status, answered := flags.Answer("wsecho", err, s.version, help, stdout, lines); answered {
		return status
	}
	switch {
	case s.justCheck:
		m, err := limits.Here()
		if err != nil {
			fmt.Fprintf(lines, "wsecho: -check: %v\n", err)
			return exitFailed
		}
		out := bufio.NewWriter(stdout)
		status := s.check(m, out)
		if err := out.Flush(); err != nil {
			fmt.Fprintf(lines, "wsecho: -check: %v\n", err)
			return exitFailed
		}
		return status
	case s.healthcheck:
		if err := askHealth(s.admin); err != nil {
			fmt.Fprintf(lines, "wsecho: -healthcheck: %v\n", err)
			return exitFailed
		}
		return exitDrained
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := serve(s, lines, signals); err != nil {
		if errors.Is(err, errSecondSignal) {
			flush = hastyFlush
		}
		lines.log.Error("failed", "cause", err)
		return exitFailed
	}
	return exitDrained
}

// cleanup undoes the steps of serve, the last one first.
type cleanup []func()

func (c *cleanup) add(undo func()) { *c = append(*c, undo) }

func (c *cleanup) run() {
	for _, undo := range slices.Backward(*c) {
		undo()
	}
}

// serve serves until a signal asks it to stop or a part of it fails, and then drains. A second signal ends
// the drain.
func serve(s *settings, lines *logQueue, signals <-chan os.Signal) error {
	log := lines.log
	var steps cleanup
	defer func() { steps.run() }()

	limit, err := limits.RaiseFiles()
	if err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	cfg := s.poolConfig(log)
	if err := s.fit(cfg, limit); err != nil {
		return err
	}
	if s.logConnections {
		cfg.OnConn = func(e pool.ConnEvent) { logConn(log, &e) }
	}
	admin.Profiles(s.mutexProfileFraction, s.blockProfileRate)

	listeners, names, err := inherit()
	if err != nil {
		return err
	}
	var own []socket
	if len(listeners) == 0 {
		if own, err = s.listenAll(log); err != nil {
			return err
		}
		listeners = listenersOf(own)
	}
	p, err := pool.New(*cfg, listeners)
	if err != nil {
		closeAll(listeners)
		return err
	}
	steps.add(p.Close)
	ops, err := listenAdmin(s.admin, own, log)
	if err != nil {
		return err
	}
	steps.add(ops.close) // before the pool, which it asks

	p.Start()
	ops.serve(p, cfg, lines)
	runtime.GC() // so that the first collection's own memory is not attributed to connections
	log.Info("serving", "listen", texts(listeners), "sockets", origin(names), "admin", ops.addr(), "workers", cfg.Workers, "max_conns", cfg.MaxConns,
		"descriptors", limit, "version", flags.BuildVersion())
	systemd := supervise(p, log)

	var failure error
	select {
	case sig := <-signals:
		log.Info("draining", "signal", sig.String(), "connections", p.Open(), "timeout", s.drainTimeout)
	case failure = <-p.Failed():
		log.Error("draining", "cause", failure, "connections", p.Open(), "timeout", s.drainTimeout)
	case failure = <-ops.failed():
		failure = fmt.Errorf("-admin %s: %w", s.admin, failure)
		log.Error("draining", "cause", failure, "connections", p.Open(), "timeout", s.drainTimeout)
	}
	systemd.stopping(s.drainTimeout)
	if err := drain(p, s.drainTimeout, signals); err != nil {
		steps = nil // the workers still run, and the kernel undoes everything at exit
		return err
	}
	if s, err := p.Snapshot(context.Background()); err == nil {
		logTotals(log, s.Counters)
	}
	systemd.end()
	return failure
}

// leastDrain is what a drain gets even if a second signal comes at once, as it
// does from timeout(1), which signals its child and then the group that the child is in. Where nobody is connected
// it is plenty.
const leastDrain = 20 * time.Millisecond

// errSecondSignal is the error of a drain that a second signal has ended.
var errSecondSignal = errors.New("a second signal ended the drain")

// drain shuts the pool down, unless a second signal says that there is no time
// to. SIGHUP does not say so: systemd (SendSIGHUP=) and closing terminals send it beside another signal.
func drain(p *pool.Pool, timeout time.Duration, signals <-chan os.Signal) error {
	least := time.After(leastDrain)
	drained := make(chan struct{})
	go func() {
		p.Shutdown(timeout)
		close(drained)
	}()
	var sig os.Signal
	for sig == nil || sig == syscall.SIGHUP {
		select {
		case <-drained:
			return nil
		case sig = <-signals:
		}
	}
	select {
	case <-drained:
		return nil
	case <-least:
		return fmt.Errorf("%w: %v, with %d connections open", errSecondSignal, sig, p.Open())
	}
}

// origin says where the listening sockets are from: ours, or the names of those that systemd has opened.
func origin(names []string) any {
	if len(names) == 0 {
		return "own"
	}
	return names
}

// logTotals says what has been done, as the last line of the log.
func logTotals(log *slog.Logger, c pool.Counters) {
	var frames uint64
	for _, n := range c.Echo.FramesOut {
		frames += n
	}
	ended := []any{}
	for reason, n := range c.Ended {
		if n > 0 {
			ended = append(ended, slog.Uint64(pool.Reason(reason).String(), n))
		}
	}
	log.Info("stopped", "accepted", c.Accepted, "upgraded", c.Upgraded, "messages", messages(c), "frames", frames,
		"bytes_in", c.BytesIn, "bytes_out", c.BytesOut, slog.Group("ended", ended...), "codes", c.Codes,
		"idle_timeouts", c.IdleTimeouts, slog.Group("refused", "full", c.RefusedFull, "per_ip", c.RefusedPerIP, "at_once", c.RefusedAtOnce))
}

// messages is how many have been echoed, of either type.
func messages(c pool.Counters) (sum uint64) {
	for _, n := range c.Echo.Messages {
		sum += n
	}
	return sum
}
