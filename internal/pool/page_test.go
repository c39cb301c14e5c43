package pool

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wsecho/internal/echo"
)

const (
	pageRequest = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html,*/*;q=0.8\r\n"

	// pageSize is the size in bytes of the page in these tests. With its head it is nearly as long
	// as echo.MaxPage.
	pageSize = 30000
)

func page() []byte { return bytes.Repeat([]byte("<p>page\n"), pageSize/8) }

func servesPage(cfg *Config) { cfg.Echo.Page = echo.NewPage(page(), page(), "default-src 'none'") }

// wantsPage waits for a response with the page, and FIN.
func (p *peer) wantsPage(why string) {
	p.h.t.Helper()
	if head := p.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		p.h.t.Fatalf("%s: got %q, want status 200", why, head)
	}
	p.wants(why, page())
	p.wantsFIN(why)
}

func TestServesPage(t *testing.T) {
	h := newHarness(t, servesPage)
	p, witness := h.dials(), h.connects()
	p.sends([]byte(pageRequest + "\r\n"))
	p.wantsPage("a browser")
	p.closes()
	h.runsUntilIdle()
	h.wantsEnded(map[Reason]uint64{Completed: 1})
	h.wantsCount("responses with the page", h.count().Codes[200], 1)
	h.wantsCount("upgrades", h.count().Upgraded, 1)
	witness.wantsAlive("a page was served")
}

// A long request that arrives in pieces is collected in a block of its own, in which the page might
// not fit.
func TestServesPageForLongRequestInPieces(t *testing.T) {
	for _, size := range []int{shortRest - 100, shortRest + 100, 4000, 7500} {
		h := newHarness(t, servesPage)
		p := h.dials()
		p.sends([]byte(pageRequest + "Cookie: " + strings.Repeat("x", size)))
		p.wantsNothing("the request is incomplete")
		p.sends([]byte("\r\n\r\n"))
		p.wantsPage("the request is complete")
		h.wantsCount("held bytes", uint64(h.held()), 0)
	}
}

// The kernel takes only a part of the page if the peer does not read. This needs a unix socket: TCP
// takes up to 64 KiB at once, however small its send buffer is.
func TestServesPageToSlowReader(t *testing.T) {
	h := newHarnessAt(t, []string{"unix:" + filepath.Join(t.TempDir(), "s")}, servesPage)
	p := h.dials()
	p.sends([]byte(pageRequest))
	p.wantsNothing("the request is incomplete")
	_, fd := p.slot()
	h.limits(fd, unix.SO_SNDBUF, 4096)
	p.sends([]byte("\r\n"))
	h.runsUntilIdle()
	h.wantsCount("write backlogs", h.count().Backlogs, 1)
	p.wantsPage("the peer reads")
}

func TestServesPageWhenMemoryIsShort(t *testing.T) {
	h := newHarness(t, servesPage, bufferBudget(4*64<<10))
	defer h.exhaustsBudget()()
	other, _, _ := h.takesSpareBlock()
	p := h.dials()
	p.sends([]byte(pageRequest + "\r\n"))
	p.wantsPage("the kernel takes all of it")
	if h.count().LowMemoryTurns == 0 {
		t.Error("no low-memory turn, want one")
	}
	other.closes()
}

func TestServesNoPageInDrain(t *testing.T) {
	h := newHarness(t, servesPage)
	p := h.dials()
	p.sends([]byte(pageRequest))
	p.wantsNothing("the request is incomplete")
	h.drains(time.Minute)
	p.wantsStatus("the server is shutting down", 503)
}
