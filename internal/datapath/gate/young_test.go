package gate_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/gate"
)

// settle takes the gate to tcx, and reports whether it was a filter.
func (d *door) settle() (was bool) {
	d.t.Helper()
	d.node.Do(func() (err error) { was, err = gate.Settle(d.wire); return err })
	return was
}

// filters is how many filters of ours the wire has.
func (d *door) filters() int {
	return strings.Count(d.node.Run("tc", "filter", "show", "dev", d.wire, "ingress"), "direct-action")
}

// A pod's gate begins as a filter and goes to tcx, and is the same one all along: what
// it refused stays counted.
func TestAGateBeginsAsAFilter(t *testing.T) {
	t.Parallel()
	d := newDoor(t, ofPod())
	shut := func(where string) {
		t.Helper()
		if changes := d.look(ofPod()); len(changes) > 0 {
			t.Errorf("%s: changes %v", where, changes)
		}
		for _, try := range []struct {
			frame []byte
			want  outcome
		}{{ether(rightful4, typ4), passes(typ4)}, {ether(rightful6, typ6), passes(typ6)}, {ether(forged4, typ4), forged()},
			{ether(forged6, typ6), forged()}, {ether(rightful4, unix.ETH_P_MPLS_UC), forged()}} {
			if got := d.try(try.frame); got != try.want {
				t.Errorf("%s: %x: %+v, want %+v", where, try.frame[:20], got, try.want)
			}
		}
	}
	if d.filters() != 1 || len(programs(d.node, d.wire)) != 0 {
		t.Errorf("%d filters, programs %v", d.filters(), programs(d.node, d.wire))
	}
	shut("a filter")
	if !d.settle() || d.filters() != 0 || len(programs(d.node, d.wire)) != 1 {
		t.Errorf("%d filters, programs %v", d.filters(), programs(d.node, d.wire))
	}
	shut("in tcx")
	if d.settle() {
		t.Error("it is taken there twice")
	}
}

// An agent that dies while it takes a gate to tcx leaves it at both places.
func TestAGateAtBothPlacesIsOne(t *testing.T) {
	t.Parallel()
	d := newDoor(t, ofPod())
	d.settle()
	p, err := gate.Load(ofPod())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d.node.Do(func() error { return gate.AttachFilter(indexOf(d.wire), p) })
	if changes := d.look(ofPod()); len(changes) > 0 {
		t.Errorf("changes %v", changes)
	}
	if !d.settle() || d.filters() != 0 {
		t.Errorf("%d filters are left", d.filters())
	}
}

// What others put before a filter is seen, and so is a filter that others took away or
// changed; the gate is shut again with whatever keeps it so.
func TestAFilterIsPutBack(t *testing.T) {
	t.Parallel()
	for accident, happens := range map[string]func(d *door){
		"hook deleted": func(d *door) { d.node.Run("tc", "qdisc", "del", "dev", d.wire, "clsact") },
		"filter deleted": func(d *door) {
			d.node.Run("tc", "filter", "del", "dev", d.wire, "ingress", "pref", fmt.Sprint(gate.FilterPref))
		},
		"another's":        func(d *door) { d.apply(nil, gate.Gate{Link: d.wire, Sources: prefixes("192.0.2.0/24")}) },
		"a program before": func(d *door) { newForeign(t, pass).attach(d.node, d.wire, link.Head()) },
		"a filter before": func(d *door) {
			d.node.Run("tc", "filter", "add", "dev", d.wire, "ingress", "pref", "1", "protocol", "all", "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "mirror", "dev", d.wire)
		},
	} {
		t.Run(accident, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, ofPod())
			happens(d)
			if changes := d.look(ofPod()); len(changes) != 1 {
				t.Fatalf("changes %v", changes)
			}
			d.repair(ofPod())
		})
	}
}

// What hangs on the same hook behind the gate stays, and is asked about what the
// gate lets in.
func TestFiltersOfOthersAreAskedAfterTheGate(t *testing.T) {
	t.Parallel()
	d := newDoor(t, ofPod())
	d.node.Run("tc", "filter", "add", "dev", d.wire, "ingress", "pref", "157", "protocol", "all", "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "lo")
	if changes := d.look(ofPod()); len(changes) > 0 {
		t.Errorf("changes %v", changes)
	}
	sent := func() string { return d.node.Run("tc", "-s", "filter", "show", "dev", d.wire, "ingress") }
	if before := sent(); !strings.Contains(before, "Redirect") {
		t.Errorf("filters:\n%s", before)
	}
	d.settle()
	if after := sent(); !strings.Contains(after, "Redirect") {
		t.Errorf("filters when the gate is in tcx:\n%s", after)
	}
	d.apply([]gate.Gate{ofPod()})
	if after := sent(); !strings.Contains(after, "Redirect") {
		t.Errorf("filters when the gate is open:\n%s", after)
	}
}

// A gate that cannot go to tcx, where there is no room, leaves the one that was a filter
// where it is: the wire is shut all the time.
func TestAFilterStaysWhereTCXRefusesItsSuccessor(t *testing.T) {
	t.Parallel()
	const room = 63 // one less than BPF_MPROG_MAX (include/linux/bpf_mprog.h)
	d := newDoor(t, ofPod())
	for range room {
		newForeign(t, next).attach(d.node, d.wire, link.Tail())
	}
	d.node.Do(func() error {
		if change(nil, []gate.Gate{{Link: d.wire, Sources: prefixes("192.0.2.0/24")}}) == nil {
			t.Error("there is room for one more")
		}
		return nil
	})
	if got := d.try(ether(forged4, typ4)); got != forged() {
		t.Errorf("forged: %+v", got)
	}
}
