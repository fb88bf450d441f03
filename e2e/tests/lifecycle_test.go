package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/e2e/cluster"
)

// A second cluster beside the shared one works by itself, and when it is gone,
// nothing of it is left.
func TestAClusterLeavesNothing(t *testing.T) {
	before := machine(t)
	c, err := cluster.Up(t.Context(), cluster.Config{Name: name() + "-small", Nodes: 1, Proxy: cluster.NoProxy, Replace: true, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(machine(t), before) {
		t.Error("it is not seen on the machine: this test looks at the wrong things")
	}
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Errorf("it has the nodes %v (%v), and should have one", nodes.Items, err)
	}
	if _, err := cluster.Up(t.Context(), cluster.Config{Name: c.Name(), Log: t.Output()}); err == nil {
		t.Error("a cluster that runs was replaced, and nobody had asked for it")
	}
	for range 2 { // also when there is nothing to do
		if err := c.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if after := machine(t); !slices.Equal(after, before) {
		t.Errorf("the machine had\n%s\nand has\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// machine lists what clusters are seen by: their processes, namespaces, cgroups,
// mounts and directories. What others do meanwhile is left out.
func machine(t *testing.T) []string {
	t.Helper()
	mine := name() + "-small"
	var out []string
	for _, pattern := range []string{"/run/netns/*" + mine + "*", "/sys/fs/cgroup/*/*" + mine + "*", "/sys/fs/cgroup/*/*/*/*" + mine + "*", "/var/lib/fairlead-e2e/" + mine} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(processes, "/proc/self/mounts") {
		if b, _ := os.ReadFile(p); strings.Contains(string(b), mine) {
			out = append(out, p)
		}
	}
	return out
}
