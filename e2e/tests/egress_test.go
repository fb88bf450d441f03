package tests

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
)

const someEgress = `
apiVersion: fairlead.dev/v1alpha1
kind: Egress
metadata: {name: %[1]s}
spec:
  appliedTo:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[1]s}}
    podSelector: {matchLabels: {app: clerk}}
  egressIPs: [%[2]s]
  portRange: "40000-40999"
`

// free is an address of the nodes' network that nobody has.
func free(node netip.Addr) netip.Addr {
	b := node.AsSlice()
	b[len(b)-1] += 200
	a, _ := netip.AddrFromSlice(b)
	return a
}

// callers listens on the control plane's machine, which is no node, and says to everybody
// who connects from where.
func callers(t *testing.T) (port int) {
	t.Helper()
	err := shared.Control().Do(func() error {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() }) // nobody calls any more
		port = l.Addr().(*net.TCPAddr).Port
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				_, _ = fmt.Fprintln(c, c.RemoteAddr()) // who has gone does not listen
				_ = c.Close()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Pods that an Egress selects are seen outside with its addresses, wherever they run, and
// the API has who has them; others are seen with their nodes'. With the Egress it ends.
func TestEgress(t *testing.T) {
	ns := namespace(t)
	var addresses, quoted []string
	for _, a := range shared.Node("node1").Addresses() {
		addresses = append(addresses, free(a).String())
		quoted = append(quoted, fmt.Sprintf("%q", free(a)))
	}
	port := callers(t)
	apply(t, fmt.Sprintf(someEgress, ns, strings.Join(quoted, ", ")))
	t.Cleanup(func() {
		if out, err := tryKubectl(context.WithoutCancel(t.Context()), "", "delete", "egress", ns, "--ignore-not-found"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	other := run(t, ns, "other", "node1")
	seen := func(p *pod, i int) (string, error) {
		out, err := p.inside(t, "bash", "-c", `exec 3<>/dev/tcp/$1/$2 && timeout 5 head -n 1 <&3`, "ask", shared.ControlAddresses()[i].String(), fmt.Sprint(port)).Output()
		if err != nil {
			return out, err
		}
		at, err := netip.ParseAddrPort(strings.TrimSpace(out))
		return at.Addr().Unmap().String(), err
	}
	for _, node := range []string{"node1", "node2", "node3"} {
		kubectl(t, "-n", ns, "delete", "pod", "clerk", "--ignore-not-found")
		clerk := run(t, ns, "clerk", node)
		for i, want := range addresses {
			until(t, fmt.Sprintf("a pod on %s is seen as %s", node, want), func() error {
				if got, err := seen(clerk, i); err != nil || got != want {
					return fmt.Errorf("it is seen as %s: %w", got, err)
				}
				return nil
			})
		}
	}
	for i := range addresses {
		if got, err := seen(other, i); err != nil || got != shared.Node("node1").Addresses()[i].String() {
			t.Errorf("a pod without the label is seen as %s: %v", got, err)
		}
	}
	for _, condition := range []string{"Allocated=True", "Assigned=True", "Degraded=False"} {
		kubectl(t, "wait", "egress", ns, "--for=condition="+condition, "--timeout=60s")
	}
	clerk := ready(t, ns, "clerk")
	kubectl(t, "delete", "egress", ns)
	until(t, "the pod has its node's address again", func() error {
		if got, err := seen(clerk, 0); err != nil || got != shared.Node("node3").Addresses()[0].String() {
			return fmt.Errorf("it is seen as %s: %w", got, err)
		}
		return nil
	})
}
