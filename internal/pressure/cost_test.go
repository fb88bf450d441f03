package pressure_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/pressure"
)

const (
	destinations = 20
	fromEach     = 10000 // source ports
)

// A table of 200,000 entries is watched for little, and the one destination that
// then grows is found in it.
func TestALargeTableIsWatchedForLittle(t *testing.T) {
	n, outside := newCluster(t, 1)
	n.Sysctl("net/netfilter/nf_conntrack_udp_timeout", "600")
	outside.Do(func() error {
		return nft.Apply(nft.Diff(nil, []*nft.Table{{Name: "mute", Chains: []*nft.Chain{{
			Name: "mute", Type: nft.Filter, Hook: nft.Prerouting, Rules: []nft.Rule{{nft.L4Proto(unix.IPPROTO_UDP), nft.Drop()}}}}}}))
	})
	random, wide := true, "32768-65535"
	w := n.Apply(v1alpha1.AgentConfigSpec{NodeSNATRandomizePorts: &random, NodeSNATPortRange: &wide})
	ports := snat.InForce(w).Range
	watch, told := start(t, n.Host, pressure.Config{Object: "Node n1", Ports: ports, Randomized: true})
	spent := func(what string, during func()) {
		before, began := watch.Status().CPU, time.Now()
		during()
		after, took := watch.Look(t.Context()).CPU, time.Since(began).Seconds()
		t.Logf("%s, %.1f s: counting took %.3f %% of a core, listing %.3f %%", what, took,
			100*(after.Counting-before.Counting)/took, 100*(after.Listing-before.Listing)/took)
	}
	spent("filling", func() {
		for p := range destinations {
			send(n.Pods[0].Host, uint16(9000+p), 1024, fromEach)
		}
	})
	spent("quiet", func() { time.Sleep(5 * time.Second) })
	s := watch.Examine(t.Context())
	t.Logf("%d entries; %d of %d listed, the fullest %s", s.Conntrack.Entries, s.Listed.Entries, s.Listed.Of, s.Fullest[0])
	if s.Conntrack.Entries < destinations*fromEach*99/100 || told.scarce().Reason != "" {
		t.Errorf("%d entries, want %d; told %+v", s.Conntrack.Entries, destinations*fromEach, told.scarce())
	}
	if f := s.Fullest[0]; f.Size != ports.Len() || f.Used < fromEach*9/10 || f.Used > fromEach*11/10 {
		t.Errorf("the fullest of equals is %+v, want %d", f, fromEach)
	}
	lost := s.Conntrack.InsertFailed
	spent("one grows", func() { send(n.Pods[0].Host, 9007, 20000, 14000) })
	eventually(t, "the one that grew is told of", func() bool { return told.scarce().Reason != "" })
	e := told.scarce()
	t.Logf("%d were lost by then: %s", e.failed-lost, e.Message)
	if !strings.Contains(e.Message, "udp 192.0.2.100:9007 from 192.0.2.1") || e.failed-lost > raceLost {
		t.Errorf("with %d lost: %s", e.failed-lost, e.Message)
	}
}

// send begins a connection of UDP from each of n ports, which nobody answers.
func send(h *netnstest.Host, to, from uint16, n int) {
	at := sockaddr(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.100"), to))
	h.Do(func() error {
		for i := range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(from) + i}); err != nil {
				return err
			}
			if err := unix.Sendto(fd, []byte{0}, 0, at); err != nil {
				return err
			}
			if err := unix.Close(fd); err != nil {
				return err
			}
		}
		return nil
	})
}
