package gate

import (
	"errors"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The gate of a pod's new wire begins as a filter of tc (tc-bpf(8)). With each program
// that comes or goes, tcx waits until all CPUs have left those that were there (Linux
// kernel/bpf/tcx.c, tcx_entry_sync, a grace period of RCU), also at a link that had
// none, and holds the lock of all links: some 12 ms. A filter waits for nobody. But each
// packet takes a little longer, programs of others in tcx are asked before it, and it goes
// with its qdisc, which others may delete. So [Settle] takes it to tcx when there is time.

// FilterPref is the preference of gates among the filters of a link, in front of
// whatever else is ours there.
const FilterPref = 156

// young reports whether a new gate begins as a filter: those of pods' wires do, which
// come by the hundred.
func (g Gate) young() bool { return !g.Egress && !g.Set }

// filterName is what tc(8) shows of each: its program, which it also shows, has a name
// of its own.
const filterName = Prefix + "gate"

// attachFilter makes the program a filter, in the place of one that was there.
func attachFilter(index int, p *ebpf.Program) error {
	hook := &netlink.GenericQdisc{QdiscType: "clsact",
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	// Another kind of hook, which somebody may have made there, does as well.
	if err := netlink.QdiscReplace(hook); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: FilterPref, Protocol: unix.ETH_P_ALL},
		Fd:          p.FD(), Name: filterName, DirectAction: true,
	})
}

// detachFilter takes it away; the hook stays, where others may have something too.
func detachFilter(index int) error {
	f := &netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: FilterPref, Protocol: unix.ETH_P_ALL}}
	err := netlink.FilterDel(f)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil // there is none, no hook, or no link
	}
	return err
}

// ofFilter is the program of the gate that is a filter, or nil, and whether filters of
// others are asked before one of that preference.
func ofFilter(index int) (p *ebpf.Program, behind bool, err error) {
	all, err := netlink.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}, netlink.HANDLE_MIN_INGRESS)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, false, nil // no link, or a kernel without filters
	}
	if err != nil {
		return nil, false, err
	}
	for _, f := range all {
		if f.Attrs().Priority > FilterPref {
			break
		}
		b, is := f.(*netlink.BpfFilter)
		if !is || b.Priority != FilterPref {
			return nil, true, nil
		}
		if b.Handle == 0 {
			continue // what has this preference, as a whole
		}
		if p, err := ebpf.NewProgramFromID(ebpf.ProgramID(b.Id)); err == nil {
			if info, err := p.Info(); err == nil && strings.HasPrefix(info.Name, Prefix) && b.DirectAction && b.Protocol == unix.ETH_P_ALL {
				return p, false, nil
			}
			p.Close()
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, false, err
		}
		return nil, true, nil
	}
	return nil, false, nil
}

// Settle takes the gate at a link's entrance to where it stays, and reports whether it
// was elsewhere. It was shut before and is so meanwhile.
func Settle(name string) (bool, error) {
	dev, err := device(name)
	if dev == nil || err != nil {
		return false, err
	}
	p, _, err := ofFilter(dev.Index)
	if p == nil || err != nil {
		return false, err
	}
	defer p.Close()
	there, err := inTCX(dev.Index, place{}.hook())
	defer there.close()
	if err == nil && len(there.ours) == 0 { // else an agent died before it took the filter away
		err = attachFirst(dev.Index, place{link: name}, p)
	}
	if err != nil {
		return false, err
	}
	return true, detachFilter(dev.Index)
}
