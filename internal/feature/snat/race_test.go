package snat_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

// Of so many pairs of packets, each sent at one instant, many lose one where
// ports are not random. Where they are, both may still draw the same port: once
// in all pairs, were all of them simultaneous. More than three is a matter of
// one run in fifty then, and of no two runs in a row.
const (
	races    = 30000
	raceLost = 1000 // at least
	raceRuns = 10   // at most; on a busy machine few of one run are simultaneous
	raceKept = 3    // at most
)

// destinationPorts keeps each destination far from running out of ports.
const destinationPorts = 16

// Two pods of one node that send from one source port at the same instant lose
// packets to the race for that port, unless ports are random or each pod's own.
func TestSimultaneousConnectionsSurvive(t *testing.T) {
	anywhere := world.PortRange{Low: 2000, High: 32000}
	for _, c := range []struct {
		name   string
		ports  string
		random bool
		block  int
		judge  func(t *testing.T, lose func() uint64)
	}{
		{"the kernel's choice", "kernel", false, 0, isRaced},
		{"a range", "auto", false, 0, isRaced},
		{"the kernel's choice at random", "kernel", true, 0, isCured},
		{"a range at random", "auto", true, 0, isCured},
		{"a block each", "auto", false, 14000, isCured},
		{"a block each at random", "auto", true, 14000, isCured},
		{"a new install", "", false, 0, isCured},
	} {
		for _, f := range []flow{{unix.IPPROTO_TCP, nft.IPv4}, {unix.IPPROTO_UDP, nft.IPv4}, {unix.IPPROTO_TCP, nft.IPv6}} {
			t.Run(c.name+"/"+f.String(), func(t *testing.T) {
				c.judge(t, func() uint64 {
					n, outside := raceCluster(t)
					w := n.Apply(choosing(c.ports, c.random, c.block))
					from := snat.InForce(w).Range
					if from.High == 0 {
						from = anywhere
					}
					return race{n, outside, f, from}.run(t)
				})
			})
		}
	}
}

// choosing is the settings that choose ports so; of a new install, without ports,
// there are none.
func choosing(ports string, random bool, block int) v1alpha1.AgentConfigSpec {
	if ports == "" {
		return v1alpha1.AgentConfigSpec{}
	}
	return v1alpha1.AgentConfigSpec{NodeSNATPortRange: &ports, NodeSNATRandomizePorts: &random, NodeSNATPortBlock: &block}
}

// A flow is what pods send.
type flow struct {
	protocol byte
	family   nft.Family
}

func (f flow) String() string {
	return fmt.Sprintf("%s%d", map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp"}[f.protocol], f.family)
}

// of picks the address of the flow's family.
func (f flow) of(addresses []netip.Addr) netip.Addr {
	return addresses[slices.IndexFunc(addresses, func(a netip.Addr) bool { return a.Is4() == (f.family == nft.IPv4) })]
}

func isRaced(t *testing.T, lose func() uint64) {
	var lost uint64
	for range raceRuns {
		if lost += lose(); lost >= raceLost {
			return
		}
	}
	t.Errorf("%d of %d simultaneous pairs lost a packet, want at least %d: the fault is not reproduced", lost, races*raceRuns, raceLost)
}

func isCured(t *testing.T, lose func() uint64) {
	if lose() <= raceKept {
		return
	}
	if lost := lose(); lost > raceKept {
		t.Errorf("%d of %d simultaneous pairs lost a packet, want at most %d", lost, races, raceKept)
	}
}

// outsideAddresses are those of a host beside the nodes.
var outsideAddresses = []netip.Addr{netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("2001:db8:1::100")}

// sink is the name of the outside's chain that counts what arrives, and lets
// none of it be answered.
const sink = "sink"

// raceCluster is a node with two pods, and a host outside that never answers.
func raceCluster(t *testing.T) (*cluster.Node, *netnstest.Host) {
	n, outside := cluster.NewNode(t, 1), netnstest.New(t)
	n.Wire(outside, "eth0")
	outside.Address("eth0", "192.0.2.100/24", "2001:db8:1::100/64")
	outside.Do(func() error {
		return nft.Apply(nft.Diff(nil, []*nft.Table{{Name: "outside", Chains: []*nft.Chain{{
			Name: sink, Type: nft.Filter, Hook: nft.Prerouting, Rules: []nft.Rule{
				{nft.L4Proto(unix.IPPROTO_TCP), nft.Counter(), nft.Drop()},
				{nft.L4Proto(unix.IPPROTO_UDP), nft.Counter(), nft.Drop()},
			},
		}}}}))
	})
	n.NewPod()
	n.NewPod()
	return n, outside
}

// A race is between the two pods of a node, towards a host outside.
type race struct {
	node    *cluster.Node
	outside *netnstest.Host
	flow    flow
	from    world.PortRange // the source ports that both pods use, in turn
}

// run returns how many packets the node's kernel could not give a port.
func (r race) run(t *testing.T) uint64 {
	before := r.stats()
	if before.Max < 2*races {
		t.Fatalf("nf_conntrack_max is %d: this test needs %d", before.Max, 2*races)
	}
	var line startLine
	done := make(chan error, 2)
	for i, cpu := range twoCPUs(t) {
		go func() { done <- r.send(&line, i, cpu) }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	after := r.stats()
	lost := after.InsertFailed - before.InsertFailed
	arrived := r.arrived()
	t.Logf("%d of %d packets lost (insert_failed), %d arrived", lost, 2*races, arrived)
	if lost+arrived > 2*races {
		t.Errorf("%d lost and %d arrived of %d: insert_failed counts packets that were not lost", lost, arrived, 2*races)
	}
	return lost
}

func (r race) stats() (s conntrack.Stats) {
	r.node.Do(func() (err error) { s, err = conntrack.Read(); return err })
	return s
}

func (r race) arrived() (n uint64) {
	r.outside.Do(func() error {
		tables, err := nft.Read("outside")
		for _, table := range tables {
			n += table.Packets(sink)
		}
		return err
	})
	return n
}

// send sends one pod's packets, each at the instant of the other pod's.
func (r race) send(line *startLine, pod, cpu int) error {
	defer line.leave(pod)
	return netns.Do(r.node.Pods[pod].Path, func() (err error) {
		free, err := stayOn(cpu)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, free()) }()
		source, to := r.flow.of(r.node.Pods[pod].Addresses), r.flow.of(outsideAddresses)
		fd, err := unix.Socket(domain(to), unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		p, at := newPacket(r.flow.protocol, source, to), sockaddr(netip.AddrPortFrom(to, 0))
		for i := range races {
			sport := r.from.Low + uint16(i%r.from.Len())
			dport := 9000 + i%destinationPorts + i/r.from.Len()*destinationPorts
			p.setPorts(sport, uint16(dport))
			line.await(pod, int64(i+1))
			if err := unix.Sendto(fd, p.bytes, 0, at); err != nil {
				return fmt.Errorf("packet %d: %w", i, err)
			}
		}
		return nil
	})
}

// A startLine lets two threads begin each round at the same instant. It burns
// CPU: a thread that sleeps starts too late.
type startLine [2]atomic.Int64

// await returns once the other one has come to the same round.
func (l *startLine) await(self int, round int64) {
	l[self].Store(round)
	for spins := 1; l[1-self].Load() < round; spins++ {
		if spins%100000 == 0 {
			runtime.Gosched() // the other one may need this processor
		}
	}
}

// leave lets the other one run alone.
func (l *startLine) leave(self int) { l[self].Store(math.MaxInt64) }

// twoCPUs returns two that this process may use.
func twoCPUs(t *testing.T) (out [2]int) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	if set.Count() < 2 {
		t.Fatal("two packets at one instant need two CPUs")
	}
	for cpu, n := 0, 0; n < 2; cpu++ {
		if set.IsSet(cpu) {
			out[n] = cpu
			n++
		}
	}
	return out
}

// stayOn keeps the calling thread on one CPU until the function it returns is
// called there.
func stayOn(cpu int) (free func() error, err error) {
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, err
	}
	only.Set(cpu)
	return func() error { return unix.SchedSetaffinity(0, &before) }, unix.SchedSetaffinity(0, &only)
}

// A packet is the first one of a connection, IP header and all: a SYN, or an
// empty datagram.
type packet struct {
	bytes     []byte
	transport []byte // the part behind the IP header
	checksum  []byte // of the transport
	sum       uint32 // of everything but the ports
}

func newPacket(protocol byte, from, to netip.Addr) *packet {
	size, at := 8, 6
	if protocol == unix.IPPROTO_TCP {
		size, at = 20, 16
	}
	addresses := append(from.AsSlice(), to.AsSlice()...)
	header := []byte{0x60, 0, 0, 0, 0, byte(size), protocol, 64}
	if from.Is4() {
		header = []byte{0x45, 0, 0, byte(20 + size), 0, 0, 0, 0, 64, protocol, 0, 0} // the kernel adds the checksum
	}
	p := &packet{bytes: append(append(header, addresses...), make([]byte, size)...)}
	p.transport = p.bytes[len(p.bytes)-size:]
	p.checksum = p.transport[at : at+2]
	if protocol == unix.IPPROTO_TCP {
		p.transport[12], p.transport[13] = 5<<4, byte(nft.SYN)
		binary.BigEndian.PutUint16(p.transport[14:], 65000)
	} else {
		binary.BigEndian.PutUint16(p.transport[4:], 8)
	}
	p.sum = sum(addresses) + sum(p.transport) + uint32(size) + uint32(protocol)
	return p
}

func (p *packet) setPorts(from, to uint16) {
	binary.BigEndian.PutUint16(p.transport, from)
	binary.BigEndian.PutUint16(p.transport[2:], to)
	binary.BigEndian.PutUint16(p.checksum, fold(p.sum+uint32(from)+uint32(to)))
}

// sum and fold make the checksum of RFC 1071.
func sum(b []byte) (sum uint32) {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func domain(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
