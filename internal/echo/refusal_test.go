package echo

import (
	"net/http"
	"testing"
)

// The reason phrases and the date format must be those of net/http, which this package does not
// import.
func TestStatusTexts(t *testing.T) {
	for status, text := range statusTexts {
		if want := http.StatusText(status); text != want {
			t.Errorf("%d: got %q, want %q", status, text, want)
		}
	}
	if dateFormat != http.TimeFormat {
		t.Errorf("got date format %q, want %q", dateFormat, http.TimeFormat)
	}
}
