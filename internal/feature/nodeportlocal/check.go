package nodeportlocal

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

const (
	mostTried = 3           // mappings that one visit connects to
	tryWithin = time.Second // each
)

// check asks whether the ports that lead to pods are held, told and lead
// there. That the kernel's map is as it should be is part of kernel-state.
func (p *holder) check(s feature.Seen) doctor.Check {
	return doctor.Check{
		ID: "nodeportlocal", Ask: "Are ports of the node DNATed to pods, and reserved?",
		Read: func(subject doctor.Subject) []doctor.Finding {
			if len(mapped(s).Mappings) == 0 && subject.Pod == (world.Key{}) {
				return []doctor.Finding{{Status: doctor.OK, Message: "no Service selects pods of this node for NodePortLocal"}}
			}
			return nil
		},
		Needs: "the agent's sockets, and connections to the ports",
		Look: func(ctx context.Context, n doctor.Node) []doctor.Finding {
			d := mapped(s)
			var out []doctor.Finding
			out = append(out, p.checkHeld(d)...)
			out = append(out, p.checkTold(s)...)
			some := chosen(d, n.Subject)
			if len(some) == 0 && n.Pod != (world.Key{}) {
				return append(out, doctor.Finding{Status: doctor.Warn, Object: "Pod " + n.Pod.Namespace + "/" + n.Pod.Name,
					Message: "no TCP port of this node leads to it", Hint: "fairlead get nodeportlocal lists the pods of this node that have one"})
			}
			tried, failed := tryMappings(ctx, n.World, some)
			out = append(out, failed...)
			if len(out) == 0 {
				out = append(out, doctor.Finding{Status: doctor.OK, Evidence: map[string]any{"tried": tried},
					Message: fmt.Sprintf("ports of the node lead to pods, %d in all; tried were %d of them", d.Ports.List.Len(), len(tried))})
			}
			return out
		},
	}
}

// mapped is what was decided; nothing where the feature is switched off.
func mapped(s feature.Seen) *Decision {
	return cmp.Or(decided(s), &Decision{Ports: &NodePorts{}})
}

// checkHeld compares the sockets with the ports that lead to pods.
func (p *holder) checkHeld(d *Decision) []doctor.Finding {
	var out []doctor.Finding
	have := map[world.Port]bool{}
	for _, port := range p.sockets.Ports() {
		have[port] = true
	}
	var without []world.Port
	for n := range d.Ports.List.All() {
		if port := n.Port; have[port] {
			delete(have, port)
		} else if n.Protocol != unix.IPPROTO_SCTP { // whose sockets most kernels lack; events tell
			without = append(without, n.Port)
		}
	}
	if len(without) > 0 {
		out = append(out, doctor.Finding{Status: doctor.Warn, Message: "ports that are DNATed to pods are not reserved: " + some(without),
			Hint: "fairlead get nodeportlocal says why they are not reserved"})
	}
	if len(have) > 0 {
		var left []world.Port
		for port := range have {
			left = append(left, port)
		}
		slices.SortFunc(left, world.Port.Compare)
		out = append(out, doctor.Finding{Status: doctor.Warn, Message: "ports that are not DNATed any more are not released: " + some(left),
			Hint: "see the agent's log; it tries again"})
	}
	return out
}

// checkTold compares the pods' annotations with what they should say, where the
// cluster shows them.
func (p *holder) checkTold(s feature.Seen) []doctor.Finding {
	if !p.host.ShowsNotes || s.Result == nil {
		return nil
	}
	var other []world.Key
	for n := range s.Result.Notes.All() {
		if text, _ := n.Pod.Local.Annotations.Get(n.Name); text != n.Value {
			other = append(other, n.Pod.Key)
		}
	}
	if len(other) == 0 {
		return nil
	}
	return []doctor.Finding{{Status: doctor.Warn, Object: "Pod " + other[0].Namespace + "/" + other[0].Name,
		Message: fmt.Sprintf("the annotation %s is not as it should be, of %d pods in all", world.NodePortLocalPorts, len(other)),
		Hint:    "it follows within seconds while the API server answers; otherwise see fairlead_status_write_failures_total"}}
}

// chosen are the mappings to connect to: all of the pod that is asked about, and
// otherwise a few of any.
func chosen(d *Decision, subject doctor.Subject) []Mapping {
	var out []Mapping
	for _, i := range rand.Perm(len(d.Mappings)) {
		m := d.Mappings[i]
		_, ours := subject.World.Node.Address(m.Address)
		if m.HostPort || m.Port.Number == 0 || m.Port.Protocol != unix.IPPROTO_TCP || !ours {
			continue
		}
		if subject.Pod == (world.Key{}) && len(out) < mostTried || subject.Pod == m.Pod.Key {
			out = append(out, m)
		}
	}
	return out
}

// tryMappings connects to ports. One whose pod does not answer itself either says
// nothing.
func tryMappings(ctx context.Context, w *world.World, mappings []Mapping) (tried []string, failed []doctor.Finding) {
	for _, m := range mappings {
		address, _ := w.Node.Address(m.Address)
		by, pod := netip.AddrPortFrom(address, m.Port.Number), netip.AddrPortFrom(m.Address, m.PodPort)
		tried = append(tried, by.String())
		if err := try(ctx, by); err != nil && try(ctx, pod) == nil {
			failed = append(failed, doctor.Finding{Status: doctor.Fail, Object: "Pod " + m.Pod.Namespace + "/" + m.Pod.Name,
				Message: fmt.Sprintf("%s answers, and %s does not lead there: %v", pod, by, err), Hint: "see kernel-state; another table may take the packets first: nft list ruleset"})
		}
	}
	return tried, failed
}

func try(ctx context.Context, to netip.AddrPort) error {
	c, err := (&net.Dialer{Timeout: tryWithin}).DialContext(ctx, "tcp", to.String())
	if err == nil {
		err = c.Close()
	}
	return err
}
