package lab_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/internal/lab"
)

// eventually asks again and again until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("never came true: %s", what)
		}
	}
}

func (l testLab) node(name string) lab.NodeStatus {
	l.t.Helper()
	for _, n := range l.status().Nodes {
		if n.Name == name {
			return n
		}
	}
	l.t.Fatalf("there is no node %s", name)
	return lab.NodeStatus{}
}

func (l testLab) getPod(name string) corev1.Pod {
	l.t.Helper()
	return l.getPodOf("default", name)
}

func (l testLab) getPodOf(namespace, name string) corev1.Pod {
	l.t.Helper()
	var p corev1.Pod
	if err := json.Unmarshal([]byte(l.must("get", "pod", namespace+"/"+name, "-o", "json")), &p); err != nil {
		l.t.Fatal(err)
	}
	return p
}

func TestAgentsStopAndStart(t *testing.T) {
	l := newLab(t, "agents")
	l.mustWith("{apiVersion: lab.fairlead.dev/v1alpha1, kind: Lab, nodes: 2}", "up", "-f", "/dev/stdin")
	first := l.node("n1").Agent.PID
	l.must("agent", "kill", "n1")
	if a := l.node("n1").Agent; a.PID != 0 || a.Ready || !strings.Contains(a.Reason, "killed") {
		t.Errorf("killed agent: %+v", a)
	}
	l.mustWith(strings.ReplaceAll(twoPods, "n1", "n2"), "apply", "-f", "-") // the other node does not wait for it
	r := l.run("wait", "--timeout", "200ms")
	if r.code != 1 || !strings.Contains(r.stderr, "node n1") || !strings.Contains(r.stderr, "killed") || strings.Contains(r.stderr, "node n2") {
		t.Errorf("wait: exit code %d, %s", r.code, r.stderr)
	}
	l.must("agent", "start", "n1")
	l.must("wait", "--timeout", "10s")
	if a := l.node("n1").Agent; a.PID == 0 || a.PID == first || !a.Ready {
		t.Errorf("started agent: %+v", a)
	}
	l.must("agent", "stop", "n1")
	l.must("agent", "stop", "n1")
	l.must("agent", "start", "n1")
	l.must("wait")
	// One that falls is started again.
	fallen := l.node("n1").Agent.PID
	if err := kill(fallen); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent is back", func() bool { a := l.node("n1").Agent; return a.Ready && a.PID != fallen })
	if log := l.must("logs", "node/n1"); strings.Count(log, "msg=readiness") < 3 {
		t.Errorf("log of n1:\n%s", log)
	}
}

func kill(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

func TestAFrozenNodeIsSilentWithItsLinkUp(t *testing.T) {
	l := newLab(t, "freeze")
	l.must("up")
	l.mustWith(twoPods, "apply", "-f", "-")
	b := l.pod("b").PodIPs[0] + ":8080"
	l.asked("pod/default/a", "tcp", b)
	l.must("node", "freeze", "n2")
	if r := l.run("exec", "pod/default/a", "--", "fairlead", "lab", "ask", "tcp", b, "--timeout", "300ms"); r.code == 0 {
		t.Error("a pod of a frozen node answers")
	}
	if carrier := l.must("exec", "node/n2", "--", "cat", "/proc/net/dev"); !strings.Contains(carrier, "eth0") {
		t.Errorf("frozen node has %s", carrier)
	}
	if a := l.node("n2").Agent; a.Ready || !strings.Contains(a.Reason, "frozen") {
		t.Errorf("agent of a frozen node: %+v", a)
	}
	if r := l.run("agent", "stop", "n2"); r.code != 1 || !strings.Contains(r.stderr, "thaw") {
		t.Errorf("stopping a frozen agent: exit code %d, %s", r.code, r.stderr)
	}
	l.must("node", "thaw", "n2")
	l.must("wait")
	l.asked("pod/default/a", "tcp", b)
	l.must("link", "n2", "down")
	if r := l.run("exec", "pod/default/a", "--", "fairlead", "lab", "ask", "tcp", b, "--timeout", "300ms"); r.code == 0 {
		t.Error("a pod of an unplugged node answers")
	}
	l.must("link", "n2", "up")
	eventually(t, "the link carries again", func() bool {
		return l.run("exec", "pod/default/a", "--", "fairlead", "lab", "ask", "tcp", b, "--timeout", "1s").code == 0
	})
}

func TestARebootedNodeComesBackWithItsPods(t *testing.T) {
	l := newLab(t, "reboot")
	l.must("up")
	l.mustWith(twoPods, "apply", "-f", "-")
	before, agent := l.pod("b"), l.node("n2").Agent.PID
	l.must("node", "reboot", "n2")
	l.must("wait")
	after := l.pod("b")
	if after.Containers[0].PID == before.Containers[0].PID || !after.Ready || l.node("n2").Agent.PID == agent {
		t.Errorf("before %+v, after %+v", before, after)
	}
	l.asked("pod/default/a", "tcp", after.PodIPs[0]+":8080")
	l.asked("pod/default/b", "tcp", l.pod("a").PodIPs[0]+":8080")
	l.asked("pod/default/b", "tcp", "198.51.100.10:8080")
	l.must("node", "freeze", "n2")
	l.must("node", "reboot", "n2")
	l.must("wait")
	l.asked("pod/default/a", "tcp", l.pod("b").PodIPs[0]+":8080")
}

func TestContainersLiveAsTheirPolicySays(t *testing.T) {
	l := newLab(t, "policy")
	l.mustWith(oneNode, "up", "-f", "/dev/stdin")
	pod := func(name, policy, script string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: %s
  containers: [{name: c, command: [sh, -c], args: [%q], env: [{name: WORD, value: ahoy}]}]
---`, name, policy, script)
	}
	l.mustWith(pod("good", "Never", "echo $WORD $HOSTNAME")+pod("bad", "Never", "exit 3")+pod("again", "Always", "echo again; exit 1")+
		pod("retried", "OnFailure", "exit 0"), "apply", "-f", "-")
	for name, phase := range map[string]corev1.PodPhase{"good": "Succeeded", "bad": "Failed", "again": "Running", "retried": "Succeeded"} {
		eventually(t, fmt.Sprintf("%s is %s", name, phase), func() bool { return l.getPod(name).Status.Phase == phase })
	}
	eventually(t, "it is started again", func() bool { return l.getPod("again").Status.ContainerStatuses[0].RestartCount >= 2 })
	if log := l.must("logs", "pod/default/again"); strings.Count(log, "again\n") < 2 {
		t.Errorf("log of again: %q", log)
	}
	if log := l.must("logs", "pod/default/good"); log != "ahoy good\n" {
		t.Errorf("log of good: %q", log)
	}
	if c := l.pod("bad").Containers[0]; c.Running || c.PID != 0 || c.ExitCode == nil || *c.ExitCode != 3 {
		t.Errorf("container of bad: %+v", c)
	}
	r := l.runWith(pod("none", "Never", "true")+strings.ReplaceAll(pod("lost", "Never", "x"), "[sh, -c]", "[no-such-program]"), "apply", "-f", "-")
	if r.code != 1 || !strings.Contains(r.stderr, "no-such-program") {
		t.Errorf("a program that there is not: exit code %d, %s", r.code, r.stderr)
	}
}

func TestDeletedPodsEndWithAllTheirProcesses(t *testing.T) {
	l := newLab(t, "delete")
	l.mustWith(oneNode, "up", "-f", "/dev/stdin")
	manifest := `
apiVersion: v1
kind: Pod
metadata: {name: stubborn, labels: {app: s}}
spec:
  containers:
  - {name: deaf, command: [sh, -c, "trap '' TERM; sleep 1000 & setsid sleep 1000 & echo up; wait"]}
  - {name: idle}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  hostNetwork: true
  containers: [{name: c, command: [fairlead, lab, echo]}]
`
	l.mustWith(manifest, "apply", "-f", "-")
	before := l.pod("stubborn")
	if len(before.Containers) != 2 || !before.Containers[1].Running || !before.Ready {
		t.Errorf("pod is %+v", before)
	}
	node := l.node("n1")
	if h := l.pod("host"); h.Netns != node.Netns || h.PodIPs[0] != node.Addresses[0] {
		t.Errorf("pod in the node's network is %+v", h)
	}
	eventually(t, "it logs", func() bool { return l.must("logs", "pod/default/stubborn") == "[deaf] up\n" })
	// A label is no reason to begin a new life; a command is.
	l.mustWith(strings.ReplaceAll(manifest, "app: s", "app: t"), "apply", "-f", "-")
	if now := l.pod("stubborn"); now.Containers[0].PID != before.Containers[0].PID {
		t.Error("a new label restarted the pod")
	}
	if p := l.getPod("stubborn"); p.Labels["app"] != "t" || p.Status.HostIP == "" || p.UID == "" || p.Spec.NodeName != "n1" {
		t.Errorf("pod is %+v", p)
	}
	l.mustWith(manifest, "delete", "-f", "-")
	if s := l.status(); len(s.Pods) != 0 {
		t.Errorf("pods left: %+v", s.Pods)
	}
	for _, left := range l.leftovers() {
		cmdline, _ := os.ReadFile(strings.TrimSuffix(left, "environ") + "cmdline")
		if strings.HasPrefix(string(cmdline), "sleep") || strings.Contains(left, "pod-") {
			t.Errorf("left behind: %s %q", left, cmdline)
		}
	}
	l.mustWith(manifest, "delete", "-f", "-")
	if r := l.run("get", "pod", "default/stubborn"); r.code != 1 {
		t.Errorf("get of a deleted pod: exit code %d, %s", r.code, r.stdout)
	}
}

func TestPodsWithoutNodeGoWhereThereAreFewest(t *testing.T) {
	l := newLab(t, "spread")
	l.must("up")
	var b strings.Builder
	for i := range 6 {
		fmt.Fprintf(&b, "---\n{apiVersion: v1, kind: Pod, metadata: {name: p%d, namespace: far}, spec: {containers: [{name: c}]}}\n", i)
	}
	l.mustWith(b.String(), "apply", "-f", "-")
	var at []string
	for i := range 6 {
		at = append(at, l.pod(fmt.Sprintf("p%d", i)).Node)
	}
	if got := strings.Join(at, " "); got != "n1 n2 n3 n1 n2 n3" {
		t.Errorf("pods are on %s", got)
	}
	if ns := l.must("get", "ns", "far", "-o", "json"); !strings.Contains(ns, `"kubernetes.io/metadata.name": "far"`) {
		t.Errorf("namespace is %s", ns)
	}
	l.mustWith("{apiVersion: v1, kind: Namespace, metadata: {name: far}}", "delete", "-f", "-")
	if s := l.status(); len(s.Pods) != 0 {
		t.Errorf("pods left in a deleted namespace: %+v", s.Pods)
	}
}

func TestTheDemoTellsTheTruth(t *testing.T) {
	l := newLab(t, "demo")
	l.must("up")
	out := l.must("demo")
	if strings.Count(out, " ok\n") != 8 {
		t.Errorf("demo says\n%s", out)
	}
	l.must("agent", "kill", "n2")
	l.must("link", "n2", "down")
	if r := l.run("demo"); r.code != 1 || !strings.Contains(r.stdout, "FAIL") {
		t.Errorf("demo of a broken lab: exit code %d\n%s", r.code, r.stdout)
	}
}
