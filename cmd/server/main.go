// Command server is wsecho, a WebSocket server that returns every message that it receives.
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

// gcPercent is the growth of Go's heap, in percent, at which it is collected, unless GOGC is set.
// The heap holds no connection state and stays at 1 to 2 MiB, whatever the connection count. The
// runtime's minimum heap size, 4 MiB at 100 %, shrinks in proportion.
const gcPercent = 25

// Exit statuses.
const (
	exitDrained = 0 // a signal stopped the server, and the drain is complete
	exitFailed  = 1 // the server could not start, a part failed, or a second signal ended the drain
	exitUsage   = flags.ExitUsage
)

func main() {
	// SIGPIPE would end the server when it writes to a pipe without a reader, and SIGTTOU would stop
	// it when it writes to a terminal with tostop set. With both ignored, the write fails or succeeds.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGTTOU)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if !signal.Ignored(syscall.SIGHUP) { // as it is under nohup(1)
		signal.Notify(signals, syscall.SIGHUP)
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, signals))
}

// run runs the program with the given arguments and returns its exit status.
func run(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	s, err := parse(args)
	lines, flush := newLogQueue(stderr, s.logFormat), flushTimeout
	defer func() { lines.close(flush) }()
	if status, answered := flags.Answer("wsecho", err, s.version, help, stdout, lines); answered {
		return status
	}
	switch {
	case s.checkOnly:
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
		lines.log.Error("failed", "err", err)
		return exitFailed
	}
	return exitDrained
}

// cleanup holds functions that undo the steps of serve. They run in reverse order.
type cleanup []func()

func (c *cleanup) add(undo func()) { *c = append(*c, undo) }

func (c *cleanup) run() {
	for _, undo := range slices.Backward(*c) {
		undo()
	}
}

// serve runs the server until a signal arrives or a part of it fails, and then drains. A second
// signal ends the drain.
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
	steps.add(ops.close) // closes before the pool, which the admin endpoints query

	p.Start()
	ops.serve(p, cfg, lines)
	runtime.GC() // keeps the memory of the first collection out of measurements of connections
	log.Info("serving", "listen", texts(listeners), "sockets", origin(names), "admin", ops.addr(), "workers", cfg.Workers, "max_conns", cfg.MaxConns,
		"descriptors", limit, "version", flags.BuildVersion())
	systemd := supervise(p, log)

	var failure error
	select {
	case sig := <-signals:
		log.Info("draining", "signal", sig.String(), "connections", p.Open(), "timeout", s.drainTimeout)
	case failure = <-p.Failed():
		log.Error("draining", "err", failure, "connections", p.Open(), "timeout", s.drainTimeout)
	case failure = <-ops.failed():
		failure = fmt.Errorf("-admin %s: %w", s.admin, failure)
		log.Error("draining", "err", failure, "connections", p.Open(), "timeout", s.drainTimeout)
	}
	systemd.stopping(s.drainTimeout)
	if err := drain(p, s.drainTimeout, signals); err != nil {
		steps = nil // the workers still run; the kernel cleans up at exit
		return err
	}
	if s, err := p.Snapshot(context.Background()); err == nil {
		logTotals(log, s.Counters)
	}
	systemd.end()
	return failure
}

// leastDrain is the minimum time for a drain. timeout(1) sends two signals at once, one to its
// child and one to the child's process group; a server without connections still drains cleanly.
const leastDrain = 20 * time.Millisecond

// errSecondSignal is returned by drain if a second signal ended it.
var errSecondSignal = errors.New("a second signal ended the drain")

// drain shuts the pool down, until a second signal ends it. SIGHUP does not count as the second
// one: systemd (SendSIGHUP=) and closing terminals send it along with another signal.
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

// origin returns the value of the log key sockets: "own" if the server opened its listening
// sockets, or the names of the sockets that systemd opened.
func origin(names []string) any {
	if len(names) == 0 {
		return "own"
	}
	return names
}

// logTotals logs the counters since start. It is the last line of the log.
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

// messages returns the number of messages echoed, text and binary.
func messages(c pool.Counters) (sum uint64) {
	for _, n := range c.Echo.Messages {
		sum += n
	}
	return sum
}
