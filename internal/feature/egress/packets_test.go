package egress_test

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

const patience = 20 * time.Second

var (
	addresses = []netip.Addr{netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8:1::77")}
	outside   = []netip.Addr{netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:3::10")}
)

// A scene is two nodes on a network, and a host behind its router. The pod's packets are
// n1's to steer, and the addresses n2's.
type scene struct {
	n1, n2 *cluster.Node
	router *netnstest.Host
	pod    *cluster.Pod
	spec   v1alpha1.AgentConfigSpec
	egress *v1alpha1.Egress // nil: there is none
}

func newScene(t *testing.T, mode string) *scene {
	t.Helper()
	s := &scene{n1: cluster.NewNode(t, 1), n2: cluster.NewNode(t, 2), router: netnstest.New(t)}
	s.spec.Overlay = &v1alpha1.Overlay{Mode: &mode}
	s.router.Run("ip", "link", "add", "br0", "type", "bridge")
	s.router.Run("ip", "link", "set", "br0", "up")
	for _, n := range []*cluster.Node{s.n1, s.n2} {
		port := fmt.Sprintf("u%d", n.Number)
		n.Sysctl("net/ipv4/conf/all/rp_filter", "1", "net/ipv4/conf/default/rp_filter", "1", "net/ipv6/conf/default/accept_dad", "0")
		n.Wire(s.router, port)
		s.router.Run("ip", "link", "set", port, "master", "br0")
		n.Run("ip", "route", "add", "default", "via", "192.0.2.254")
		n.Run("ip", "-6", "route", "add", "default", "via", "2001:db8:1::fe")
	}
	s.router.Sysctl("net/ipv6/conf/br0/accept_dad", "0")
	s.router.Address("br0", "192.0.2.254/24", "2001:db8:1::fe/64")
	s.router.Address("lo", outside[0].String()+"/32", outside[1].String()+"/128")
	s.pod = s.n1.NewPod()
	s.egress = egressOf("billing", "n2", addresses)
	s.egress.Spec.AppliedTo.PodSelector = &metav1.LabelSelector{}
	for _, n := range []*cluster.Node{s.n1, s.n2} {
		n.Also = func(o *source.Objects) { s.objects(o) }
	}
	s.apply()
	return s
}

// egressOf is an Egress whose addresses a node has.
func egressOf(name, node string, addresses []netip.Addr) *v1alpha1.Egress {
	e := &v1alpha1.Egress{ObjectMeta: metav1.ObjectMeta{Name: name}}
	ports := "40000-40999"
	e.Spec.PortRange = &ports
	for _, a := range addresses {
		number := int(a.As16()[15]) + a.BitLen() // none twice
		e.Spec.EgressIPs = append(e.Spec.EgressIPs, a.String())
		e.Status.Addresses = append(e.Status.Addresses, v1alpha1.EgressAddress{IP: a.String(), Number: number, Node: node})
	}
	return e
}

// objects are those of the cluster besides its nodes.
func (s *scene) objects(o *source.Objects) {
	o.Namespaces = []*world.Namespace{{Key: world.Key{Name: "default"}}}
	o.Pods = world.SortedPods(&world.Pod{Key: world.Key{Namespace: "default", Name: s.pod.Pod}, Node: "n1", Addresses: s.pod.Addresses, Local: &world.LocalPod{}})
	if s.egress != nil {
		o.Egresses = []*v1alpha1.Egress{s.egress}
	}
}

func (s *scene) apply() {
	s.n1.Apply(s.spec, s.n2)
	s.n2.Apply(s.spec, s.n1)
}

// listen serves at the outside host, and returns the port: TCP says who asks.
func (s *scene) listen(t *testing.T) uint16 {
	t.Helper()
	var port uint16
	s.router.Do(func() error {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				go func() {
					defer c.Close()
					b := make([]byte, 64)
					for {
						if _, err := c.Read(b); err != nil {
							return
						}
						if _, err := fmt.Fprintf(c, "%s\n", c.RemoteAddr()); err != nil {
							return
						}
					}
				}()
			}
		}()
		return nil
	})
	return port
}

// dial opens a connection from the pod.
func (s *scene) dial(to netip.AddrPort) (c net.Conn, err error) {
	err = netns.Do(s.pod.Path, func() error {
		c, err = net.DialTimeout("tcp", to.String(), patience)
		return err
	})
	return c, err
}

// asked is who the outside host says that asks by c.
func asked(c net.Conn) (netip.AddrPort, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return netip.AddrPort{}, err
	}
	if _, err := c.Write([]byte("?")); err != nil {
		return netip.AddrPort{}, err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, err := netip.ParseAddrPort(strings.TrimSpace(string(b[:n])))
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err
}

// sees dials the outside host in each family and says as whom the pod is seen.
func (s *scene) sees(t *testing.T, port uint16) (out []netip.Addr) {
	t.Helper()
	for _, to := range outside {
		c, err := s.dial(netip.AddrPortFrom(to, port))
		if err != nil {
			t.Fatalf("%s: %v\n%s", to, err, s.state())
		}
		by, err := asked(c)
		if err != nil {
			t.Fatalf("%s: %v\n%s", to, err, s.state())
		}
		c.Close()
		out = append(out, by.Addr())
	}
	return out
}

func (s *scene) state() string {
	return s.n1.Run("nft", "list", "table", "inet", "fairlead-egress") + s.n2.Run("nft", "list", "table", "inet", "fairlead-egress")
}

func TestTheOutsideSeesTheAddressesOfAnotherNode(t *testing.T) {
	for _, mode := range []string{"vxlan", "direct", "hybrid"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, mode)
			port := s.listen(t)
			for i, by := range s.sees(t, port) {
				if by != addresses[i] {
					t.Errorf("the pod is seen as %s", by)
				}
			}
		})
	}
}

// A connection keeps the address with which it began, whatever becomes of the Egress and of
// the node that has the address.
func TestConnectionsLiveThroughChanges(t *testing.T) {
	t.Parallel()
	s := newScene(t, "vxlan")
	egress := s.egress
	s.egress = nil
	s.apply()
	port := s.listen(t)
	var conns []net.Conn
	var began []netip.AddrPort
	begin := func() {
		for _, to := range outside {
			c, err := s.dial(netip.AddrPortFrom(to, port))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			by, err := asked(c)
			if err != nil {
				t.Fatal(err)
			}
			conns, began = append(conns, c), append(began, by)
		}
	}
	same := func(when string) {
		for i, c := range conns {
			if by, err := asked(c); err != nil || by != began[i] {
				t.Errorf("%s: the connection that began as %s is seen as %s: %v", when, began[i], by, err)
			}
		}
	}
	begin() // as the node
	s.egress = egress
	s.apply()
	same("after the Egress came")
	begin() // as the Egress
	if began[2].Addr() != addresses[0] || began[3].Addr() != addresses[1] {
		t.Errorf("the pod is seen as %s", began[2:])
	}
	home := egressOf("billing", "n1", []netip.Addr{addresses[0].Next(), addresses[1].Next()})
	home.Spec.AppliedTo = egress.Spec.AppliedTo
	second := egressOf("still", "n2", addresses)
	second.Spec.AppliedTo.PodSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"no": "pod"}}
	s.egress = home
	for _, n := range []*cluster.Node{s.n1, s.n2} {
		n.Also = func(o *source.Objects) {
			s.objects(o)
			o.Egresses = append(o.Egresses, second)
		}
	}
	s.apply()
	same("after the pod got another Egress's addresses")
	begin()
	if began[4].Addr() != addresses[0].Next() {
		t.Errorf("the pod is seen as %s", began[4:])
	}
	s.egress = nil // but the other one
	s.apply()
	same("after its Egress went")
}

// What an outside host sees of a pod with an Egress has the address, whatever becomes of
// rules on either node.
func TestNothingLeaksThroughFlushes(t *testing.T) {
	for _, at := range []string{"source", "owner"} {
		for name, flush := range map[string][]string{
			"nft":      {"nft flush ruleset"},
			"ip rule":  {"ip rule flush", "ip -6 rule flush"},
			"networkd": {"rules"},
		} {
			t.Run(at+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, "vxlan")
				n := map[string]*cluster.Node{"source": s.n1, "owner": s.n2}[at]
				s.count()
				stop := s.flood(t)
				time.Sleep(100 * time.Millisecond)
				for _, command := range flush {
					if command == "rules" {
						removeRules(n)
						continue
					}
					words := strings.Fields(command)
					n.Run(words[0], words[1:]...)
				}
				time.Sleep(300 * time.Millisecond)
				if name == "ip rule" {
					for _, family := range []string{"-4", "-6"} {
						n.Run("ip", family, "rule", "add", "priority", "32766", "lookup", "main")
					}
				}
				n.Repair()
				time.Sleep(100 * time.Millisecond)
				stop()
				right, wrong := s.counted(t)
				if wrong != 0 || right == 0 {
					t.Errorf("%d packets had the address, %d another", right, wrong)
				}
			})
		}
	}
}

// removeRules takes away the rules of routing that are not the kernel's, as a network
// manager does.
func removeRules(n *cluster.Node) {
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(n.Run("ip", family, "rule", "show")) {
			priority, _, _ := strings.Cut(line, ":")
			if p, err := strconv.Atoi(priority); err == nil && p != 0 && p < 32766 {
				n.Run("ip", family, "rule", "del", "priority", priority)
			}
		}
	}
}

// count begins to count what arrives from the pod.
func (s *scene) count() {
	s.router.Run("nft", fmt.Sprintf(`table inet seen { chain arriving { type filter hook prerouting priority -310
		udp dport 7000 ip saddr %s counter accept
		udp dport 7000 ip6 saddr %s counter accept
		udp dport 7000 counter drop; }; }`, addresses[0], addresses[1]))
}

var packets = regexp.MustCompile(`counter packets (\d+)`)

// counted is how many packets had the addresses, and how many had not.
func (s *scene) counted(t *testing.T) (right, wrong int) {
	t.Helper()
	found := packets.FindAllStringSubmatch(s.router.Run("nft", "list", "table", "inet", "seen"), -1)
	if len(found) != 3 {
		t.Fatalf("%d counters", len(found))
	}
	for i, f := range found {
		n, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			right += n
		} else {
			wrong += n
		}
	}
	return right, wrong
}

// flood sends from the pod until it is stopped, by one socket and by new ones.
func (s *scene) flood(t *testing.T) (stop func()) {
	t.Helper()
	done, stopped := make(chan struct{}), make(chan struct{})
	open := func(to netip.Addr) (c net.Conn, err error) {
		err = netns.Do(s.pod.Path, func() error {
			c, err = net.Dial("udp", netip.AddrPortFrom(to, 7000).String())
			return err
		})
		return c, err
	}
	go func() {
		defer close(stopped)
		long := map[netip.Addr]net.Conn{}
		for {
			for _, to := range outside {
				c, err := open(to)
				if err != nil {
					continue // there is no way for now
				}
				if long[to] == nil {
					long[to] = c
				}
				_, _ = c.Write([]byte("x"))        // what is refused is told with the next one
				_, _ = long[to].Write([]byte("x")) // and so here
				if c != long[to] {
					c.Close()
				}
			}
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() { close(done); <-stopped }
}
