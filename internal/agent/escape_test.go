package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

var (
	escapes = flag.Int("escapes", 1, "random histories in which nothing may escape")
	seed    = flag.Uint64("escapes-seed", 0, "seed of the first of them; 0: another every time")
)

// A history takes some ten seconds.
const stepsOfHistory = 24

// outsides are addresses outside the cluster, which knows no way to pods.
var outsides = []string{"198.51.100.10", "2001:db8:51::10"}

// Whatever happens, the outside sees no packet with a pod's address: over restarts, changes
// of every setting that decides about source ports, flushes of the rules and of the
// connection table, entries that expire, what conntrack calls invalid and what somebody keeps
// from it. What is not promised: while rules are flushed, host ports answer as the pods that
// they lead to where gates do not know of translation, and where the kernel has no gates
// at exits all leaves as pods send it.
func TestNothingEscapesOverRandomHistories(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	for n := range uint64(*escapes) {
		t.Run(fmt.Sprintf("seed %d", first+n), func(t *testing.T) {
			e := newEscape(t, rand.New(rand.NewPCG(first+n, 0)))
			for range stepsOfHistory {
				a := happenings[e.random.IntN(len(happenings))]
				seen := e.count("translated")
				e.done = append(e.done, a.name)
				a.do(e)
				e.check()
				eventually(t, "pods talk to the outside after "+a.name, func() bool { return e.count("translated") > seen+20 })
				e.check()
			}
		})
	}
}

// happenings are what may happen at each step.
var happenings = []struct {
	name string
	do   func(*escape)
}{
	{"nothing", func(*escape) {}},
	{"another agent", func(e *escape) { e.halt(); e.restart(e.t); e.run() }},
	{"other settings", func(e *escape) { e.configure(); e.sync() }},
	{"other settings, of which the agent does not hear the end", func(e *escape) { e.configure(); e.halt(); e.restart(e.t); e.run() }},
	{"connections forgotten", func(e *escape) {
		e.host.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	}},
	{"connections expire", func(e *escape) {
		for _, of := range []string{"tcp_timeout_established", "tcp_timeout_time_wait", "tcp_timeout_close", "udp_timeout", "udp_timeout_stream"} {
			e.host.Sysctl("net/netfilter/nf_conntrack_"+of, strconv.Itoa(1+e.random.IntN(2)*60))
		}
	}},
	{"segments of nobody's connection", func(e *escape) { e.strayFrom(e.pods[e.random.IntN(len(e.pods))]) }},
	{"somebody's notrack", func(e *escape) {
		e.host.Run("nft", "add table inet somebodys; flush table inet somebodys; table inet somebodys { chain c { type filter hook prerouting priority -310; udp dport "+
			strconv.Itoa(7001+e.random.IntN(2))+" notrack; }; }")
	}},
	{"no pick-up of connections", func(e *escape) { e.host.Sysctl("net/netfilter/nf_conntrack_tcp_loose", strconv.Itoa(e.random.IntN(2))) }},
	{"rules flushed", func(e *escape) { e.flush() }},
}

// An escape is a node with two pods that talk to the outside all the time, and are asked
// by it at their host ports.
type escape struct {
	*node
	t      *testing.T
	random *rand.Rand
	pods   []*netnstest.Host
	done   []string
	stop   func()
	// packets that left while nobody promised anything
	excused map[string]int
}

func newEscape(t *testing.T, random *rand.Rand) *escape {
	t.Helper()
	e := &escape{node: newNode(t, nodes), t: t, random: random, excused: map[string]int{}}
	e.host.Address("eth0", "fd00:100::1/64")
	e.far.Address("eth0", "192.168.100.7/24", "fd00:100::7/64")
	e.far.Address("lo", outsides[0]+"/32", outsides[1]+"/128")
	e.host.Route("0.0.0.0/0", "192.168.100.7")
	e.host.Route("::/0", "fd00:100::7")
	e.far.Run("nft", `table inet watch { counter escaped { }; counter answers { }; counter translated { }; chain c { type filter hook prerouting priority -300;
		ip saddr 10.244.0.0/16 tcp sport 8080 counter name answers return; ip6 saddr fd00:10:244::/48 tcp sport 8080 counter name answers return;
		ip saddr 10.244.0.0/16 counter name escaped; ip6 saddr fd00:10:244::/48 counter name escaped;
		ip saddr 192.168.100.1 counter name translated; ip6 saddr fd00:100::1 counter name translated; }; }`)
	echoes(t, e.far, ":7000")
	e.run()
	t.Cleanup(func() { e.halt() })
	for n := range 2 {
		pod := netnstest.New(t)
		q := cni.Request{ContainerID: strconv.Itoa(n), Interface: "eth0", Netns: pod.Path,
			HostPorts: []world.HostPort{{Port: uint16(8000 + n), Protocol: unix.IPPROTO_TCP, PodPort: 8080}}}
		if code, body := e.post(t, "add", q); code != http.StatusOK {
			t.Fatalf("add: %d %s", code, body)
		}
		e.pods = append(e.pods, pod)
		echoes(t, pod, ":8080")
		for _, to := range outsides {
			e.goesOn(func(n int) error { return connects(pod, net.JoinHostPort(to, "7000"), n) })
			e.goesOn(func(n int) error { return sends(pod, net.JoinHostPort(to, strconv.Itoa(7001+n%2))) })
		}
		for _, host := range []string{"192.168.100.1", "fd00:100::1"} {
			e.goesOn(func(i int) error { return connects(e.far, net.JoinHostPort(host, strconv.Itoa(8000+n)), i) })
		}
	}
	return e
}

// run lets the agent take turns, until halt.
func (e *escape) run() {
	e.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	loop := e.loop
	go func() { ended <- netns.Do(e.host.Path, func() error { return loop.run(ctx) }) }()
	e.stop = func() {
		stop()
		if err := <-ended; err != nil {
			e.t.Error(err)
		}
	}
	e.sync()
}

func (e *escape) halt() {
	if e.stop != nil {
		e.stop()
		e.stop = nil
	}
}

func (e *escape) sync() {
	e.t.Helper()
	if _, err := e.Sync(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}

// flush takes all rules away, and waits until they are back and connections that began
// without them are forgotten.
func (e *escape) flush() {
	e.t.Helper()
	e.check()
	e.host.Run("nft", "flush ruleset")
	e.loop.setDrift(true)
	eventually(e.t, "the rules are back", func() bool {
		e.sync()
		e.turning.Lock()
		defer e.turning.Unlock()
		return !e.unruled && strings.Contains(e.host.Run("nft", "list", "tables"), "fairlead-snat")
	})
	if !gate.KnowsTranslation() {
		e.excused["answers"] = e.count("answers")
	}
	if !e.snapshot.Load().World.Kernel.Capabilities.TCXEgress.OK {
		e.excused["escaped"], e.excused["answers"] = e.count("escaped"), e.count("answers")
	}
}

// configure chooses settings of source ports.
func (e *escape) configure() {
	pick := func(of ...string) string { return of[e.random.IntN(len(of))] }
	e.write(e.t, "config.yaml", fmt.Sprintf(`{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {
		nodeSNATPortRange: %s, nodeSNATRandomizePorts: %s, nodeSNATPortBlock: %s, podTCPTimestamps: %s, overlay: {mode: %s}, features: {guard: %s, hostport: %s}}}`,
		pick("auto", "kernel", "40000-40999", "32768-65535"), pick("true", "false"), pick("0", "64", "512"), pick("monotonic", "keep"),
		pick("vxlan", "direct", "hybrid"), pick("true", "false"), pick("true", "false")))
}

// count is how many packets the outside saw of those.
func (e *escape) count(of string) (n int) {
	e.t.Helper()
	out := e.far.Run("nft", "list", "counter", "inet", "watch", of)
	_, after, _ := strings.Cut(out, "packets ")
	if _, err := fmt.Sscan(after, &n); err != nil {
		e.t.Fatalf("%s: %v", out, err)
	}
	return n
}

func (e *escape) check() {
	e.t.Helper()
	for _, of := range []string{"escaped", "answers"} {
		if n := e.count(of) - e.excused[of]; n > 0 {
			e.t.Fatalf("%d packets with pods' addresses left for the outside (%s), after %s", n, of, strings.Join(e.done, ", then "))
		}
	}
}

// echoes has the host answer what it is told.
func echoes(t *testing.T, h *netnstest.Host, address string) {
	t.Helper()
	var l net.Listener
	h.Do(func() (err error) { l, err = net.Listen("tcp", address); return err })
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
}

// goesOn does something again and again until the test ends.
func (e *escape) goesOn(do func(n int) error) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-over:
				return
			case <-time.After(2 * time.Millisecond):
				_ = do(n) // what is lost is lost
			}
		}
	}()
	e.t.Cleanup(func() { close(over); <-ended })
}

// connects opens a connection, which lives for a while and ends with a FIN or a reset.
func connects(from *netnstest.Host, to string, n int) error {
	return netns.Do(from.Path, func() error {
		c, err := (&net.Dialer{Timeout: 300 * time.Millisecond}).Dial("tcp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		if n%3 == 0 {
			err = c.(*net.TCPConn).SetLinger(0)
		}
		for range n % 20 {
			err = errors.Join(err, c.SetDeadline(time.Now().Add(200*time.Millisecond)))
			if _, failed := c.Write([]byte("x")); failed != nil {
				return errors.Join(err, failed)
			}
			_, failed := c.Read(make([]byte, 1))
			err = errors.Join(err, failed)
		}
		return err
	})
}

func sends(pod *netnstest.Host, to string) error {
	return netns.Do(pod.Path, func() error {
		c, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("x"))
		return errors.Join(err, c.Close())
	})
}

// strayFrom has a pod send segments that belong to no connection, with every combination
// of flags: in IPv4 without a checksum, which is invalid by itself, in IPv6 with one.
func (e *escape) strayFrom(pod *netnstest.Host) {
	e.t.Helper()
	pod.Do(func() error {
		for _, to := range outsides {
			a := netip.MustParseAddr(to)
			family, address := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(a.AsSlice())})
			if a.Is6() {
				family, address = unix.AF_INET6, &unix.SockaddrInet6{Addr: a.As16()}
			}
			fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
			if err != nil {
				return err
			}
			if a.Is6() {
				if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_CHECKSUM, 16); err != nil {
					return errors.Join(err, unix.Close(fd))
				}
			}
			for flags := range 64 {
				segment := make([]byte, 20)
				segment[0], segment[1], segment[3] = byte(4096>>8+e.random.IntN(200)), byte(flags), 80
				segment[12], segment[13] = 5<<4, byte(flags)
				if err := unix.Sendto(fd, segment, 0, address); err != nil {
					return errors.Join(err, unix.Close(fd))
				}
			}
			if err := unix.Close(fd); err != nil {
				return err
			}
		}
		return nil
	})
}
