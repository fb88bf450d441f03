package datapath_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	hook "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/netnstest"
)

// mostPrograms is how many a hook takes (include/linux/bpf_mprog.h, BPF_MPROG_MAX).
const mostPrograms = 64

// A link whose gate the kernel refuses is down until it has its gate, whether it was
// there before or is new.
func TestALinkWhoseGateIsRefusedIsDown(t *testing.T) {
	h := netnstest.New(t)
	const name = "fl-x"
	state := datapath.State{{Links: []*link.Link{{Name: name, IFB: true, MTU: 1400, MAC: [6]byte{2, 0, 0, 0, 0, 1}}}}}
	apply := func(s datapath.State) error {
		have, err := datapath.Read(s)
		if err != nil {
			return err
		}
		return datapath.Apply(datapath.Diff(have, s))
	}
	h.Do(func() error { return apply(state) })
	others := fill(t, h, name)
	gated := datapath.State{state[0], {Gates: []gate.Gate{{Link: name, Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}}}}
	h.Do(func() error {
		if err := apply(gated); err == nil {
			t.Error("a gate is attached where there is no place")
		}
		return nil
	})
	up := func() (up bool) {
		h.Do(func() error {
			dev, err := netlink.LinkByName(name)
			up = err == nil && dev.Attrs().OperState != netlink.OperDown && dev.Attrs().RawFlags&1 != 0
			return err
		})
		return up
	}
	if up() {
		t.Error("the link is up without its gate")
	}
	others()
	h.Do(func() error { return apply(gated) })
	if !up() {
		t.Error("the link is down with its gate")
	}
	h.Do(func() error {
		have, err := datapath.Read(gated)
		if c := datapath.Diff(have, gated); !c.Empty() {
			t.Errorf("changes are due: %s", c)
		}
		return err
	})
}

// fill leaves no place in the hook of a link, until the function that it returns is
// called.
func fill(t *testing.T, h *netnstest.Host, name string) (empty func()) {
	t.Helper()
	var programs []*ebpf.Program
	index := 0
	h.Do(func() error {
		dev, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		index = dev.Attrs().Index
		for range mostPrograms {
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
			if err != nil {
				return err
			}
			t.Cleanup(func() { p.Close() })
			err = hook.RawAttachProgram(hook.RawAttachProgramOptions{Target: index, Program: p, Attach: ebpf.AttachTCXIngress})
			if errors.Is(err, unix.ERANGE) {
				return nil
			}
			if err != nil {
				return err
			}
			programs = append(programs, p)
		}
		return nil
	})
	return func() {
		h.Do(func() error {
			for _, p := range programs {
				if err := hook.RawDetachProgram(hook.RawDetachProgramOptions{Target: index, Program: p, Attach: ebpf.AttachTCXIngress}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}
