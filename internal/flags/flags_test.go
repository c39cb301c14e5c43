package flags

import "testing"

func TestSizes(t *testing.T) {
	for text, want := range map[string]ByteSize{
		"1": 1, "1000B": 1000, "8KiB": 8 << 10, "3 MiB": 3 << 20, "2GiB": 2 << 30,
	} {
		got, err := Size(0, 1<<40)(text)
		if err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "B", "-1", "1.5MiB", "1KB", "1 mib", "9223372036854775807KiB"} {
		if got, err := Size(0, 1<<62)(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
	for size, want := range map[ByteSize]string{0: "0", 1000: "1000", 8 << 10: "8KiB", 256 << 20: "256MiB", 1<<30 + 1: "1073741825"} {
		if got := size.String(); got != want {
			t.Errorf("%d is written %q, want %q", size, got, want)
		}
	}
}
