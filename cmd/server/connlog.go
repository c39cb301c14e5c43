package main

import (
	"log/slog"

	"wsecho/internal/pool"
)

// logConn logs a connection event. The worker waits for it, so log must not block.
func logConn(log *slog.Logger, e *pool.ConnEvent) {
	peer := "unix"
	if e.Peer.IsValid() {
		peer = e.Peer.String()
	}
	if !e.Ended {
		log.Info("connection opened", "peer", peer, "worker", e.Worker)
		return
	}
	log.Info("connection closed", "peer", peer, "worker", e.Worker, "reason", e.Reason.String(), "code", e.Code,
		"bytes_in", e.Received, "bytes_out", e.Sent, "duration", e.Duration)
}
