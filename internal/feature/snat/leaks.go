package snat

import (
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/world"
)

// What no translation met would leave as it is: packets that conntrack calls invalid or
// that somebody keeps from it, and all packets while somebody's flush has taken the
// rules away. Where the kernel runs programs at the exit of links, a gate at each exit
// lets out of what is from this node's pods only what is for the inside. It sees
// packets as they leave, and costs those that stay on the node and those in the tunnel
// nothing. Elsewhere, and beside another network, whose links these are, a rule in
// forward ends what is invalid or untracked.

// exits are the interfaces that have gates.
func exits(w *world.World) []string {
	if !w.Kernel.Capabilities.TCXEgress.OK || beside(w) || len(w.Node.PodCIDRs) == 0 {
		return nil
	}
	var out []string
	for _, i := range w.Kernel.Interfaces {
		if i.Name != "lo" && !i.Port {
			out = append(out, i.Name)
		}
	}
	return out
}

func gates(w *world.World, exits []string, inside []netip.Prefix) []gate.Gate {
	var out []gate.Gate
	for _, name := range exits {
		out = append(out, gate.Gate{Link: name, Egress: true, Sources: w.Node.PodCIDRs, To: inside})
	}
	return out
}

// untranslated is what does the same to what is invalid or untracked, as rules.
func untranslated() []*nft.Chain {
	const name = "untranslated"
	end := &nft.Chain{Name: name}
	for _, f := range nft.Families {
		end.Rules = append(end.Rules, nft.Rule{nft.SaddrIn(f, pods(f)), nft.DaddrNotIn(f, inside(f)), nft.Counter(), nft.Drop()})
	}
	return []*nft.Chain{{Name: "forward", Type: nft.Filter, Hook: nft.Forward, Priority: datapath.SNATForwardPriority,
		Rules: []nft.Rule{{nft.CTState(nft.Invalid | nft.Untracked), nft.Goto(name)}}}, end}
}
