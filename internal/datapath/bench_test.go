package datapath_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/netnstest"
)

// overlayTo is the part that leads to n peers, each with an IPv4 and an IPv6 pod
// CIDR: five entries a peer.
func overlayTo(n int) *datapath.Part {
	p := &datapath.Part{Links: []*link.Link{{Name: datapath.VXLANLink, MTU: 1450, MAC: [6]byte{2, 0, 0, 0, 0, 1},
		VXLAN: &link.VXLAN{VNI: 1, Port: 4789, Local: netip.MustParseAddr("192.168.100.1")}}}}
	for i := range n {
		a, b, c := byte(i>>16), byte(i>>8), byte(i)
		mac := [6]byte{2, 0, 1, a, b, c}
		v4, v6 := netip.AddrFrom4([4]byte{20 + a, b, c, 0}), netip.AddrFrom16([16]byte{0xfd, 0, 1, a, b, c})
		p.Neighbours = append(p.Neighbours,
			neigh.Neighbour{Link: datapath.VXLANLink, Addr: netip.AddrFrom4([4]byte{172, 16 + a, b, c}), MAC: mac, Forward: true},
			neigh.Neighbour{Link: datapath.VXLANLink, Addr: v4, MAC: mac},
			neigh.Neighbour{Link: datapath.VXLANLink, Addr: v6, MAC: mac})
		p.Routes = append(p.Routes,
			route.Route{Dst: netip.PrefixFrom(v4, 24), Via: v4, Link: datapath.VXLANLink, OnLink: true},
			route.Route{Dst: netip.PrefixFrom(v6, 64), Via: v6, Link: datapath.VXLANLink, OnLink: true})
	}
	return p
}

// wires are the part of n pods, whose other ends are all in one namespace.
func wires(n int, netns string) *datapath.Part {
	p := &datapath.Part{}
	for i := range n {
		name := fmt.Sprintf("%s%012x", datapath.LinkPrefix, i)
		mac := [6]byte{2, 0, 2, 0, byte(i >> 8), byte(i)}
		v4, v6 := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0xfd, 0, 2, 14: byte(i >> 8), 15: byte(i)})
		p.Links = append(p.Links, &link.Link{Name: name, MTU: 1450, MAC: datapath.WireMAC,
			Veth: &link.Veth{Netns: netns, Peer: link.Peer{Name: fmt.Sprintf("e%d", i), MAC: mac, Addresses: []netip.Addr{v4, v6}}}})
		for _, a := range []netip.Addr{v4, v6} {
			p.Neighbours = append(p.Neighbours, neigh.Neighbour{Link: name, Addr: a, MAC: mac})
			p.Routes = append(p.Routes, route.Route{Dst: netip.PrefixFrom(a, a.BitLen()), Link: name})
		}
	}
	return p
}

// A stopwatch also counts what this process and the kernel for it have worked,
// which others on the machine change less than the time it takes.
type stopwatch struct {
	b    *testing.B
	work time.Duration
}

func (s *stopwatch) run(h *netnstest.Host, f func() error) {
	h.Do(func() error {
		before := worked()
		s.b.StartTimer()
		err := f()
		s.b.StopTimer()
		s.work += worked() - before
		return err
	})
}

func (s *stopwatch) report() {
	s.b.ReportMetric(float64(s.work.Microseconds())/1000/float64(s.b.N), "cpu-ms/op")
}

func worked() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkApplyPeersFromNothing(b *testing.B) {
	want := datapath.State{overlayTo(10_000)}
	watch := stopwatch{b: b}
	b.StopTimer()
	for range b.N {
		watch.run(netnstest.New(b), func() error { return datapath.Apply(datapath.DiffStates(nil, want)) })
	}
	watch.report()
}

func BenchmarkReadPeers(b *testing.B) {
	want := datapath.State{overlayTo(10_000)}
	node := netnstest.New(b)
	node.Do(func() error { return datapath.Apply(datapath.DiffStates(nil, want)) })
	b.Run("read", func(b *testing.B) {
		watch := stopwatch{b: b}
		for range b.N {
			watch.run(node, func() error { _, err := datapath.Read(want); return err })
		}
		watch.report()
	})
	b.Run("compare", func(b *testing.B) {
		var have datapath.Kernel
		node.Do(func() (err error) { have, err = datapath.Read(want); return err })
		for b.Loop() {
			if left := datapath.Diff(have, want); !left.Empty() {
				b.Fatal(left)
			}
		}
	})
}

// One pod comes and goes on a node that is full and has many peers.
func BenchmarkOnePod(b *testing.B) {
	for _, peers := range []int{0, 10_000} {
		node, pods := netnstest.New(b), netnstest.New(b)
		overlay, before, after := overlayTo(peers), wires(250, pods.Path), wires(251, pods.Path)
		copy(after.Links, before.Links) // what did not change is the same
		without, with := datapath.State{overlay, before}, datapath.State{overlay, after}
		node.Do(func() error { return datapath.Apply(datapath.DiffStates(nil, without)) })
		change := func(from, to datapath.State) func() error {
			return func() error { return datapath.Apply(datapath.DiffStates(from, to)) }
		}
		b.Run(fmt.Sprintf("comes/peers=%d", peers), func(b *testing.B) {
			watch := stopwatch{b: b}
			for range b.N {
				watch.run(node, change(without, with))
				node.Do(change(with, without))
			}
			watch.report()
		})
		b.Run(fmt.Sprintf("goes/peers=%d", peers), func(b *testing.B) {
			watch := stopwatch{b: b}
			for range b.N {
				node.Do(change(without, with))
				watch.run(node, change(with, without))
			}
			watch.report()
		})
		b.Run(fmt.Sprintf("diff/peers=%d", peers), func(b *testing.B) {
			for b.Loop() {
				if c := datapath.DiffStates(without, with); c.Empty() {
					b.Fatal("no change")
				}
			}
		})
	}
}
