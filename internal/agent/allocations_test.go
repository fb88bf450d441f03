package agent

import (
	"fairlead.dev/fairlead/internal/allocations"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

const portBlocks = `
apiVersion: fairlead.dev/v1alpha1
kind: AgentConfig
metadata: {name: default}
spec: {nodeSNATPortBlock: 512, nodeSNATPortRange: 32768-65535}
`

var podCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")}

// attach attaches a pod and returns its attachment.
func (n *node) attach(t *testing.T, name string, pod *netnstest.Host) *world.Attachment {
	t.Helper()
	a, err := n.book.Attach(world.Attachment{Namespace: "default", Pod: name, ContainerID: name, Interface: "eth0",
		Netns: pod.Path, Inode: netns.Inode(pod.Path)}, "test", podCIDRs)
	must(t, err)
	return a
}

// attached is the ports of a new pod, after a turn.
func (n *node) attached(t *testing.T, name string) string {
	t.Helper()
	n.attach(t, name, netnstest.New(t))
	n.mustTurn(t)
	return n.portsOf(t, name)
}

// portsOf is what the kernel gives a pod's connections.
func (n *node) portsOf(t *testing.T, name string) string {
	t.Helper()
	a := n.book.Find(name + "@eth0")
	if a == nil {
		t.Fatalf("%s is not attached", name)
	}
	_, ports, _ := strings.Cut(n.host.Run("nft", "get", "element", "inet", "fairlead-snat", "blocks4", "{ "+a.Addresses[0].String()+" }"), " : 192.168.100.1 . ")
	ports, _, _ = strings.Cut(ports, " ")
	return strings.TrimSpace(ports)
}

// Pods keep their blocks whatever becomes of the agent and of other pods, and a
// block that a pod had is the last to be used again.
func TestBlocksOutliveTheAgent(t *testing.T) {
	n := newNode(t, nodes, portBlocks)
	want := map[string]string{"a": "32768-33279", "b": "33280-33791"}
	for _, name := range []string{"a", "b"} {
		if ports := n.attached(t, name); ports != want[name] {
			t.Fatalf("%s has %s, want %s", name, ports, want[name])
		}
	}
	n.book.Detach("a@eth0")
	n.mustTurn(t)
	n.restart(t)
	n.mustTurn(t)
	if ports := n.portsOf(t, "b"); ports != want["b"] {
		t.Errorf("after a restart b has %s, want %s", ports, want["b"])
	}
	if freed := n.snapshot.Load().since("snat/blocks", "0"); time.Since(freed) > time.Minute || time.Since(freed) < 0 {
		t.Errorf("a's block was given back at %s", freed)
	}
	if ports := n.attached(t, "c"); ports != "33792-34303" {
		t.Errorf("c has %s, want a block that nobody had", ports)
	}
}

// Blocks are of the address by which pods leave, wherever that goes.
func TestBlocksFollowTheDefaultRoute(t *testing.T) {
	n := newNode(t, nodes, portBlocks)
	netnstest.Wire(n.host, "eth1", n.far, "eth1")
	n.host.Address("eth1", "198.51.100.1/24")
	n.attach(t, "a", netnstest.New(t))
	for _, step := range []struct {
		command string
		want    string
	}{
		{"ip route add default via 192.168.100.254 metric 20", `oifname "eth0" ip saddr @pods4`},
		{"ip route add default via 198.51.100.254 metric 10", `oifname "eth1" ip saddr @pods4`},
		{"ip route del default via 198.51.100.254", `oifname "eth0" ip saddr @pods4`},
		{"ip route del default via 192.168.100.254", `oifname "eth0" ip saddr @pods4`},
	} {
		words := strings.Fields(step.command)
		n.host.Run(words[0], words[1:]...)
		n.mustTurn(t)
		address := map[bool]string{true: "192.168.100.1", false: "198.51.100.1"}[strings.Contains(step.want, "eth0")]
		if table := n.host.Run("nft", "list", "table", "inet", "fairlead-snat"); !strings.Contains(table, step.want) || !strings.Contains(table, address+" . 32768-33279") {
			t.Errorf("after %s, want %s and %s in\n%s", step.command, step.want, address, table)
		}
	}
}

// Where the disk takes nothing the node follows its cluster, and says so.
func TestAllocationsThatCannotBeWritten(t *testing.T) {
	n := newNode(t, nodes, portBlocks)
	n.mustTurn(t)
	inTheWay := journal.Unfinished(allocations.File(n.config.StateDir))
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	n.attach(t, "a", netnstest.New(t))
	turn := func() (err error) {
		n.host.Do(func() error { err = n.turn(); return nil })
		return err
	}
	for range 2 {
		if err := turn(); err != nil || !n.snapshot.Load().Ready {
			t.Errorf("the turn says %v", err)
		}
		if problem := n.problemOf("Node n1"); !strings.Contains(problem, "what was given out is not on the disk") {
			t.Errorf("the problem of the node is %q", problem)
		}
		if ports := n.portsOf(t, "a"); ports != "32768-33279" {
			t.Errorf("the pod has %q", ports)
		}
	}
	must(t, os.Remove(inTheWay))
	if err := turn(); err != nil {
		t.Error(err)
	}
	content, err := os.ReadFile(allocations.File(n.config.StateDir))
	if err != nil || !strings.Contains(string(content), `"holder":"a@eth0"`) {
		t.Errorf("on disk is %s, %v", content, err)
	}
}

func TestACorruptFileOfAllocationsIsNoStop(t *testing.T) {
	n := newNode(t, nodes, portBlocks)
	must(t, os.WriteFile(allocations.Files(n.config.StateDir)[3], []byte(`{"blocks":[{"number":1,"holder":"a"},{"number":1,"holder":"b"}]}`), 0o600))
	n.restart(t)
	if log := n.log.String(); !strings.Contains(log, "pods may be given other ports") {
		t.Errorf("nothing of it in the log:\n%s", log)
	}
	if ports := n.attached(t, "a"); ports != "32768-33279" {
		t.Errorf("a has %s", ports)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
