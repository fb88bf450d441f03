package lab_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A node's ephemeral range is followed while the agent runs, and pods' next
// connections are seen with ports of the new one.
func TestSNATFollowsTheNodesEphemeralRange(t *testing.T) {
	l := newLab(t, "follow")
	l.must("up")
	l.mustWith(twoPods, "apply", "-f", "-")
	l.must("exec", "node/n1", "--", "sh", "-c", "echo 40000 41000 >/proc/sys/net/ipv4/ip_local_port_range")
	deadline := time.After(10 * time.Second)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for in := ""; !strings.Contains(in, "40000-41000"); {
		select {
		case <-look.C:
			in = l.must("exec", "node/n1", "--", "fairlead", "get", "snat")
		case <-deadline:
			t.Fatalf("after 10 s the range in force is still\n%s", in)
		}
	}
	for _, web := range []string{"198.51.100.10:8080", "[2001:db8:100::10]:8080"} {
		for range 20 {
			seen, err := netip.ParseAddrPort(l.asked("pod/default/a", "tcp", web))
			if err != nil {
				t.Fatal(err)
			}
			if seen.Port() < 40000 || seen.Port() > 41000 {
				t.Errorf("%s saw %s", web, seen)
			}
		}
	}
}
