package tests

import (
	"fmt"
	"net"
	"testing"
)

const hostPorts = `
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  nodeName: %[3]s
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: AGNHOST
    args: [netexec, --http-port=8080, --udp-port=8081]
    imagePullPolicy: Never
    ports: [{containerPort: 8080, hostPort: 18080}, {containerPort: 8081, hostPort: 18080, protocol: UDP}]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
`

// A host port leads to its pod from pods, from other nodes and from the node
// itself, in both families, and is gone with the pod.
func TestHostPorts(t *testing.T) {
	ns := namespace(t)
	from := run(t, ns, "from", "node1")
	apply(t, fmt.Sprintf(hostPorts, ns, "served", "node2"))
	ready(t, ns, "served")
	for _, address := range shared.Node("node2").Addresses() {
		at := net.JoinHostPort(address.String(), "18080")
		until(t, "a pod asks "+at, func() error { return from.hears(t, "http://"+at+"/hostname", "served") })
		for _, node := range []string{"node2", "node3"} {
			out, err := shared.Node(node).Command(t.Context(), "curl", "-sS", "-f", "-m", "5", "http://"+at+"/hostname").Output()
			if err != nil || out != "served" {
				t.Errorf("%s asks %s: %v: %q", node, at, err, out)
			}
		}
		out, err := from.inside(t, "bash", "-c", `exec 3<>/dev/udp/$1/18080 && echo hostname >&3 && timeout 5 head -c 6 <&3`, "udp", address.String()).Output()
		if err != nil || out != "served" {
			t.Errorf("a pod asks %s by UDP: %v: %q", at, err, out)
		}
	}
	kubectl(t, "-n", ns, "delete", "pod", "served")
	gone := net.JoinHostPort(shared.Node("node2").Addresses()[0].String(), "18080")
	until(t, "nobody is at "+gone, func() error {
		if out, err := from.fetch(t, "http://"+gone+"/hostname"); err == nil {
			return fmt.Errorf("%q answers", out)
		}
		return nil
	})
}
