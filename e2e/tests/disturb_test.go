package tests

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/e2e/cluster"
)

const (
	system = cluster.FairleadNamespace
	agents = "ds/fairlead-agent"
)

// install puts a version of Fairlead, built from this tree, in the place of the
// one that runs.
func install(t *testing.T, version string) {
	t.Helper()
	release, err := shared.Release(t.Context(), "", version)
	if err == nil {
		err = shared.Install(t.Context(), release)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// rolledOut waits until every agent is the one that the DaemonSet wants.
func rolledOut(t *testing.T) {
	t.Helper()
	kubectl(t, "-n", system, "rollout", "status", agents, "--timeout=170s")
}

// A rolling update replaces every agent, and a downgrade does so again, while
// connections between nodes, and between pods of one node, feel nothing.
func TestRollingUpdate(t *testing.T) {
	ns := namespace(t)
	a, b, c := run(t, ns, "a", "node1"), run(t, ns, "b", "node2"), run(t, ns, "c", "node1")
	across, beside := begin(t, a, b), begin(t, c, a)
	for _, version := range []string{"0.0.2", "0.0.1"} {
		install(t, version)
		// A pod that comes while agents are being replaced gets a network too.
		during := run(t, ns, "during", "node2")
		until(t, "the new pod is reached", func() error { return a.hears(t, "http://"+during.address+":8080/hostname", "during") })
		kubectl(t, "-n", ns, "delete", "pod", "during")
	}
	across.unharmed()
	beside.unharmed()
}

// killAgent ends the node's agent as a crash would: by pid, inside the node.
func killAgent(t *testing.T, node string) {
	t.Helper()
	const kill = `for p in /proc/[0-9]*; do [ "$(tr '\0' ' ' <$p/cmdline 2>/dev/null | cut -d' ' -f1,2)" = "/fairlead agent" ] && kill -9 "${p#/proc/}" && found=1; done; [ -n "$found" ]`
	if out, err := shared.Node(node).Command(t.Context(), "bash", "-c", kill).Output(); err != nil {
		t.Fatalf("no agent to kill on %s: %v: %s", node, err, out)
	}
}

// agentAnswers reports whether the node's agent is ready, as the node itself sees it.
func agentAnswers(t *testing.T, node string) error {
	out, err := shared.Node(node).Command(t.Context(), "curl", "-sS", "-f", "-m", "2", "http://127.0.0.1:9468/readyz").Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// The kubelet may come before the agent or after it.
func TestKubeletAndAgentInEitherOrder(t *testing.T) {
	ns := namespace(t)
	a, b := run(t, ns, "a", "node1"), run(t, ns, "b", "node2")
	f := begin(t, a, b)

	t.Log("the kubelet goes and comes, the agent stays")
	node := shared.Node("node2")
	if err := errors.Join(node.Stop(t.Context(), "kubelet"), node.Start(t.Context(), "kubelet")); err != nil {
		t.Fatal(err)
	}
	first := run(t, ns, "first", "node2")
	until(t, "a pod of the new kubelet is reached", func() error { return a.hears(t, "http://"+first.address+":8080/hostname", "first") })

	t.Log("the agent goes while there is no kubelet, and comes with it")
	if err := node.Stop(t.Context(), "kubelet"); err != nil {
		t.Fatal(err)
	}
	killAgent(t, "node2")
	time.Sleep(2 * time.Second)
	if err := node.Start(t.Context(), "kubelet"); err != nil {
		t.Fatal(err)
	}
	second := run(t, ns, "second", "node2")
	until(t, "a pod is reached", func() error { return a.hears(t, "http://"+second.address+":8080/hostname", "second") })
	until(t, "the agent answers", func() error { return agentAnswers(t, "node2") })
	f.unharmed()
}

// An agent that starts while the API server is away goes on with what was last
// known: connections live, new pods get a network, and nothing is lost when the
// API server is back.
func TestAgentStartsWithTheAPIServerAway(t *testing.T) {
	ns := namespace(t)
	a, b := run(t, ns, "a", "node1"), run(t, ns, "b", "node2")
	f := begin(t, a, b)
	here := a.inside(t, "true") // finds a's namespace while everything is there
	if _, err := here.Output(); err != nil {
		t.Fatal(err)
	}
	if err := shared.Stop(t.Context(), "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	back := func() error { return shared.Start(context.Background(), "kube-apiserver") }
	t.Cleanup(func() { _ = back() })
	killAgent(t, "node1")
	until(t, "an agent without an API server is ready", func() error { return agentAnswers(t, "node1") })
	// A static pod needs no API server.
	manifest := strings.ReplaceAll(fmt.Sprintf(podManifest, ns, "static", "node1"), "AGNHOST", shared.Agnhost())
	node := shared.Node("node1")
	write := node.Command(t.Context(), "bash", "-c", "cat > /etc/kubernetes/manifests/.static && mv /etc/kubernetes/manifests/.static /etc/kubernetes/manifests/static.yaml")
	write.Stdin = strings.NewReader(manifest)
	if out, err := write.Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		_, _ = node.Command(context.Background(), "rm", "-f", "/etc/kubernetes/manifests/static.yaml").Output()
	})
	until(t, "a pod that starts now is attached", func() error {
		out, err := node.Command(t.Context(), "bash", "-c", "grep -l static-node1 /var/lib/fairlead/attachments/*/* /var/lib/fairlead/*/* 2>/dev/null | head -1").Output()
		if err != nil || len(out) == 0 {
			return fmt.Errorf("no record of it in the address book: %w", err)
		}
		return nil
	})
	if err := back(); err != nil {
		t.Fatal(err)
	}
	until(t, "the API server answers", func() error { _, err := tryKubectl(t.Context(), "", "get", "--raw", "/readyz"); return err })
	static := ready(t, ns, "static-node1")
	until(t, "that pod is reached from another node", func() error { _, err := b.fetch(t, "http://"+static.address+":8080/hostname"); return err })
	rolledOut(t)
	f.unharmed()
}
