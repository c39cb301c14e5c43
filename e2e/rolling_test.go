package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The nodes are drained and restarted one after the other, while some clients stay connected and
// others connect and leave. Clients see nothing but 1001 closes: no handshake fails, no connection
// is cut, and no echo that a node has sent is lost.

func TestRollingRestartBehindHAProxy(t *testing.T) {
	rolling(t, startHAProxy)
}

func TestRollingRestartBehindNginx(t *testing.T) {
	rolling(t, startNginx)
}

// HAProxy detects a drain by /readyz, without failed requests, while the node's peers are still
// open.
func TestHAProxyPollsReadyz(t *testing.T) {
	at := newSite(t)
	node := at.node(t, 0)
	b := startHAProxy(t, at)
	b.wantStatus("node1", "UP")
	b.wantStatus("node2", "DOWN") // not started
	p := node.upgrade(t)
	node.signal(syscall.SIGTERM)
	p.wantFailWith(1001)
	b.wantStatus("node1", "DOWN")
	if is := b.stat("node1"); is["check_status"] != "L7STS" || is["check_code"] != "503" {
		t.Errorf("got HAProxy check %s with status %s, want L7STS with status 503", is["check_status"], is["check_code"])
	}
	node.wantStopped()
}

func rolling(t *testing.T, balance func(*testing.T, site) *balancer) {
	wsload := filepath.Join(t.TempDir(), "wsload")
	if err := build(wsload, "wsecho/loadtest"); err != nil {
		t.Fatal(err)
	}
	at := newSite(t)
	var nodes [3]*server
	for i := range nodes {
		nodes[i] = at.node(t, i)
	}
	b := balance(t, at)
	up := func(i int, status string) {
		t.Helper()
		if b.stats != "" {
			b.wantStatus(fmt.Sprint("node", i+1), status)
		}
	}
	for i := range nodes {
		up(i, "UP")
	}
	eventually(t, "the balancer listens", func() bool {
		w, err := connect(at.front)
		if err == nil {
			w.Close()
		}
		return err == nil
	})

	const permanent, short = 300, 2
	permanentLoad := startLoad(t, wsload, at.front, "-connections", strconv.Itoa(permanent), "-rate", "3000", "-type", "text")
	shortLoad := startLoad(t, wsload, at.front, "-connections", strconv.Itoa(short), "-mode", "connect")
	var echoed, goingAway uint64 // totals of the nodes: messages, and closes with 1001
	ended := func(s *server) {
		t.Helper()
		s.wantStopped()
		stopped := s.logged("stopped")
		echoed += uint64(stopped["messages"].(float64))
		if n, ok := stopped["codes"].(map[string]any)["1001"]; ok {
			goingAway += uint64(n.(float64))
		}
	}
	for i, node := range nodes {
		eventually(t, "all permanent connections are open, some of them at the next node", func() bool {
			all := 0
			for _, n := range nodes {
				all += n.open()
			}
			return all >= permanent && node.open() >= permanent/10
		})
		// This peer never answers 1001, so the drain lasts for all of -drain-timeout. Meanwhile the
		// listener is closed, and the node has fewer connections than any other.
		silent := node.upgrade(t)
		there := node.open()
		began := time.Now()
		node.signal(syscall.SIGTERM)
		silent.wantFailWith(1001)
		goingAway-- // the silent peer is not part of the load
		if node.ready() {
			t.Errorf("node %d reports that it is ready during its drain", i+1)
		}
		up(i, "DOWN")
		detected := time.Since(began)
		ended(node)
		t.Logf("node %d: %d connections at SIGTERM; detected after at most %v; stopped after %v", i+1, there, detected.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		nodes[i] = at.node(t, i)
		up(i, "UP")
		eventually(t, "the restarted node gets new clients", func() bool { return nodes[i].metric(`wsecho_handshakes_total{status="101"}`) > 0 })
	}
	ofPermanent, ofShort := permanentLoad.end(), shortLoad.end()
	for _, node := range nodes {
		node.signal(syscall.SIGTERM)
		ended(node)
	}
	t.Logf("%d permanent connections: %s", permanent, ofPermanent)
	t.Logf("%d short connections at a time: %s", short, ofShort)
	if b.stats != "" {
		all := b.stat("BACKEND")
		t.Logf("HAProxy: %s handshakes, %s of them redispatched to another node, %s retried at the same node; %s responses 5xx", all["stot"], all["wredis"], all["wretr"], all["hrsp_5xx"])
		if all["wredis"] == "0" {
			t.Error("no handshake was redispatched: the load has not reached a draining node")
		}
	}

	ofLoad := ofPermanent.wantOnly1001(t) + ofShort.wantOnly1001(t)
	// A short connection's 1000 may cross the node's 1001: the node counts 1001, the load does not.
	if ofLoad > goingAway || ofLoad+short*uint64(len(nodes)) < goingAway || ofLoad < permanent {
		t.Errorf("the nodes closed %d connections with 1001, the load received %d, with %d permanent connections", goingAway, ofLoad, permanent)
	}
	if ofPermanent.Open != permanent {
		t.Errorf("got %d open connections at the end, want %d", ofPermanent.Open, permanent)
	}
	// Each short connection may be closed at the end of the load before its echo has arrived.
	verified := uint64(ofPermanent.Latency.Count + ofShort.Latency.Count)
	t.Logf("the nodes echoed %d messages, %d of them verified by the load; %d connections were closed with 1001", echoed, verified, goingAway)
	if echoed < verified || echoed > verified+short {
		t.Errorf("the nodes echoed %d messages, the load verified %d; want a difference from 0 to 2", echoed, verified)
	}
}

// open returns the number of the server's connections. The server has one worker.
func (s *server) open() int {
	s.t.Helper()
	return int(s.metric(`wsecho_connections{worker="0"}`))
}
