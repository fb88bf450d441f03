package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// Sixty-four pods fill 32768-65535 with blocks of 512 ports.
const (
	talkers  = 64
	calls    = 8 // of each pod, by every protocol and family
	listener = 9000
)

const dualStack = `
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.100.1}]}
`

// outsideAddresses are those of the host where the node's interface leads.
var outsideAddresses = []netip.Addr{netip.MustParseAddr("192.168.100.254"), netip.MustParseAddr("fd00:100::254")}

// Every port that the outside sees is in the block of the pod that has it, and
// who has it is told right each time, also once the pod is gone.
func TestWhoHasAPort(t *testing.T) {
	n := newNode(t, dualStack, portBlocks)
	seen := n.listenOutside(t)
	hosts := map[string]*netnstest.Host{}
	for i := range talkers {
		name := fmt.Sprintf("p%02d", i)
		hosts[name] = netnstest.New(t)
		n.attach(t, name, hosts[name])
	}
	n.mustTurn(t)
	for name, h := range hosts {
		h.Do(func() error { return callOutside(t, name) })
	}
	all := seen.await(t, talkers*calls*4, everybody)
	blocks := map[string]world.PortRange{}
	for _, b := range snat.Allocated.Of(n.snapshot.Load().Rendered.Allocations).List {
		low := uint16(32768 + b.Number*512)
		blocks[strings.TrimPrefix(b.Pod, "default/")] = world.PortRange{Low: low, High: low + 511}
	}
	for port, pod := range all {
		if !blocks[pod].Contains(port.port.Port()) {
			t.Errorf("%s was seen as %s, and has %s", pod, port, blocks[pod])
		}
	}
	asked, wrong := 0, 0
	askAll := func(right func(snat.Holder, string) bool) {
		open := n.connections(t)
		for port, pod := range all {
			h := snat.HoldersOf(n.snapshot.Load().seenBy(snat.Feature.Name), port.port, open[port])
			if asked++; asked%50 == 0 { // every look into the whole table of the kernel's takes a while
				h = n.who(t, port)
			}
			if len(h.Items) != 1 || h.Items[0].Name != pod || !right(h.Items[0], pod) {
				wrong++
				t.Errorf("%s is or was %s's, and who says %+v", port, pod, h)
			}
		}
	}
	askAll(func(h snat.Holder, _ string) bool { return !h.Gone })
	gone := map[string]bool{}
	for i := 0; i < talkers; i += 2 {
		name := fmt.Sprintf("p%02d", i)
		n.book.Detach(name + "@eth0")
		gone[name] = true
	}
	n.mustTurn(t)
	askAll(func(h snat.Holder, pod string) bool { return h.Gone == gone[pod] && h.GoneSince.IsZero() != gone[pod] })
	t.Logf("%d ports seen, %d times asked who, %d answers wrong", len(all), asked, wrong)
}

// connections is all that the kernel knows, by the port that the outside sees.
func (n *node) connections(t *testing.T) map[portSeen]map[netip.Addr]int {
	t.Helper()
	out := map[portSeen]map[netip.Addr]int{}
	n.host.Do(func() error {
		table, err := conntrack.Open()
		if err != nil {
			return err
		}
		return errors.Join(table.Dump(conntrack.Filter{}, func(e *conntrack.Entry) bool {
			p := portSeen{map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[e.Protocol], e.Reply.Destination}
			if out[p] == nil {
				out[p] = map[netip.Addr]int{}
			}
			out[p][e.Original.Source.Addr()]++
			return true
		}), table.Close())
	})
	return out
}

// A pod that has used up its block loses connections, and no other pod does.
func TestAFullBlockIsItsOwnPodsTrouble(t *testing.T) {
	n := newNode(t, dualStack, portBlocks)
	seen := n.listenOutside(t)
	greedy := netnstest.New(t)
	n.attach(t, "greedy", greedy)
	hosts := map[string]*netnstest.Host{}
	for i := range 8 {
		name := fmt.Sprintf("p%02d", i)
		hosts[name] = netnstest.New(t)
		n.attach(t, name, hosts[name])
	}
	n.mustTurn(t)
	greedy.Do(func() error { return send(t, "greedy", "udp4", 700) })
	for name, h := range hosts {
		h.Do(func() error { return callOutside(t, name) })
	}
	all := seen.await(t, len(hosts)*calls*4, func(pod string) bool { return pod != "greedy" })
	hoarded := 0
	for _, pod := range all {
		if pod == "greedy" {
			hoarded++
		}
	}
	if hoarded > 512 {
		t.Errorf("a pod with 512 ports has %d", hoarded)
	}
	t.Logf("the greedy pod got %d ports of 512 for 700 connections", hoarded)
}

// Where there are no blocks, connections tell who has a port.
func TestWhoHasASharedPort(t *testing.T) {
	n := newNode(t, dualStack)
	seen := n.listenOutside(t)
	pod := netnstest.New(t)
	n.attach(t, "a", pod)
	n.mustTurn(t)
	pod.Do(func() error { return callOutside(t, "a") })
	n.host.Do(func() error { return send(t, "node", "tcp4", 1) })
	all := seen.await(t, calls*4+1, everybody)
	for port, name := range all {
		h := n.who(t, port)
		if len(h.Items) != 1 || h.Items[0].Connections != 1 || h.Items[0].Name != map[string]string{"a": "a"}[name] { // the node has no name of a pod
			t.Errorf("%s is %s's, and who says %+v", port, name, h)
		}
	}
	if h := n.who(t, portSeen{"sctp", netip.MustParseAddrPort("192.168.100.1:40000")}); len(h.Items) != 0 || h.Reason == "" {
		t.Errorf("nobody has it, and who says %+v", h)
	}
	if code, body := n.ask(t, "192.168.100.77:40000", ""); code != http.StatusNotFound || body != "192.168.100.77 is no address of node n1: ask the node that has it\n" {
		t.Errorf("of another's address: %d %s", code, body)
	}
}

// A portSeen is a source as the outside sees it.
type portSeen struct {
	protocol string
	port     netip.AddrPort
}

func (p portSeen) String() string { return p.protocol + " " + p.port.String() }

// sightings is whose connections the outside saw, by their sources.
type sightings struct {
	mu   sync.Mutex
	pods map[portSeen]string
}

func (s *sightings) add(protocol string, from net.Addr, pod string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	port := netip.MustParseAddrPort(from.String())
	s.pods[portSeen{protocol, netip.AddrPortFrom(port.Addr().Unmap(), port.Port())}] = pod
}

// await waits until the outside has seen n connections of the pods that count,
// and returns all.
func (s *sightings) await(t *testing.T, n int, counts func(pod string) bool) map[portSeen]string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		all := maps.Clone(s.pods)
		s.mu.Unlock()
		have := 0
		for _, pod := range all {
			if counts(pod) {
				have++
			}
		}
		if have >= n {
			return all
		}
		if time.Now().After(deadline) {
			t.Fatalf("the outside saw %d connections of %d", have, n)
		}
	}
}

func everybody(string) bool { return true }

// listenOutside makes the far host the node's router. Whoever sends it a line is
// noted down.
func (n *node) listenOutside(t *testing.T) *sightings {
	t.Helper()
	n.far.Address("eth0", "192.168.100.254/24", "fd00:100::254/64")
	n.host.Address("eth0", "fd00:100::1/64")
	n.host.Run("ip", "route", "add", "default", "via", "192.168.100.254")
	n.host.Run("ip", "-6", "route", "add", "default", "via", "fd00:100::254")
	s := &sightings{pods: map[portSeen]string{}}
	n.far.Do(func() error {
		for _, a := range outsideAddresses {
			to := netip.AddrPortFrom(a, listener)
			tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(to))
			if err != nil {
				return err
			}
			udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(to))
			if err != nil {
				return err
			}
			t.Cleanup(func() { must(t, errors.Join(tcp.Close(), udp.Close())) })
			go s.accept(tcp)
			go s.receive(udp)
		}
		return nil
	})
	return s
}

// accept keeps what it accepts: closed by the other side, it goes with the test.
func (s *sightings) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			if line, _, err := bufio.NewReader(c).ReadLine(); err == nil {
				s.add("tcp", c.RemoteAddr(), string(line))
			}
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}()
	}
}

func (s *sightings) receive(c net.PacketConn) {
	b := make([]byte, 100)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		s.add("udp", from, string(b[:n-1]))
	}
}

// callOutside opens connections of every protocol and family, and leaves them
// open until the test ends.
func callOutside(t *testing.T, name string) error {
	for _, network := range []string{"tcp4", "udp4", "tcp6", "udp6"} {
		if err := send(t, name, network, calls); err != nil {
			return err
		}
	}
	return nil
}

func send(t *testing.T, name, network string, connections int) error {
	to := outsideAddresses[0]
	if network[3] == '6' {
		to = outsideAddresses[1]
	}
	for range connections {
		c, err := net.DialTimeout(network, netip.AddrPortFrom(to, listener).String(), 20*time.Second)
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte(name + "\n")); err != nil {
			return err
		}
	}
	return nil
}

// ask asks the agent who has a port.
func (n *node) ask(t *testing.T, port, protocol string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	query := url.Values{"port": {port}, "protocol": {protocol}}
	must(t, netns.Do(n.host.Path, func() error {
		n.api().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/snat/who?"+query.Encode(), nil))
		return nil
	}))
	return w.Code, w.Body.String()
}

func (n *node) who(t *testing.T, p portSeen) (h snat.Holders) {
	t.Helper()
	code, body := n.ask(t, p.port.String(), p.protocol)
	if code != http.StatusOK {
		t.Fatalf("%s: %d %s", p, code, body)
	}
	must(t, json.Unmarshal([]byte(body), &h))
	return h
}
