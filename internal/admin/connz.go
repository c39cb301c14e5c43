package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"wsecho/internal/pool"
)

const (
	connzLimit = 100 // by default
	connzMost  = 10_000

	// connzTimeout is how long it may take to look through all connections.
	connzTimeout = 10 * time.Second
)

// connz is the answer of /connz. Field names have their units.
type connz struct {
	Now     time.Time   `json:"now"`
	Summary connSummary `json:"summary"`
	Sort    string      `json:"sort"`
	Limit   int         `json:"limit"`
	Conns   []connEntry `json:"connections"`
}

type connSummary struct {
	Open          int    `json:"open"`
	Limit         int    `json:"limit"`
	Draining      bool   `json:"draining"`
	Workers       []int  `json:"workers"` // connections of each
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
	Peer     string  `json:"peer,omitempty"` // none on a unix socket
	State    string  `json:"state"`
	Age      float64 `json:"age_seconds"`
	Idle     float64 `json:"idle_seconds"`
	Received uint64  `json:"received_bytes"`
	Sent     uint64  `json:"sent_bytes"`
	Unsent   int     `json:"unsent_bytes"`     // of replies that the kernel has not taken
	Rest     int     `json:"unfinished_bytes"` // of a frame or request that is not whole
	Held     int     `json:"held_bytes"`       // of the budget, for both
	Queued   bool    `json:"queued"`
}

// connz tells who is connected.
func (s *Server) connz(w http.ResponseWriter, r *http.Request) {
	by, limit, err := connzQuery(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), connzTimeout)
	defer cancel()
	snapshot, err := s.cfg.Pool.Snapshot(ctx)
	var list []pool.Conn
	if err == nil {
		list, err = s.cfg.Pool.List(ctx, by, limit)
	}
	if err != nil {
		http.Error(w, "the workers do not answer: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer := connz{Now: time.Now().UTC(), Summary: summaryOf(snapshot), Sort: by.String(), Limit: limit, Conns: []connEntry{}}
	for _, c := range list {
		answer.Conns = append(answer.Conns, entryOf(&c))
	}
	writeJSON(w, answer)
}

// connzQuery reads the parameters.
func connzQuery(r *http.Request) (by pool.Order, limit int, err error) {
	query := r.URL.Query()
	limit = connzLimit
	if query.Has("sort") {
		if by, err = pool.ParseOrder(query.Get("sort")); err != nil {
			return 0, 0, fmt.Errorf("sort: %w", err)
		}
	}
	if query.Has("limit") {
		if limit, err = strconv.Atoi(query.Get("limit")); err != nil || limit < 0 || limit > connzMost {
			return 0, 0, fmt.Errorf("limit: %q is not a number from 0 to %d", query.Get("limit"), connzMost)
		}
	}
	return by, limit, nil
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
