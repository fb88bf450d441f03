package world

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// What is left of a range is exactly the ports that nobody else has, in order.
func TestWithoutLeavesWhatNobodyHas(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	// Near both ends of what a port can be, where arithmetic goes wrong.
	port := func() uint16 { return []uint16{0, 65500}[random.IntN(2)] + uint16(random.IntN(36)) }
	ports := func() PortRange {
		a, b := port(), port()
		return PortRange{min(a, b), max(a, b)}
	}
	for range 20_000 {
		whole := ports()
		var others []PortRange
		for range random.IntN(5) {
			others = append(others, ports())
		}
		left := whole.Without(others...)
		for i := 1; i < len(left); i++ {
			if left[i-1].High >= left[i].Low {
				t.Fatalf("%s without %v is %v: not in order", whole, others, left)
			}
		}
		contains := func(rs []PortRange, p uint16) bool {
			return slices.ContainsFunc(rs, func(r PortRange) bool { return r.Contains(p) })
		}
		for i := range 2 * 100 {
			p := uint16(i)
			if i >= 100 {
				p = 65535 - uint16(i-100)
			}
			if got, want := contains(left, p), whole.Contains(p) && !contains(others, p); got != want {
				t.Fatalf("%s without %v is %v: has %d: %v, want %v", whole, others, left, p, got, want)
			}
		}
	}
}

func TestPodMTULeavesRoomForTheOuterHeaders(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	kernel := &Kernel{Interfaces: []Interface{
		{Name: "eth0", MTU: 1500, Addresses: []netip.Prefix{netip.PrefixFrom(four, 24)}},
		{Name: "eth1", MTU: 9000, Addresses: []netip.Prefix{netip.PrefixFrom(six, 64)}},
	}}
	for _, tt := range []struct {
		name      string
		addresses []netip.Addr
		overlay   Overlay
		want      int // of pods
		tunnel    int
	}{
		{"IPv4 outside", []netip.Addr{four, six}, Overlay{}, 1450, 1450},
		{"IPv6 outside", []netip.Addr{six, four}, Overlay{Mode: Hybrid}, 8930, 8930},
		{"address on no interface", []netip.Addr{netip.MustParseAddr("192.0.2.9")}, Overlay{}, 1450, 1450},
		{"no address", nil, Overlay{}, 1450, 1450},
		{"set", []netip.Addr{six}, Overlay{MTU: 1400}, 1400, 1400},
		{"direct", []netip.Addr{six}, Overlay{Mode: Direct}, 9000, 8930},
		{"direct, by two interfaces", []netip.Addr{six, four}, Overlay{Mode: Direct}, 1500, 8930},
		{"direct, set", []netip.Addr{six}, Overlay{Mode: Direct, MTU: 1400}, 1400, 1400},
		{"direct, no address", nil, Overlay{Mode: Direct}, 1500, 1450},
		{"chosen", []netip.Addr{four}, Overlay{Interface: InterfaceChoice{Pattern: "eth1"}}, 8930, 8930},
		{"nothing as chosen", []netip.Addr{four}, Overlay{Interface: InterfaceChoice{Pattern: "eth2"}}, 1450, 1450},
	} {
		w := &World{Node: &Node{Addresses: tt.addresses}, Kernel: kernel, Config: &Config{Overlay: tt.overlay}}
		if pods, tunnel := w.PodMTU(), w.TunnelMTU(); pods != tt.want || tunnel != tt.tunnel {
			t.Errorf("%s: MTU %d, of the tunnel %d, want %d and %d", tt.name, pods, tunnel, tt.want, tt.tunnel)
		}
	}
}

// Hardware addresses of names are unicast, local, and different.
func TestHashedAddressesAreUnicastAndLocal(t *testing.T) {
	seen := map[MAC]bool{}
	for i := range 10_000 {
		m := HashMAC(string(rune('a'+i%26)) + string(rune(i)))
		if m[0]&1 != 0 || m[0]&2 == 0 {
			t.Fatalf("%x is not unicast and local", m)
		}
		if seen[m] {
			t.Fatalf("%x twice", m)
		}
		if a := m.LinkLocal(); !a.IsLinkLocalUnicast() {
			t.Fatalf("%x has address %s", m, a)
		}
		seen[m] = true
	}
}

func TestProblemIsOneSentence(t *testing.T) {
	p := Problem{Object: "AgentConfig default", Field: "spec.nodeSNATPortRange", Reason: "9-5 runs backwards", Hint: "write 5-9", Source: "a.yaml"}
	if got, want := p.String(), "a.yaml: AgentConfig default: spec.nodeSNATPortRange: 9-5 runs backwards (write 5-9)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := (Problem{Object: "Node n1", Reason: "is there twice"}).String(), "Node n1: is there twice"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
