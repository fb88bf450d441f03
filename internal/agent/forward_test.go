package agent

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

const acceptForwarding = `
apiVersion: fairlead.dev/v1alpha1
kind: AgentConfig
metadata: {name: default}
spec: {acceptForwarding: SETTING, overlay: {mode: MODE}}
`

// iptables is what iptables-nft shows of the FORWARD chain.
func (n *node) iptables(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", command)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := netns.Do(n.host.Path, cmd.Run); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, &complaint)
	}
	return out.String()
}

// somebody runs a command on the node, which the kernel announces.
func (n *node) somebody(t *testing.T, command string) {
	t.Helper()
	n.iptables(t, command)
	n.loop.Drifted()
}

// until waits for a turn after which something is so.
func (n *node) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := n.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if is() {
			return
		}
	}
	t.Fatalf("not so: %s\n%s", what, n.iptables(t, "iptables-nft -S FORWARD"))
}

// condition is the reason of the condition ForwardingAccepted; "" where there is none.
func (n *node) condition() string {
	for _, r := range n.snapshot.Load().Rendered.Reports {
		if r.Type == "ForwardingAccepted" {
			return r.Reason
		}
	}
	return ""
}

const accepting = `-A FORWARD -i fl-+ -m comment --comment fairlead-forward -j ACCEPT
-A FORWARD -o fl-+ -m comment --comment fairlead-forward -j ACCEPT
`

// A policy that drops is told; where it is asked for, rules accept, and are kept, and
// go again, and nobody else's do.
func TestAForwardPolicyIsToldAndAccepted(t *testing.T) {
	t.Parallel()
	n := newNode(t, nodes)
	n.start(t)
	set := func(setting, mode string) {
		n.write(t, "config.yaml", strings.NewReplacer("SETTING", setting, "MODE", mode).Replace(acceptForwarding))
	}
	shows := func(rules string) func() bool {
		return func() bool { return n.iptables(t, "iptables-nft -S FORWARD") == rules }
	}
	if c := n.condition(); c != "" {
		t.Errorf("condition %q without a filter", c)
	}
	n.iptables(t, "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -i docker0 -j ACCEPT")
	n.until(t, "the drop is told", func() bool { return n.condition() == "Dropped" })
	if events := n.snapshot.Load().Rendered.Events; !slices.ContainsFunc(events, func(e world.Event) bool { return e.Reason == "ForwardingDropped" }) {
		t.Errorf("events %v", events)
	}
	const drop, docker = "-P FORWARD DROP\n", "-A FORWARD -i docker0 -j ACCEPT\n"
	set("true", "vxlan")
	n.until(t, "rules accept", shows(drop+accepting+docker))
	n.until(t, "and that is told", func() bool { return n.condition() == "Accepted" })
	n.somebody(t, "iptables-nft -F FORWARD")
	n.until(t, "a flush is repaired", shows(drop+accepting))
	n.somebody(t, "nft delete table ip filter; iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -i docker0 -j ACCEPT")
	n.until(t, "a new chain gets them", shows(drop+accepting+docker))
	n.somebody(t, "iptables-nft -I FORWARD -o fl-+ -j DROP")
	n.until(t, "a drop before ours is told", func() bool { return n.condition() == "Dropped" })
	n.somebody(t, "iptables-nft -D FORWARD -o fl-+ -j DROP")
	n.until(t, "until it goes", func() bool { return n.condition() == "Accepted" })
	set("false", "vxlan")
	n.until(t, "they go", shows(drop+docker))
	n.until(t, "and the drop is told again", func() bool { return n.condition() == "Dropped" })
	set("true", "vxlan")
	n.until(t, "they come again", shows(drop+accepting+docker))
	set("true", "none")
	n.until(t, "and go where another network has the pods", shows(drop+docker))
	if c := n.condition(); c != "" {
		t.Errorf("condition %q beside another network", c)
	}
}
