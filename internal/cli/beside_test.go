package cli_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/lab/echo"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// Where Debian's package containernetworking-plugins has them.
const theirPlugins = "/usr/lib/cni"

// A neighbour is another network on the node, whose pods hang on a bridge by the
// CNI project's plugins.
type neighbour struct {
	name     string
	iptables string // which of the two kinds: nft or legacy
	// The bridge plugin masquerades by itself, or else there are Flannel's rules.
	masquerades bool
}

var neighbours = []neighbour{
	{name: "flannel", iptables: "nft"},
	{name: "flannel with iptables-legacy", iptables: "legacy"},
	{name: "bridge", iptables: "nft", masquerades: true},
}

// conf is the network configuration of a neighbour's pods.
func (n neighbour) conf(s *site) string {
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "cbr0", "plugins": [{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true,
		"hairpinMode": true, "ipMasq": %t, "ipam": {"type": "host-local", "dataDir": %q,
		"ranges": [[{"subnet": %q}], [{"subnet": %q}]]}}]}`, n.masquerades, s.path("their-addresses"), podCIDRs[0], podCIDRs[1])
}

// A tongue is how one family is said to iptables.
type tongue struct{ program, cluster, own, multicast, service, node, length string }

var tongues = []tongue{
	{"iptables", "10.244.0.0/16", podCIDRs[0], "224.0.0.0/4", "10.96.0.10", nodeAddresses[0], "32"},
	{"ip6tables", "fd00:10:244::/48", podCIDRs[1], "ff00::/8", "fd00:10:96::10", nodeAddresses[1], "128"},
}

// flannel is the rules of flanneld, in its words.
func (w tongue) flannel() string {
	return fmt.Sprintf(`*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN
-A FLANNEL-POSTRTG -s %[2]s -d %[1]s -j RETURN
-A FLANNEL-POSTRTG -s %[1]s -d %[2]s -j RETURN
-A FLANNEL-POSTRTG ! -s %[1]s -d %[2]s -j RETURN
-A FLANNEL-POSTRTG -s %[1]s ! -d %[3]s -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s %[1]s -d %[1]s -j MASQUERADE --random-fully
COMMIT
*filter
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s %[1]s -j ACCEPT
-A FLANNEL-FWD -d %[1]s -j ACCEPT
COMMIT
`, w.cluster, w.own, w.multicast)
}

// kubeProxy is the rules of kube-proxy for a service and a node port with one
// pod behind them: what comes back to the pod that asked, and what comes in from
// outside, is marked for masquerading.
func (w tongue) kubeProxy(pod netip.Addr) string {
	to := netip.AddrPortFrom(pod, 8080)
	return fmt.Sprintf(`*nat
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
-I PREROUTING -j KUBE-SERVICES
-I POSTROUTING -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-SERVICES -s %[1]s/%[2]s -d %[3]s/%[2]s -p tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -d %[3]s/%[2]s -p tcp --dport 80 -j DNAT --to-destination %[5]s
-A KUBE-SERVICES -d %[4]s/%[2]s -p tcp --dport 30080 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -d %[4]s/%[2]s -p tcp --dport 30080 -j DNAT --to-destination %[5]s
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
`, pod, w.length, w.service, w.node, to)
}

// move makes the neighbour at home on the node, with two pods.
func (n neighbour) move(s *site) (pods []*theirPod) {
	s.t.Helper()
	if _, err := os.Stat(theirPlugins + "/bridge"); err != nil {
		s.t.Fatalf("the tests need the CNI project's plugins: make deps installs them: %v", err)
	}
	s.Run("ip", "route", "add", farPodCIDRs[0], "via", farAddresses[0])
	s.Run("ip", "route", "add", farPodCIDRs[1], "via", farAddresses[1])
	s.Run("ip", "route", "add", "blackhole", "10.255.0.0/16", "table", "100", "proto", "99")
	s.Run("ip", "rule", "add", "fwmark", "0x100", "lookup", "100", "pref", "1000")
	s.Run("nft", "add table inet others; add chain inet others forward { type filter hook forward priority 0; policy accept; }")
	s.Sysctl("net/bridge/bridge-nf-call-iptables", "1", "net/ipv4/conf/all/rp_filter", "2")
	if !n.masquerades {
		for _, w := range tongues {
			n.restore(s, w, w.flannel())
		}
	}
	for range 2 {
		p := &theirPod{Host: s.attach(n.conf(s))}
		p.addresses = p.ownAddresses(s.t)
		serve(s.t, p.Host, echo.Default)
		pods = append(pods, p)
	}
	for i, w := range tongues {
		n.restore(s, w, w.kubeProxy(pods[0].addresses[i]))
	}
	return pods
}

// restore adds rules to what there is.
func (n neighbour) restore(s *site, w tongue, rules string) {
	s.t.Helper()
	cmd := exec.Command(w.program+"-"+n.iptables+"-restore", "--noflush")
	cmd.Stdin = strings.NewReader(rules)
	var out []byte
	if err := netns.Do(s.Path, func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		s.t.Fatalf("%s: %v\n%s\n%s", cmd, err, out, rules)
	}
}

type theirPod struct {
	*netnstest.Host
	addresses []netip.Addr // IPv4, IPv6
}

func (p *theirPod) ownAddresses(t *testing.T) []netip.Addr {
	t.Helper()
	var out []netip.Addr
	for field := range strings.FieldsSeq(p.Run("ip", "-o", "address", "show", "dev", "eth0", "scope", "global")) {
		if a, err := netip.ParsePrefix(field); err == nil {
			out = append(out, a.Addr())
		}
	}
	if len(out) != 2 {
		t.Fatalf("the pod has addresses %v", out)
	}
	return out
}

// seen is the address and port with which h reaches a server, from port if that
// is not 0.
func (s *site) seen(h *netnstest.Host, server string, port int) netip.AddrPort {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var line string
	h.Do(func() (err error) {
		line, err = echo.Ask(ctx, echo.Question{Protocol: "tcp", Server: server, SourcePort: port})
		if err != nil {
			err = fmt.Errorf("ask %s: %w", server, err)
		}
		return err
	})
	return netip.MustParseAddrPort(line)
}

func at(address string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(address), port).String()
}

// bystanders is what everybody sees of connections that are none of Fairlead's
// affair: between pods and nodes, and those that kube-proxy masquerades.
func (s *site) bystanders(pods []*theirPod) map[string]netip.Addr {
	s.t.Helper()
	a, b := pods[0], pods[1]
	out := map[string]netip.Addr{}
	for i, w := range tongues {
		see := func(what string, h *netnstest.Host, server string) {
			s.t.Helper()
			out[w.program+": "+what] = s.seen(h, server, 0).Addr()
		}
		see("pod to pod", a.Host, at(b.addresses[i].String(), 8080))
		see("pod to its node", a.Host, at(w.node, 8081))
		see("pod to another node's pod", a.Host, at(farPods[i], 8080))
		see("pod to another node", a.Host, at(farAddresses[i], 8080))
		see("another node's pod to pod", s.far, at(a.addresses[i].String(), 8080))
		see("node to pod", s.Host, at(a.addresses[i].String(), 8080))
		see("node to outside", s.Host, at(outside[i], 8080))
		see("pod to itself by a service", a.Host, at(w.service, 80))
		see("pod to another by a service", b.Host, at(w.service, 80))
		see("outside to pod by a node port", s.far, at(w.node, 30080))
	}
	return out
}

func TestBesideAnotherNetwork(t *testing.T) {
	t.Parallel()
	for _, n := range neighbours {
		t.Run(n.name, func(t *testing.T) {
			t.Parallel()
			testBeside(t, n)
		})
	}
}

// Connections of one source port, inside the range, to so many servers.
const (
	ownPort    = 45000
	low, high  = 40000, 49999
	firstPort  = 9000
	connecting = 20
)

func (s *site) serveOutside() {
	s.t.Helper()
	var server echo.Server
	for n := range connecting {
		server.TCP = append(server.TCP, fmt.Sprintf(":%d", firstPort+n))
	}
	serve(s.t, s.far, server)
}

// configureBeside has Fairlead choose ports beside another network, in so many for
// each pod.
func (s *site) configureBeside(block int) {
	s.t.Helper()
	s.configure(fmt.Sprintf(`{overlay: {mode: none}, nodeSNATRandomizePorts: true, nodeSNATPortRange: %d-%d, nodeSNATPortBlock: %d,
  nonMasqueradeCIDRs: ["%s/32", "%s/128"]}`, low, high, block, keeping[0], keeping[1]))
}

// checkRandom fails the test unless a pod leaves for the outside with the node's
// address and random ports of the range, which it returns.
func (s *site) checkRandom(pod *theirPod) (ports []uint16) {
	s.t.Helper()
	for i, node := range nodeAddresses {
		kept := 0
		for n := range connecting {
			from := s.seen(pod.Host, at(outside[i], uint16(firstPort+n)), ownPort)
			if from.Addr().String() != node || from.Port() < low || high < from.Port() {
				s.t.Errorf("seen from %s, want %s and a port in %d-%d", from, node, low, high)
			}
			if from.Port() == ownPort {
				kept++
			}
			ports = append(ports, from.Port())
		}
		if kept > 2 {
			s.t.Errorf("%d of %d connections keep their port", kept, connecting)
		}
	}
	return ports
}

// checkOwn fails the test unless a pod is seen with the addresses that want has
// where the operator wants its own to be seen.
func (s *site) checkOwn(pod *theirPod, want ...string) {
	s.t.Helper()
	for i := range want {
		if from := s.seen(pod.Host, at(keeping[i], 8080), 0); from.Addr().String() != want[i] {
			s.t.Errorf("seen from %s, want %s", from, want[i])
		}
	}
}

// hold opens a connection from h to a server and returns what makes sure that it
// is alive.
func (s *site) hold(h *netnstest.Host, server string) (alive func()) {
	s.t.Helper()
	var c net.Conn
	h.Do(func() (err error) {
		c, err = net.Dial("tcp", server)
		return err
	})
	s.t.Cleanup(func() { c.Close() })
	r := bufio.NewReader(c)
	said, err := r.ReadString('\n')
	return func() {
		s.t.Helper()
		if err == nil {
			err = c.SetDeadline(time.Now().Add(time.Minute))
		}
		if err == nil {
			_, err = io.WriteString(c, said)
		}
		if again, rerr := r.ReadString('\n'); err != nil || rerr != nil || again != said {
			s.t.Errorf("an open connection is lost: %q, %v, %v", again, err, rerr)
		}
	}
}

func testBeside(t *testing.T, n neighbour) {
	s := newSite(t)
	pods := n.move(s)
	serve(t, s.Host, echo.Server{TCP: []string{":8081"}})
	s.serveOutside()
	untouched, alive := s.bystanders(pods), s.hold(pods[0].Host, at(outside[0], 8080))
	s.checkOwn(pods[0], nodeAddresses...)
	before := s.list()
	stage := func(when string) {
		t.Helper()
		unchanged(t, when, before, s.theirs(s.list()))
		alive()
		s.checkRandom(pods[0])
		s.checkOwn(pods[0], pods[0].addresses[0].String(), pods[0].addresses[1].String())
	}

	s.configureBeside(0)
	s.start()
	stage("with an agent")
	if d := cmp.Diff(untouched, s.bystanders(pods), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("what others see of connections that do not leave the cluster (-before +now):\n%s", d)
	}
	if said := s.Run(filepath.Join(programs, "fairlead"), "doctor", "--socket", s.path("run/agent.sock")); !strings.Contains(said, "another CNI makes the pod network") {
		t.Errorf("the doctor says\n%s", said)
	}
	s.stop(syscall.SIGTERM)
	stage("with the agent stopped")
	s.start()
	stage("with an agent again")
	s.stop(syscall.SIGKILL)
	stage("with the agent killed")
	s.start()
	stage("with an agent after that")

	if out, said, ok := s.uninstall(); ok {
		t.Errorf("uninstalled under a running agent: %s%s", out, said)
	}
	s.stop(syscall.SIGKILL)
	s.mustUninstall()
	unchanged(t, "after uninstall", before, s.list())
	alive()
	s.checkOwn(pods[0], nodeAddresses...)
}
