package agent

import "testing"

// Switched off by name, nothing is left of it: no rule, no socket, no annotation; and
// switched on again all is as before.
func TestNodePortLocalIsSwitchedOff(t *testing.T) {
	n := newNode(t, nodes)
	const off = "{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {features: {nodeportlocal: false}}}"
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", `[{"podPort":9000,"nodeIP":"192.168.100.1","nodePort":61000,"protocol":"tcp"}]`), service("a", "a", "9000", "TCP")))
	on := state{"a", "61000>9000/tcp", "6 . 61000 : 10.244.1.9 . 9000", "61000/tcp"}
	for range 2 {
		n.mustTurn(t)
		n.expect(t, on)
		n.write(t, "off.yaml", off)
		n.mustTurn(t)
		n.expect(t, state{"a", "", "", ""})
		n.remove(t, "off.yaml")
	}
}
