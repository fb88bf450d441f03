package kernel

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// What is heard on which socket, as in watched.
const links, rules = 0, 1

// listen watches h and returns the announcements that matter, the first of which
// says that the watch stands.
func listen(t *testing.T, h *netnstest.Host) <-chan struct{} {
	ctx, stop := context.WithCancel(t.Context())
	announced, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() {
		ended <- netns.Do(h.Path, func() error {
			return (&Observer{}).watch(ctx, rules, func() { announced <- struct{}{} })
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-announced
	return announced
}

// Others change their rules all the time; that wakes nobody. What happens to ours
// does, also when all rules go at once.
func TestOnlyOurTablesMatter(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	h.Run("nft", "add table inet fairlead-x { chain c { } ; set s { type ipv4_addr; } ; }")
	h.Run("nft", "add table inet other { chain c { } ; set s { type ipv4_addr; } ; }")
	announced := listen(t, h)
	for n := range 10 {
		h.Run("nft", "add element inet other s { 192.0.2."+strconv.Itoa(n)+" } ; add rule inet other c accept ; add chain inet other c"+strconv.Itoa(n))
	}
	hear := func(command string) {
		t.Helper()
		h.Run("nft", command)
		select {
		case <-announced:
		case <-time.After(20 * time.Second):
			t.Fatalf("%q is not announced", command)
		}
	}
	hear("add element inet fairlead-x s { 192.0.2.1 }")
	// They come in order: what others did was read before.
	if n := len(announced); n > 0 {
		t.Errorf("%d announcements of others' changes matter", n)
	}
	for _, command := range []string{
		"add rule inet fairlead-x c accept", "flush chain inet fairlead-x c", "delete set inet fairlead-x s", "flush ruleset",
	} {
		hear(command)
		for len(announced) > 0 { // one change may be told in several
			<-announced
		}
	}
}

// What this process does itself is no news to it, whatever others do meanwhile.
func TestOurOwnTransactionsDoNotMatter(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	table := func(n int) []*nft.Table {
		s := &nft.Set{Name: "s", Type: nft.IPv4Addr}
		for i := range n {
			s.Elements = s.Elements.With(nil, []nft.Element{{Key: nft.Addr(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))}})
		}
		return []*nft.Table{{Name: "fairlead-x", Sets: []*nft.Set{s}}}
	}
	h.Do(func() error { return nft.Apply(nft.DiffTables(nil, table(0))) })
	announced := listen(t, h)
	for n := range 20 {
		h.Do(func() error { return nft.Apply(nft.DiffTables(table(n), table(n+1))) })
	}
	h.Run("nft", "delete element inet fairlead-x s { 192.0.2.1 }")
	select {
	case <-announced:
	case <-time.After(20 * time.Second):
		t.Fatal("what another process did is not announced")
	}
	if n := len(announced); n > 0 {
		t.Errorf("%d announcements of our own changes matter", n)
	}
}

// Forwarding and reverse path filtering announce their changes.
func TestSettingsOfRoutingAreAnnounced(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	ctx, stop := context.WithCancel(t.Context())
	announced, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() {
		ended <- netns.Do(h.Path, func() error {
			return (&Observer{}).watch(ctx, links, func() { announced <- struct{}{} })
		})
	}()
	<-announced
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/lo/rp_filter"} {
		h.Sysctl(key, "0")
		for len(announced) > 0 {
			<-announced
		}
		h.Sysctl(key, "1")
		select {
		case <-announced:
		case <-time.After(20 * time.Second):
			t.Errorf("%s is not announced", key)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// quiet waits until nothing is listed any more, and returns when that was last. Of
// carriers the kernel tells up to a second late (net/core/link_watch.c).
func quiet(listed func() time.Time, see func()) (last time.Time) {
	for last != listed() {
		last = listed()
		time.Sleep(1200 * time.Millisecond)
		see()
	}
	return last
}

// A watching observer lists what others have again when somebody changes it, and
// sees every change; what happens to our own links costs it nothing.
func TestAnObserverThatWatchesSeesEveryChange(t *testing.T) {
	t.Parallel()
	h, far := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(h, "eth0", far, "eth0")
	h.Run("ip", "link", "add", "fl-vxlan", "type", "vxlan", "id", "1", "local", "192.0.2.1", "dstport", "4789")
	o := &Observer{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, len(watched))
	for i := range watched {
		go func() { ended <- netns.Do(h.Path, func() error { return o.watch(ctx, i, func() {}) }) }()
	}
	see := func(o *Observer) (k *world.Kernel) {
		h.Do(func() (err error) {
			k, err = o.Observe(&world.Attachments{})
			return err
		})
		return k
	}
	for o.watches.Load() < int32(len(watched)) {
		time.Sleep(time.Millisecond)
	}
	for _, command := range []string{
		"address add 192.0.2.1/24 dev eth0", "link set eth0 mtu 1400", "route add default via 192.0.2.9", "route add default dev eth0 metric 1",
		"link add eth1 type veth peer name eth2", "link set eth1 up", "address add 198.51.100.1/24 dev eth1", "link set fl-vxlan name vx",
		"link set vx name fl-vxlan", "link set eth1 down", "link set eth1 name eth9", "link set eth0 down", "link del eth9",
	} {
		h.Run("ip", strings.Fields(command)...)
		want := see(&Observer{})
		for deadline := time.Now().Add(20 * time.Second); !see(o).Equal(want); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after %q the observer sees %+v, want %+v", command, see(o), want)
			}
		}
	}
	listed := func() time.Time {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.at
	}
	pod := netnstest.New(t)
	before := quiet(listed, func() { see(o) })
	for range 20 {
		h.Run("ip", "address", "add", "10.244.1.1/32", "dev", "fl-vxlan")
		h.Run("ip", "link", "set", "fl-vxlan", "up")
		see(o)
		h.Run("ip", "link", "set", "fl-vxlan", "down")
		h.Run("ip", "address", "flush", "dev", "fl-vxlan")
		netnstest.Wire(h, "fl-pod", pod, "eth0")
		h.Run("ip", "link", "del", "fl-pod")
	}
	if see(o); listed() != before {
		t.Error("others' interfaces were listed again for what happened to ours")
	}
	stop()
	for range watched {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
