package conntrack

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// The far host's addresses and port, and what SNAT makes of the near host's.
var (
	far4, far6   = netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("fd00::9")
	near4, near6 = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	snat4, snat6 = netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
)

const (
	service = 7000
	toEach  = 3 // connections of each protocol and family
	lowest  = 40000
	highest = 40099
)

// translated is a host that gives what it sends a source of its own choice, with
// a few connections that stay.
func translated(t *testing.T) *netnstest.Host {
	h, far := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(h, "eth0", far, "eth0")
	h.Address("eth0", near4.String()+"/24", snat4.String()+"/24", near6.String()+"/64", snat6.String()+"/64")
	far.Address("eth0", far4.String()+"/24", far6.String()+"/64")
	h.Run("nft", `add table inet t; add chain inet t c { type nat hook postrouting priority 100; };
		add rule inet t c meta l4proto { tcp, udp, icmp } snat ip to 10.0.0.2:40000-40099;
		add rule inet t c meta l4proto { tcp, udp, icmpv6 } ip6 daddr fd00::9 snat ip6 to [fd00::2]:40000-40099`)
	for _, c := range []struct{ near, far netip.Addr }{{near4, far4}, {near6, far6}} {
		to := netip.AddrPortFrom(c.far, service)
		var l net.Listener
		far.Do(func() (err error) { l, err = net.Listen("tcp", to.String()); return err })
		t.Cleanup(func() { l.Close() })
		h.Do(func() error {
			for range toEach {
				for _, network := range []string{"tcp", "udp"} {
					from := net.JoinHostPort(c.near.String(), "0")
					d := net.Dialer{}
					var err error
					if d.LocalAddr, err = net.ResolveTCPAddr("tcp", from); network == "udp" {
						d.LocalAddr, err = net.ResolveUDPAddr("udp", from)
					}
					if err != nil {
						return err
					}
					s, err := d.DialContext(t.Context(), network, to.String())
					if err != nil {
						return err
					}
					t.Cleanup(func() { s.Close() })
					if _, err := s.Write([]byte("x")); err != nil {
						return err
					}
				}
			}
			return ping(c.near, c.far)
		})
	}
	return h
}

// ping sends echo requests, each with an identifier of its own.
func ping(from, to netip.Addr) error {
	network, kind := "ip4:icmp", byte(8)
	if to.Is6() {
		network, kind = "ip6:ipv6-icmp", 128
	}
	c, err := net.ListenPacket(network, from.String())
	if err != nil {
		return err
	}
	defer c.Close()
	for id := range byte(toEach) {
		b := []byte{kind, 0, 0, 0, 0, id + 1, 0, 1}
		if to.Is4() {
			check := 0xffff - (uint16(kind)<<8 + uint16(id) + 1 + 1)
			b[2], b[3] = byte(check>>8), byte(check)
		}
		if _, err := c.WriteTo(b, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return err
		}
	}
	return nil
}

func dump(t *testing.T, f Filter) (out []Entry) {
	t.Helper()
	table, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	err = table.Dump(f, func(e *Entry) bool { out = append(out, *e); return true })
	if err := errors.Join(err, table.Close()); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(out, func(a, b Entry) int {
		return strings.Compare(a.Original.String()+a.Reply.String(), b.Original.String()+b.Reply.String())
	})
	return out
}

func (t Tuple) String() string { return t.Source.String() + ">" + t.Destination.String() }

func TestDumpSeesHowConnectionsAreTranslated(t *testing.T) {
	t.Parallel()
	translated(t).Do(func() error {
		counts := map[byte]int{}
		for _, e := range dump(t, Filter{Status: SourceNAT}) {
			counts[e.Protocol]++
			near, far, snat := near4, far4, snat4
			if e.Original.Source.Addr().Is6() {
				near, far, snat = near6, far6, snat6
			}
			id, port := e.Original.Source.Port(), uint16(service)
			if isICMP(e.Protocol) {
				port = 0
			}
			given := e.Reply.Destination.Port()
			if given < lowest || given > highest {
				t.Errorf("port or identifier %d is given, want one of %d to %d", given, lowest, highest)
			}
			want := Entry{
				Protocol: e.Protocol, Status: e.Status, TCPState: e.TCPState,
				Original: Tuple{netip.AddrPortFrom(near, id), netip.AddrPortFrom(far, port)},
				Reply:    Tuple{netip.AddrPortFrom(far, port), netip.AddrPortFrom(snat, given)},
			}
			if e != want {
				t.Errorf("%+v, want %+v", e, want)
			}
			if established := e.TCPState == 3; established != (e.Protocol == unix.IPPROTO_TCP) {
				t.Errorf("protocol %d is in TCP state %d", e.Protocol, e.TCPState)
			}
		}
		for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			if counts[p] != 2*toEach {
				t.Errorf("%d connections of protocol %d, want %d", counts[p], p, 2*toEach)
			}
		}
		if counts[unix.IPPROTO_ICMP] != toEach || counts[unix.IPPROTO_ICMPV6] != toEach {
			t.Errorf("%v, want %d echo requests of each family", counts, toEach)
		}
		return nil
	})
}

// A filtered dump is what the filter wants of the whole table, wherever it is
// filtered.
func TestDumpLeavesOutWhatIsNotWanted(t *testing.T) {
	t.Parallel()
	translated(t).Do(func() error {
		all := dump(t, Filter{})
		one := all[slices.IndexFunc(all, func(e Entry) bool { return e.Protocol == unix.IPPROTO_UDP && e.Original.Source.Addr().Is4() })]
		echo := all[slices.IndexFunc(all, func(e Entry) bool { return e.Protocol == unix.IPPROTO_ICMPV6 && e.Status&SourceNAT != 0 })]
		for name, c := range map[string]struct {
			filter Filter
			want   int
		}{
			"source NAT":             {Filter{Status: SourceNAT}, 6 * toEach},
			"UDP":                    {Filter{Status: SourceNAT, Protocol: unix.IPPROTO_UDP}, 2 * toEach},
			"the address of the far": {Filter{Reply: Tuple{Source: netip.AddrPortFrom(far4, 0)}}, 3 * toEach},
			"the far's service":      {Filter{Protocol: unix.IPPROTO_TCP, Reply: Tuple{Source: netip.AddrPortFrom(far6, service)}}, toEach},
			"a port of no protocol":  {Filter{Reply: Tuple{Source: netip.AddrPortFrom(far4, service)}}, 2 * toEach},
			"who has this port?":     {Filter{Protocol: one.Protocol, Reply: Tuple{Destination: one.Reply.Destination}}, 1},
			"who has this echo?":     {Filter{Protocol: echo.Protocol, Reply: Tuple{Destination: echo.Reply.Destination}}, 1},
			"UDP of IPv6":            {Filter{Family: unix.AF_INET6, Status: SourceNAT, Protocol: unix.IPPROTO_UDP}, toEach},
			"to a port, of IPv4":     {Filter{Family: unix.AF_INET, Protocol: unix.IPPROTO_UDP, Original: Tuple{Destination: netip.AddrPortFrom(netip.Addr{}, service)}}, toEach},
			"to a port, of IPv6":     {Filter{Family: unix.AF_INET6, Protocol: unix.IPPROTO_UDP, Original: Tuple{Destination: netip.AddrPortFrom(netip.Addr{}, service)}}, toEach},
			"to another port":        {Filter{Family: unix.AF_INET, Protocol: unix.IPPROTO_UDP, Original: Tuple{Destination: netip.AddrPortFrom(netip.Addr{}, service+1)}}, 0},
			"from an address":        {Filter{Original: Tuple{Source: netip.AddrPortFrom(near4, 0)}, Reply: Tuple{Source: netip.AddrPortFrom(far4, 0)}}, 3 * toEach},
			"who sent this echo?":    {Filter{Protocol: echo.Protocol, Original: Tuple{Source: echo.Original.Source}}, 1},
			"nobody":                 {Filter{Reply: Tuple{Source: netip.AddrPortFrom(near4, 0)}}, 0},
		} {
			var want []Entry
			for _, e := range all {
				if c.filter.wants(&e) {
					want = append(want, e)
				}
			}
			if have := dump(t, c.filter); !slices.Equal(have, want) || len(have) != c.want {
				t.Errorf("%s: %d entries %v, want %d %v", name, len(have), have, c.want, want)
			}
		}
		return nil
	})
}

// The kernel itself leaves out what goes to other ports: one port's connections cost
// no copy of all the others.
func TestTheKernelLeavesOutOtherPorts(t *testing.T) {
	t.Parallel()
	translated(t).Do(func() error {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			for port, want := range map[uint16]int{service: toEach, service + 1: 0} {
				table, err := Open()
				if err != nil {
					return err
				}
				f := Filter{Family: family, Protocol: unix.IPPROTO_UDP, Original: Tuple{Destination: netip.AddrPortFrom(netip.Addr{}, port)}}
				table.ask(msgGet, unix.NLM_F_DUMP, f.family())
				table.request = f.append(table.request)
				have := 0
				err = table.send(func([]byte) error { have++; return nil })
				if err := errors.Join(err, table.Close()); err != nil || have != want {
					t.Errorf("family %d, port %d: the kernel tells of %d entries, want %d (%v)", family, port, have, want, err)
				}
			}
		}
		return nil
	})
}

func TestDumpEndsWhenThereIsEnough(t *testing.T) {
	t.Parallel()
	translated(t).Do(func() error {
		table, err := Open()
		if err != nil {
			return err
		}
		for _, want := range []int{1, 5, 2} {
			have := 0
			if err := table.Dump(Filter{}, func(*Entry) bool { have++; return have < want }); err != nil {
				return err
			}
			if have != want {
				t.Errorf("%d entries, want %d", have, want)
			}
			if n, _, err := table.Count(); err != nil || n < 6*toEach {
				t.Errorf("%d entries in all, %v", n, err)
			}
		}
		return table.Close()
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0, 0, 0x14, 0, entryOriginal, 0x80, 0x10, 0, tupleAddresses, 0x80, 8, 0, addressSource4, 0, 10, 0, 0, 1, 4, 0, 0, 0})
	f.Add(Filter{Status: SourceNAT, Protocol: 6, Reply: Tuple{netip.AddrPortFrom(far6, 1), netip.AddrPortFrom(snat6, 2)}}.append(make([]byte, 4)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Entry
		if err := e.parse(b); err == nil && (!e.Original.Source.IsValid() || !e.Reply.Destination.IsValid()) {
			t.Errorf("%+v is an entry", e)
		}
		for rest := b; len(rest) > 0; {
			_, next, err := nextMessage(rest)
			if err != nil {
				break
			}
			if len(next) >= len(rest) {
				t.Fatalf("%d bytes are left of %d", len(next), len(rest))
			}
			rest = next
		}
	})
}
