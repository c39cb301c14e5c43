package pool

import (
	"net/netip"
	"testing"
)

func TestPerIPLimitsEachSource(t *testing.T) {
	var p perIP
	p.init(2)
	in := func(addr string, want bool) uint32 {
		t.Helper()
		index, ok := p.countIn(netip.MustParseAddr(addr))
		if ok != want {
			t.Errorf("countIn(%s): got %v, want %v", addr, ok, want)
		}
		return index
	}
	first := in("192.0.2.1", true)
	in("::ffff:192.0.2.1", true) // the same address, as a dual-stack socket reports it
	in("192.0.2.1", false)
	in("192.0.2.2", true)

	in("2001:db8:0:1::1", true)
	in("2001:db8:0:1:ffff::2", true) // the same /64 network
	in("2001:db8:0:1::3", false)
	in("2001:db8:0:2::3", true)

	p.countOut(first)
	in("192.0.2.1", true)
	in("192.0.2.1", false)
}

func TestPerIPReusesIndexes(t *testing.T) {
	var p perIP
	p.init(1)
	for range 3 {
		var all []uint32
		for i := range 100 {
			index, ok := p.countIn(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
			if !ok {
				t.Fatal("countIn is false for the first connection of an address, want true")
			}
			all = append(all, index)
		}
		for _, index := range all {
			p.countOut(index)
		}
	}
	if len(p.index) != 0 || len(p.sources) != 101 {
		t.Errorf("got %d addresses and %d sources, want 0 and 100: indexes without connections are reused", len(p.index), len(p.sources)-1)
	}
}

func TestPerIPIgnoresPeersThatAreNotCounted(t *testing.T) {
	var none, unix perIP
	none.init(0)
	unix.init(1)
	for range 3 {
		if index, ok := none.countIn(netip.MustParseAddr("192.0.2.1")); !ok || index != 0 {
			t.Error("countIn counts without a limit, want index 0 and true")
		}
		if index, ok := unix.countIn(netip.Addr{}); !ok || index != 0 {
			t.Error("countIn counts a peer without an address, want index 0 and true")
		}
	}
	unix.countOut(0)
}
