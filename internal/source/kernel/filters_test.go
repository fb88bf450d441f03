package kernel

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// observing is an Observer that hears everything that h announces.
func observing(t *testing.T, h *netnstest.Host) *Observer {
	t.Helper()
	o := &Observer{}
	watching(t, h, o)
	return o
}

// watching has the Observer hear that until the test ends.
func watching(t *testing.T, h *netnstest.Host, o *Observer) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended, heard := make(chan error, len(watched)), make(chan struct{}, 1000)
	for i := range watched {
		go func() {
			ended <- netns.Do(h.Path, func() error {
				return o.watch(ctx, i, func() {
					select {
					case heard <- struct{}{}:
					default:
					}
				})
			})
		}()
		<-heard // it stands
	}
	t.Cleanup(func() {
		stop()
		for range watched {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

func dropsOf(h *netnstest.Host, o *Observer) (drops []world.ForwardDrop) {
	h.Do(func() error {
		drops = o.drops([]world.Exit{{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.1")}, {Interface: "eth0", Address: netip.MustParseAddr("2001:db8::1")}})
		return nil
	})
	return drops
}

// until waits for o to see drops of as many filters and ways.
func (o *Observer) until(t *testing.T, h *netnstest.Host, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if len(dropsOf(h, o)) == n {
			return
		}
	}
	t.Fatalf("it sees %v, want %d", dropsOf(h, o), n)
}

const threeWays = 3

// What others' filters drop is seen when they change, and what does not decide on
// pods' packets is not looked at, however often it changes.
func TestFiltersAreLookedAtWhenTheyChange(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	o := observing(t, h)
	o.until(t, h, 0)
	h.Run("nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; add chain ip filter USER")
	o.until(t, h, threeWays)
	looked := o.filters.nft.at
	for range 20 {
		h.Run("nft", "add table ip nat; add chain ip nat FORWARD { type nat hook output priority 0; }; add rule ip nat FORWARD accept; add rule ip filter USER drop; add set ip filter s { type ipv4_addr; }; add element ip filter s { 192.0.2.1 }; flush chain ip nat FORWARD; delete table ip nat")
		dropsOf(h, o)
	}
	if o.filters.nft.at != looked {
		t.Error("it looked again for what decides nothing")
	}
	for _, c := range []struct {
		command string
		drops   int
	}{
		{"add rule ip filter FORWARD iifname \"fl-*\" jump USER", 3},
		{"flush chain ip filter USER; add rule ip filter USER accept", 1},
		{"add rule ip filter FORWARD accept", 0},
		{"flush chain ip filter FORWARD", 3},
		{"add table ip filter { flags dormant; }", 0},
		{"delete table ip filter; add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }", 3},
		{"add chain ip filter FORWARD { policy accept; }", 0},
		{"add table inet t; add chain inet t c { type filter hook forward priority 0; policy drop; }", 6},
		{"delete table inet t", 0},
		{"add chain ip filter FORWARD { policy drop; }", 3},
		{"flush ruleset", 0},
	} {
		h.Run("nft", c.command)
		o.until(t, h, c.drops)
	}
}

// What happens to a chain in which we may have rules matters, and what happens to
// others of its table does not.
func TestChainsWithOurRulesMatter(t *testing.T) {
	t.Parallel()
	for _, family := range []string{"ip", "ip6"} {
		h := netnstest.New(t)
		h.Run("nft", "add table "+family+" filter; add chain "+family+" filter FORWARD; add chain "+family+" filter USER; add rule "+family+" filter FORWARD accept")
		announced := listen(t, h)
		for range 5 {
			h.Run("nft", "add rule "+family+" filter USER accept; add set "+family+" filter s { type ifname; }; add element "+family+" filter s { lo }; add table inet filter; add chain inet filter FORWARD; delete table inet filter")
		}
		for n, command := range []string{
			"flush chain FAMILY filter FORWARD", "delete chain FAMILY filter FORWARD", "add chain FAMILY filter FORWARD", "add rule FAMILY filter FORWARD accept", "flush ruleset",
		} {
			command = strings.ReplaceAll(command, "FAMILY", family)
			h.Run("nft", command)
			select {
			case <-announced:
			case <-time.After(20 * time.Second):
				t.Fatalf("%q is not announced", command)
			}
			if n == 0 && len(announced) > 0 {
				t.Errorf("%d announcements of others' chains matter", len(announced))
			}
			for len(announced) > 0 {
				<-announced
			}
		}
	}
}

// Legacy tables announce nothing: they are looked at again after a while.
func TestLegacyFiltersAreLookedAtAfterAWhile(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	o := observing(t, h)
	o.until(t, h, 0)
	h.Run("iptables-legacy", "-P", "FORWARD", "DROP")
	o.until(t, h, threeWays)
	h.Run("iptables-legacy", "-I", "FORWARD", "-i", "fl-+", "-j", "ACCEPT")
	o.until(t, h, 1)
}

// To look makes no table of iptables-legacy.
func TestToLookMakesNoTable(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	before := h.Run("cat", "/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names")
	dropsOf(h, &Observer{})
	if after := h.Run("cat", "/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names"); before != "" || after != "" {
		t.Errorf("tables before: %q, after: %q", before, after)
	}
}

// Where the kernel tells nothing, what was seen last counts.
func TestNotSeeingFiltersChangesNothing(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	h.Run("nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
	o := &Observer{}
	o.until(t, h, threeWays)
	l := &o.filters.nft
	if err := l.look(func() ([]world.ForwardDrop, error) { return nil, context.Canceled }); err == nil || len(l.drops) != threeWays {
		t.Errorf("%v: %v", err, l.drops)
	}
}
