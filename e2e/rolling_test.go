package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// One node after the other drains, ends and comes back, while some clients stay and others come and go. All of them
// notice is the 1001 that they are told: no handshake fails, no connection is cut, no echo that a node has sent is lost.

func TestRollingRestartBehindHAProxy(t *testing.T) {
	rolling(t, startHAProxy)
}

func TestRollingRestartBehindNginx(t *testing.T) {
	rolling(t, startNginx)
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

	const stay, come = 300, 4
	staying := startLoad(t, wsload, at.front, "-connections", strconv.Itoa(stay), "-rate", "3000", "-type", "text")
	coming := startLoad(t, wsload, at.front, "-connections", strconv.Itoa(come), "-rate", "500", "-mode", "connect")
	var echoed, told uint64 // by the nodes
	ended := func(s *server) {
		t.Helper()
		s.wantStopped()
		stopped := s.logged("stopped")
		echoed += uint64(stopped["messages"].(float64))
		if n, ok := stopped["codes"].(map[string]any)["1001"]; ok {
			told += uint64(n.(float64))
		}
	}
	for i, node := range nodes {
		eventually(t, "all who stay are there, and some of them at the next node", func() bool {
			all := 0
			for _, n := range nodes {
				all += n.open()
			}
			return all >= stay && node.open() >= stay/10
		})
		// Somebody who never answers 1001: the drain lasts as long as it may, with the listener closed, and
		// with fewer connections than any other node.
		deaf := node.upgrade(t)
		there := node.open()
		began := time.Now()
		node.signal(syscall.SIGTERM)
		deaf.wantFailWith(1001)
		told-- // the deaf one is none of the load
		if node.ready() {
			t.Errorf("node %d drains and says it is ready", i+1)
		}
		up(i, "DOWN")
		noticed := time.Since(began)
		ended(node)
		t.Logf("node %d: %d connections when it was told to stop; noticed after %v at the most; gone after %v", i+1, there, noticed.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		nodes[i] = at.node(t, i)
		up(i, "UP")
		eventually(t, "new clients come to the node that is back", func() bool { return nodes[i].metric(`wsecho_handshakes_total{status="101"}`) > 0 })
	}
	ofStaying, ofComing := staying.end(), coming.end()
	for _, node := range nodes {
		node.signal(syscall.SIGTERM)
		ended(node)
	}
	t.Logf("%d who stay: %s", stay, ofStaying)
	t.Logf("%d at a time who come and go: %s", come, ofComing)
	if b.stats != "" {
		all := b.stat("BACKEND")
		t.Logf("HAProxy: %s handshakes, %s of them tried again, %s at another node; clients saw %s answers 5xx", all["stot"], all["wretr"], all["wredis"], all["hrsp_5xx"])
		if all["wredis"] == "0" {
			t.Error("no handshake was tried at another node: the load has not met a node that drains")
		}
	}

	ofLoad := ofStaying.wantOnlyTold1001(t) + ofComing.wantOnlyTold1001(t)
	if ofLoad != told || ofLoad < stay {
		t.Errorf("the nodes told %d connections 1001, and %d heard it; %d were open all the time", told, ofLoad, stay)
	}
	if ofStaying.Open != stay {
		t.Errorf("%d are open at the end, want %d", ofStaying.Open, stay)
	}
	// Who comes and goes may be gone at the end before its echo has arrived, once each.
	verified := uint64(ofStaying.Latency.Count + ofComing.Latency.Count)
	t.Logf("the nodes echoed %d messages, of which %d have arrived as they were sent; %d were told 1001", echoed, verified, told)
	if echoed < verified || echoed > verified+come {
		t.Errorf("the nodes echoed %d messages, and %d arrived", echoed, verified)
	}
}

// open is how many connections the server has. It has one worker.
func (s *server) open() int {
	s.t.Helper()
	return int(s.metric(`wsecho_connections{worker="0"}`))
}
