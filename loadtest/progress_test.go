package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A terminal is a pseudoterminal: wsload writes to tty, and the test reads what a person would see.
type terminal struct {
	t         *testing.T
	ptmx, tty *os.File
}

func newTerminal(t *testing.T, columns, rows uint16) *terminal {
	t.Helper()
	t.Setenv("TERM", "xterm")
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { ptmx.Close() })
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Skip(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
	return &terminal{t, ptmx, tty}
}

// sees runs wsload with the terminal as stderr, and returns what it has written to it.
func (x *terminal) sees(args ...string) string {
	x.t.Helper()
	const end = "end of the test\n"
	done := make(chan int, 1)
	go func() {
		done <- run(args, &bytes.Buffer{}, x.tty, nil)
		_, _ = x.tty.WriteString(end)
	}()
	_ = x.ptmx.SetReadDeadline(time.Now().Add(testTimeout))
	var shown []byte
	for part := make([]byte, 4096); !bytes.Contains(shown, []byte(strings.TrimSpace(end))); { // the output may arrive in parts
		n, err := x.ptmx.Read(part)
		if err != nil {
			x.t.Fatalf("%v after output %q", err, shown)
		}
		shown = append(shown, part[:n]...)
	}
	if status := <-done; status != exitMeasured {
		x.t.Errorf("got exit status %d, want 0", status)
	}
	before, _, _ := strings.Cut(string(shown), strings.TrimSpace(end))
	return before
}

var halfSecond = []string{"-connections", "3", "-warmup", "0s", "-duration", "450ms", "-interval", "100ms"}

const eraseBelow = "\x1b[J"

// On a terminal, a view of a few lines is drawn again after each interval and removed at the end.
func TestLiveView(t *testing.T) {
	s := startServer(t)
	shown := newTerminal(t, 100, 30).sees(append(halfSecond, s.url)...)
	frames := strings.Split(shown, eraseBelow)
	if len(frames) < 6 {
		t.Fatalf("got %d frames, want one for each phase and interval: %q", len(frames), shown)
	}
	if last := frames[len(frames)-1]; last != "" {
		t.Errorf("the view is followed by %q, want nothing", last)
	}
	all := strings.Join(frames, "")
	for _, want := range []string{
		s.url + ": 3 connections, binary messages of 128 bytes, 1 in flight", "opening ", "measuring  ", "█", " of 450ms", "closing",
		" /s on average", "latency    p50 ", "so far p50 ", "open       3 of 3", "errors     none", "rate       ▁", "p99        ",
	} {
		if !strings.Contains(strings.NewReplacer("▂", "▁", "▃", "▁", "▄", "▁", "▅", "▁", "▆", "▁", "▇", "▁").Replace(strings.ReplaceAll(all, "rate       █", "rate       ▁")), want) {
			t.Errorf("the view never shows %q: %q", want, all)
		}
	}
	// Every frame begins where the last one began.
	for i := 1; i < len(frames); i++ {
		lines := strings.Count(frames[i-1], "\n")
		if _, up, _ := strings.Cut(frames[i-1], "\x1b["); i > 1 && lines > 0 && up != strconv.Itoa(lines)+"A" {
			t.Errorf("a frame of %d lines is followed by the movement %q", lines, up)
		}
	}
}

// On a small terminal no line is broken, and the view does not scroll.
func TestLiveViewOnSmallTerminal(t *testing.T) {
	s := startServer(t)
	for _, size := range [][2]uint16{{30, 6}, {12, 3}, {1, 1}} {
		shown := newTerminal(t, size[0], size[1]).sees(append(halfSecond, s.url)...)
		for _, frame := range strings.Split(shown, eraseBelow) {
			frame, _, _ = strings.Cut(frame, "\r\x1b[")
			lines := strings.Split(strings.TrimSuffix(frame, "\r\n"), "\r\n")
			if len(lines) > int(size[1]) {
				t.Errorf("%d × %d: got %d lines: %q", size[0], size[1], len(lines), frame)
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(strings.TrimLeft(line, "\r")); n >= int(size[0]) && n > 1 {
					t.Errorf("%d × %d: got the line %q of %d characters", size[0], size[1], line, n)
				}
			}
		}
	}
}

// Without a terminal, or on one that knows no control sequences, there is a line per interval.
func TestPlainProgress(t *testing.T) {
	s := startServer(t)
	wants := func(t *testing.T, got string) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(got), "\n")
		if len(lines) < 3 || strings.Contains(got, "\x1b") {
			t.Fatalf("got %q, want a line per interval without control sequences", got)
		}
		for _, line := range lines {
			for _, want := range []string{"measuring ", " /s  p50 ", " p99 ", "3 open", "no errors"} {
				if !strings.Contains(line, want) {
					t.Errorf("got the line %q, want %q in it", line, want)
				}
			}
		}
	}
	t.Run("in a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "stderr")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		run(append(halfSecond, s.url), &bytes.Buffer{}, file, nil)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wants(t, string(got))
	})
	t.Run("on a dumb terminal", func(t *testing.T) {
		x := newTerminal(t, 120, 30)
		t.Setenv("TERM", "dumb")
		wants(t, strings.ReplaceAll(x.sees(append(halfSecond, s.url)...), "\r\n", "\n"))
	})
	t.Run("on request", func(t *testing.T) {
		wants(t, strings.ReplaceAll(newTerminal(t, 120, 30).sees(append(halfSecond, "-progress", "plain", s.url)...), "\r\n", "\n"))
	})
	t.Run("none", func(t *testing.T) {
		if got := newTerminal(t, 120, 30).sees(append(halfSecond, "-progress", "none", s.url)...); got != "" {
			t.Errorf("got %q, want nothing", got)
		}
	})
}

// A terminal that is stopped, as by Ctrl+S, takes no output. The run ends in time all the same, and
// its figures are not affected.
func TestStoppedTerminalDoesNotDelayTheRun(t *testing.T) {
	s := startServer(t)
	x := newTerminal(t, 100, 30)
	if err := unix.IoctlSetInt(int(x.tty.Fd()), unix.TCXONC, unix.TCOOFF); err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	done := make(chan int, 1)
	go func() { done <- run(append(halfSecond, s.url), &stdout, x.tty, nil) }()
	select {
	case status := <-done:
		if status != exitMeasured || !strings.Contains(stdout.String(), "every byte as it was sent") {
			t.Errorf("got exit status %d, %q", status, &stdout)
		}
	case <-time.After(testTimeout):
		t.Error("the run waits for the terminal")
	}
	if err := unix.IoctlSetInt(int(x.tty.Fd()), unix.TCXONC, unix.TCOON); err != nil {
		t.Fatal(err)
	}
}
