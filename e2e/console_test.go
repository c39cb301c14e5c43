package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/coder/websocket"
)

// This file uses the console as a person does, in Debian's chromium.

var screenshots = flag.String("screenshots", "", "`directory` to which TestConsoleLooks writes pictures of the console for the documents")

// A browser is a chromium without a window.
type browser struct{ ctx context.Context }

func startBrowser(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program(t, "chromium")), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(profile(t)),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("no-proxy-server", true),
		chromedp.WSURLReadTimeout(waitTimeout))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, closeAll := chromedp.NewContext(ctx)
	t.Cleanup(closeAll)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal("start chromium:", err)
	}
	return &browser{ctx}
}

// A tab is a tab of the browser. Its methods fail the test if the page does not do what they want.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex // protects problems
	problems []string   // exceptions, and errors and warnings in the browser's console
}

// opens opens a tab with the page, in a window of the given size in CSS pixels.
func (b *browser) opens(t *testing.T, page string, width, height int, scheme string) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(b.ctx)
	t.Cleanup(closeTab)
	p := &tab{t: t, ctx: ctx}
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			p.note((&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
		case *runtime.EventConsoleAPICalled:
			p.note(string(e.Type))
		case *log.EventEntryAdded:
			p.note(fmt.Sprintf("%s: %s", e.Entry.Level, e.Entry.Text))
		}
	})
	if err != nil {
		t.Fatal("open a tab:", err)
	}
	p.does("open "+page,
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}),
		command(log.Enable, cdp.Empty{}),
		chromedp.EmulateViewport(int64(width), int64(height), chromedp.EmulateScale(1.5)),
		chromedp.Navigate(page))
	return p
}

// command returns an action that sends a command of the DevTools protocol.
func command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (p *tab) note(problem string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, problem)
}

// wantsNoProblems wants that the browser has reported nothing but messages that contain one of the
// expected texts.
func (p *tab) wantsNoProblems(expected ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
next:
	for _, problem := range p.problems {
		for _, text := range expected {
			if strings.Contains(problem, text) {
				continue next
			}
		}
		p.t.Errorf("the browser reports %q", problem)
	}
}

func (p *tab) does(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

func (p *tab) clicks(selector string) {
	p.t.Helper()
	p.does("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeEnabled))
}

// enters replaces the content of a field.
func (p *tab) enters(selector, text string) {
	p.t.Helper()
	p.does("enter "+text, chromedp.Focus(chromedp.CSS(selector)),
		chromedp.Evaluate[chromedp.Void]("document.activeElement.select()"), chromedp.KeyEvent(kb.Delete), chromedp.KeyEvent(text))
}

// value evaluates a JavaScript expression whose value is a string.
func (p *tab) value(expression string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[string]("(async () => String(await ("+expression+")))()", chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// wants waits until a JavaScript expression is true.
func (p *tab) wants(why, expression string) {
	p.t.Helper()
	for end := time.Now().Add(waitTimeout); p.value(expression) != "true"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s: %s does not become true; the page shows\n%s", why, expression, p.value("document.body.innerText"))
		}
	}
}

// wantsText waits until an element's text contains a text.
func (p *tab) wantsText(why, selector, text string) {
	p.t.Helper()
	quoted, _ := json.Marshal(text)
	p.wants(why, fmt.Sprintf("document.querySelector(%q).textContent.includes(%s)", selector, quoted))
}

// wantsNoError wants that a form shows no error, and marks no field as invalid.
func (p *tab) wantsNoError(form string) {
	p.t.Helper()
	p.wants("the error is gone", fmt.Sprintf("document.querySelector('#%[1]s-error').textContent === '' && !document.querySelector('#%[1]s [aria-invalid=true]')", form))
}

// wantsIdle waits until nothing is being sent, and all echoes have arrived.
func (p *tab) wantsIdle(echoes int) {
	p.t.Helper()
	p.wants("all echoes arrive", fmt.Sprintf("document.querySelector('#stop').disabled && document.querySelector('#echoes').textContent === '%d'", echoes))
}

// wantsAccessible wants that axe-core finds no violation of accessibility guidelines.
func (p *tab) wantsAccessible(axe string) {
	p.t.Helper()
	p.does("load axe-core", chromedp.Evaluate[chromedp.Void](axe))
	if violations := p.value("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html + ' ' + n.failureSummary).join('; ')).join('\\n'))"); violations != "" {
		p.t.Errorf("axe-core reports\n%s", violations)
	}
}

// takesPicture writes a picture of the window.
func (p *tab) takesPicture(file string) {
	p.t.Helper()
	picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	pixels, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		p.t.Fatal(err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, paletted(pixels)); err != nil {
		p.t.Fatal(err)
	}
	if small.Len() > 200_000 {
		p.t.Errorf("%s has %d bytes, want at most 200,000", file, small.Len())
	}
	if err := os.WriteFile(file, small.Bytes(), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// paletted returns the picture in its 256 most frequent colours, of those that people can tell apart.
// The others are in the edges of letters, and more than double the size of the file.
func paletted(pixels image.Image) *image.Paletted {
	counts := map[color.Color]int{}
	bounds := pixels.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[pixels.At(x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(counts), func(a, b color.Color) int { return counts[b] - counts[a] })
	var palette color.Palette
	for _, c := range colors {
		if len(palette) < 256 && (len(palette) == 0 || !alike(c, palette.Convert(c))) {
			palette = append(palette, c)
		}
	}
	index := make(map[color.Color]uint8, len(colors))
	for _, c := range colors {
		index[c] = uint8(palette.Index(c))
	}
	small := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			small.SetColorIndex(x, y, index[pixels.At(x, y)])
		}
	}
	return small
}

// alike reports whether no channel of two colours differs by more than 3 %.
func alike(a, b color.Color) bool {
	near := func(x, y uint32) bool { return max(x, y)-min(x, y) <= 0xffff*3/100 }
	r, g, bl, _ := a.RGBA()
	r2, g2, bl2, _ := b.RGBA()
	return near(r, r2) && near(g, g2) && near(bl, bl2)
}

// opensConsole opens the console of a server, and waits until its first messages are echoed.
func (b *browser) opensConsole(t *testing.T, s *server) *tab {
	t.Helper()
	p := b.opens(t, "http://"+s.addr+"/", 1280, 900, "light")
	p.wantsText("the console connects at once", "#state", "Connected to "+s.url())
	p.wantsIdle(50)
	p.clicks("#clear")
	p.wantsText("the list is cleared", "#echoes", "0")
	return p
}

// row returns an expression for the texts of a row of the message list, newest first.
func row(i int) string {
	return fmt.Sprintf("[...document.querySelectorAll('#messages tr')[%d]?.cells ?? []].map(c => c.textContent).join('|')", i)
}

func TestConsole(t *testing.T) {
	b, s := startBrowser(t), start(t, "-subprotocols", "chat,superchat")

	t.Run("shows the server at work", func(t *testing.T) {
		p := b.opens(t, "http://"+s.addr+"/a/b?c", 1280, 900, "light")
		p.wantsText("the console connects at once", "#state", "Connected to "+s.url()+"a/b?c")
		p.wantsIdle(50)
		p.wantsText("every message is listed", "#counts", "50 sent, 50 received")
		p.wants("every echo is equal", "document.querySelectorAll('#messages .equal').length === 50 && document.querySelector('#unequal').textContent === '0'")
		p.wants("the percentiles are times", "/^[\\d.]+ (µs|ms|s)$/.test(document.querySelector('#p50').textContent) && /^[\\d.]+ (µs|ms|s)$/.test(document.querySelector('#p99').textContent)")
		p.wantsText("commands are ready for a shell", "#commands", "wsload -duration 5s '"+s.url()+"a/b?c'")
		p.wants("the chart has a text alternative", "/^Chart of round trips: 50 echoes, p50 .*, p99 .*, maximum .*/.test(document.querySelector('#chart').ariaLabel)")
		// The colour of the dots is used for nothing else.
		p.wants("the chart is drawn", `(() => {
			const c = document.querySelector('#chart'), all = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
			let dots = 0;
			for (let i = 0; i < all.length; i += 4) if (all[i] === 10 && all[i + 1] === 107 && all[i + 2] === 92 && all[i + 3] === 255) dots++;
			return dots > 100;
		})()`)
		p.wantsNoProblems()
	})

	t.Run("echoes text, hex and files", func(t *testing.T) {
		p := b.opensConsole(t, s)
		p.enters("#text", "Grüße €\n\U0001f600")
		p.clicks("#send-button")
		p.wantsIdle(1)
		p.wants("text is echoed", row(0)+".startsWith('↓ received|text|16 B|') && "+row(0)+".includes('|equal|Grüße €␊')")
		p.wants("what was sent is listed as well", row(1)+".startsWith('↑ sent|text|16 B|||')")

		p.clicks("[value=hex]")
		p.enters("#hex", "00 ff:7f,80\n0A")
		p.clicks("#send-button")
		p.wantsIdle(2)
		p.wants("binary data is echoed", row(0)+".startsWith('↓ received|binary|5 B|') && "+row(0)+".endsWith('|equal|00 ff 7f 80 0a')")

		for _, wrong := range []struct{ hex, error string }{
			{"0", "Incomplete byte at the end"}, {"0 1", "Incomplete byte at character 1"}, {"00 0g", "“g” at character 5"},
		} {
			p.enters("#hex", wrong.hex)
			p.clicks("#send-button")
			p.wantsText("the error is shown", "#send-error", wrong.error)
			p.wants("the field is marked, and has the focus", "document.activeElement.id === 'hex' && document.activeElement.ariaInvalid === 'true'")
		}

		p.clicks("[value=file]")
		p.clicks("#send-button")
		p.wantsText("a file is missing", "#send-error", "Choose a file first")
		file := filepath.Join(t.TempDir(), "1 MiB")
		if err := os.WriteFile(file, random(opBinary, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		p.does("choose a file", chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
		p.clicks("#send-button")
		p.wantsIdle(3)
		p.wants("1 MiB is echoed", row(0)+".startsWith('↓ received|binary|1 MiB|') && "+row(0)+".includes('|equal|')")
		p.wantsNoError("send")
		p.wantsNoProblems()
	})

	t.Run("takes dropped files", func(t *testing.T) {
		p := b.opensConsole(t, s)
		drag := func(item string) string {
			return "(type => { const d = new DataTransfer(); d.items.add(" + item + `);
				return !document.querySelector('#text').dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: d})); })`
		}
		text, file := drag("'some text', 'text/plain'"), drag("new File([Uint8Array.of(0, 255)], 'two bytes')")
		p.wants("text can be dragged into a field", "!"+text+"('dragover') && !"+text+"('drop')")
		p.wants("the page takes a file", file+"('dragover')")
		p.wants("it shows that", "document.body.className === 'dropping'")
		p.wants("a file is dropped", file+"('drop')")
		p.wants("the file is chosen", "document.body.className === '' && document.querySelector('#file').files[0].name === 'two bytes'")
		p.clicks("#send-button")
		p.wantsIdle(1)
		p.wants("the file is echoed", row(0)+".endsWith('|equal|00 ff')")
		p.wantsNoProblems()
	})

	t.Run("sends no file after the connection has closed", func(t *testing.T) {
		p := b.opensConsole(t, s)
		file := filepath.Join(t.TempDir(), "slow")
		if err := os.WriteFile(file, []byte("slow"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.does("read files slowly", chromedp.Evaluate[chromedp.Void]("File.prototype.arrayBuffer = () => new Promise(done => window.read = () => done(new ArrayBuffer(4)))"))
		p.clicks("[value=file]")
		p.does("choose a file", chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
		p.clicks("#send-button")
		p.clicks("#close-button")
		p.wantsText("the connection closes", "#state", "Closed with 1000")
		p.does("the file has been read", chromedp.Evaluate[chromedp.Void]("window.read()"))
		p.wantsText("the error is shown", "#send-error", "The connection closed while the file was read")
		p.wants("nothing waits to be sent", "document.querySelector('#stop').disabled")
		p.wantsNoProblems()
	})

	t.Run("repeats messages", func(t *testing.T) {
		p := b.opensConsole(t, s)
		p.enters("#times", "300")
		p.clicks("#send-button")
		p.wantsIdle(300)
		p.wants("the list is bounded", "document.querySelectorAll('#messages tr').length === 200")

		p.enters("#times", "0")
		p.enters("#interval", "1")
		p.clicks("#send-button")
		p.wants("messages are sent until stopped", "Number(document.querySelector('#echoes').textContent) > 320")
		p.clicks("#stop")
		p.wants("no message is left", "document.querySelector('#stop').disabled && /^(\\d+) sent, \\1 received$/.test(document.querySelector('#counts').textContent)")

		for _, wrong := range []struct{ field, value, error string }{
			{"times", "-1", "Times is a whole number"}, {"times", "1.5", "Times is a whole number"}, {"interval", "soon", "Every is a number"}, {"interval", "-1", "Every is a number"},
		} {
			p.enters("#times", "1")
			p.enters("#interval", "0")
			p.enters("#"+wrong.field, wrong.value)
			p.clicks("#send-button")
			p.wantsText("the error is shown", "#send-error", wrong.error)
			p.wants("the field has the focus", "document.activeElement.id === '"+wrong.field+"'")
		}
		p.wantsNoProblems()
	})

	t.Run("closes with a code and a reason", func(t *testing.T) {
		p := b.opensConsole(t, s)
		p.enters("#code", "1001")
		p.clicks("#close-button")
		p.wantsText("browsers may not send 1001", "#close-error", "1000 and with 3000 to 4999")
		p.enters("#code", "4321")
		p.enters("#reason", strings.Repeat("ü", 62))
		p.wantsText("bytes are counted", "#reason-size", "124")
		p.clicks("#close-button")
		p.wantsText("the reason is too long", "#close-error", "longer than 123 bytes")
		p.enters("#reason", "adiós")
		p.clicks("#close-button")
		p.wantsText("the server answers with the same code", "#state", "Closed with 4321 “adiós”, after a complete closing handshake")
		p.wantsNoError("close")
		p.wants("both close frames are listed", row(0)+" === '↓ received|close|8 B|||4321 “adiós”' && "+row(1)+" === '↑ sent|close|8 B|||4321 “adiós”'")
		p.wants("nothing can be sent", "document.querySelector('#send-button').disabled && document.querySelector('#close-button').disabled")
		p.clicks("#open")
		p.wantsText("it connects again", "#state", "Connected")
		p.wantsNoProblems()
	})

	t.Run("reports how the server closes", func(t *testing.T) {
		limited := start(t, "-max-message", "1KiB")
		p := b.opensConsole(t, limited)
		p.enters("#text", strings.Repeat("x", 1025))
		p.clicks("#send-button")
		p.wantsText("the message is too long", "#state", "Closed with 1009 “message is longer than the server's limit")
		p.clicks("#open")
		p.wantsText("it connects again", "#state", "Connected")
		limited.stop()
		p.wantsText("the server drains", "#state", "Closed with 1001")
		p.wantsNoProblems("WebSocket connection to")
	})

	t.Run("connects to other servers", func(t *testing.T) {
		p := b.opensConsole(t, s)
		other := start(t)
		p.enters("#protocols", "mqtt, superchat")
		p.enters("#url", other.url()+"x")
		p.clicks("#open")
		p.wantsText("another server", "#state", "Connected to "+other.url()+"x")
		p.wantsText("it accepts every subprotocol", "#subprotocol", "mqtt")
		p.enters("#url", s.url())
		p.clicks("#open")
		p.wantsText("this server", "#state", "Connected to "+s.url())
		p.wantsText("it does not", "#subprotocol", "superchat")

		for _, wrong := range []struct{ url, protocols, field, error string }{
			{"ftp://localhost/", "", "url", "The URL's scheme must be"},
			{"ws://[::1/", "", "url", "invalid"},
			{s.url() + "#a", "", "url", "fragment"},
			{s.url(), "a b", "protocols", "subprotocol"},
			{s.url(), "a, a", "protocols", "duplicated"},
		} {
			p.enters("#url", wrong.url)
			p.enters("#protocols", wrong.protocols)
			p.clicks("#open")
			p.wantsText("the error is shown", "#connect-error", wrong.error)
			p.wants("the field has the focus", "document.activeElement.id === '"+wrong.field+"'")
		}
		p.enters("#protocols", "")
		p.clicks("#open")
		p.wantsText("it connects again", "#state", "Connected to "+s.url())
		p.wantsNoError("connect")
		strict := start(t, "-origins", "example.com")
		p.enters("#url", strict.url())
		p.clicks("#open")
		p.wantsText("the server refuses the page's origin", "#connect-error", "-origins")
		p.wantsText("the connection failed", "#state", "Connection failed")
		p.wantsNoProblems("WebSocket connection to")
	})

	t.Run("finds wrong and unasked messages", func(t *testing.T) {
		wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if err != nil {
				return
			}
			defer c.CloseNow()
			_ = c.Write(r.Context(), websocket.MessageText, []byte("welcome"))
			for {
				_, p, err := c.Read(r.Context())
				if err != nil {
					return
				}
				_ = c.Write(r.Context(), websocket.MessageBinary, p) // as binary, whatever it was
			}
		}))
		defer wrong.Close()
		p := b.opensConsole(t, s)
		p.enters("#url", strings.Replace(wrong.URL, "http", "ws", 1))
		p.clicks("#open")
		p.wants("a greeting was not sent by this page", row(0)+" === '↓ received|text|7 B||not sent|welcome'")
		p.clicks("#send-button")
		p.wantsIdle(1)
		p.wants("text comes back as binary", row(0)+".includes('|differs|')")
		p.wantsText("it is counted", "#unequal", "1")
		p.wantsNoProblems()
	})

	t.Run("reports a connection that is lost", func(t *testing.T) {
		lossy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if err != nil {
				return
			}
			_, _, _ = c.Read(r.Context())
			_ = c.CloseNow()
		}))
		defer lossy.Close()
		p := b.opensConsole(t, s)
		p.enters("#url", strings.Replace(lossy.URL, "http", "ws", 1))
		p.clicks("#open")
		p.wantsText("it connects", "#state", "Connected to ws://"+strings.TrimPrefix(lossy.URL, "http://"))
		p.clicks("#send-button")
		p.wantsText("the connection is lost", "#state", "Connection lost (1006): no close frame arrived")
		p.wants("no close frame is listed", row(0)+".startsWith('↑ sent|text|')")
		p.wantsNoProblems()
	})

	t.Run("can be used by keyboard alone", func(t *testing.T) {
		p := b.opensConsole(t, s)
		p.does("go to the first field", chromedp.Focus(chromedp.CSS("#url")))
		for range 20 {
			if p.value("document.activeElement.id") == "text" {
				break
			}
			p.does("press Tab", chromedp.KeyEvent(kb.Tab))
		}
		p.wants("Tab leads to the message", "document.activeElement.id === 'text'")
		p.does("press Ctrl+Enter", chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(kb.ModifierCtrl)))
		p.wantsIdle(1)
		for range 10 {
			p.does("press Tab", chromedp.KeyEvent(kb.Tab))
			if p.value("document.activeElement.className") == "scroll" {
				break
			}
		}
		p.wants("Tab leads to the list, which the keyboard can scroll", "document.activeElement.className === 'scroll'")
		p.wantsNoProblems()
	})
}

// TestConsoleLooks checks the console for violations of accessibility guidelines with axe-core, and
// takes pictures of it.
func TestConsoleLooks(t *testing.T) {
	axe, err := os.ReadFile("node/node_modules/axe-core/axe.min.js")
	if err != nil {
		unavailable(t, "no node/node_modules/axe-core: run npm ci in e2e/node")
	}
	b, s := startBrowser(t), start(t)
	for _, look := range []struct {
		name, scheme  string
		width, height int
	}{
		{"light", "light", 1280, 860},
		{"dark", "dark", 1280, 860},
		{"narrow", "light", 390, 844},
		{"narrowest", "dark", 320, 640}, // also 1280 pixels at 400 % (WCAG 2.2, 1.4.10)
	} {
		t.Run(look.name, func(t *testing.T) {
			p := b.opens(t, "http://"+s.addr+"/", look.width, look.height, look.scheme)
			p.wantsIdle(50)
			p.wants("the page does not scroll sideways", "document.documentElement.scrollWidth <= innerWidth")
			p.enters("#interval", "10")
			p.enters("#times", "240")
			p.clicks("#send-button")
			p.wantsIdle(290)
			p.enters("#interval", "0")
			p.enters("#times", "1")
			p.does("go to the top", chromedp.Evaluate[chromedp.Void]("document.activeElement.blur(); scrollTo(0, 0)"))
			if *screenshots != "" && look.name != "narrowest" {
				p.takesPicture(filepath.Join(*screenshots, "console-"+look.name+".png"))
			}
			p.enters("#code", "1")
			p.clicks("#close-button")
			p.wantsText("an error is shown", "#close-error", "A browser can close")
			p.wantsAccessible(string(axe))
			p.wantsNoProblems()
		})
	}
}

// TestLoadPageLooks checks wsload's page like the console.
func TestLoadPageLooks(t *testing.T) {
	axe, err := os.ReadFile("node/node_modules/axe-core/axe.min.js")
	if err != nil {
		unavailable(t, "no node/node_modules/axe-core: run npm ci in e2e/node")
	}
	b, s := startBrowser(t), start(t)
	dir := t.TempDir()
	wsload, page := filepath.Join(dir, "wsload"), filepath.Join(dir, "page.html")
	if err := build(wsload, "wsecho/loadtest"); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(wsload, s.url(), "-duration", "4s", "-interval", "200ms", "-progress", "none", "-html", page, "-pid", fmt.Sprint(s.pid())).CombinedOutput(); err != nil {
		t.Fatalf("wsload: %v\n%s", err, output)
	}
	for _, scheme := range []string{"dark", "light"} {
		p := b.opens(t, "file://"+page, 1000, 900, scheme)
		p.wants("the charts follow the scheme", "getComputedStyle(document.querySelector('svg text')).fill === '"+map[string]string{"dark": "rgb(230, 236, 234)", "light": "rgb(23, 32, 29)"}[scheme]+"'")
		if *screenshots != "" && scheme == "light" {
			p.takesPicture(filepath.Join(*screenshots, "wsload-page.png"))
		}
		p.wantsAccessible(string(axe))
		p.wantsNoProblems()
	}
}

func TestConsoleModules(t *testing.T) {
	if output, err := exec.Command(program(t, "node"), "--test", "node/console.mjs").CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, output)
	}
}

func TestConsoleCanBeTurnedOff(t *testing.T) {
	s := start(t, "-console=false")
	request, err := http.NewRequest("GET", "http://"+s.addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("got %s, want 426", response.Status)
	}
}
