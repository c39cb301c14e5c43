package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"wsecho/internal/pool"
)

const (
	connzLimit = 100    // default of ?limit=
	connzMost  = 10_000 // largest ?limit=
)

// connz is the response of /connz, without the list of connections at its end. JSON field names
// contain units.
type connz struct {
	Now     time.Time   `json:"now"`
	Summary connSummary `json:"summary"`
	Sort    string      `json:"sort"`
	Peer    string      `json:"peer,omitempty"`
	Offset  int         `json:"offset"`
	Limit   int         `json:"limit"`
	Total   int         `json:"total"`   // number of connections
	Matched int         `json:"matched"` // number of connections that match ?peer=
	Next    string      `json:"next,omitempty"`
}

type connSummary struct {
	Open          int    `json:"open"`
	Limit         int    `json:"limit"`
	Draining      bool   `json:"draining"`
	Workers       []int  `json:"workers"` // number of connections of each
	Accepted      uint64 `json:"accepted"`
	Adopted       uint64 `json:"adopted"`
	Closed        uint64 `json:"closed"`
	Backpressured int    `json:"backpressured"`
	UnsentBytes   int    `json:"unsent_bytes"`
	HeldBytes     int    `json:"held_bytes"`
	HeldLimit     int    `json:"held_limit_bytes"`
}

type connEntry struct {
	FD       int     `json:"fd"`
	Worker   int     `json:"worker"`
	Peer     string  `json:"peer,omitempty"` // absent on a unix socket
	State    string  `json:"state"`
	Age      float64 `json:"age_seconds"`
	Idle     float64 `json:"idle_seconds"`
	Received uint64  `json:"received_bytes"`
	Sent     uint64  `json:"sent_bytes"`
	Unsent   int     `json:"unsent_bytes"`     // of replies that the kernel has not taken
	Rest     int     `json:"unfinished_bytes"` // of an incomplete frame or request
	Held     int     `json:"held_bytes"`       // of the buffer budget, for both
	Queued   bool    `json:"queued"`
}

// connz returns the handler of /connz.
func (s *Server) connz() http.Handler {
	return newQueue(http.HandlerFunc(s.listConns), listsMost, waitMost, s.limits.listWait)
}

func (s *Server) listConns(w http.ResponseWriter, r *http.Request) {
	query, err := connzQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.listTimeout)
	defer cancel()
	snapshot, err := s.cfg.Pool.Snapshot(ctx)
	var list pool.Listing
	if err == nil {
		list, err = s.cfg.Pool.List(ctx, query)
	}
	if err != nil {
		http.Error(w, "workers do not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer := connz{
		Now: time.Now().UTC(), Summary: summaryOf(snapshot), Sort: query.By.String(), Offset: query.Offset, Limit: query.Limit,
		Total: list.Total, Matched: list.Matched,
	}
	if query.Peer != nil {
		answer.Peer = query.Peer.String()
	}
	if list.Next != nil {
		answer.Next = cursorText(*list.Next)
	}
	answer.write(w, list.Conns)
}

// write writes the response as JSON, one line per connection. It encodes them one by one, because
// the whole text would need megabytes.
func (a connz) write(w http.ResponseWriter, conns []pool.Conn) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	head, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		panic("admin: a type that JSON does not have: " + err.Error())
	}
	_, _ = fmt.Fprintf(w, "%s,\n  \"connections\": [", bytes.TrimSuffix(head, []byte("\n}")))
	separator, end := "\n    ", "]\n}\n"
	for i := range conns {
		entry, err := json.Marshal(entryOf(&conns[i]))
		if err != nil {
			panic("admin: a type that JSON does not have: " + err.Error())
		}
		if _, err := fmt.Fprintf(w, "%s%s", separator, entry); err != nil {
			return // the client has disconnected
		}
		separator, end = ",\n    ", "\n  ]\n}\n"
	}
	_, _ = io.WriteString(w, end)
}

// connzParameters has the function that parses each parameter's value into a query.
var connzParameters = map[string]func(q *pool.Query, value string) error{
	"sort": func(q *pool.Query, value string) (err error) {
		q.By, err = pool.ParseOrder(value)
		return err
	},
	"peer": func(q *pool.Query, value string) (err error) {
		q.Peer, err = pool.ParsePeer(value)
		return err
	},
	"limit":  func(q *pool.Query, value string) error { return parseCount(&q.Limit, value, connzMost) },
	"offset": func(q *pool.Query, value string) error { return parseCount(&q.Offset, value, math.MaxInt32) },
	"after": func(q *pool.Query, value string) (err error) {
		q.After, err = parseCursor(value)
		return err
	},
}

// connzQuery parses the parameters. An unknown or repeated parameter is an error: if it were
// ignored, the response would answer a different query.
func connzQuery(raw string) (pool.Query, error) {
	q := pool.Query{Limit: connzLimit}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("malformed query: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parse := connzParameters[name]
		if parse == nil {
			known := slices.Sorted(maps.Keys(connzParameters))
			return q, fmt.Errorf("unknown parameter %q: want one of %s", name, strings.Join(known, ", "))
		}
		if n := len(values[name]); n > 1 {
			return q, fmt.Errorf("%s: given %d times", name, n)
		}
		if err := parse(&q, values[name][0]); err != nil {
			return q, fmt.Errorf("%s: %w", name, err)
		}
	}
	return q, nil
}

// parseCount parses a number from 0 to most.
func parseCount(n *int, text string, most int) error {
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil || value > uint64(most) {
		return fmt.Errorf("%q is not a number from 0 to %d", text, most)
	}
	*n = int(value)
	return nil
}

// cursorText formats a cursor for ?after=.
func cursorText(m pool.Cursor) string { return fmt.Sprintf("%d-%d", m.Value, m.FD) }

// parseCursor parses a cursor that cursorText has formatted.
func parseCursor(text string) (*pool.Cursor, error) {
	value, fd, _ := strings.Cut(text, "-")
	v, err := strconv.ParseUint(value, 10, 63)
	n, err2 := strconv.ParseUint(fd, 10, 31)
	if errors.Join(err, err2) != nil {
		return nil, fmt.Errorf(`%q is not the "next" of an earlier response`, text)
	}
	return &pool.Cursor{Value: v, FD: int32(n)}, nil
}

func summaryOf(s *pool.Snapshot) connSummary {
	var closed uint64
	for _, n := range s.Ended {
		closed += n
	}
	return connSummary{
		Open: s.Open, Limit: s.MaxConns, Draining: s.Draining, Workers: s.Workers,
		Accepted: s.Accepted, Adopted: s.Adopted, Closed: closed,
		Backpressured: s.Backlogged, UnsentBytes: s.BacklogBytes, HeldBytes: s.BudgetUsed, HeldLimit: s.BudgetLimit,
	}
}

func entryOf(c *pool.Conn) connEntry {
	e := connEntry{
		FD: c.FD, Worker: c.Worker, State: c.State, Age: c.Age.Seconds(), Idle: c.Idle.Seconds(),
		Received: c.Received, Sent: c.Sent, Unsent: c.Unsent, Rest: c.Rest, Held: c.Held, Queued: c.Queued,
	}
	if c.Peer.IsValid() {
		e.Peer = c.Peer.String()
	}
	return e
}
