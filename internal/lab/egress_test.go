package lab_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const egressLab = `
apiVersion: v1
kind: Pod
metadata: {name: clerk, namespace: shop, labels: {app: billing}}
spec: {nodeName: n1, containers: [{name: c, command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: visitor, namespace: shop}
spec: {nodeName: n1, containers: [{name: c, command: [sleep, infinity]}]}
---
apiVersion: fairlead.dev/v1alpha1
kind: Egress
metadata: {name: billing}
spec:
  appliedTo: {podSelector: {matchLabels: {app: billing}}}
  egressIPs: [192.168.100.77, "fd00:100::77"]
  portRange: "40000-40999"
---
# cordoned: the addresses come elsewhere than the pod
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {unschedulable: true}
`

// The controller gives addresses numbers and nodes, agents act on it, and the outside sees
// them; without the Egress pods leave as before.
func TestAnEgress(t *testing.T) {
	l := newLab(t, "egress")
	l.must("up")
	l.mustWith(egressLab, "apply", "-f", "-")
	asks := func(pod, host string) string { // nothing while it is refused
		return l.run("exec", "pod/shop/"+pod, "--", "fairlead", "lab", "ask", "tcp", host).stdout
	}
	until := func(what string, reached func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !reached(); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s did not come:\n%s", what, l.must("get", "egress", "billing", "-o", "json"))
			}
		}
	}
	hosts := map[string]string{"198.51.100.10:8080": "192.168.100.77", "[2001:db8:100::10]:8080": "fd00:100::77"}
	for host, address := range hosts {
		until(address, func() bool { return strings.Contains(asks("clerk", host), address) })
	}
	if got := asks("visitor", "198.51.100.10:8080"); got == "" || strings.Contains(got, "192.168.100.77") {
		t.Errorf("a pod without the label is seen as %s", got)
	}
	until("its conditions", func() bool {
		got := l.must("get", "egress", "billing", "-o", "json")
		return strings.Contains(got, `"Allocated"`) && strings.Contains(got, `"Assigned"`) && strings.Contains(got, `"AtWork"`)
	})
	if got := l.must("exec", "node/n1", "--", "fairlead", "get", "egress"); !strings.Contains(got, "192.168.100.77@n") {
		t.Errorf("get egress:\n%s", got)
	}
	if r := l.run("exec", "node/n1", "--", "fairlead", "doctor"); r.code != 0 {
		t.Errorf("doctor: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	l.mustWith("{apiVersion: fairlead.dev/v1alpha1, kind: Egress, metadata: {name: billing}}", "delete", "-f", "-")
	until("the node's address", func() bool {
		got := asks("clerk", "198.51.100.10:8080")
		return got != "" && !strings.Contains(got, "192.168.100.77")
	})
	if got := l.must("exec", "node/n1", "--", "ip", "link"); strings.Contains(got, "fl-egress") {
		t.Errorf("there is no Egress, and still:\n%s", got)
	}
}

// The first packets of pods that have just been made have the address, also where their
// agent has not seen them yet: they wait for it.
func TestFirstPacketsHaveTheAddress(t *testing.T) {
	l := newLab(t, "first")
	l.must("up")
	l.mustWith(egressLab, "apply", "-f", "-")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if strings.Contains(l.run("exec", "pod/shop/clerk", "--", "fairlead", "lab", "ask", "tcp", "198.51.100.10:8080").stdout, "192.168.100.77") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the address did not come")
		}
	}
	const clerks = 20
	var pods []string
	for i := range clerks {
		pods = append(pods, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: new%d, namespace: shop, labels: {app: billing}}
spec: {nodeName: n%d, restartPolicy: Never, containers: [{name: c, command: [fairlead, lab, ask, tcp, "198.51.100.10:8080"]}]}
`, i, 1+i%3))
	}
	says := func(i int) string {
		pod := fmt.Sprintf("pod/shop/new%d", i)
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			if said := l.run("logs", pod).stdout; strings.Contains(said, ".") {
				return said
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s says nothing", pod)
			}
		}
	}
	l.must("source", "n1", "away")
	l.mustWith(strings.Join(pods, "---"), "apply", "--no-wait", "-f", "-")
	var said []string
	for i := range clerks {
		if i%3 != 0 { // n1 does not know its pods
			said = append(said, says(i))
		}
	}
	if r := l.run("logs", "pod/shop/new0"); strings.Contains(r.stdout, ".") {
		t.Errorf("a pod whose labels are not known runs: %s", r.stdout)
	}
	l.must("source", "n1", "back")
	for i := 0; i < clerks; i += 3 {
		said = append(said, says(i))
	}
	for _, s := range said {
		if !strings.Contains(s, "192.168.100.77") {
			t.Errorf("a pod is seen as %s", s)
		}
	}
}
