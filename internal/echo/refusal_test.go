package echo

import (
	"net/http"
	"testing"
)

// Statuses, their reason phrases and dates are those of net/http, which this package does not import.
func TestStatusTexts(t *testing.T) {
	for status, text := range statusTexts {
		if want := http.StatusText(status); text != want {
			t.Errorf("%d is %q, want %q", status, text, want)
		}
	}
	if dateFormat != http.TimeFormat {
		t.Errorf("dates are like %q, want %q", dateFormat, http.TimeFormat)
	}
}
