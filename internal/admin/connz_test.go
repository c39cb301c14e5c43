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

// answer is all that /connz tells.
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

// lists asks for a list.
func (o *harness) lists(query string) (a answer) {
	o.t.Helper()
	if err := json.Unmarshal([]byte(o.wants("/connz?"+query, http.StatusOK, "")), &a); err != nil {
		o.t.Fatalf("%s: %v", query, err)
	}
	return a
}

func TestConnz(t *testing.T) {
	o := opens(t)
	a, b := o.dials(o.front), o.dials(o.addr)
	o.says(b, maskedHello, hello)
	o.says(a, strings.Repeat(maskedHello, 100), strings.Repeat(hello, 100))
	got := o.lists("sort=bytes&limit=2")
	if s := got.Summary; s.Open != 2 || s.Limit != 100 || s.Accepted != 1 || s.Adopted != 1 || len(s.Workers) != 2 {
		t.Errorf("summary %+v", s)
	}
	if len(got.Conns) != 2 || got.Conns[0].Peer != a.LocalAddr().String() || got.Conns[1].Peer != b.LocalAddr().String() ||
		got.Conns[0].State != "open" || got.Conns[1].Received != uint64(len(maskedHello)) || got.Conns[0].Sent < 700 {
		t.Errorf("%+v", got.Conns)
	}
	if got.Sort != "bytes" || got.Limit != 2 || got.Offset != 0 || got.Total != 2 || got.Matched != 2 || got.Next != "" || got.Peer != "" {
		t.Errorf("%+v", got.connz)
	}
	o.wants("/connz?limit=0", http.StatusOK, `"connections": []`)
}

// Every connection is on one page, whether pages are asked for by offset or by the mark that the
// page before tells.
func TestConnzPages(t *testing.T) {
	o := opens(t)
	const n = 7
	var want []string
	for range n {
		want = append(want, o.dials(o.front).LocalAddr().String())
	}
	slices.Sort(want)
	var byOffset, byMark []string
	for offset := 0; offset < n; offset += 3 {
		got := o.lists(fmt.Sprintf("limit=3&offset=%d", offset))
		if got.Offset != offset || got.Total != n || got.Matched != n || (got.Next == "") != (offset+3 >= n) {
			t.Errorf("from %d: %+v", offset, got.connz)
		}
		byOffset = append(byOffset, got.peers()...)
	}
	for mark := ""; ; {
		got := o.lists("limit=2" + mark)
		byMark = append(byMark, got.peers()...)
		if got.Next == "" || len(byMark) > n {
			break
		}
		mark = "&after=" + got.Next
	}
	slices.Sort(byOffset)
	slices.Sort(byMark)
	if !slices.Equal(byOffset, want) || !slices.Equal(byMark, want) {
		t.Errorf("%q by offset, %q by mark, want %q", byOffset, byMark, want)
	}
	if got := o.lists("offset=2147483647"); len(got.Conns) != 0 || got.Matched != n {
		t.Errorf("beyond the end: %+v", got)
	}
}

func TestConnzByPeer(t *testing.T) {
	o := opens(t)
	a := o.dials(o.front).LocalAddr().String()
	o.dials(o.front)
	for peer, want := range map[string]int{
		"127.0.0.1": 2, "127.0.0.0/8": 2, "::ffff:127.0.0.1": 2, a: 1, "192.0.2.0/24": 0, "::/0": 0, "unix": 0,
	} {
		got := o.lists("limit=1&peer=" + url.QueryEscape(peer))
		if got.Matched != want || got.Total != 2 || len(got.Conns) != min(want, 1) || got.Peer == "" {
			t.Errorf("%s: %+v, want %d", peer, got, want)
		}
	}
}

// A question that is not understood as a whole is not answered as if it were another; and the
// answer is only that.
func TestConnzQuery(t *testing.T) {
	o := opens(t)
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
		if body := o.wants("/connz?"+query, http.StatusBadRequest, want); strings.Contains(body, "{") {
			t.Errorf("%s: %q has an answer behind the error", query, body)
		}
	}
}

// A worker that hangs is not waited for, and nothing is made up for it.
func TestConnzWithoutAWorker(t *testing.T) {
	o := stuck(t)
	body := o.wants("/connz", http.StatusServiceUnavailable, "workers do not answer")
	if strings.Contains(body, "{") {
		t.Errorf("%q has an answer behind the error", body)
	}
}

// More lists than are made at once wait for their turn.
func TestManyListsAtOnce(t *testing.T) {
	o := opens(t)
	o.dials(o.front)
	o.atOnce(40, "/connz?limit=10000", func(response *http.Response, body string) {
		if response.StatusCode != http.StatusOK || !strings.Contains(body, `"peer"`) {
			t.Errorf("%s, %.200q", response.Status, body)
		}
	})
}

// What is read as a query has all of its parameters within bounds, and a mark is read as it was
// written.
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
			t.Errorf("%q: %+v", raw, q)
		}
		if q.After != nil {
			if again, err := parseMark(markText(*q.After)); err != nil || *again != *q.After {
				t.Errorf("%q: %v is read as %v, %v", raw, q.After, again, err)
			}
		}
	})
}

// atOnce asks so many times at once, each on a connection of its own.
func (o *harness) atOnce(n int, path string, check func(*http.Response, string)) {
	o.t.Helper()
	type reply struct {
		response *http.Response
		body     string
		err      error
	}
	replies := make(chan reply, n)
	for range n {
		go func() {
			var r reply
			r.response, r.body, r.err = o.get(path)
			replies <- r
		}()
	}
	for range n {
		if r := <-replies; r.err != nil {
			o.t.Errorf("%s: %v", path, r.err)
		} else {
			check(r.response, r.body)
		}
	}
}

// stalls asks and does not read the answer, for which there is little room on both ends.
func (o *harness) stalls(path string) net.Conn {
	o.t.Helper()
	c, err := net.Dial("tcp", o.addr)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		o.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(soon))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path)
	return c
}
