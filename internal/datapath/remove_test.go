package datapath_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/netnstest"
)

// A node's pods often go together. Their links do too, and nobody else's.
func TestLinksGoTogether(t *testing.T) {
	t.Parallel()
	const pods = 50
	node, pod := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(node, "eth0", pod, "uplink")
	want := datapath.State{{}}
	for i := range pods {
		want[0].Links = append(want[0].Links, &link.Link{Name: fmt.Sprintf("fl-%012x", i), MTU: 1400, MAC: datapath.WireMAC,
			Veth: &link.Veth{Netns: pod.Path, Peer: link.Peer{Name: fmt.Sprintf("p%d", i), MAC: podMAC}}})
	}
	apply(node, want)
	run(t, node, "ip link del fl-000000000007") // gone before
	gone := datapath.DiffStates(want, datapath.State{{Links: want[0].Links[:1]}})
	if gone.Len() != pods-1 {
		t.Errorf("%d changes, want %d", gone.Len(), pods-1)
	}
	began := time.Now()
	node.Do(func() error { return datapath.Apply(gone) })
	t.Logf("%d links gone after %s", pods-1, time.Since(began).Round(time.Millisecond))
	var left []string
	for line := range strings.Lines(run(t, node, "ip -br link")) {
		name, _, _ := strings.Cut(strings.Fields(line)[0], "@")
		left = append(left, name)
	}
	if got := strings.Join(left, " "); got != "lo eth0 fl-000000000000" && got != "lo fl-000000000000 eth0" {
		t.Errorf("left are %s", got)
	}
}
