package gate_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/netnstest"
)

// A foreign is a program of somebody else: it counts packets by whether they have a
// priority, and its verdict is next or that they pass.
type foreign struct {
	program *ebpf.Program
	seen    *ebpf.Map
}

const next, pass = -1, 0

func newForeign(t testing.TB, verdict int32) foreign {
	t.Helper()
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	const skbPriority = 32
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "somebody", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R0, asm.R1, skbPriority, asm.Word),
		asm.LoadMapValue(asm.R2, seen.FD(), 0),
		asm.JEq.Imm(asm.R0, 0, "count"),
		asm.Add.Imm(asm.R2, 8),
		asm.Mov.Imm(asm.R1, 1).WithSymbol("count"),
		asm.AddAtomic.Mem(asm.R2, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, verdict),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); seen.Close() })
	return foreign{p, seen}
}

// attach puts it at the link of the host, at the anchor.
func (f foreign) attach(h *netnstest.Host, name string, anchor link.Anchor) {
	h.Do(func() error {
		return link.RawAttachProgram(link.RawAttachProgramOptions{Target: indexOf(name), Program: f.program, Attach: ebpf.AttachTCXIngress, Anchor: anchor})
	})
}

// replace puts it in the place of the first program at the link.
func (f foreign) replace(h *netnstest.Host, name string) {
	h.Do(func() error {
		r, err := link.QueryPrograms(link.QueryOptions{Target: indexOf(name), Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		first, err := ebpf.NewProgramFromID(r.Programs[0].ID)
		if err != nil {
			return err
		}
		defer first.Close()
		return link.RawAttachProgram(link.RawAttachProgramOptions{Target: indexOf(name), Program: f.program, Attach: ebpf.AttachTCXIngress,
			Anchor: link.ReplaceProgram(first)})
	})
}

// counts is how many packets came without and with a priority.
func (f foreign) counts(t testing.TB) (out [2]uint64) {
	t.Helper()
	if err := f.seen.Lookup(uint32(0), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// programs are the names of the programs at the link, in their order.
func programs(h *netnstest.Host, name string) (out []string) {
	h.Do(func() error {
		r, err := link.QueryPrograms(link.QueryOptions{Target: indexOf(name), Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		for _, a := range r.Programs {
			p, err := ebpf.NewProgramFromID(a.ID)
			if err != nil {
				return err
			}
			defer p.Close()
			info, err := p.Info()
			if err != nil {
				return err
			}
			out = append(out, info.Name)
		}
		return nil
	})
	return out
}

// look is what the changes are that make what the kernel has the gates wanted.
func (d *door) look(want ...gate.Gate) []gate.Change {
	d.t.Helper()
	var have []gate.Gate
	d.node.Do(func() (err error) { have, err = gate.Read(d.wire); return err })
	add, del := gate.Diff(have, want, func(string) bool { return true })
	return append(add, del...)
}

// repair makes the gate what it was; it has to be one change.
func (d *door) repair(g gate.Gate) {
	d.t.Helper()
	defer d.settle()
	changes := d.look(g)
	if len(changes) != 1 {
		d.t.Fatalf("changes: %v", changes)
	}
	d.node.Do(changes[0].Apply)
	d.refused = gate.Counts{} // it is a new one
	if again := d.look(g); len(again) > 0 {
		d.t.Errorf("changes once more: %v", again)
	}
	if got := d.try(ether(forged4, typ4)); got != forged() {
		d.t.Errorf("forged: %+v", got)
	}
}

var gates = map[string]gate.Gate{
	"of a pod":    ofPod(),
	"with a list": {Link: "fl-pod", Sources: prefixes(own4+"/32", own6+"/128", "192.0.2.0/24"), Set: true},
}

// What others have at the same hook stays, and is asked after the gate, wherever
// they put it.
func TestProgramsOfOthersAreAskedAfterTheGate(t *testing.T) {
	t.Parallel()
	for name, g := range gates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, g)
			d.settle()
			behind, before := newForeign(t, next), newForeign(t, pass)
			behind.attach(d.node, d.wire, link.Tail())
			if changes := d.look(g); len(changes) > 0 {
				t.Errorf("one behind the gate is in its way: %v", changes)
			}
			before.attach(d.node, d.wire, link.Head())
			if got := d.try(ether(forged4, typ4)); got.taken != typ4 {
				t.Errorf("a program that lets everything in does not: %+v", got)
			}
			d.repair(g)
			was := before.counts(t)
			d.try(ether(forged4, typ4)) // and the probe behind it, which comes through
			if got := before.counts(t); got[0] != was[0]+1 {
				t.Errorf("a program behind the gate saw %d packets", got[0]-was[0])
			}
			if got := programs(d.node, d.wire); len(got) != 3 || got[1] != "somebody" || got[2] != "somebody" {
				t.Errorf("programs %v", got)
			}
			d.apply([]gate.Gate{g})
			if got := programs(d.node, d.wire); len(got) != 2 {
				t.Errorf("programs when the gate is open: %v", got)
			}
		})
	}
}

// A gate that somebody took away or changed is seen and put back; one that is as
// wanted is left alone.
func TestAGateIsPutBack(t *testing.T) {
	t.Parallel()
	for name, g := range gates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, g)
			d.settle()
			if changes := d.look(g); len(changes) > 0 {
				t.Errorf("changes at once: %v", changes)
			}
			for accident, happens := range map[string]func(){
				"opened":    func() { d.apply([]gate.Gate{g}) },
				"another's": func() { d.apply(nil, gate.Gate{Link: d.wire, Sources: prefixes("192.0.2.0/24")}) },
				"another's list": func() {
					d.apply(nil, gate.Gate{Link: d.wire, Sources: prefixes("192.0.2.0/24", "10.0.0.0/8", "fd00::/8"), Set: true})
				},
				"replaced": func() { newForeign(t, pass).replace(d.node, d.wire) },
			} {
				happens()
				if changes := d.look(g); len(changes) != 1 {
					t.Fatalf("%s: changes %v", accident, changes)
				}
				d.repair(g)
			}
			d.apply([]gate.Gate{g})
			if changes := d.look(); len(changes) > 0 {
				t.Errorf("changes where no gate is wanted: %v", changes)
			}
		})
	}
}

// A link that is gone or was never there has no gate, and needs none.
func TestAGateOfNoLink(t *testing.T) {
	t.Parallel()
	d := newDoor(t, ofPod())
	d.node.Run("ip", "link", "del", d.wire)
	d.node.Do(func() error {
		for _, g := range gates {
			if err := change(nil, []gate.Gate{g}); err != nil {
				return err
			}
			if err := change([]gate.Gate{g}, nil); err != nil {
				return err
			}
		}
		have, err := gate.Read(d.wire)
		if len(have) > 0 {
			err = fmt.Errorf("gates %v", have)
		}
		if _, none := gate.Refused(d.wire, false); !errors.Is(none, gate.ErrNone) {
			err = errors.Join(err, fmt.Errorf("refused: %w", none))
		}
		return err
	})
}

// Only what has the right priority comes in, and keeps it.
func TestAGateThatWantsAPriority(t *testing.T) {
	t.Parallel()
	const priority = 0x666c0001
	h, f := netnstest.New(t), newForeign(t, next)
	h.Do(func() error {
		return change(nil, []gate.Gate{{Link: "lo", Priority: priority, Sources: prefixes("192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"), Set: true}})
	})
	h.Address("lo", "192.0.2.1/32", "203.0.113.1/32", "2001:db8::1/128")
	f.attach(h, "lo", link.Tail())
	for _, c := range []struct {
		from     string
		priority int
		refused  gate.Counts
		seen     [2]uint64
	}{
		{"192.0.2.1", priority, gate.Counts{}, [2]uint64{0, 1}},
		{"2001:db8::1", priority, gate.Counts{}, [2]uint64{0, 1}},
		{"203.0.113.1", priority, gate.Counts{gate.Forged: 1}, [2]uint64{}},
		{"192.0.2.1", 0, gate.Counts{gate.Injected: 1}, [2]uint64{}},
		{"2001:db8::1", priority + 1, gate.Counts{gate.Injected: 1}, [2]uint64{}},
		{"192.0.2.1", priority &^ (1 << 30), gate.Counts{gate.Injected: 1}, [2]uint64{}},
	} {
		t.Run(fmt.Sprintf("%s, priority %x", c.from, c.priority), func(t *testing.T) {
			was, before := refused(h, "lo"), f.counts(t)
			h.Do(func() error {
				// The second one comes through, and tells when the first one is.
				return errors.Join(pin(), whisper(netip.MustParseAddr(c.from), c.priority, false), whisper(netip.MustParseAddr("192.0.2.1"), priority, true))
			})
			c.seen[1]++
			now, after := refused(h, "lo"), f.counts(t)
			for i := range was {
				was[i] = now[i] - was[i]
			}
			if was != c.refused || after[0]-before[0] != c.seen[0] || after[1]-before[1] != c.seen[1] {
				t.Errorf("refused %v, want %v; seen %v after %v, want %v more", was, c.refused, after, before, c.seen)
			}
		})
	}
}

func refused(h *netnstest.Host, link string) (out gate.Counts) {
	h.Do(func() error {
		counts, err := gate.Refused(link, false)
		out = counts
		return err
	})
	return out
}

// whisper sends a datagram with the priority from an address to itself, and is told
// whether to wait for it.
func whisper(a netip.Addr, priority int, heard bool) error {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // all is said
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, priority) })
	if err := errors.Join(err, set, c.SetReadDeadline(time.Now().Add(within))); err != nil {
		return err
	}
	_, err = c.WriteToUDPAddrPort([]byte("psst"), c.LocalAddr().(*net.UDPAddr).AddrPort())
	if err == nil && heard {
		_, err = c.Read(make([]byte, 10))
	}
	return err
}
