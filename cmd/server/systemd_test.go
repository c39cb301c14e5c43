package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// systemd is the receiving end of a notify socket. A notification is a set of lines.
type systemd struct {
	t *testing.T
	c *net.UnixConn
}

// listens opens a notify socket and sets NOTIFY_SOCKET. A name that begins with @ is an abstract
// socket, as systemd uses in containers.
func listens(t *testing.T, name string) *systemd {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return &systemd{t, c}
}

// hears returns the lines of the next notification, and false if none arrives in time.
func (s *systemd) hears(within time.Duration) (lines []string, ok bool) {
	s.t.Helper()
	if err := s.c.SetReadDeadline(time.Now().Add(within)); err != nil {
		s.t.Fatal(err)
	}
	message := make([]byte, 4096)
	n, err := s.c.Read(message)
	return strings.Split(string(message[:n]), "\n"), err == nil
}

// waitsFor waits for a notification with a matching line, and returns all of its lines.
func (s *systemd) waitsFor(line string) []string {
	s.t.Helper()
	match := regexp.MustCompile("^(?:" + line + ")$")
	var heard [][]string
	for end := time.Now().Add(soon); time.Now().Before(end); {
		lines, _ := s.hears(time.Until(end))
		for _, l := range lines {
			if match.MatchString(l) {
				return lines
			}
		}
		heard = append(heard, lines)
	}
	s.t.Fatalf("timed out waiting for the notification %s; received %q", line, heard)
	return nil
}

// systemd receives READY=1, the status, the watchdog's notifications, and STOPPING=1 with the time
// for the drain.
func TestSystemdNotifications(t *testing.T) {
	for name, socket := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": "@wsecho-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			systemd := listens(t, socket)
			t.Setenv("WATCHDOG_USEC", "200000")
			t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
			s := start(t, "-drain-timeout", "90s")
			if first, _ := systemd.hears(soon); first[0] != "READY=1" {
				t.Errorf("the first notification is %q, want READY=1", first)
			}
			p := s.dial()
			began := time.Now()
			systemd.waitsFor("WATCHDOG=1")
			systemd.waitsFor("WATCHDOG=1")
			if d := time.Since(began); d < 50*time.Millisecond {
				t.Errorf("two watchdog notifications within %v, want half of WATCHDOG_USEC between them", d)
			}
			systemd.waitsFor("STATUS=1 connections, 0 messages/s, 0.0 MiB/s in, 0.0 MiB/s out")
			for range 100 {
				p.Sends(maskedHello)
				p.Wants(hello, "an echo")
			}
			systemd.waitsFor(`STATUS=1 connections, [1-9]\d* messages/s, .*`)

			s.signals <- syscall.SIGTERM
			stopping := systemd.waitsFor("STOPPING=1")
			if want := []string{"EXTEND_TIMEOUT_USEC=95000000", "STATUS=draining, 1 connections left"}; strings.Join(stopping[1:], " ") != strings.Join(want, " ") {
				t.Errorf("STOPPING=1 comes with %q, want %q", stopping[1:], want)
			}
			p.Wants(goingAway, "the connection is closed with 1001")
			systemd.waitsFor("WATCHDOG=1") // the workers are healthy during the drain, too
			p.Sends(maskedClose)
			p.WantsEnd()
			s.wantsExit(exitDrained)
		})
	}
}

// Without a watchdog, the server sends only its status, every statusEvery.
func TestSystemdWithoutWatchdog(t *testing.T) {
	systemd := listens(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", "1") // another process
	s := start(t)
	systemd.waitsFor("READY=1")
	systemd.waitsFor("STATUS=0 connections, .*")
	if lines, ok := systemd.hears(300 * time.Millisecond); ok {
		t.Errorf("notification %q before statusEvery has passed, want none", lines)
	}
	s.signals <- syscall.SIGTERM
	systemd.waitsFor("STOPPING=1")
	s.wantsExit(exitDrained)
}

// The server serves even if it cannot notify systemd.
func TestServerWorksWithoutNotifySocket(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "missing"))
	t.Setenv("WATCHDOG_USEC", "soon")
	s := start(t)
	s.wantsLog("invalid systemd watchdog settings, the watchdog will not be notified")
	s.wantsLog("cannot notify systemd")
	p := s.dial()
	p.Sends(maskedHello)
	p.Wants(hello, "an echo")
	p.Close()
	s.signals <- syscall.SIGTERM
	s.wantsExit(exitDrained)
}

// TimeoutStopSec in the unit is at least the default -drain-timeout plus stopMargin.
func TestUnitAllowsTimeForDrain(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/systemd/wsecho.service")
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(unit), "\nTimeoutStopSec=")
	value, _, _ = strings.Cut(value, "\n")
	stop, err := time.ParseDuration(value)
	if err != nil {
		t.Fatal(err)
	}
	settings, _ := newSettings()
	if least := settings.drainTimeout + stopMargin; stop < least {
		t.Errorf("TimeoutStopSec=%v, want at least %v: -drain-timeout plus stopMargin", stop, least)
	}
}

// The server repeats a READY=1 that failed until it succeeds once: without it systemd would kill a
// healthy server.
func TestReadyIsSentAgainAfterFailure(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	s := start(t)
	s.wantsLog("cannot notify systemd")
	systemd := listens(t, socket)
	systemd.waitsFor("READY=1")
	systemd.waitsFor("WATCHDOG=1")
	if lines, _ := systemd.hears(soon); lines[0] == "READY=1" {
		t.Errorf("READY=1 is sent again after it has arrived: %q", lines)
	}
	s.signals <- syscall.SIGTERM
	systemd.waitsFor("STOPPING=1")
	s.wantsExit(exitDrained)
}

// The server serves and drains even if systemd does not read its notifications.
func TestServerWorksWhileSystemdDoesNotRead(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	listens(t, socket)
	full, err := net.Dial("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for err = nil; err == nil; {
		full.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		_, err = full.Write([]byte("X=1"))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	s := start(t, "-drain-timeout", "1h")
	p := s.dial()
	p.Sends(maskedHello)
	p.Wants(hello, "an echo")
	s.signals <- syscall.SIGTERM
	p.Wants(goingAway, "the drain has begun")
	p.Sends(maskedClose)
	p.WantsEnd()
	s.wantsLog("cannot notify systemd")
	s.wantsExit(exitDrained)
}

// STATUS has rates: the differences between two snapshots, divided by the time between them.
func TestStatusHasRates(t *testing.T) {
	at := time.Now()
	before := figures{at: at, messages: 1000, bytesIn: 10 << 20, bytesOut: 100 << 20}
	now := figures{at: at.Add(2 * time.Second), open: 3, messages: 1010, bytesIn: 13 << 20, bytesOut: 105 << 20}
	if got, want := now.since(before), "3 connections, 5 messages/s, 1.5 MiB/s in, 2.5 MiB/s out"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	now.draining = true
	if got, want := now.since(before), "draining, 3 connections left"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
