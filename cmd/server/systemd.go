package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"wsecho/internal/netpoll"
	"wsecho/internal/pool"
)

// This file has the server's interface to systemd: the listening sockets that systemd passes
// (sd_listen_fds(3)), and the notifications that the server sends (sd_notify(3)). Without systemd,
// NOTIFY_SOCKET, WATCHDOG_USEC and LISTEN_FDS are not set, and all of this does nothing.

// inherit returns the listening sockets that systemd has passed, and their names. There are none if
// LISTEN_FDS is not set.
func inherit() (listeners []netpoll.Listener, names []string, err error) {
	for i, f := range activation.Files(true) {
		l, inheritErr := netpoll.Inherit(f)
		if inheritErr == nil {
			listeners, names = append(listeners, l), append(names, f.Name())
		} else if err == nil {
			err = fmt.Errorf("socket %d of LISTEN_FDS, %s: %w", i+1, f.Name(), inheritErr)
		}
		f.Close()
	}
	if err != nil {
		closeAll(listeners)
		return nil, nil, err
	}
	return listeners, names, nil
}

const (
	// statusEvery is the interval at which the server updates its status in systemctl status. A
	// watchdog may require a shorter one.
	statusEvery = 10 * time.Second

	// stopMargin is the time that a stop may take in addition to -drain-timeout.
	stopMargin = 5 * time.Second

	// notifyTimeout limits how long sending a notification may wait for systemd to read earlier ones.
	notifyTimeout = time.Second
)

// supervisor notifies systemd of the server's state, if systemd started the server. Only its own
// goroutine sends, so nothing else waits if systemd does not read.
type supervisor struct {
	pool     *pool.Pool
	log      *slog.Logger
	socket   string        // systemd's, from NOTIFY_SOCKET
	watchdog time.Duration // systemd kills the server if no WATCHDOG=1 arrives for this long; 0: never

	stop chan string        // the notification that a drain has begun
	quit context.CancelFunc // ends run
	done chan struct{}      // closed when run has ended

	draining atomic.Bool

	// Owned by run.
	unsent string // lines that systemd needs and has not received yet
	failed bool   // the last notification failed, and the log has a warning
}

// supervise notifies systemd that the server is ready, and from then on of its state.
func supervise(p *pool.Pool, log *slog.Logger) *supervisor {
	s := &supervisor{pool: p, log: log, socket: os.Getenv("NOTIFY_SOCKET"), stop: make(chan string, 1), done: make(chan struct{})}
	ctx, quit := context.WithCancel(context.Background())
	s.quit = quit
	var err error
	if s.watchdog, err = daemon.SdWatchdogEnabled(true); err != nil {
		log.Warn("invalid systemd watchdog settings, the watchdog will not be notified", "err", err)
	}
	if s.socket != "" {
		go s.run(ctx)
	} else {
		close(s.done)
	}
	return s
}

// run checks periodically that all workers are healthy, and notifies systemd. It sends WATCHDOG=1
// only if every worker has answered: a timer alone would prove only that timers work.
func (s *supervisor) run(ctx context.Context) {
	defer close(s.done)
	defer s.sendStop()
	every, patience := statusEvery, statusEvery/2
	if s.watchdog > 0 {
		// At worst a prompt answer and the slow one after it are three quarters of the watchdog's time
		// apart.
		every, patience = min(every, s.watchdog/2), s.watchdog/4
	}
	s.sendReliably(daemon.SdNotifyReady)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for last := (figures{at: time.Now()}); ; {
		if err := s.healthy(ctx, patience); ctx.Err() != nil {
			return
		} else if err != nil {
			s.log.Error("unhealthy, not notifying the systemd watchdog", "err", err)
			s.send("STATUS=" + strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			next := s.figures()
			s.send("STATUS=" + next.since(last) + "\n" + daemon.SdNotifyWatchdog)
			last = next
		}
		select {
		case <-ticker.C:
		case message := <-s.stop:
			s.sendReliably(message)
		case <-ctx.Done():
			return
		}
	}
}

// healthy returns an error that names the workers that do not answer within patience.
func (s *supervisor) healthy(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.pool.Healthy(ctx)
}

// stopping notifies systemd that a drain has begun, and extends the unit's TimeoutStopSec if
// -drain-timeout is longer.
func (s *supervisor) stopping(drainTimeout time.Duration) {
	s.draining.Store(true)
	s.stop <- fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d\nSTATUS=draining, %d connections left",
		daemon.SdNotifyStopping, (drainTimeout + stopMargin).Microseconds(), s.pool.Open())
}

// end ends the notifications. Call it after the drain.
func (s *supervisor) end() {
	s.quit()
	<-s.done
}

// sendStop sends the notification of stopping, if it is still in the channel.
func (s *supervisor) sendStop() {
	select {
	case message := <-s.stop:
		s.sendReliably(message)
	default:
	}
}

// sendReliably sends lines that systemd must receive. If that fails, every later notification
// begins with them until one succeeds: without READY=1 or EXTEND_TIMEOUT_USEC systemd would kill a
// healthy server.
func (s *supervisor) sendReliably(lines string) {
	s.unsent += lines + "\n"
	s.send("")
}

// send sends a notification to systemd, and logs the first of successive failures.
func (s *supervisor) send(message string) {
	message = strings.TrimSuffix(s.unsent+message, "\n")
	err := notify(s.socket, message)
	if err == nil {
		s.unsent = ""
	} else if !s.failed {
		s.log.Warn("cannot notify systemd", "message", message, "err", err)
	}
	s.failed = err != nil
}

// notify sends a message to a notify socket. Unlike daemon.SdNotify, it waits at most notifyTimeout
// if systemd does not read.
func notify(socket, message string) error {
	c, err := net.Dial("unixgram", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, err = io.WriteString(c, message)
	return err
}

// figures are a snapshot of the values that systemctl status shows.
type figures struct {
	at                time.Time
	draining          bool
	open              int
	messages          uint64
	bytesIn, bytesOut uint64
}

func (s *supervisor) figures() figures {
	c, err := s.pool.Snapshot(context.Background())
	if err != nil {
		return figures{}
	}
	return figures{time.Now(), s.draining.Load(), c.Open, messages(c.Counters), c.BytesIn, c.BytesOut}
}

// since returns the status text: the connection count, and the rates since before.
func (f figures) since(before figures) string {
	if f.draining {
		return fmt.Sprintf("draining, %d connections left", f.open)
	}
	seconds := max(f.at.Sub(before.at).Seconds(), 1e-3)
	return fmt.Sprintf("%d connections, %.0f messages/s, %.1f MiB/s in, %.1f MiB/s out", f.open,
		float64(f.messages-before.messages)/seconds,
		float64(f.bytesIn-before.bytesIn)/seconds/(1<<20),
		float64(f.bytesOut-before.bytesOut)/seconds/(1<<20))
}
