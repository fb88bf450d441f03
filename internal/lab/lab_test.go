package lab_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/netns"
)

func TestALabLeavesNothingThoughItsDaemonWasKilled(t *testing.T) {
	l := newLab(t, "gone")
	l.must("up")
	l.mustWith(twoPods, "apply", "-f", "-")
	before := l.leftovers()
	if len(before) < 10 {
		t.Fatalf("the lab has only %v", before)
	}
	pids, _ := exec.Command("sh", "-c", "grep -lz '^daemon$' /proc/[0-9]*/cmdline").Output()
	killed := false
	for file := range strings.FieldsSeq(string(pids)) {
		env, _ := os.ReadFile(filepath.Dir(file) + "/environ")
		if bytes.Contains(env, []byte("FAIRLEAD_LAB="+l.dir+"/"+l.name+"\x00")) {
			killed = exec.Command("kill", "-9", filepath.Base(filepath.Dir(file))).Run() == nil
		}
	}
	if !killed {
		t.Fatal("found no daemon to kill")
	}
	eventually(t, "the daemon is missed", func() bool {
		r := l.run("status")
		return r.code == 1 && strings.Contains(r.stderr, "the daemon of lab gone is not running")
	})
	if r := l.run("up"); r.code != 1 || !strings.Contains(r.stderr, "lab down") {
		t.Errorf("up over a crashed lab: exit code %d, %s", r.code, r.stderr)
	}
	l.must("down")
	if left := l.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	l.must("down")
	if r := l.run("status"); r.code != 1 || !strings.Contains(r.stderr, "lab up") {
		t.Errorf("status of no lab: exit code %d, %s", r.code, r.stderr)
	}
}

func TestUpThatIsNotWaitedForSaysHowToGoOn(t *testing.T) {
	l := newLab(t, "hasty")
	r := l.run("up", "--timeout", "1ns")
	for _, want := range []string{"the lab stands, but is not ready", "lab status --name hasty", "lab down --name hasty"} {
		if r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("exit code %d, %s: want 1 and %q", r.code, r.stderr, want)
		}
	}
	if strings.Contains(r.stderr, "http://") {
		t.Errorf("a URL that leads nowhere is shown: %s", r.stderr)
	}
}

func TestGetIsReadableByPeopleAndPrograms(t *testing.T) {
	l := newLab(t, "get")
	l.must("up")
	l.must("agent", "stop", "n2")
	const events = `{"items": [{"kind": "Event", "metadata": {"namespace": "default", "name": "n2.1"}, "reason": "Scarce", "type": "Warning",
		"count": 3, "message": "little is left", "lastTimestamp": "2026-01-01T00:00:00Z", "involvedObject": {"kind": "Node", "name": "n2"}}]}`
	if err := os.WriteFile(filepath.Join(l.dir, l.name, "reports", "n2.events.json"), []byte(events), 0o644); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]string{
		"events": `(?m)^LAST +TYPE +REASON +OBJECT +COUNT +MESSAGE\n[0-9:]+ +Warning +Scarce +Node n2 +3 +little is left$`,
		"nodes":  `(?m)^-  +n1  +Ready  +192\.168\.100\.1$\n^-  +n2  +NotReady  +192\.168\.100\.2$`,
		"pods":   `^none\n$`,
	} {
		if have := l.must("get", kind); !regexp.MustCompile(want).MatchString(have) {
			t.Errorf("get %s says\n%s", kind, have)
		}
	}
	if have := l.must("get", "event", "default/n2.1", "-o", "json"); !strings.Contains(have, `"reason": "Scarce"`) {
		t.Errorf("get event -o json is\n%s", have)
	}
	if have := l.must("get", "pods", "-o", "json"); have != "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"List\",\n  \"items\": []\n}\n" {
		t.Errorf("get pods -o json is\n%s", have)
	}
}

func TestStatusHasTheShapeThatScriptsRelyOn(t *testing.T) {
	l := newLab(t, "shape")
	l.mustWith(firewalled, "up", "-f", "/dev/stdin")
	l.mustWith(twoPods, "apply", "-f", "-")
	var got map[string]any
	if err := json.Unmarshal([]byte(l.must("status", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"apiVersion", "firewalls[].accepted", "firewalls[].dropped", "firewalls[].name", "firewalls[].netns",
		"hosts[].addresses[]", "hosts[].name", "hosts[].netns", "kind", "name",
		"nodes[].addresses[]", "nodes[].agent.applied", "nodes[].agent.metrics", "nodes[].agent.observed", "nodes[].agent.pid",
		"nodes[].agent.problems", "nodes[].agent.ready", "nodes[].agent.reason", "nodes[].cluster", "nodes[].name", "nodes[].netns",
		"nodes[].podCIDRs[]", "pods[].containers[].exitCode", "pods[].containers[].name", "pods[].containers[].pid",
		"pods[].containers[].running", "pods[].name", "pods[].namespace", "pods[].netns", "pods[].node", "pods[].phase",
		"pods[].podIPs[]", "pods[].ready", "ready",
	}, "\n")
	if have := strings.Join(shape("", got), "\n"); have != want {
		t.Errorf("status has\n%s\nwant\n%s", have, want)
	}
	s := l.status()
	if s.APIVersion != "lab.fairlead.dev/v1alpha1" || s.Kind != "LabStatus" || s.Name != "shape" || !s.Ready {
		t.Errorf("status begins %s %s %s ready %v", s.APIVersion, s.Kind, s.Name, s.Ready)
	}
	if a := l.pod("a"); a.Phase != "Running" || !a.Ready || a.Node != "n1" || !a.Containers[0].Running || !netns.Alive(a.Netns) {
		t.Errorf("pod a is %+v", a)
	}
}

// shape lists the paths of all values.
func shape(at string, v any) []string {
	out := map[string]bool{}
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			for _, p := range shape(strings.TrimPrefix(at+"."+key, "."), value) {
				out[p] = true
			}
		}
	case []any:
		for _, value := range v {
			for _, p := range shape(at+"[]", value) {
				out[p] = true
			}
		}
	default:
		out[at] = true
	}
	var list []string
	for p := range out {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}

const firewalled = `
apiVersion: lab.fairlead.dev/v1alpha1
kind: Lab
nodes: 2
hosts:
- {name: web, addresses: [198.51.100.10/24, "2001:db8:100::10/64"], behind: fw}
- {name: free, addresses: [203.0.113.10/24]}
firewalls:
- name: fw
  default: drop
  rules:
  - {direction: out, action: accept}
  - {direction: in, protocol: tcp, ports: 32768-65535, tcpFlags: [ack], action: accept}
`

func TestPodsReachEachOtherAndHosts(t *testing.T) {
	l := newLab(t, "reach")
	l.mustWith(firewalled, "up", "-f", "/dev/stdin")
	l.mustWith(twoPods, "apply", "-f", "-")
	a, b := l.pod("a"), l.pod("b")
	for i, brackets := range []string{"%s", "[%s]"} {
		address := func(s string) string { return fmt.Sprintf(brackets, s) }
		for _, protocol := range []string{"tcp", "udp"} {
			seen := l.asked("pod/default/a", protocol, address(b.PodIPs[i])+":8080")
			if !strings.HasPrefix(seen, address(a.PodIPs[i])+":") {
				t.Errorf("b sees a as %s over %s, want %s", seen, protocol, a.PodIPs[i])
			}
		}
	}
	node := l.status().Nodes[0].Addresses[0]
	for _, host := range []string{"198.51.100.10", "203.0.113.10"} {
		if seen := l.asked("pod/default/a", "tcp", host+":8080"); !strings.HasPrefix(seen, node+":") {
			t.Errorf("%s sees a as %s, want %s", host, seen, node)
		}
	}
	if seen := l.asked("node/n2", "http", "203.0.113.10:80"); !strings.HasPrefix(seen, "192.168.100.2:") {
		t.Errorf("host sees node n2 as %s", seen)
	}
	// A host behind the firewall may not begin a connection.
	if r := l.run("exec", "host/web", "--", "fairlead", "lab", "ask", "tcp", node+":8080", "--timeout", "200ms"); r.code != 1 {
		t.Errorf("host behind the firewall: exit code %d, %s", r.code, r.stdout)
	}
	fw := l.status().Firewalls[0]
	if fw.Accepted == 0 || fw.Dropped == 0 {
		t.Errorf("firewall counted %+v", fw)
	}
	if rules := l.must("exec", "firewall/fw", "--", "cat", "/proc/sys/net/ipv4/ip_forward"); rules != "1\n" {
		t.Errorf("firewall forwards: %q", rules)
	}
}

func TestExecPassesTheExitCode(t *testing.T) {
	l := newLab(t, "exec")
	l.mustWith(oneNode, "up", "-f", "/dev/stdin")
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"exec", "node/n1", "--", "sh", "-c", "exit 7"}, 7},
		{[]string{"exec", "node/n1", "--", "true"}, 0},
		{[]string{"exec", "node/n1", "true"}, 0},
		{[]string{"exec", "node/n1", "--", "no-such-command"}, 127},
		{[]string{"exec", "node/n1"}, 2},
		{[]string{"exec", "node/n9", "--", "true"}, 1},
		{[]string{"exec", "planet/x", "--", "true"}, 2},
		{[]string{"exec", "pod/default/../../x", "--", "true"}, 2},
		{[]string{"exec", "pod/default/x", "--", "true"}, 1},
		{[]string{"agent", "poke", "n1"}, 2},
		{[]string{"agent", "stop", "n9"}, 1},
		{[]string{"status", "-o", "xml"}, 2},
		{[]string{"get", "starfish"}, 2},
	} {
		if r := l.run(c.args...); r.code != c.code {
			t.Errorf("%v: exit code %d, want %d: %s", c.args, r.code, c.code, r.stderr)
		}
	}
	if out := l.mustWith("hello", "exec", "host/web", "--", "cat"); out != "hello" {
		t.Errorf("stdin comes back as %q", out)
	}
	socket := strings.TrimSpace(l.must("exec", "node/n1", "--", "sh", "-c", "echo $FAIRLEAD_SOCKET"))
	if socket != filepath.Join(l.dir, "exec/nodes/n1/agent.sock") {
		t.Errorf("FAIRLEAD_SOCKET is %q", socket)
	}
	l.must("agent", "stop", "n1")
	plan := l.must("exec", "node/n1", "--", "fairlead", "uninstall", "--dry-run")
	for line := range strings.Lines(plan) {
		if strings.HasPrefix(line, "rm ") && !strings.Contains(line, " "+l.dir) {
			t.Errorf("uninstall in a lab would take the machine's: %s", line)
		}
	}
	if !strings.Contains(plan, "rm "+l.dir) {
		t.Errorf("uninstall in a lab does not find the node's state:\n%s", plan)
	}
}

const oneNode = "{apiVersion: lab.fairlead.dev/v1alpha1, kind: Lab, nodes: 1}"

func TestTwoLabsOfOneNameLiveSideBySide(t *testing.T) {
	one, two := newLab(t, "twin"), newLab(t, "twin")
	one.mustWith(oneNode, "up", "-f", "/dev/stdin")
	two.mustWith(oneNode, "up", "-f", "/dev/stdin")
	if r := one.run("up"); r.code != 1 || !strings.Contains(r.stderr, "is up already") {
		t.Errorf("up twice: exit code %d, %s", r.code, r.stderr)
	}
	one.must("down")
	if s := two.status(); !s.Ready {
		t.Errorf("the other lab is %+v", s)
	}
}

func TestMistakesExitWith2(t *testing.T) {
	l := newLab(t, "wrong")
	r := l.runWith("apiVersion: lab.fairlead.dev/v1alpha1\nkind: Lab\nnoodles: 3\n", "up", "-f", "/dev/stdin")
	if r.code != 2 || !strings.Contains(r.stderr, "noodles") || !strings.Contains(r.stderr, "fields there are") {
		t.Errorf("up: exit code %d, %s", r.code, r.stderr)
	}
	if left := l.leftovers(); len(left) > 0 {
		t.Errorf("a lab that was never up left %v", left)
	}
	l.mustWith(oneNode, "up", "-f", "/dev/stdin")
	if r := l.runWith("just words", "apply", "-f", "-"); r.code != 2 {
		t.Errorf("apply of no object: exit code %d, %s", r.code, r.stderr)
	}
	if r := l.runWith("{apiVersion: v1, kind: Pod, metadata: {name: ../x}}", "apply", "-f", "-"); r.code != 2 {
		t.Errorf("apply of a bad name: exit code %d, %s", r.code, r.stderr)
	}
	if r := l.runWith("{apiVersion: v1, kind: Fish, metadata: {name: x}}", "apply", "-f", "-"); r.code != 1 || !strings.Contains(r.stderr, "known are") {
		t.Errorf("apply of an unknown kind: exit code %d, %s", r.code, r.stderr)
	}
	if r := l.runWith("{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {nodeSNATPortRange: 9-1}}",
		"apply", "-f", "-"); r.code != 1 || !strings.Contains(r.stderr, "spec.nodeSNATPortRange") {
		t.Errorf("apply of a backward range: exit code %d, %s", r.code, r.stderr)
	}
	const told = "spec.nodeSNATPortRange: invalid port range 9-1 (write the lower port first: 1-9, or auto, or kernel) on 1 of 1 node"
	for deadline := time.Now().Add(time.Minute); !strings.Contains(l.must("get", "agentconfig", "default", "-o", "json"), told); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the object does not say %s: %s", told, l.must("get", "agentconfig", "default", "-o", "json"))
		}
	}
	if s := l.must("get", "agentconfigs"); !strings.Contains(s, "NotAccepted") {
		t.Error(s)
	}
	if r := l.runWith("{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {nodeName: n9}}", "apply", "-f", "-"); r.code != 1 ||
		!strings.Contains(r.stderr, "n9") {
		t.Errorf("apply of a pod on no node: exit code %d, %s", r.code, r.stderr)
	}
}
