package nft

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// early is a chain behind conntrack and before routing, of rules for what the pod sends.
func early(rules ...Rule) *Chain {
	c := &Chain{Name: "early", Type: Filter, Hook: Prerouting, Priority: -149}
	for _, r := range rules {
		c.Rules = append(c.Rules, append(Rule{IIFName("pod")}, r...))
	}
	return c
}

// late is a chain that decides on sources.
func late(rules ...Rule) *Chain {
	return &Chain{Name: "late", Type: NAT, Hook: Postrouting, Priority: 98, Rules: rules}
}

func etherOf(h *netnstest.Host, link string) (a [6]byte) {
	h.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			a = [6]byte(i.HardwareAddr)
		}
		return err
	})
	return a
}

// The mark of a connection, be it from a map or in bits, decides on its source; what a
// map does not have goes on to the next rule.
func TestMarkOfAConnectionLeadsToItsSource(t *testing.T) {
	t.Parallel()
	const low, high = uint16(40000), uint16(40099)
	forEachFlow(t, func(t *testing.T, f Family, protocol byte) {
		s := newStreet(t)
		stations := &Set{Name: "stations", Type: EtherAddr, Data: MarkType, Elements: Sorted([]Element{{Key: Ether(etherOf(s.pod, "eth0")), Data: Number(0xab000005)}})}
		blocks := &Set{Name: "blocks", Type: MarkType, Data: Concat(f.AddrType(), InetService), DataInterval: true,
			Elements: Sorted([]Element{{Key: Number(5), Data: Block(spareAt[f], low, high)}})}
		outer := &Set{Name: "outer", Type: MarkType, Data: f.AddrType(), Elements: Sorted([]Element{{Key: Number(7), Data: Addr(spareAt[f])}})}
		fromStation := Rule{SetFrom(TargetCTMark, f, "stations", FieldEtherSaddr)}
		toBlock := Rule{L4Proto(protocol), SNAT{Family: f, By: FieldCTMarkBits(0x3fff), Map: "blocks", Ports: true}}
		toAddress := Rule{SNAT{Family: f, By: FieldCTMarkBits(0x3fff), Map: "outer"}}
		for name, tt := range map[string]struct {
			marks  []Rule
			port   uint16
			want   netip.Addr
			inside bool // the block
		}{
			"to a block":    {[]Rule{fromStation}, 30001, spareAt[f], true},
			"to an address": {[]Rule{fromStation, {CTMark(0xff, 5), CTMarkAs(0xff, 7)}}, 30002, spareAt[f], false},
			"not that mark": {[]Rule{fromStation, {Not(CTMark(0xff, 5)), CTMarkAs(0xff, 7)}}, 30003, spareAt[f], true},
			"in no map":     {[]Rule{fromStation, {CTMarkAs(0x3fff, 9)}}, 30004, podAt[f], false},
			"no mark":       {nil, 30005, podAt[f], false},
		} {
			apply(t, s.node, &Table{Name: "t", Sets: []*Set{stations, blocks, outer}, Chains: []*Chain{early(tt.marks...), late(toBlock, toAddress, Rule{KeepSource(f)})}})
			_, from := ask(s.pod, protocol, tt.port, netip.AddrPortFrom(outsideAt[f], listening))
			if inside := from.Port() >= low && from.Port() <= high; from.Addr() != tt.want || inside != tt.inside {
				t.Errorf("%s: came from %s", name, from)
			}
		}
	})
}

// many sends a datagram from the pod to each of some addresses behind the node.
func many(s street, f Family, n uint32) {
	s.pod.Do(func() error {
		c, err := net.ListenPacket("udp", ":40000")
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range n {
			_, e := c.WriteTo([]byte("."), net.UDPAddrFromAddrPort(netip.AddrPortFrom(inFamily(f, 198<<24|51<<16|100<<8|i), 9)))
			err = errors.Join(err, e)
		}
		return err
	})
}

// countMarks is how many packets had each of the marks below n, once there are so many.
func countMarks(h *netnstest.Host, n uint32, packets uint64) (counts []uint64) {
	for range 1000 {
		counts = make([]uint64, n)
		var sum uint64
		h.Do(func() error {
			all, err := Counts("t", "marks")
			for i := range n {
				counts[i] = all[Number(i)]
				sum += counts[i]
			}
			return err
		})
		if sum >= packets {
			break
		}
		time.Sleep(10 * time.Millisecond) // they are on the way
	}
	return counts
}

// marksUpTo is a counted set of the marks 0 to n-1.
func marksUpTo(n uint32) *Set {
	var all []Element
	for i := range n {
		all = append(all, Element{Key: Number(i)})
	}
	return &Set{Name: "marks", Type: MarkType, Counted: true, Elements: Sorted(all)}
}

// A destination always hashes to the same mark below n; all of these are used.
func TestDestinationsHashToMarks(t *testing.T) {
	t.Parallel()
	const n, destinations = 4, 100
	for _, f := range Families {
		t.Run(f.Keyword(), func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			apply(t, s.node, &Table{Name: "t", Sets: []*Set{marksUpTo(n)}, Chains: []*Chain{early(
				Rule{L4Proto(unix.IPPROTO_UDP), CTMarkFromHash(f, n, 7), MarkFromCT(), In(f, "marks", FieldMarkBits(0xffffffff))})}})
			many(s, f, destinations)
			first := countMarks(s.node, n, destinations)
			many(s, f, destinations)
			for i, c := range countMarks(s.node, n, 2*destinations) {
				if first[i] == 0 || c != 2*first[i] {
					t.Errorf("mark %d: %d packets, and %d in the end", i, first[i], c)
				}
			}
		})
	}
}

// A priority from a map is one, and leads on as part of a key.
func TestPriorityFromAMap(t *testing.T) {
	t.Parallel()
	const class = 0x10010
	for _, f := range Families {
		t.Run(f.Keyword(), func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			udp := L4Proto(unix.IPPROTO_UDP)
			apply(t, s.node, &Table{Name: "t", Sets: []*Set{
				marksUpTo(4),
				{Name: "classes", Type: f.AddrType(), Data: ClassID, Elements: Sorted([]Element{{Key: Addr(podAt[f]), Data: Number(class)}})},
				{Name: "of-classes", Type: Concat(ClassID, MarkType), Data: MarkType, Elements: Sorted([]Element{{Key: Tuple(Number(class), Number(2)), Data: Number(3)}})},
				{Name: "that-class", Type: ClassID, Elements: Sorted([]Element{{Key: Number(class)}})},
			}, Chains: []*Chain{early(
				Rule{udp, SetFrom(TargetPriority, f, "classes", FieldSaddr)},
				Rule{udp, CTMarkAs(0xff, 1), SetFrom(TargetCTMark, f, "of-classes", FieldPriority, FieldCTMark)}, // has none
				Rule{udp, CTMark(0xff, 1), CTMarkAs(0xff, 2), SetFrom(TargetCTMark, f, "of-classes", FieldPriority, FieldCTMark)},
				Rule{udp, Priority(class), In(f, "that-class", FieldPriority), In(f, "marks", FieldCTMark)},
			)}})
			many(s, f, 1)
			if got := countMarks(s.node, 4, 1); got[3] != 1 {
				t.Errorf("packets by mark: %v, want one of mark 3", got)
			}
		})
	}
}

// Whoever sends to the pod makes segments that fit the link behind the node.
func TestClampedMSSFitsTheRoute(t *testing.T) {
	t.Parallel()
	const mtu, timestamps = 1300, 12
	for f, headers := range map[Family]int{IPv4: 40, IPv6: 60} {
		t.Run(f.Keyword(), func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			s.node.Run("ip", "link", "set", "out", "mtu", "1300")
			if got, want := segments(s, f), 1500-headers-timestamps; got != want {
				t.Errorf("without: segments of %d, want %d", got, want)
			}
			apply(t, s.node, &Table{Name: "t", Chains: []*Chain{{Name: "c", Type: Filter, Hook: Forward, Rules: []Rule{{OIFName("out"), ClampMSS()}}}}})
			if got, want := segments(s, f), mtu-headers-timestamps; got != want {
				t.Errorf("with: segments of %d, want %d", got, want)
			}
		})
	}
}

// segments is how much the outside puts in a segment to the pod.
func segments(s street, f Family) (size int) {
	at := netip.AddrPortFrom(outsideAt[f], 9100)
	var l net.Listener
	s.outside.Do(func() (err error) { l, err = net.Listen("tcp", at.String()); return err })
	defer l.Close()
	s.pod.Do(func() error {
		c, err := net.DialTimeout("tcp", at.String(), 30*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		there, err := l.Accept()
		if err != nil {
			return err
		}
		defer there.Close()
		fd, err := there.(syscall.Conn).SyscallConn()
		if err != nil {
			return err
		}
		e := fd.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
		return errors.Join(e, err)
	})
	return size
}

// Who calls what is rejected is told so at once, and in which way.
func TestRejectedCallersAreTold(t *testing.T) {
	t.Parallel()
	for f, forbidden := range map[Family]error{IPv4: unix.EHOSTUNREACH, IPv6: unix.EACCES} {
		t.Run(f.Keyword(), func(t *testing.T) {
			t.Parallel()
			s := newStreet(t)
			for want, answer := range map[error]Expr{unix.ECONNREFUSED: Reject(), forbidden: RejectProhibited()} {
				apply(t, s.node, &Table{Name: "t", Chains: []*Chain{{Name: "c", Type: Filter, Hook: Forward, Rules: []Rule{{IIFName("pod"), answer}}}}})
				s.pod.Do(func() error {
					c, err := net.DialTimeout("tcp", netip.AddrPortFrom(outsideAt[f], listening).String(), 30*time.Second)
					if err == nil {
						c.Close()
					}
					if !errors.Is(err, want) {
						t.Errorf("%s: %v, want %v", answer.text(), err, want)
					}
					return nil
				})
			}
		})
	}
}
