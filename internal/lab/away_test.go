package lab_test

import (
	"strings"
	"testing"
)

const someEgress = `
apiVersion: fairlead.dev/v1alpha1
kind: Egress
metadata: {name: billing}
spec:
  appliedTo: {podSelector: {matchLabels: {app: billing}}}
  egressIPs: [192.0.2.77]
`

// A lab stores Egresses, and what a Node says beside its addresses.
func TestEgressesAndNodesAreStored(t *testing.T) {
	l := newLab(t, "stored")
	l.must("up")
	l.mustWith(someEgress, "apply", "-f", "-")
	for _, kind := range []string{"egress", "egresses"} {
		if got := l.must("get", kind, "billing", "-o", "json"); !strings.Contains(got, `"generation": 1`) || !strings.Contains(got, `"192.0.2.77"`) {
			t.Errorf("get %s:\n%s", kind, got)
		}
	}
	l.mustWith(strings.Replace(someEgress, "192.0.2.77", "192.0.2.78", 1), "apply", "-f", "-")
	if got := l.must("get", "egress", "billing", "-o", "json"); !strings.Contains(got, `"generation": 2`) {
		t.Errorf("changed:\n%s", got)
	}
	l.mustWith(someEgress, "delete", "-f", "-")
	if r := l.run("get", "egress", "billing"); r.code == 0 {
		t.Errorf("deleted, and still there:\n%s", r.stdout)
	}
	l.mustWith("{apiVersion: v1, kind: Node, metadata: {name: n2, labels: {egress: eligible}, annotations: {a: b}}, spec: {unschedulable: true}}", "apply", "-f", "-")
	got := l.must("get", "node", "n2", "-o", "json")
	for _, want := range []string{`"egress": "eligible"`, `"a": "b"`, `"unschedulable": true`, `"podCIDRs"`, `"addresses"`} {
		if !strings.Contains(got, want) {
			t.Errorf("the Node lacks %s:\n%s", want, got)
		}
	}
}

// An agent whose source is away goes by what it knows, and others do not wait for it; with
// its source back it follows.
func TestASourceThatIsAway(t *testing.T) {
	l := newLab(t, "away")
	l.must("up")
	const config = "{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {nodeSNATPortRange: 40000-RANGE}}"
	apply := func(high string) { l.mustWith(strings.Replace(config, "RANGE", high, 1), "apply", "-f", "-") }
	has := func(node, ports string) {
		t.Helper()
		if got := l.must("exec", "node/"+node, "--", "fairlead", "get", "snat"); !strings.Contains(got, ports) {
			t.Errorf("node %s has not %s:\n%s", node, ports, got)
		}
	}
	apply("41000")
	l.must("source", "n1", "away")
	l.must("source", "n1", "away")
	apply("42000")
	has("n1", "40000-41000")
	has("n2", "40000-42000")
	if r := l.run("wait", "--timeout", "1s"); r.code == 0 || !strings.Contains(r.stdout+r.stderr, "its source is away; give it back with") {
		t.Errorf("wait: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	l.must("agent", "kill", "n1")
	l.must("agent", "start", "n1")
	l.must("source", "n1", "back")
	l.must("wait")
	has("n1", "40000-42000")
	if r := l.run("source", "n1", "gone"); r.code != 2 || !strings.Contains(r.stderr, "a source is away or back") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}
