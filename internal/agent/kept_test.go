package agent

import (
	"fairlead.dev/fairlead/internal/allocations"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// manyKept has blocks of 64 ports for 426 pods, and ports for 2,000 mappings.
const manyKept = `
apiVersion: fairlead.dev/v1alpha1
kind: AgentConfig
metadata: {name: default}
spec: {nodeSNATPortBlock: 64, nodeSNATPortRange: 32768-60031, nodePortLocal: {portRange: 61000-62999}}
`

// chained puts pods into the book whose wires are another plugin's.
func (n *node) chained(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		i := len(n.book.Attachments().List)
		_, err := n.book.Attach(world.Attachment{Namespace: "default", Pod: name, ContainerID: name, Interface: "eth0", Chained: true,
			Netns: n.far.Path, Inode: netns.Inode(n.far.Path), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, byte(2 + i/200), byte(1 + i%200)})}}, "test", nil)
		must(t, err)
	}
}

// mappings writes pods, each with four ports that are mapped.
func (n *node) mappings(t *testing.T, pods map[string]string) {
	t.Helper()
	list := []string{`apiVersion: v1
kind: Service
metadata: {name: s, namespace: default, annotations: {nodeportlocal.antrea.io/enabled: "true"}}
spec: {type: ClusterIP, ipFamilies: [IPv4], selector: {all: of}, ports: [{port: 1, targetPort: 9000}, {port: 2, targetPort: 9001}, {port: 3, targetPort: 9002}, {port: 4, targetPort: 9003}]}
`}
	for name, address := range pods {
		list = append(list, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %[1]s, namespace: default, uid: u-%[1]s, labels: {all: of}}\nspec: {nodeName: n1}\nstatus: {podIP: %[2]s}\n", name, address))
	}
	n.write(t, "npl.yaml", documents(list...))
}

// led is all that the kernel leads: blocks by the address that has them, and pods' ports
// by the node's.
func (n *node) led(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, of := range []string{"fairlead-snat blocks4", "fairlead-nodeportlocal ports4"} {
		text := n.host.Run("sh", "-c", "nft -n list map inet "+of+" 2>/dev/null || true")
		_, elements, _ := strings.Cut(strings.Join(strings.Fields(text), " "), "elements = { ")
		elements, _, _ = strings.Cut(elements, " }")
		for e := range strings.SplitSeq(elements, ", ") {
			if key, value, is := strings.Cut(e, " : "); is {
				out[key] = value
			}
		}
	}
	return out
}

// asEarlier leaves what the given allocations are as a release before the journal does,
// which wrote none.
func (n *node) asEarlier(t *testing.T, a *world.Parts, freedAt time.Time) {
	t.Helper()
	content, err := earlierEncode(a, freedAt)
	must(t, err)
	must(t, os.WriteFile(allocations.Files(n.config.StateDir)[3], content, 0o600))
	must(t, os.RemoveAll(allocations.File(n.config.StateDir)))
}

// earlierReads is what a release before the journal reads.
func (n *node) earlierReads(t *testing.T) (*world.Parts, error) {
	t.Helper()
	content, err := os.ReadFile(allocations.Files(n.config.StateDir)[3])
	must(t, err)
	return earlierDecode(content)
}

// populate attaches 201 pods, of which the one that is returned answers on port 9000, and
// maps four ports of 250.
func (n *node) populate(t *testing.T) *netnstest.Host {
	t.Helper()
	pod := netnstest.New(t)
	pods := map[string]string{"a": n.attach(t, "a", pod).Addresses[0].String()}
	echo(t, pod, 9000)
	for i := range 249 {
		pods[fmt.Sprintf("p%d", i)] = fmt.Sprintf("10.244.3.%d", i+1)
	}
	for i := range 200 {
		n.chained(t, fmt.Sprintf("c%d", i))
	}
	n.mappings(t, pods)
	return pod
}

// From the file of an earlier release to the journal and back, with 1,000 mappings, 200
// blocks and connections: nothing moves in the kernel, and nobody notices.
func TestAnUpgradeMovesNothing(t *testing.T) {
	n := newNode(t, nodes, manyKept)
	n.far.Address("eth0", "192.168.100.50/24")
	pod := n.populate(t)
	n.mustTurn(t)
	n.book.Detach("c199@eth0") // the 201st rests
	n.mustTurn(t)
	led := n.led(t)
	if len(led) != 1200 {
		t.Fatalf("%d are led", len(led))
	}
	kept := n.given
	echo(t, n.far, 7)
	var open []net.Conn
	for range 20 {
		open = append(open, dial(t, pod, "192.168.100.50:7"))
	}
	i := slices.IndexFunc(nodeportlocal.Allocated.Of(kept).List.Slice(), func(p nodeportlocal.NodePort) bool { return p.Pod.Name == "a" && p.PodPort == 9000 })
	open = append(open, dial(t, n.far, fmt.Sprintf("192.168.100.1:%d", nodeportlocal.Allocated.Of(kept).List.Slice()[i].Number)))
	check := func(when string) {
		t.Helper()
		n.log.b.Reset()
		n.restart(t)
		n.mustTurn(t)
		if log := n.log.String(); strings.Contains(log, "msg=applied") || strings.Contains(log, "level=WARN") {
			t.Errorf("%s: the log:\n%s", when, log)
		}
		if !snat.Allocated.Of(kept).Equal(snat.Allocated.Of(n.given)) || !nodeportlocal.Allocated.Of(kept).Equal(nodeportlocal.Allocated.Of(n.given)) {
			t.Errorf("%s: other things are allocated", when)
		}
		if !reflect.DeepEqual(n.led(t), led) {
			t.Errorf("%s: the kernel leads otherwise", when)
		}
		for _, c := range open {
			answered(t, c)
		}
	}
	freedAt := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	n.asEarlier(t, kept, freedAt)
	check("after the upgrade")
	if _, err := n.earlierReads(t); err == nil || !strings.Contains(err.Error(), "allocations of this node are in allocations.journal") {
		t.Errorf("an earlier release that comes without notice says %v", err)
	}
	rests := snat.Allocated.Of(kept).List[slices.IndexFunc(snat.Allocated.Of(kept).List, func(b snat.Block) bool { return b.Freed != 0 })]
	if at := n.kept.Since("snat/blocks", fmt.Sprint(rests.Number)); at != freedAt {
		t.Errorf("the block that rests does so since %s", at)
	}
	check("after another restart")
	n.leave()
	back, err := n.earlierReads(t)
	if err != nil || !snat.Allocated.Of(back).Equal(snat.Allocated.Of(kept)) || !nodeportlocal.Allocated.Of(back).Equal(nodeportlocal.Allocated.Of(kept)) {
		t.Errorf("a downgrade finds something else, or %v", err)
	}
	check("after an end without a downgrade")
	n.leave()
	content, err := earlierEncode(kept, freedAt) // as the earlier release writes it, once anything changes
	must(t, err)
	must(t, os.WriteFile(allocations.Files(n.config.StateDir)[3], content, 0o600))
	check("after a downgrade and an upgrade")
}

// What an earlier release changed in between counts.
func TestADowngradeInBetweenCounts(t *testing.T) {
	n := newNode(t, nodes, manyKept)
	n.chained(t, "a", "b")
	n.mustTurn(t)
	n.leave()
	then, err := n.earlierReads(t)
	must(t, err)
	snat.Allocated.Of(then).List[0].Number, snat.Allocated.Of(then).List[1].Number = 7, 9 // as if a settings change had come and gone
	content, err := earlierEncode(then, time.Time{})
	must(t, err)
	must(t, os.WriteFile(allocations.Files(n.config.StateDir)[3], content, 0o600))
	n.restart(t)
	n.mustTurn(t)
	if !snat.Allocated.Of(n.given).Equal(snat.Allocated.Of(then)) {
		t.Errorf("what is allocated is %+v, want %+v", snat.Allocated.Of(n.given), snat.Allocated.Of(then))
	}
}

// A line that is damaged costs its value, which nobody else gets, and is told. The pod's
// annotation gives a port back.
func TestADamagedLineOfAllocations(t *testing.T) {
	for _, annotated := range []bool{false, true} {
		t.Run(fmt.Sprintf("annotated %v", annotated), func(t *testing.T) { damagedLine(t, annotated) })
	}
}

func damagedLine(t *testing.T, annotated bool) {
	t.Helper()
	n := newNode(t, nodes, manyKept)
	n.chained(t, "a", "b", "c")
	n.mappings(t, map[string]string{"a": "10.244.2.1", "b": "10.244.2.2", "c": "10.244.2.3"})
	n.mustTurn(t)
	before, told := n.led(t), n.toldOf(t, "b")
	path := allocations.File(n.config.StateDir)
	content, err := os.ReadFile(path)
	must(t, err)
	text := strings.Replace(string(content), `"holder":"b@eth0"`, `"holder":"x@eth0"`, 1)
	text = strings.Replace(text, `"uid":"u-b","podPort":9002`, `"uid":"u-b","podPort":9009`, 1)
	if text == string(content) {
		t.Fatalf("nothing to damage in\n%s", content)
	}
	must(t, os.WriteFile(path, []byte(text), 0o600))
	n.restart(t)
	n.chained(t, "0") // which comes first
	n.mappings(t, map[string]string{"0": "10.244.2.4", "a": "10.244.2.1", "b": "10.244.2.2", "c": "10.244.2.3"})
	if annotated {
		n.write(t, "b.yaml", fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: b, namespace: default, uid: u-b, labels: {all: of}, annotations: {nodeportlocal.antrea.io: %q}}\n"+
			"spec: {nodeName: n1}\nstatus: {podIP: 10.244.2.2}\n", told))
		n.mappings(t, map[string]string{"0": "10.244.2.4", "a": "10.244.2.1", "c": "10.244.2.3"})
	}
	for range 2 {
		n.mustTurn(t)
		after := n.led(t)
		for key, value := range before {
			if key != "10.244.2.2" && (annotated || !strings.HasPrefix(value, "10.244.2.2 ")) && after[key] != value {
				t.Errorf("%s leads to %s, and led to %s", key, after[key], value)
			}
		}
		for key, value := range after {
			if had := before["10.244.2.2"]; key != "10.244.2.2" && value == had {
				t.Errorf("%s has the block that was 10.244.2.2's", key)
			}
			if strings.HasPrefix(before[key], "10.244.2.2 ") && !strings.HasPrefix(value, "10.244.2.2 ") {
				t.Errorf("%s leads to %s, and led to %s", key, value, before[key])
			}
		}
		for _, says := range []string{"2 values of allocations.journal were damaged", "snat/blocks 1: its checksum is wrong", "nodeportlocal/ports 61006/tcp"} {
			if problem := n.problemOf("Node n1"); !strings.Contains(problem, says) {
				t.Errorf("the problem of the node is %q", problem)
			}
		}
	}
	n.restart(t)
	n.mustTurn(t)
	if problem := n.problemOf("Node n1"); problem != "" || len(snat.Allocated.Of(n.given).List) != 5 {
		t.Errorf("after another restart: %q, %+v", problem, snat.Allocated.Of(n.given))
	}
}

// What a later release wrote is nothing that can be begun anew.
func TestALaterReleasesAllocationsAreLeftAlone(t *testing.T) {
	n := newNode(t, nodes)
	head := "fairlead-journal 2 0"
	later := fmt.Appendf(nil, "%s %08x\n", head, crc32.Checksum([]byte(head), crc32.MakeTable(crc32.Castagnoli)))
	path, config := allocations.File(n.config.StateDir), n.config
	must(t, os.WriteFile(path, later, 0o600))
	must(t, n.book.Close())
	_, err := New(config)
	if n.Agent = nil; err == nil || !strings.Contains(err.Error(), `allocations.journal: it is of version "2"`) {
		t.Errorf("the agent says %v", err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != string(later) {
		t.Errorf("%s, %v", content, err)
	}
}
