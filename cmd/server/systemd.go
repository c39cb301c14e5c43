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

// What is between systemd and the server: the listening sockets that it hands
// over (sd_listen_fds(3)), and what it is told (sd_notify(3)). Without systemd,
// NOTIFY_SOCKET, WATCHDOG_USEC and LISTEN_FDS are not set, and all of this does nothing.

// inherit takes the sockets that systemd listens at for the server, and their names; or none, if
// there are none.
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
	// statusEvery is how old the figures get that systemctl status shows. A watchdog may
	// want to hear more often.
	statusEvery = 10 * time.Second

	// stopMargin is what a stop may take beyond the drain's time.
	stopMargin = 5 * time.Second

	// notifyTimeout is how long a message may wait for systemd to read those before it.
	notifyTimeout = time.Second
)

// supervisor tells systemd, if it started the server, how the server fares. Only its own goroutine
// sends: nothing else waits when systemd does not read.
type supervisor struct {
	pool     *pool.Pool
	log      *slog.Logger
	socket   string        // of systemd
	watchdog time.Duration // systemd ends the server after so long a silence; 0: it does not

	news  chan string // what stopping has to say
	leave context.CancelFunc
	left  chan struct{} // closed when nothing more is told

	draining atomic.Bool

	// attend's own.
	owed string // lines that systemd must be told, and could not be yet
	deaf bool   // the last message failed, and the log says so
}

// supervise tells systemd that the server serves, and from then on how it fares.
func supervise(p *pool.Pool, log *slog.Logger) *supervisor {
	s := &supervisor{pool: p, log: log, socket: os.Getenv("NOTIFY_SOCKET"), news: make(chan string, 1), left: make(chan struct{})}
	ctx, leave := context.WithCancel(context.Background())
	s.leave = leave
	var err error
	if s.watchdog, err = daemon.SdWatchdogEnabled(true); err != nil {
		log.Warn("systemd's watchdog is not answered", "err", err)
	}
	if s.socket != "" {
		go s.attend(ctx)
	} else {
		close(s.left)
	}
	return s
}

// attend asks the workers again and again whether their loops turn, and tells systemd. The watchdog is
// answered only if every one of them has said so; a timer alone would show no more than that there are timers.
func (s *supervisor) attend(ctx context.Context) {
	defer close(s.left)
	defer s.tellNews()
	every, patience := statusEvery, statusEvery/2
	if s.watchdog > 0 {
		// A prompt answer and a slow one after it are three quarters of its time apart.
		every, patience = min(every, s.watchdog/2), s.watchdog/4
	}
	s.announce(daemon.SdNotifyReady)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for last := (figures{at: time.Now()}); ; {
		if err := s.turning(ctx, patience); ctx.Err() != nil {
			return
		} else if err != nil {
			s.log.Error("the watchdog gets no answer", "err", err)
			s.tell("STATUS=" + strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			next := s.figures()
			s.tell("STATUS=" + next.since(last) + "\n" + daemon.SdNotifyWatchdog)
			last = next
		}
		select {
		case <-ticker.C:
		case news := <-s.news:
			s.announce(news)
		case <-ctx.Done():
			return
		}
	}
}

func (s *supervisor) turning(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.pool.Healthy(ctx)
}

// stopping tells systemd that a drain has begun, and that it may take longer than the unit's
// TimeoutStopSec says if -drain-timeout does.
func (s *supervisor) stopping(drainTimeout time.Duration) {
	s.draining.Store(true)
	s.news <- fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d\nSTATUS=draining, %d connections left",
		daemon.SdNotifyStopping, (drainTimeout + stopMargin).Microseconds(), s.pool.Open())
}

// end ends the telling, once the pool has drained.
func (s *supervisor) end() {
	s.leave()
	<-s.left
}

// tellNews announces what stopping has said meanwhile.
func (s *supervisor) tellNews() {
	select {
	case news := <-s.news:
		s.announce(news)
	default:
	}
}

// announce tells systemd what it must hear. If that fails, all later messages begin with it until one
// arrives: without READY=1 or EXTEND_TIMEOUT_USEC systemd would kill a healthy server.
func (s *supervisor) announce(lines string) {
	s.owed += lines + "\n"
	s.tell("")
}

// tell sends a message to systemd.
func (s *supervisor) tell(message string) {
	message = strings.TrimSuffix(s.owed+message, "\n")
	err := notify(s.socket, message)
	if err == nil {
		s.owed = ""
	} else if !s.deaf {
		s.log.Warn("systemd cannot be told", "message", message, "err", err)
	}
	s.deaf = err != nil
}

// notify sends a message to a notify socket. Unlike daemon.SdNotify, it does not wait for ever for a
// systemd that does not read.
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

// figures are what systemctl status shows, at one time.
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

// since says how many connections there are, and how busy they have been since before.
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
