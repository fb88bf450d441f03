package tests

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/e2e/check"
	"fairlead.dev/fairlead/e2e/cluster"
)

// state prints what Fairlead could leave on a node: in the kernel, in settings,
// and on the disk. The directory of its state is a disk of the node's here, and stays.
const state = `nft list tables | grep fairlead; ip -o link | cut -d: -f2; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule
bridge fdb; tc qdisc; tc filter show dev eth0 ingress; sysctl -a -r '^net\.ipv[46]\.(conf\..*|ip_forward)$' 2>/dev/null
ls -d /run/fairlead 2>/dev/null; find /var/lib/fairlead /etc/cni/net.d /opt/cni/bin -mindepth 1`

// A node that had Fairlead is as if it never had: compared with what it is after a
// reboot without.
func TestUninstallLeavesNothingOnNodes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	install := func(values ...string) {
		t.Helper()
		r, err := shared.Release(ctx, "", "", values...)
		if err == nil {
			err = shared.Install(ctx, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// Pods that lived through it have no network.
	anew := func() {
		t.Helper()
		if _, err := tryKubectl(ctx, "", "delete", "pods", "-n", "kube-system", "--all"); err != nil {
			t.Fatal(err)
		}
		if err := shared.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	n := shared.Nodes()[len(shared.Nodes())-1]
	show := func() string {
		out, err := n.Command(ctx, "sh", "-c", state).Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	install("uninstall=true")
	if err := n.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Eventually(ctx, "it is over", shared.FairleadReady); err != nil {
		t.Fatal(err)
	}
	never := show()
	if strings.Contains(never, "fairlead") {
		t.Errorf("after a reboot without Fairlead the node has\n%s", never)
	}
	install()
	anew()
	if answers, err := check.Connectivity(ctx, shared); err != nil {
		t.Errorf("after %d right answers: %v", answers, err)
	}
	if with := show(); !strings.Contains(with, "fl-vxlan") || !strings.Contains(with, "10-fairlead.conflist") {
		t.Errorf("what is compared does not show Fairlead:\n%s", with)
	}
	install("uninstall=true")
	after := show()
	if gone, left := less(never, after), less(after, never); len(gone)+len(left) > 0 {
		t.Errorf("left on the node:\n%s\nand missing:\n%s", strings.Join(left, "\n"), strings.Join(gone, "\n"))
	}
	install()
	anew()
}

// less returns the lines of a that are not in b.
func less(a, b string) []string {
	have := strings.Split(b, "\n")
	return slices.DeleteFunc(strings.Split(a, "\n"), func(line string) bool { return slices.Contains(have, line) })
}
