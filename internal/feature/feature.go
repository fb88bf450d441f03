// Package feature says what a feature is: a pure function from the world to
// what a node must hold and what the cluster must be told.
package feature

import (
	"net/netip"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// A Feature turns the world into what this node must hold.
type Feature struct {
	Name string
	// Always: it has settings that leave all as it was, and no switch of its name.
	Always bool
	// PodNetwork: it makes pods a network. Where another CNI owns that it stays out of its
	// way.
	PodNetwork bool
	// Render returns a Render with a memory of its own.
	Render func() Render
	// Off is what annotations of this node's pods should say while the feature is
	// switched off; nil: whatever they say.
	Off func(*world.World) sorted.List[world.Note]
	// Keeps are the kinds of allocations that are the feature's own: they are on the disk
	// before the kernel holds them.
	Keeps []journal.Kind
	// Needs are the objects that Render reads besides Nodes and settings.
	Needs world.Needs
	// Astray tells the connections that would go elsewhere had they not begun while
	// the feature's rules were not there; nil where there are none. Nobody has answered
	// them.
	Astray func(*world.World) func(*conntrack.Entry) bool
	// Checks are the feature's own questions to the node.
	Checks []doctor.Check
	// Views are what people get of the feature; its helper answers them.
	Views []view.View
	// Recorded answers those of them, by name, that can be told without a helper: of a
	// node that was written to a file. What the file does not say, the answer leaves open.
	Recorded map[string]func(Seen) any
	// Refuses says why an attachment cannot be made with what it asks for, and the way
	// out; "": it can. nil: nothing is refused.
	Refuses func(*world.World, *world.Attachment) (reason, hint string)
	// Awaits says what is to be known before a pod has its network, of which the runtime
	// says the name and the UID; "": nothing more. nil: nothing is awaited.
	Awaits func(w *world.World, pod world.Key, uid string) string
	// Start makes what runs beside the agent's loop; nil where nothing does. It looks at
	// nothing and changes nothing: that begins with what the helper is asked.
	Start func(Host) Helper
}

// A Result is what one feature makes of the world.
type Result struct {
	Part     datapath.Part
	Reports  []world.Report
	Problems []world.Problem
	// Allocations are what the feature gives out, of the kinds that are its own;
	// nil where it gives out nothing. Given back as the world's, they stay, pointer
	// and all, and so does the rest of the result.
	Allocations *world.Parts
	// Notes are what annotations of this node's pods should say, in the order of
	// [world.CompareNotes].
	Notes sorted.List[world.Note]
	// Events are of what holds now: each is told once, when it begins.
	Events []world.Event
	// Leads are the ports of the node for UDP that lead to pods. A connection of UDP
	// lasts as long as somebody sends: the agent has those that are there follow.
	Leads []Lead
	// Counts are what metrics tell of the feature, by name: counted once, however
	// often they are asked for.
	Counts map[string]int
}

// A Lead is a port of the node that leads to a port of a pod.
type Lead struct {
	Port world.HostPort
	To   netip.AddrPort
}

// Takes reports whether packets to a local address go by l.
func (l Lead) Takes(to netip.AddrPort) bool {
	return l.Port.Port == to.Port() && l.To.Addr().Is4() == to.Addr().Is4() && (l.Port.Anywhere() || l.Port.Address == to.Addr())
}

// On reports whether the feature is on for a node with the given settings.
func (f Feature) On(c *world.Config) bool {
	return c.Enabled(f.Name) && (!f.PodNetwork || c.Overlay.Mode != world.None)
}

// Switches are those that can be switched off, by their names.
func Switches(features []Feature) (out []world.Switch) {
	for _, f := range features {
		if !f.Always {
			out = append(out, world.Switch{Name: f.Name, PodNetwork: f.PodNetwork})
		}
	}
	slices.SortFunc(out, func(a, b world.Switch) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Needs is what all the given features need together.
func Needs(features []Feature) world.Needs {
	var out world.Needs
	for _, f := range features {
		out = out.With(f.Needs)
	}
	return out
}
