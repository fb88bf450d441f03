package lab_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/world"
)

const twoMappings = `
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: default, labels: {app: a}}
spec:
  nodeName: n1
  containers:
  - {name: one, image: none, command: [fairlead, lab, echo, --tcp, ":9090", --udp, ":9090", --http, ":9091"], ports: [{name: one, containerPort: 9090}]}
  - {name: two, image: none, command: [fairlead, lab, echo, --tcp, ":9000", --udp, ":9000", --http, ":9001"], ports: [{containerPort: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: default, annotations: {nodeportlocal.antrea.io/enabled: "ASKED"}}
spec: {ipFamilies: [IPv4], selector: {app: a}, ports: [{port: 80, targetPort: one}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: default, annotations: {nodeportlocal.antrea.io/enabled: "true"}}
spec: {ipFamilies: [IPv4, IPv6], selector: {app: a}, ports: [{port: 80, targetPort: 9000}, {name: udp, port: 80, targetPort: 9000, protocol: UDP}]}
`

// A host outside reaches a pod by the ports that the pod is told, and sees none of
// those that it is not told any more.
func TestPortsOfTheNodeLeadToAPod(t *testing.T) {
	l := newLab(t, "npl")
	l.must("up")
	l.mustWith(strings.ReplaceAll(twoMappings, "ASKED", "true"), "apply", "-f", "-")
	told := func() (out []string) {
		var list []struct {
			PodPort, NodePort int
			NodeIP, Protocol  string
		}
		text := l.getPod("a").Annotations[world.NodePortLocalPorts]
		if text != "" && json.Unmarshal([]byte(text), &list) != nil {
			t.Fatalf("told is %s", text)
		}
		for _, m := range list {
			at := netip.AddrPortFrom(netip.MustParseAddr(m.NodeIP), uint16(m.NodePort)).String()
			out = append(out, fmt.Sprintf("%s %s %d", m.Protocol, at, m.PodPort))
		}
		return out
	}
	eventually(t, "the pod is told of five ports", func() bool { return len(told()) == 5 })
	before := told()
	for _, m := range before {
		protocol, at, _ := strings.Cut(m, " ")
		at, _, _ = strings.Cut(at, " ")
		if seen := l.asked("host/web", protocol, at); !strings.HasPrefix(seen, "198.51.100.10:") && !strings.HasPrefix(seen, "[2001:db8:100::10]:") {
			t.Errorf("the pod sees %s behind %s", seen, m)
		}
	}
	l.mustWith(strings.ReplaceAll(twoMappings, "ASKED", "false"), "apply", "-f", "-")
	eventually(t, "the pod is told of four ports", func() bool { return len(told()) == 4 })
	if listed := l.must("exec", "node/n1", "--", "fairlead", "get", "nodeportlocal"); strings.Count(listed, "reserved") != 4 || strings.Contains(listed, ":9090") {
		t.Errorf("the agent says\n%s", listed)
	}
	for _, m := range before {
		words := strings.Fields(m)
		if r := l.run("exec", "host/web", "--", "fairlead", "lab", "ask", words[0], words[1]); (r.code == 0) == (words[2] == "9090") {
			t.Errorf("%s: exit code %d %s%s", m, r.code, r.stdout, r.stderr)
		}
	}
	l.mustWith("{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: default}}", "delete", "-f", "-")
	eventually(t, "nothing is mapped", func() bool {
		return !strings.Contains(l.must("exec", "node/n1", "--", "fairlead", "get", "nodeportlocal"), "reserved")
	})
}
