// Command loadtest builds as wsload, a load generator for WebSocket echo servers.
//
//	wsload -connections 1000 -payload 1KiB -duration 10s
//
// See wsload -h for its flags, and docs/load.md for what it measures and how.
//
// Each of its packages imports only those before it: stats counts, wire implements the protocol,
// generate runs the connections and event loops, measure runs the schedule, and report writes the
// results. This package handles the flags, the signals and the exit status.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"wsecho/internal/flags"
	"wsecho/internal/format"
	"wsecho/internal/limits"
	"wsecho/loadtest/generate"
	"wsecho/loadtest/measure"
	"wsecho/loadtest/report"
)

// Exit statuses.
const (
	exitMeasured  = 0
	exitFailed    = 1 // nothing was measured, there were errors, or a report could not be written
	exitUsage     = flags.ExitUsage
	exitThreshold = 3 // a condition of -fail-if holds, or its metric was not measured
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if !signal.Ignored(syscall.SIGHUP) { // by nohup(1)
		signal.Notify(signals, syscall.SIGHUP)
	}
	signal.Ignore(syscall.SIGPIPE) // a write to a closed pipe returns an error instead
	status := run(os.Args[1:], os.Stdout, os.Stderr, signals)
	if err := os.Stdout.Close(); err != nil && status == exitMeasured { // some file systems report write errors here
		fmt.Fprintln(os.Stderr, "wsload:", err)
		status = exitFailed
	}
	os.Exit(status)
}

// run runs wsload with the given arguments and returns the exit status.
func run(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	s, err := parse(args)
	if status, answered := flags.Answer("wsload", err, s.version, help, stdout, stderr); answered {
		return status
	}
	page, err := report.OpenPage(s.html)
	if err != nil {
		fmt.Fprintf(stderr, "wsload: -html %s: %v\n", s.html, err)
		return exitFailed
	}
	defer page.Abandon()
	r, end, err := load(s, stderr, signals)
	defer end() // after the report, because with -leave this takes long
	if err != nil {
		fmt.Fprintln(stderr, "wsload:", err)
		return exitFailed
	}
	failed := append(deliver(r, s, stdout, page), r.Problems()...)
	status := exitMeasured
	if n := r.UnjudgedErrors(); n > 0 {
		fmt.Fprintf(stderr, "wsload: %s errors (to allow N: -fail-if 'errors>N')\n", format.Thousands(int64(n)))
		status = exitFailed
	}
	for _, v := range r.Verdicts {
		if v.Failed {
			fmt.Fprintln(stderr, "wsload: -fail-if", v)
			status = exitThreshold
		}
	}
	for _, err := range failed {
		fmt.Fprintln(stderr, "wsload:", err)
		status = exitFailed
	}
	return status
}

// load runs the load that the settings describe. The caller has to call end, which closes the
// remaining connections.
func load(s *settings, stderr io.Writer, signals <-chan os.Signal) (r *report.Report, end func(), err error) {
	end = func() {}
	if err := allowDescriptors(s.connections, min(s.workers, s.connections)); err != nil {
		return nil, end, err
	}
	addrs, err := lookUp(s, signals)
	if err != nil {
		return nil, end, err
	}
	p, err := s.plan(addrs)
	if err != nil {
		return nil, end, err
	}
	subject := s.subject(p)
	progress := report.NewProgress(stderr, report.Style(s.progress), subject.Headline(), p.Connections)
	defer progress.Close()
	m, err := measure.New(p, s.schedule(), signals, progress.Show)
	if err != nil {
		return nil, end, err
	}
	out, err := m.Do()
	if err != nil {
		return nil, m.Close, err
	}
	return report.New(subject, out), m.Close, nil
}

// lookUp resolves the server's addresses. A signal interrupts it.
func lookUp(s *settings, signals <-chan os.Signal) (addrs []netip.AddrPort, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	found := make(chan struct{})
	go func() {
		addrs, err = generate.Resolve(ctx, s.url, s.sources)
		close(found)
	}()
	select {
	case <-found:
	case <-signals:
		cancel()
		<-found
		return nil, measure.ErrInterrupted
	}
	if err != nil {
		return nil, fmt.Errorf("-url %s: %w", generate.Redact(s.url), err)
	}
	return addrs, nil
}

// deliver writes the report to stdout and to the HTML page. It writes each even if the other fails,
// and returns all errors.
func deliver(r *report.Report, s *settings, stdout io.Writer, page *report.Page) (failed []error) {
	var text bytes.Buffer
	if s.json {
		e := json.NewEncoder(&text)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false) // keeps the > of p99>5ms
		if err := e.Encode(r); err != nil {
			failed = append(failed, fmt.Errorf("-json: %w", err))
		}
	} else {
		r.WriteText(&text)
	}
	if _, err := stdout.Write(text.Bytes()); err != nil {
		failed = append(failed, fmt.Errorf("write report to stdout: %w", err))
	}
	if err := page.Write(r); err != nil {
		failed = append(failed, fmt.Errorf("-html %s: %w", s.html, err))
	}
	return failed
}

const (
	// ownDescriptors is an upper bound of the descriptors besides those of connections and workers.
	ownDescriptors = 64

	// workerDescriptors counts a worker's epoll instance, eventfd and timerfd.
	workerDescriptors = 3
)

// allowDescriptors raises the soft descriptor limit to the hard one, and returns an error if that
// is too low for the connections and workers.
func allowDescriptors(connections, workers int) error {
	limit, err := limits.RaiseFiles()
	if err != nil {
		return fmt.Errorf("raise descriptor limit: %w", err)
	}
	if allowed := limit - ownDescriptors - workers*workerDescriptors; connections > allowed {
		return fmt.Errorf("-connections %d: the descriptor limit %d allows %d (hard limit: ulimit -Hn)", connections, limit, allowed)
	}
	return nil
}
