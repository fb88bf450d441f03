package firewall_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/firewall"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// A node stands between two pods and the outside, and forwards.
type node struct {
	*netnstest.Host
	a, b, outside *netnstest.Host
}

// Addresses by family.
var (
	addressA = [2]string{"10.244.1.2", "fd00:1::2"}
	addressB = [2]string{"10.244.2.2", "fd00:2::2"}
	outside  = [2]string{"192.168.100.2", "fd00:100::2"}
)

func newNode(t *testing.T) node {
	t.Helper()
	n := node{netnstest.New(t), netnstest.New(t), netnstest.New(t), netnstest.New(t)}
	n.Sysctl("net/ipv4/ip_forward", "1", "net/ipv6/conf/all/forwarding", "1")
	for _, w := range []struct {
		link      string
		far       *netnstest.Host
		addresses [2]string
	}{{"fl-0123456789ab", n.a, addressA}, {"fl-ba9876543210", n.b, addressB}, {"eth0", n.outside, outside}} {
		netnstest.Wire(n.Host, w.link, w.far, "eth0")
		for i, bits := range []string{"/24", "/64"} {
			near := w.addresses[i][:len(w.addresses[i])-1] + "1"
			n.Address(w.link, near+bits)
			w.far.Address("eth0", w.addresses[i]+bits)
			shell(t, w.far, "ip route add default via "+near)
		}
		shell(t, w.far, "nft -f - <<'END'"+beginnings+"END\n")
		w.far.Do(func() error { return listen(t) })
	}
	return n
}

// listen takes connections for as long as t runs.
func listen(t *testing.T) error {
	l, err := net.Listen("tcp", "[::]:80")
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
			c.Close()
		}
	}()
	return nil
}

func shell(t *testing.T, h *netnstest.Host, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-efc", script)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := netns.Do(h.Path, cmd.Run); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, &complaint)
	}
}

// ways are the flows that are judged, as connections to make.
func (n node) ways() map[world.Way][2]*netnstest.Host {
	return map[world.Way][2]*netnstest.Host{world.BetweenPods: {n.a, n.b}, world.FromPods: {n.a, n.outside}, world.ToPods: {n.outside, n.a}}
}

func (n node) to(h *netnstest.Host, family int) string {
	return map[*netnstest.Host][2]string{n.a: addressA, n.b: addressB, n.outside: outside}[h][family]
}

// passes reports whether the first packet of a connection arrives in time.
func (n node) passes(way world.Way, family int, within time.Duration) bool {
	ends := n.ways()[way]
	before := begun(ends[1], family)
	to := netip.AddrPortFrom(netip.MustParseAddr(n.to(ends[1], family)), 80).String()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	var dialling sync.WaitGroup
	defer dialling.Wait()
	defer cancel()
	dialling.Go(func() {
		ends[0].Do(func() error {
			if c, err := (&net.Dialer{}).DialContext(ctx, "tcp", to); err == nil {
				c.Close()
			}
			return nil
		})
	})
	for ctx.Err() == nil {
		if begun(ends[1], family) != before {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return begun(ends[1], family) != before
}

// beginnings counts first packets of TCP connections, of each family in its own table.
const beginnings = `
table ip beginnings { chain c { type filter hook prerouting priority -300; tcp flags & (syn | ack) == syn counter; }; }
table ip6 beginnings { chain c { type filter hook prerouting priority -300; tcp flags & (syn | ack) == syn counter; }; }
`

// begun is how many connections of a family have begun to come to a host.
func begun(h *netnstest.Host, family int) string {
	return regexp.MustCompile(`packets \d+`).FindString(h.Run("nft", "list", "table", []string{"ip", "ip6"}[family], "beginnings"))
}

// drops are what is found, one a line.
func (n node) drops(t *testing.T) []string {
	t.Helper()
	exits := []world.Exit{
		{Interface: "eth0", Address: netip.MustParseAddr("192.168.100.1")}, {Interface: "eth0", Address: netip.MustParseAddr("fd00:100::1")},
	}
	var out []string
	n.Do(func() error {
		seen, err := firewall.NFTables(exits)
		if err != nil {
			return err
		}
		legacy, err := firewall.Legacy(exits)
		for _, d := range append(seen.Drops, legacy...) {
			kind := ""
			if d.Filter.Legacy {
				kind = "legacy "
			}
			family := map[bool]string{false: "IPv4", true: "IPv6"}[d.IPv6]
			out = append(out, fmt.Sprintf("%s %s: %s%s %s %s: %s", family, d.Way, kind, d.Filter.Family, d.Filter.Table, d.Filter.Chain, d.By))
		}
		return err
	})
	return out
}

// A filter is one that is met in the field, or near one.
type filter struct {
	name, rules string
	want        []string // what is found
	silent      []string // what is dropped, and cannot be told from the rules: "IPv4 between pods"
}

const policy = "its policy, which is to drop"

// all is one line for each way.
func all(format string, by ...any) []string {
	var out []string
	for _, way := range []world.Way{world.BetweenPods, world.FromPods, world.ToPods} {
		out = append(out, strings.Replace(fmt.Sprintf(format, by...), "WAY", string(way), 1))
	}
	return out
}

// What is found to be dropped is dropped, and what is dropped is found, where the
// rules allow to tell: packets decide.
func TestDropsAreTrue(t *testing.T) {
	t.Parallel()
	for _, f := range filters {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			shell(t, n.Host, f.rules)
			got := n.drops(t)
			if d := cmp.Diff(f.want, got); d != "" {
				t.Errorf("found (-want +got):\n%s", d)
			}
			for way := range n.ways() {
				for family, name := range []string{"IPv4", "IPv6"} {
					what := name + " " + string(way)
					found := slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, what+":") })
					silent := slices.Contains(f.silent, what)
					within := 5 * time.Second // what should pass may take long on a busy machine
					if found || silent {
						within = 200 * time.Millisecond
					}
					if passes := n.passes(way, family, within); passes == (found || silent) {
						t.Errorf("%s: passes: %t, and a drop was found: %t", what, passes, found)
					}
				}
			}
		})
	}
}
