package lab_test

import (
	"strings"
	"testing"
)

const withHostPort = `
{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {nodeName: n1, containers: [{name: c, command: [fairlead, lab, echo], ports: [{containerPort: 8080, hostPort: 80}]}]}}
`

const withMistakes = `
{apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 8080, hostPort: 80}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c, annotations: {kubernetes.io/ingress-bandwidth: fast}}, spec: {nodeName: n1, containers: [{name: c}]}}
`

func TestHostPortsLeadToPods(t *testing.T) {
	l := newLab(t, "hostport")
	l.mustWith(oneNode, "up", "-f", "/dev/stdin")
	l.mustWith(withHostPort, "apply", "-f", "-")
	node := l.status().Nodes[0].Addresses[0]
	if seen := l.asked("host/web", "tcp", node+":80"); !strings.HasPrefix(seen, "198.51.100.10:") {
		t.Errorf("the pod sees the host as %s", seen)
	}
	if seen := l.asked("node/n1", "tcp", "127.0.0.1:80"); strings.HasPrefix(seen, "127.") {
		t.Errorf("the pod sees its node as %s", seen)
	}
	r := l.runWith(withMistakes, "apply", "-f", "-")
	if r.code != 1 {
		t.Errorf("two pods have one host port: exit code %d", r.code)
	}
	for _, want := range []string{"Pod default/b: ", "host port 80/tcp is taken by pod default/a", "Pod default/c: ", `"fast" is no bandwidth`} {
		if !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("no problem tells of %q:\n%s%s", want, r.stdout, r.stderr)
		}
	}
	l.mustWith(withHostPort, "delete", "-f", "-")
	eventually(t, "b has the port when a is gone", func() bool { return l.pod("b").Ready })
}
