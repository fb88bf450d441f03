package kernel

import (
	"context"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// listen watches h and returns the announcements that matter, the first of which
// says that the watch stands.
func listen(t *testing.T, h *netnstest.Host) <-chan struct{} {
	ctx, stop := context.WithCancel(t.Context())
	announced, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() {
		ended <- netns.Do(h.Path, func() error {
			return watch(ctx, unix.NETLINK_NETFILTER, nftablesGroups, func() { announced <- struct{}{} })
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

// Forwarding and reverse path filtering announce their changes.
func TestSettingsOfRoutingAreAnnounced(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	ctx, stop := context.WithCancel(t.Context())
	announced, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() {
		ended <- netns.Do(h.Path, func() error {
			return watch(ctx, unix.NETLINK_ROUTE, rtnetlinkGroups, func() { announced <- struct{}{} })
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
