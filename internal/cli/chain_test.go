package cli_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// chained is the neighbour's network configuration with Fairlead's plugin behind.
func (n neighbour) chained(s *site) string {
	entry := fmt.Sprintf(`, {"type": "fairlead", "socket": %q, "stateDir": %q}]}`, s.path("run/agent.sock"), s.path("state"))
	return strings.TrimSuffix(n.conf(s), "]}") + entry
}

// Behind the plugin of another network Fairlead's lets a pod begin when what it
// is to have is there, and otherwise has the runtime try again.
func TestAPodOfAnotherNetworkBeginsWithWhatItIsToHave(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	n := neighbours[0]
	n.move(s)
	s.serveOutside()
	s.write("net.d/10-theirs.conflist", n.conf(s))
	before := s.list()
	const block = 512
	s.configureBeside(block)
	s.start()
	s.until("the plugin is installed", func() bool { return strings.Contains(strings.Join(s.files(), " "), s.path("bin/fairlead")) })
	s.stop(syscall.SIGKILL)
	s.write("net.d/10-theirs.conflist", n.chained(s))

	pod := &theirPod{Host: netnstest.New(t)}
	err := s.add(pod.Host, n.chained(s))
	if e, ok := errors.AsType[*types.Error](err); !ok || e.Code != types.ErrTryAgainLater {
		t.Errorf("with the agent away, a pod begins: %v", err)
	}
	s.del(pod.Host, n.chained(s))
	s.start()
	if err := s.add(pod.Host, n.chained(s)); err != nil {
		t.Fatal(err)
	}
	if now := setting(pod.Host, world.TCPTimestamps); now != world.TimestampsMonotonic {
		t.Errorf("the pod begins with timestamps %s", now)
	}
	stays := netnstest.New(t)
	if err := s.add(stays, n.chained(s)); err != nil {
		t.Fatal(err)
	}
	ports := s.checkRandom(pod)
	if first := slices.Min(ports) - low; first/block != (slices.Max(ports)-low)/block {
		t.Errorf("the pod leaves from ports %v, which are of no one block of %d", ports, block)
	}

	s.del(pod.Host, n.chained(s))
	s.stop(syscall.SIGTERM)
	if _, said, ok := s.uninstall(); ok || !strings.Contains(said, "10-theirs.conflist names the plugin fairlead: take it out there first") {
		t.Errorf("no pod can begin after this: %s", said)
	}
	s.write("net.d/10-theirs.conflist", n.conf(s))
	s.mustUninstall()
	if now := setting(stays, world.TCPTimestamps); now != "1" {
		t.Errorf("after uninstall a pod has timestamps %s", now)
	}
	s.del(stays, n.conf(s))
	unchanged(t, "after uninstall", before, s.list())
}
