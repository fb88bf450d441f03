package tests

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A node's hundred pods all get a network, and all are reached from another node.
func TestAHundredPods(t *testing.T) {
	ns := namespace(t)
	from := run(t, ns, "from", "node1")
	var all strings.Builder
	for i := range 100 {
		fmt.Fprintf(&all, podManifest+"---\n", ns, fmt.Sprintf("p%d", i), "node2")
	}
	began := time.Now()
	apply(t, all.String())
	kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=175s")
	t.Logf("100 pods are ready after %s", time.Since(began).Round(time.Second/10))
	addresses := strings.Fields(kubectl(t, "-n", ns, "get", "pods", "--field-selector", "spec.nodeName=node2",
		"-o", `jsonpath={range .items[*]}{.metadata.name}={.status.podIP} {end}`))
	if len(addresses) != 100 {
		t.Fatalf("%d pods on node2", len(addresses))
	}
	for _, a := range addresses {
		name, address, _ := strings.Cut(a, "=")
		until(t, name+" is reached", func() error { return from.hears(t, "http://"+address+":8080/hostname", name) })
	}
}

// One pod after the other: how long the container runtime waits for ADD.
func TestTheTimeOfAnADD(t *testing.T) {
	ns := namespace(t)
	before := adds(t, "node3")
	const pods = 20
	for i := range pods {
		run(t, ns, fmt.Sprintf("p%d", i), "node3")
	}
	after := adds(t, "node3")
	n := after.count - before.count
	if n < pods {
		t.Fatalf("containerd counted %v ADDs, want at least %d", n, pods)
	}
	within := 0.0 // ADDs within 50 ms
	for _, b := range after.buckets {
		if b.seconds <= 0.05 {
			within = max(within, b.count-before.within(b.seconds))
		}
	}
	t.Logf("%.0f ADDs, %.1f ms on average, %.0f %% within 50 ms", n, 1000*(after.sum-before.sum)/n, 100*within/n)
}

// adds is containerd's histogram of what setting up a pod's network took.
type histogram struct {
	buckets    []bucket
	sum, count float64
}

type bucket struct{ seconds, count float64 }

func (h histogram) within(seconds float64) float64 {
	for _, b := range h.buckets {
		if b.seconds == seconds {
			return b.count
		}
	}
	return 0
}

var ofAnADD = regexp.MustCompile(`^containerd_cri_network_plugin_operations_duration_seconds(?:_seconds)?_(bucket|sum|count)\{.*operation_type="set_up_pod"(?:,le="([^"]+)")?\} (\S+)$`)

func adds(t *testing.T, node string) histogram {
	t.Helper()
	out, err := shared.Node(node).Command(t.Context(), "curl", "-sS", "-f", "http://127.0.0.1:1338/v1/metrics").Output()
	if err != nil {
		t.Fatalf("containerd's metrics: %v: %s", err, out)
	}
	var h histogram
	for line := range strings.Lines(string(out)) {
		m := ofAnADD.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		switch m[1] {
		case "sum":
			h.sum = v
		case "count":
			h.count = v
		case "bucket":
			if le, err := strconv.ParseFloat(m[2], 64); err == nil {
				h.buckets = append(h.buckets, bucket{le, v})
			}
		}
	}
	return h
}
