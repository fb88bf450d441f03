package overlay_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
)

const patience = 20 * time.Second

// answer has h say to everybody who connects to its port which address that was.
func answer(t *testing.T, h *netnstest.Host) {
	t.Helper()
	h.Do(func() error {
		l, err := net.Listen("tcp", ":9100")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String()) // who is gone hears nothing
				c.Close()
			}
		}()
		return nil
	})
}

// seen is the address that whoever answers at to sees h with.
func seen(h *netnstest.Host, to netip.Addr, within time.Duration) (as string, err error) {
	h.Do(func() error {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", netip.AddrPortFrom(to, 9100).String(), within); err != nil {
			return nil
		}
		defer c.Close()
		var b []byte
		b, err = io.ReadAll(c)
		as = string(b)
		return nil
	})
	return as, err
}

// What pods and other nodes' own addresses send each other takes the tunnel both
// ways: where the network between the nodes passes only nodes' addresses, and where
// every reverse-path filter is strict, pods reach nodes and are seen as themselves.
func TestPodsReachNodesThroughTheTunnel(t *testing.T) {
	t.Parallel()
	for _, withoutTCX := range []bool{false, true} {
		t.Run(fmt.Sprintf("without tcx %v", withoutTCX), func(t *testing.T) {
			t.Parallel()
			n1, n2 := cluster.NewNode(t, 1), cluster.NewNode(t, 2)
			n1.WithoutTCX, n2.WithoutTCX = withoutTCX, withoutTCX
			cluster.Join(n1, n2)
			a, b := n1.NewPod(), n2.NewPod()
			var before []string
			for _, n := range []*cluster.Node{n1, n2} {
				before = append(before, ruled(n.Host))
				n.Run("nft", `table inet cloud { chain arriving { type filter hook prerouting priority -310
					iifname eth0 ip saddr 10.244.0.0/16 drop
					iifname eth0 ip6 saddr fd00:10:244::/48 drop; }; }`)
			}
			n1.Apply(v1alpha1.AgentConfigSpec{}, n2)
			n2.Apply(v1alpha1.AgentConfigSpec{}, n1)
			for _, h := range []*netnstest.Host{n1.Host, n2.Host} {
				h.Run("sh", "-c", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done")
			}
			for _, h := range []*netnstest.Host{n1.Host, n2.Host, a.Host, b.Host} {
				answer(t, h)
			}
			for family := range 2 {
				for _, way := range []struct {
					from *netnstest.Host
					to   netip.Addr
					as   string
				}{
					{a.Host, n2.Addresses[family], a.Addresses[family].String()},
					{b.Host, n1.Addresses[family], b.Addresses[family].String()},
					{a.Host, n1.Addresses[family], a.Addresses[family].String()},
					{a.Host, b.Addresses[family], a.Addresses[family].String()},
					{n1.Host, n2.Addresses[family], n1.Addresses[family].String()},
				} {
					if as, err := seen(way.from, way.to, patience); err != nil || as != way.as {
						t.Errorf("%s sees %s, want %s: %v", way.to, as, way.as, err)
					}
				}
			}
			for i, n := range []*cluster.Node{n1, n2} {
				if n.Uninstall(); ruled(n.Host) != before[i] {
					t.Errorf("before\n%s\nafter uninstall\n%s", before[i], ruled(n.Host))
				}
			}
		})
	}
}

// What comes through the tunnel may be answered directly, by peers in another mode, also
// where all interfaces are strict. Elsewhere the tunnel looks up no routes for that.
func TestTheTunnelTakesWhatIsAnsweredDirectly(t *testing.T) {
	t.Parallel()
	direct := "direct"
	for all, want := range map[string]string{"0": "0", "1": "2", "2": "0"} {
		t.Run("all "+all, func(t *testing.T) {
			t.Parallel()
			n1, n2 := cluster.NewNode(t, 1), cluster.NewNode(t, 2)
			cluster.Join(n1, n2)
			a, b := n1.NewPod(), n2.NewPod()
			for _, n := range []*cluster.Node{n1, n2} {
				n.Sysctl("net/ipv4/conf/all/rp_filter", all, "net/ipv4/conf/eth0/rp_filter", "2")
			}
			n1.Apply(v1alpha1.AgentConfigSpec{}, n2)
			n2.Apply(v1alpha1.AgentConfigSpec{Overlay: &v1alpha1.Overlay{Mode: &direct}}, n1)
			answer(t, b.Host)
			if as, err := seen(a.Host, b.Addresses[0], patience); err != nil || as != a.Addresses[0].String() {
				t.Errorf("%s sees %s: %v", b.Addresses[0], as, err)
			}
			if got := strings.TrimSpace(n2.Run("cat", "/proc/sys/net/ipv4/conf/fl-vxlan/rp_filter")); got != want {
				t.Errorf("rp_filter %s, want %s", got, want)
			}
		})
	}
}

// ruled is how a host looks for routes.
func ruled(h *netnstest.Host) string {
	return h.Run("sh", "-c", "ip rule; ip -6 rule; ip route show table all | grep 157 || true; ip -6 route show table all | grep 157 || true")
}

// An address that two peers have, or that this node relies on, is reached as if
// neither were a node's.
func TestWhoseAddressIsInDoubtIsReachedAsBefore(t *testing.T) {
	t.Parallel()
	n1, n2 := cluster.NewNode(t, 1), cluster.NewNode(t, 2)
	cluster.Join(n1, n2)
	n1.Run("ip", "route", "add", "default", "via", "192.0.2.2")
	n1.Apply(v1alpha1.AgentConfigSpec{}, n2)
	if tables := ruled(n1.Host); strings.Contains(tables, "192.0.2.2") || !strings.Contains(tables, "2001:db8:1::2 dev fl-vxlan") {
		t.Errorf("the default gateway says that it is a node:\n%s", tables)
	}
}
