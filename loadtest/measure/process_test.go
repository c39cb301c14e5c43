package measure

import (
	"os"
	"testing"
	"time"
)

func TestUsageFromProc(t *testing.T) {
	u, err := parseStat("7 (a) (b c)) S 1 2 3 4 5 6 7 8 9 10 250 31 14 15 16 17 18 19 20 21 3 23 24")
	if err != nil || u.User != 2500*time.Millisecond || u.System != 310*time.Millisecond || u.RSS != int64(3*os.Getpagesize()) {
		t.Errorf("parseStat: got %+v, %v", u, err)
	}
	for _, stat := range []string{"", "7 (a) S", "7 (a) S 1 2 3 4 5 6 7 8 9 10 x 31 14 15 16 17 18 19 20 21 3"} {
		if u, err := parseStat(stat); err == nil {
			t.Errorf("parseStat(%q) = %+v, want an error", stat, u)
		}
	}
	if rss, ok := parseRollup("0-1 ---p\nRss:                1234 kB\nPss: 1 kB\n"); !ok || rss != 1234<<10 {
		t.Errorf("parseRollup: got %d, %v; want %d", rss, ok, 1234<<10)
	}
	own, err := usageOf(os.Getpid())
	if err != nil || own.RSS < 1<<20 || exactRSS(os.Getpid(), 0) < 1<<20 {
		t.Errorf("usage of this process: got %+v, %v; want at least 1 MiB", own, err)
	}
}
