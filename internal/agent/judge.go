package agent

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// judge decides what the error of a turn means. A node is ready that can serve new
// pods: whatever concerns one pod, one peer or one feature is a Problem there, is
// tried again, and lets the node be.
func (a *Agent) judge(last, now *Snapshot, err error) {
	known := now.World != nil && now.World.Node != nil
	now.Ready = known && (err == nil || !now.everybodys())
	if err != nil {
		now.unapplied = quote.Errors(err)
		a.say(last, now, err)
	}
	switch {
	case err != nil && !now.Ready:
		now.Reason = now.unapplied
	case err != nil:
		now.Problems = append(slices.Clone(now.Problems), now.failed(a.config.Node)...)
	case known:
		now.Applied = now.Observed
	}
	if now.Ready {
		a.see(last, now)
	}
}

// say puts an error into the log when it is new.
func (a *Agent) say(last, now *Snapshot, err error) {
	switch {
	case last.unapplied == now.unapplied:
	case errors.Is(err, source.ErrWaiting):
		a.config.Log.Info("nothing applied yet", "reason", now.unapplied)
	default:
		a.config.Log.Error("not applied; trying again", "error", now.unapplied)
	}
}

// everybodys reports whether what failed concerns every pod. Where nothing was even
// tried, because the kernel or the objects cannot be read, it does.
func (s *Snapshot) everybodys() bool {
	return len(s.Failures) == 0 || slices.ContainsFunc(s.Failures, s.needed)
}

// needed reports whether every pod needs what was refused: rules, the tunnel's device, gate
// and addresses, settings of the whole node, such as forwarding, and the node's own
// pod CIDRs, which may be those of another network's bridge.
func (s *Snapshot) needed(f datapath.Failure) bool {
	switch f.Kind {
	case datapath.KindRules:
		return true
	case datapath.KindLink, datapath.KindAddress, datapath.KindGate:
		return f.Link == datapath.VXLANLink
	case datapath.KindSetting:
		return f.Link == "" && !slices.Contains(world.TCPKeys, f.Setting.Key)
	case datapath.KindRoute:
		return f.Link == "" && slices.ContainsFunc(s.World.Node.PodCIDRs, func(c netip.Prefix) bool { return c.Addr() == f.Addr })
	}
	return false
}

// mostReasons bounds how many failures of one object are told.
const mostReasons = 3

// failed are the failures as Problems, one for each object that is concerned.
func (s *Snapshot) failed(node string) []world.Problem {
	var out []world.Problem
	reasons := map[string][]error{}
	for _, f := range s.Failures {
		object := cmp.Or(s.concerned(f), "Node "+node)
		if reasons[object] == nil {
			out = append(out, world.Problem{Object: object, Field: "network", Hint: "it is tried again; the rest of the node is as it should be"})
		}
		reasons[object] = append(reasons[object], f.Err)
	}
	for i, p := range out {
		all := reasons[p.Object]
		out[i].Reason = "the kernel refuses: " + quote.Errors(errors.Join(all[:min(len(all), mostReasons)]...))
		if more := len(all) - mostReasons; more > 0 {
			out[i].Reason += fmt.Sprintf(", and %d more", more)
		}
	}
	return out
}

// concerned is the pod or the peer whom a failure concerns; "": neither.
func (s *Snapshot) concerned(f datapath.Failure) string {
	for _, a := range s.World.Attachments.List {
		if wire := feature.Wire(a); f.Link == wire || f.Link == datapath.IFBLink(wire) {
			return "Pod " + a.Namespace + "/" + a.Pod
		}
	}
	if !f.Addr.IsValid() {
		return ""
	}
	for _, p := range s.World.Peers.Nodes {
		if slices.Contains(p.Addresses, f.Addr) || slices.Contains(p.Ends, f.Addr) {
			return "Node " + p.Name
		}
		for _, c := range p.PodCIDRs {
			if c.Contains(f.Addr) {
				return "Node " + p.Name
			}
		}
	}
	return ""
}

// ofDisk is what the disk lacks, as Problems: the kernel and memory have it.
func (a *Agent) ofDisk(lacks ...error) []world.Problem {
	err := errors.Join(lacks...)
	if err == nil {
		return nil
	}
	return []world.Problem{{Object: "Node " + a.config.Node, Field: "state directory", Reason: quote.Errors(err),
		Hint: "make room in " + a.config.StateDir + ", or make it writable; pods are served meanwhile, and what is owed is written then"}}
}
