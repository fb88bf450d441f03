package tcp_test

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
)

// outside is a host beside the node, by its addresses of each family.
var outside = []string{"192.0.2.100", "2001:db8:1::100"}

// A minute is more than a test takes: clocks that are further apart are two.
const apart = uint32(time.Minute / time.Millisecond)

// What two pods send to one server bears the time of one clock, or of clocks that are
// apart, as the AgentConfig says.
func TestPodsOfANodeReadOneClock(t *testing.T) {
	for choice, one := range map[string]bool{"monotonic": true, "random": false, "keep": false, "": true} {
		t.Run(choice, func(t *testing.T) {
			spec := v1alpha1.AgentConfigSpec{PodTCPTimestamps: &choice}
			if choice == "" {
				spec.PodTCPTimestamps = nil
			}
			n, server := cluster.NewNode(t, 1), netnstest.New(t)
			n.Wire(server, "eth0")
			server.Address("eth0", outside[0]+"/24", outside[1]+"/64")
			pods := []*cluster.Pod{n.NewPod(), n.NewPod()}
			n.Apply(spec)
			for _, address := range outside {
				if got := isOne(clocks(t, server, pods, address)); got != one {
					t.Errorf("%s: one clock: %v, want %v", address, got, one)
				}
			}
		})
	}
}

// clocks are the timestamps of SYNs that the pods send one after the other, as they
// arrive.
func clocks(t *testing.T, server *netnstest.Host, pods []*cluster.Pod, address string) []uint32 {
	t.Helper()
	const each, port = 10, 9
	var seen []uint32
	stop := netnstest.Watch(server, "eth0", func(p netnstest.Packet) {
		if p.Protocol == unix.IPPROTO_TCP && p.Flags == 0x02 {
			seen = append(seen, p.Clock)
		}
	})
	for i := range each * len(pods) {
		pods[i%len(pods)].Do(func() error {
			_, err := net.DialTimeout("tcp", net.JoinHostPort(address, fmt.Sprint(port)), 10*time.Second)
			if !errors.Is(err, unix.ECONNREFUSED) {
				return fmt.Errorf("nobody refuses: %w", err)
			}
			return nil
		})
	}
	stop()
	if len(seen) < each*len(pods) {
		t.Fatalf("%d SYNs arrived, of %d", len(seen), each*len(pods))
	}
	return seen
}

// isOne reports whether each of the times is later than the one before, by less than
// a minute.
func isOne(times []uint32) bool {
	for i, now := range times[1:] {
		if times[i] == 0 || now-times[i] > apart { // modulo 2^32, as the kernel counts
			return false
		}
	}
	return true
}
