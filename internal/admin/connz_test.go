package admin

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"wsecho/internal/pool"
)

// answer is the whole response of /connz.
type answer struct {
	connz
	Conns []connEntry `json:"connections"`
}

func (a *answer) peers() (peers []string) {
	for _, c := range a.Conns {
		peers = append(peers, c.Peer)
	}
	return peers
}

// lists returns the response of /connz to a query.
func (h *harness) lists(query string) (a answer) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.wants("/connz?"+query, http.StatusOK, "")), &a); err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
	return a
}

func TestConnz(t *testing.T) {
	h := newHarness(t)
	a, b := h.dials(h.front), h.dials(h.addr)
	h.says(b, maskedHello, hello)
	h.says(a, strings.Repeat(maskedHello, 100), strings.Repeat(hello, 100))
	got := h.lists("sort=bytes&limit=2")
	if s := got.Summary; s.Open != 2 || s.Limit != 100 || s.Accepted != 1 || s.Adopted != 1 || len(s.Workers) != 2 {
		t.Errorf("got summary %+v, want 1 of 100 accepted and 1 adopted, on 2 workers", s)
	}
	if len(got.Conns) != 2 || got.Conns[0].Peer != a.LocalAddr().String() || got.Conns[1].Peer != b.LocalAddr().String() ||
		got.Conns[0].State != "open" || got.Conns[1].Received != uint64(len(maskedHello)) || got.Conns[0].Sent < 700 {
		t.Errorf("got connections %+v, want %v and %v in this order", got.Conns, a.LocalAddr(), b.LocalAddr())
	}
	if got.Sort != "bytes" || got.Limit != 2 || got.Offset != 0 || got.Total != 2 || got.Matched != 2 || got.Next != "" || got.Peer != "" {
		t.Errorf("got %+v, want both connections on a single page by bytes", got.connz)
	}
	h.wants("/connz?limit=0", http.StatusOK, `"connections": []`)
}

// Every connection is on exactly one page, whether pages are requested by offset or by cursor.
func TestConnzPages(t *testing.T) {
	h := newHarness(t)
	const n = 7
	var want []string
	for range n {
		want = append(want, h.dials(h.front).LocalAddr().String())
	}
	slices.Sort(want)
	var byOffset, byCursor []string
	for offset := 0; offset < n; offset += 3 {
		got := h.lists(fmt.Sprintf("limit=3&offset=%d", offset))
		if got.Offset != offset || got.Total != n || got.Matched != n || (got.Next == "") != (offset+3 >= n) {
			t.Errorf("offset %d: got %+v", offset, got.connz)
		}
		byOffset = append(byOffset, got.peers()...)
	}
	for cursor := ""; ; {
		got := h.lists("limit=2" + cursor)
		byCursor = append(byCursor, got.peers()...)
		if got.Next == "" || len(byCursor) > n {
			break
		}
		cursor = "&after=" + got.Next
	}
	slices.Sort(byOffset)
	slices.Sort(byCursor)
	if !slices.Equal(byOffset, want) || !slices.Equal(byCursor, want) {
		t.Errorf("got %q by offset and %q by cursor, want %q", byOffset, byCursor, want)
	}
	if got := h.lists("offset=2147483647"); len(got.Conns) != 0 || got.Matched != n {
		t.Errorf("offset beyond the end: got %+v, want no connections", got)
	}
}

func TestConnzByPeer(t *testing.T) {
	h := newHarness(t)
	a := h.dials(h.front).LocalAddr().String()
	h.dials(h.front)
	for peer, want := range map[string]int{
		"127.0.0.1": 2, "127.0.0.0/8": 2, "::ffff:127.0.0.1": 2, a: 1, "192.0.2.0/24": 0, "::/0": 0, "unix": 0,
	} {
		got := h.lists("limit=1&peer=" + url.QueryEscape(peer))
		if got.Matched != want || got.Total != 2 || len(got.Conns) != min(want, 1) || got.Peer == "" {
			t.Errorf("%s: got %+v, want %d matches", peer, got, want)
		}
	}
}

// An invalid query gets status 400, with the error and no list.
func TestConnzRefusesInvalidQueries(t *testing.T) {
	h := newHarness(t)
	for query, want := range map[string]string{
		"sort=size":                   `sort: "size" is not one of age, idle, bytes`,
		"sort=":                       `sort: "" is not one of age, idle, bytes`,
		"sort=age&sort=age":           `sort: given 2 times`,
		"limit=-1":                    `limit: "-1" is not a number from 0 to 10000`,
		"limit=many":                  `limit: "many" is not a number from 0 to 10000`,
		"limit=10001":                 `limit: "10001" is not a number from 0 to 10000`,
		"limit=99999999999999999999":  `limit: "99999999999999999999" is not a number from 0 to 10000`,
		"limit=":                      `limit: "" is not a number from 0 to 10000`,
		"limit":                       `limit: "" is not a number from 0 to 10000`,
		"limit=%2b5":                  `limit: "+5" is not a number`,
		"limit=1e3":                   `limit: "1e3" is not a number`,
		"limit=5&limit=6":             `limit: given 2 times`,
		"offset=-1":                   `offset: "-1" is not a number from 0 to 2147483647`,
		"offset=2147483648":           `offset: "2147483648" is not a number from 0 to 2147483647`,
		"offset=0x10":                 `offset: "0x10" is not a number`,
		"peer=":                       `peer: "" is not an IP address`,
		"peer=localhost":              `peer: "localhost" is not an IP address`,
		"peer=192.0.2.0/33":           `peer: "192.0.2.0/33" is not an IP address`,
		"peer=fe80::1%25eth0":         `peer: "fe80::1%eth0" has a zone`,
		"peer=127.0.0.1&peer=::1":     `peer: given 2 times`,
		"after=":                      `after: "" is not the "next" of an earlier response`,
		"after=1":                     `after: "1" is not the "next"`,
		"after=-1":                    `after: "-1" is not the "next"`,
		"after=1-2-3":                 `after: "1-2-3" is not the "next"`,
		"after=9223372036854775808-1": `is not the "next"`,
		"after=1-2147483648":          `is not the "next"`,
		"page=2":                      `unknown parameter "page": want one of after, limit, offset, peer, sort`,
		"Limit=2":                     `unknown parameter "Limit"`,
		"=2":                          `unknown parameter ""`,
		"limit=5;offset=2":            `malformed query: invalid semicolon separator`,
		"limit=%zz":                   `malformed query: invalid URL escape "%zz"`,
	} {
		if body := h.wants("/connz?"+query, http.StatusBadRequest, want); strings.Contains(body, "{") {
			t.Errorf("%s: got body %q, want only the error", query, body)
		}
	}
}

// With a worker that hangs, /connz gets status 503, with the error and no list.
func TestConnzWithHangingWorker(t *testing.T) {
	h := hangingHarness(t)
	body := h.wants("/connz", http.StatusServiceUnavailable, "workers do not answer")
	if strings.Contains(body, "{") {
		t.Errorf("got body %q, want only the error", body)
	}
}

// More requests than listsMost wait for their turn, and are all answered.
func TestSimultaneousLists(t *testing.T) {
	h := newHarness(t)
	h.dials(h.front)
	h.atOnce(40, "/connz?limit=10000", func(response *http.Response, body string) {
		if response.StatusCode != http.StatusOK || !strings.Contains(body, `"peer"`) {
			t.Errorf("got status %s, body %.200q; want a list", response.Status, body)
		}
	})
}

// FuzzConnzQuery checks that the parameters of a parsed query are within bounds, and that
// parseCursor is the inverse of cursorText.
func FuzzConnzQuery(f *testing.F) {
	for _, seed := range []string{"", "limit=1&offset=2&sort=idle", "peer=%3A%3A1", "after=12-3", "limit=1;2", "peer=unix&peer=unix"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := connzQuery(raw)
		if err != nil {
			return
		}
		if q.Limit < 0 || q.Limit > connzMost || q.Offset < 0 || q.By < pool.ByAge || q.By > pool.ByBytes {
			t.Errorf("%q: got %+v, want all parameters within bounds", raw, q)
		}
		if q.After != nil {
			if again, err := parseCursor(cursorText(*q.After)); err != nil || *again != *q.After {
				t.Errorf("%q: cursor %v is parsed as %v, error %v", raw, q.After, again, err)
			}
		}
	})
}

// atOnce sends n simultaneous requests, each on a connection of its own, and checks the responses.
func (h *harness) atOnce(n int, path string, check func(*http.Response, string)) {
	h.t.Helper()
	type reply struct {
		response *http.Response
		body     string
		err      error
	}
	replies := make(chan reply, n)
	for range n {
		go func() {
			var r reply
			r.response, r.body, r.err = h.get(path)
			replies <- r
		}()
	}
	for range n {
		if r := <-replies; r.err != nil {
			h.t.Errorf("%s: %v", path, r.err)
		} else {
			check(r.response, r.body)
		}
	}
}

// stalls sends a request and does not read the response, for which it has a small receive buffer.
func (h *harness) stalls(path string) net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		h.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(soon))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path)
	return c
}
