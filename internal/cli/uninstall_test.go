package cli_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"fairlead.dev/fairlead/internal/netnstest"
)

// ourConf is the plugin's configuration for a site.
func (s *site) ourConf() string {
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "fairlead", "socket": %q, "stateDir": %q}]}`,
		s.path("run/agent.sock"), s.path("state"))
}

// attach hangs a new pod on the network that conf describes, as a container
// runtime does.
func (s *site) attach(conf string, plugins ...string) *netnstest.Host {
	s.t.Helper()
	pod := netnstest.New(s.t)
	list, err := libcni.NetworkConfFromBytes([]byte(conf))
	if err != nil {
		s.t.Fatal(err)
	}
	runtime := libcni.NewCNIConfigWithCacheDir(plugins, s.t.TempDir(), nil)
	s.Do(func() error {
		_, err := runtime.AddNetworkList(context.Background(), list, &libcni.RuntimeConf{ContainerID: pod.Name, NetNS: pod.Path, IfName: "eth0"})
		return err
	})
	return pod
}

// After a whole life on a node that had settings and routes of its own, there is
// nothing to see of Fairlead.
func TestUninstallLeavesTheNodeAsItWas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	netnstest.Wire(s.Host, "eth1", netnstest.New(t), "eth0")
	s.Sysctl("net/ipv4/ip_forward", "0", "net/ipv4/conf/eth1/forwarding", "1", "net/ipv6/conf/all/forwarding", "0")
	s.Run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth1", "metric", "2000", "proto", "ra")
	s.Run("ip", "route", "add", "blackhole", "203.0.113.0/28", "proto", "99")
	s.Run("nft", "add table inet others; add chain inet others forward { type filter hook forward priority 0; policy accept; }")
	before := s.list()

	s.start()
	pods := []*netnstest.Host{s.attach(s.ourConf(), programs), s.attach(s.ourConf(), programs)}
	if links := pods[0].Run("ip", "-o", "address"); !strings.Contains(links, "10.244.1.") {
		t.Fatalf("the pod has no network:\n%s", links)
	}
	s.stop(syscall.SIGTERM)
	s.start()
	s.stop(syscall.SIGKILL)

	if _, said, ok := s.uninstall(); ok || !strings.Contains(said, "pods that would lose their network: 2") {
		t.Errorf("pods lose their network unasked: %s", said)
	}
	planned := s.mustUninstall("--dry-run")
	if done := s.mustUninstall("--yes"); done != planned {
		t.Errorf("planned\n%s\ndone\n%s", planned, done)
	}
	unchanged(t, "after uninstall", before, s.list())
	if again := s.mustUninstall(); again != "" {
		t.Errorf("the second time there is to do:\n%s", again)
	}
}

// An agent that is killed anywhere on its way leaves nothing that uninstall does
// not find.
func TestUninstallAfterAnAgentWasKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Sysctl("net/ipv4/ip_forward", "0", "net/ipv6/conf/all/forwarding", "0")
	before := s.list()
	for i := range 12 {
		s.launch()
		time.Sleep(time.Duration(i) * 10 * time.Millisecond)
		s.stop(syscall.SIGKILL)
		s.mustUninstall()
		unchanged(t, fmt.Sprintf("killed %d ms after its start", i*10), before, s.list())
	}
}
