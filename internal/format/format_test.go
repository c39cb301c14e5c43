package format

import "testing"

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 7: "7", 999: "999", 1000: "1,000", -999: "-999", -1000: "-1,000", 1234567: "1,234,567", -123456: "-123,456"} {
		if got := Thousands(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", -2048: "-2.0 KiB", 107.4: "107 B",
		1 << 20: "1.0 MiB", 1.5 * (1 << 30): "1.5 GiB", 1 << 44: "16384.0 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%v bytes: got %s, want %s", n, got, want)
		}
	}
}
