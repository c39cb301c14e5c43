package pool

import (
	"net/netip"
	"testing"
)

func TestPerIP(t *testing.T) {
	var p perIP
	p.init(2)
	in := func(addr string, want bool) uint32 {
		t.Helper()
		index, ok := p.countIn(netip.MustParseAddr(addr))
		if ok != want {
			t.Errorf("one more from %s: %v, want %v", addr, ok, want)
		}
		return index
	}
	first := in("192.0.2.1", true)
	in("::ffff:192.0.2.1", true) // the same, as a dual-stack socket says it
	in("192.0.2.1", false)
	in("192.0.2.2", true)

	in("2001:db8:0:1::1", true)
	in("2001:db8:0:1:ffff::2", true) // the same network of 64 bits
	in("2001:db8:0:1::3", false)
	in("2001:db8:0:2::3", true)

	p.countOut(first)
	in("192.0.2.1", true)
	in("192.0.2.1", false)
}

func TestPerIPForgets(t *testing.T) {
	var p perIP
	p.init(1)
	for range 3 {
		var all []uint32
		for i := range 100 {
			index, ok := p.countIn(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
			if !ok {
				t.Fatal("refused the first of its address")
			}
			all = append(all, index)
		}
		for _, index := range all {
			p.countOut(index)
		}
	}
	if len(p.index) != 0 || len(p.sources) != 101 {
		t.Errorf("%d addresses are known, and there is room for %d: an address without connections is forgotten", len(p.index), len(p.sources)-1)
	}
}

func TestPerIPDoesNotCount(t *testing.T) {
	var none, unix perIP
	none.init(0)
	unix.init(1)
	for range 3 {
		if index, ok := none.countIn(netip.MustParseAddr("192.0.2.1")); !ok || index != 0 {
			t.Error("without a limit, nobody is counted")
		}
		if index, ok := unix.countIn(netip.Addr{}); !ok || index != 0 {
			t.Error("a peer without an address is not counted")
		}
	}
	unix.countOut(0)
}
