// Command loadtest is wsload: it measures a WebSocket echo server.
//
//	wsload -connections 1000 -payload 1KiB -duration 10s
//
// See wsload -h for its flags, and docs/load.md for what it measures, and how.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"wsecho/internal/flags"
)

// Exit statuses.
const (
	exitMeasured  = 0
	exitFailed    = 1 // there was nothing to measure, or a part failed
	exitUsage     = flags.ExitUsage
	exitThreshold = 3 // a condition of -fail-if holds
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, signals))
}

// run is the program: from arguments to exit status.
func run(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	s, err := parse(args)
	if status, answered := flags.Answer("wsload", err, s.version, help, stdout, stderr); answered {
		return status
	}
	r, end, err := load(s, stderr, signals)
	defer end() // after the report: with -leave this is what takes long
	if err == nil {
		err = deliver(r, s, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "wsload:", err)
		return exitFailed
	}
	status := exitMeasured
	for _, v := range r.Verdicts {
		if v.Failed {
			fmt.Fprintln(stderr, "wsload: -fail-if", v)
			status = exitThreshold
		}
	}
	return status
}

// load does what the settings ask for. What is still open then is closed by end.
func load(s *settings, stderr io.Writer, signals <-chan os.Signal) (r *report, end func(), err error) {
	end = func() {}
	if err := allowDescriptors(s.connections); err != nil {
		return nil, end, err
	}
	p, err := s.plan()
	if err != nil {
		return nil, end, err
	}
	progress := silence
	if isTerminal(stderr) {
		progress = progressLine(stderr)
		defer clearLine(stderr)
	}
	g, err := newGenerator(p, s.schedule(), signals, progress)
	if err != nil {
		return nil, end, err
	}
	out, err := g.run()
	if err != nil {
		return nil, g.close, err
	}
	return newReport(s, p, out), g.close, nil
}

// deliver writes the report in the forms that are wanted.
func deliver(r *report, s *settings, stdout io.Writer) error {
	if s.html != "" {
		if err := writeHTML(s.html, r); err != nil {
			return fmt.Errorf("-html %s: %w", s.html, err)
		}
	}
	if s.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false) // p99>5ms
		return e.Encode(r)
	}
	r.write(stdout)
	return nil
}

// ownDescriptors are what the process has open besides connections, amply.
const ownDescriptors = 64

// allowDescriptors raises the soft limit of descriptors to the hard one, and says if
// that is too few.
func allowDescriptors(connections int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return fmt.Errorf("descriptor limit: %w", err)
		}
	}
	if allowed := int(min(limit.Cur, 1<<31)) - ownDescriptors; connections > allowed {
		return fmt.Errorf("-connections %d: the descriptor limit %d allows %d (ulimit -Hn)", connections, limit.Cur, allowed)
	}
	return nil
}
