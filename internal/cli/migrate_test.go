package cli_test

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/lab/echo"
)

// A node goes from Flannel's direct routes to Fairlead's, as
// docs/migrate-from-flannel.md says and with the commands that it says, and back,
// while the other node stays with Flannel and learns nothing of it. Whatever pods
// there are reach each other both ways, in both families.
func TestFromFlannelToFairleadNodeByNodeAndBack(t *testing.T) {
	t.Parallel()
	s, flannel := newSite(t), neighbours[0]
	s.write("net.d/10-flannel.conflist", flannel.conf(s))
	pods := flannel.move(s)
	stays := flannel.otherNode(s)
	s.checkBothWays("Flannel has both nodes", pods[0], stays)

	s.configure("{overlay: {mode: direct}}")
	alive := s.hold(pods[0].Host, at(stays.addresses[0].String(), 8080))
	s.launch()
	s.until("the agent sees Flannel's bridge", func() bool {
		a, err := s.status()
		return err == nil && !a.Ready && strings.Contains(a.Reason, "10.244.1.0/24")
	})
	if _, err := os.Stat(s.path("net.d/" + cni.ConfigFile)); err == nil {
		t.Error("pods would be Fairlead's already, beside those of Flannel's bridge")
	}
	s.checkBothWays("Fairlead waits on one for Flannel's bridge to go", pods[0], stays)
	alive()

	for _, p := range pods { // drained
		s.del(p.Host, flannel.conf(s))
	}
	s.Run("sh", "-ec", s.documented("for device in cni0"))
	if left := s.Run("iptables-save") + s.Run("ip6tables-save") + s.Run("ip", "link"); strings.Contains(left, "flannel") || strings.Contains(left, "FLANNEL") || strings.Contains(left, "cni0") {
		t.Errorf("Flannel is not gone:\n%s", left)
	}
	s.until("the agent is ready", func() bool { a, err := s.status(); return err == nil && a.Ready })
	moved := s.serving(s.ourConf())
	s.checkBothWays("Fairlead has one node, and Flannel the other", moved, stays)
	for i, server := range outside {
		if from := s.seen(moved.Host, at(server, 8080), 0); from.Addr().String() != nodeAddresses[i] {
			t.Errorf("outside the pod is seen as %s, want its node's %s", from.Addr(), nodeAddresses[i])
		}
	}

	s.del(moved.Host, s.ourConf())
	s.stop(syscall.SIGTERM)
	s.mustUninstall()
	if left := s.Run("nft", "list", "tables") + s.Run("ip", "route"); strings.Contains(left, "fairlead") || strings.Contains(left, "proto 157") {
		t.Errorf("Fairlead is not gone:\n%s", left)
	}
	flannel.daemon(s, farPodCIDRs, farAddresses)
	s.checkBothWays("Flannel has both nodes again", s.serving(flannel.conf(s)), stays)
}

// daemon does on a node what flanneld does when it starts with direct routes, to
// a peer with those pod CIDRs and addresses.
func (n neighbour) daemon(s *site, cidrs, via []string) {
	s.t.Helper()
	for i, w := range tongues {
		s.Run("ip", "route", "replace", cidrs[i], "via", via[i])
		n.restore(s, w, w.flannel())
	}
}

// otherNode makes what is beyond the site's uplink a node of Flannel's, and
// returns a pod there.
func (n neighbour) otherNode(s *site) *theirPod {
	s.t.Helper()
	far := &site{Host: s.far, t: s.t, dir: s.path("far"), cache: s.t.TempDir()}
	far.Sysctl("net/bridge/bridge-nf-call-iptables", "1")
	for i, w := range tongues {
		w.own = farPodCIDRs[i]
		n.restore(far, w, w.flannel())
	}
	return far.serving(strings.NewReplacer(podCIDRs[0], farPodCIDRs[0], podCIDRs[1], farPodCIDRs[1]).Replace(n.conf(far)))
}

// serving makes a pod, on the network that conf describes, that says who asks it.
func (s *site) serving(conf string) *theirPod {
	s.t.Helper()
	p := &theirPod{Host: s.attach(conf)}
	p.addresses = p.ownAddresses(s.t)
	serve(s.t, p.Host, echo.Default)
	return p
}

// checkBothWays fails the test unless two pods reach each other and see each
// other's own addresses.
func (s *site) checkBothWays(stage string, a, b *theirPod) {
	s.t.Helper()
	for i := range tongues {
		for _, way := range [][2]*theirPod{{a, b}, {b, a}} {
			from, to := way[0], way[1]
			if seen := s.seen(from.Host, at(to.addresses[i].String(), 8080), 0); seen.Addr() != from.addresses[i] {
				s.t.Errorf("%s: %s is seen as %s by %s", stage, from.addresses[i], seen.Addr(), to.addresses[i])
			}
		}
	}
}

var shell = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// documented is the shell of the page on migrating that contains a command, with
// the site's directory for the runtime's.
func (s *site) documented(command string) string {
	s.t.Helper()
	page, err := os.ReadFile("../../docs/migrate-from-flannel.md")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, block := range shell.FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(block[1], command) {
			return strings.ReplaceAll(block[1], "/etc/cni/net.d", s.path("net.d"))
		}
	}
	s.t.Fatalf("docs/migrate-from-flannel.md does not say %s", command)
	return ""
}
