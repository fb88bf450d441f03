package cli_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// ourConf is the network configuration that the agent wrote.
func (s *site) ourConf() string {
	s.t.Helper()
	var content []byte
	s.until("the agent writes a network configuration", func() (come bool) {
		var err error
		content, err = os.ReadFile(s.path("net.d/" + cni.ConfigFile))
		return err == nil
	})
	return string(content)
}

// runtime is a container runtime's way to the plugins that conf names.
func (s *site) runtime(pod *netnstest.Host, conf string, do func(*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf) error) error {
	s.t.Helper()
	list, err := libcni.NetworkConfFromBytes([]byte(conf))
	if err != nil {
		s.t.Fatal(err)
	}
	runtime := libcni.NewCNIConfigWithCacheDir([]string{s.path("bin"), theirPlugins}, s.cache, nil)
	return netns.Do(s.Path, func() error {
		return do(runtime, list, &libcni.RuntimeConf{ContainerID: pod.Name, NetNS: pod.Path, IfName: "eth0",
			Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", "a"}}})
	})
}

// add hangs a pod, which wants all that there is, on the network that conf
// describes.
func (s *site) add(pod *netnstest.Host, conf string) error {
	s.t.Helper()
	s.added++
	everything := map[string]any{
		"portMappings": []map[string]any{{"hostPort": 8000 + s.added, "containerPort": 80, "protocol": "tcp"}},
		"bandwidth":    map[string]any{"ingressRate": 1_000_000_000, "ingressBurst": 1_000_000_000},
	}
	return s.runtime(pod, conf, func(c *libcni.CNIConfig, l *libcni.NetworkConfigList, r *libcni.RuntimeConf) error {
		r.CapabilityArgs = everything
		_, err := c.AddNetworkList(context.Background(), l, r)
		return err
	})
}

// del takes it off.
func (s *site) del(pod *netnstest.Host, conf string) {
	s.t.Helper()
	err := s.runtime(pod, conf, func(c *libcni.CNIConfig, l *libcni.NetworkConfigList, r *libcni.RuntimeConf) error {
		return c.DelNetworkList(context.Background(), l, r)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// attach makes a pod on that network.
func (s *site) attach(conf string) *netnstest.Host {
	s.t.Helper()
	pod := netnstest.New(s.t)
	if err := s.add(pod, conf); err != nil {
		s.t.Fatal(err)
	}
	return pod
}

// dropForwarding is what others may have in the FORWARD chain.
func (s *site) dropForwarding() {
	s.t.Helper()
	s.Run("iptables-nft", "-P", "FORWARD", "DROP")
	s.Run("iptables-nft", "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT")
	s.Run("iptables-nft", "-A", "FORWARD", "-i", "fl-+", "-m", "comment", "--comment", "mine", "-j", "ACCEPT")
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
	s.dropForwarding()
	before := s.list()

	s.start()
	pods := []*netnstest.Host{s.attach(s.ourConf()), s.attach(s.ourConf())}
	if links := pods[0].Run("ip", "-o", "address"); !strings.Contains(links, "10.244.1.") {
		t.Fatalf("the pod has no network:\n%s", links)
	}
	for _, m := range []struct{ mode, way string }{
		{"direct", "10.244.2.0/24 via 192.0.2.2 dev eth0 proto 157"},
		{"none", "default via 192.0.2.2"},
		{"hybrid", "10.244.2.0/24 via 192.0.2.2 dev eth0 proto 157"},
		{"vxlan", "10.244.2.0/24 via 10.244.2.1 dev fl-vxlan proto 157"},
	} {
		s.configure(fmt.Sprintf("{overlay: {mode: %s}, acceptForwarding: true, podTCPReuse: true, hostTCPTimestamps: monotonic}", m.mode))
		timestamps, reuse := "2", "1"
		if m.mode == "none" {
			timestamps, reuse = "1", "2" // as it was
		}
		s.until("mode "+m.mode, func() bool {
			if setting(pods[1], world.TCPTimestamps) != timestamps || setting(pods[1], world.TCPReuse) != reuse || setting(s.Host, world.TCPTimestamps) != "2" {
				return false
			}
			accepted := strings.Contains(s.Run("iptables-nft", "-S", "FORWARD"), "fairlead-forward")
			return strings.Contains(s.Run("ip", "route"), m.way) && accepted == (m.mode != "none")
		})
		s.stop(syscall.SIGTERM)
		s.start()
	}
	s.stop(syscall.SIGKILL)

	if _, said, ok := s.uninstall(); ok || !strings.Contains(said, "pods that would lose their network: 2") {
		t.Errorf("pods lose their network unasked: %s", said)
	}
	planned := s.mustUninstall("--dry-run")
	if done := s.mustUninstall("--yes"); done != planned {
		t.Errorf("planned\n%s\ndone\n%s", planned, done)
	}
	unchanged(t, "after uninstall", before, s.list())
	if now := setting(pods[0], world.TCPTimestamps) + " " + setting(pods[0], world.TCPReuse); now != "1 2" {
		t.Errorf("after uninstall settings of a pod are %s", now)
	}
	if again := s.mustUninstall(); again != "" {
		t.Errorf("the second time there is to do:\n%s", again)
	}
}

// setting is what a host has of a key.
func setting(h *netnstest.Host, key string) string {
	return strings.TrimSpace(h.Run("cat", "/proc/sys/"+key))
}

// An agent that is killed anywhere on its way leaves nothing that uninstall does
// not find.
func TestUninstallAfterAnAgentWasKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Sysctl("net/ipv4/ip_forward", "0", "net/ipv6/conf/all/forwarding", "0")
	s.dropForwarding()
	s.configure("{acceptForwarding: true}")
	before := s.list()
	for i := range 12 {
		s.launch()
		time.Sleep(time.Duration(i) * 10 * time.Millisecond)
		s.stop(syscall.SIGKILL)
		s.mustUninstall()
		unchanged(t, fmt.Sprintf("killed %d ms after its start", i*10), before, s.list())
	}
}

// Where nobody can read what settings were, they stay, and that is said: not seeing is not
// knowing.
func TestUninstallSaysWhichSettingsItDoesNotKnow(t *testing.T) {
	s := newSite(t)
	const says = "# settings stay as the agent set them, since what they were is not known: "
	if out := s.mustUninstall("--dry-run"); strings.Contains(out, "#") {
		t.Errorf("without a record it says\n%s", out)
	}
	for file, of := range map[string]string{"state/settings.json": "of the node: ", "state/pod-settings.jsonl": "of pods: "} {
		s.write(file, "{\n")
		for _, args := range [][]string{{"--dry-run"}, nil} {
			if out := s.mustUninstall(args...); !strings.Contains(out, says+of+s.path(file)+": ") || !strings.Contains(out, "rm "+s.path(file)+"\n") {
				t.Errorf("%v with a damaged %s says\n%s", args, file, out)
			}
		}
		if out := s.mustUninstall(); out != "" {
			t.Errorf("the second time it says\n%s", out)
		}
	}
}
