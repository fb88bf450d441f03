package lab_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAgentKilledDuringTraffic(t *testing.T) {
	l := newLab(t, "crash")
	l.must("up")
	l.mustWith(`
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: default}
spec: {nodeName: n1, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: default}
spec: {nodeName: n2, containers: [{name: c}]}
`, "apply", "-f", "-")
	a, b, web := l.pod("a"), l.pod("b"), l.status().Hosts[0]
	outside := listen(t, web.Netns, "198.51.100.10:7000")
	inside := listen(t, b.Netns, net.JoinHostPort(b.PodIPs[1], "7000"))

	streams := []*stream{startStream(dial(t, a.Netns, outside)), startStream(dial(t, a.Netns, inside))}
	idle := idleBetween(t, a.Netns, outside, idleConnections)
	flow := func() {
		for _, s := range streams {
			s.flow(t, 5<<20)
		}
	}
	flow()
	l.must("agent", "kill", "n1")
	flow()
	log := filepath.Join(l.dir, l.name, "nodes", "n1", "agent.log")
	before, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	l.must("agent", "start", "n1")
	l.must("wait")
	flow()
	for _, s := range streams {
		s.end(t)
	}
	idle.speak(t)

	if d := l.must("exec", "node/n1", "--", "fairlead", "diff"); d != "" {
		t.Errorf("after the restart the kernel lacks:\n%s", d)
	}
	after, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if said := strings.TrimPrefix(string(after), string(before)); !strings.Contains(said, "ready=true") || strings.Contains(said, "msg=applied") {
		t.Errorf("the restarted agent did not take over without a rewrite:\n%s", said)
	}
}
