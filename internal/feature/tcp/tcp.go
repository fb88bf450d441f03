// Package tcp sets how TCP behaves in the network namespaces of pods, and of the
// node where somebody asks for it: what timestamps count from, and whether a port
// in TIME_WAIT is used again.
//
// A translated connection may bear a source port that the server still holds in
// TIME_WAIT for another. Linux takes the new one if its timestamp is later (RFC 6191;
// tcp_minisocks.c, tcp_timewait_state_process), which offsets of each connection
// make a matter of luck. Without offsets all pods of a node read one clock.
//
// A namespace may have a value of its own. What the kernel gives every new
// namespace is nobody's; a value that is another when it is first seen, or that is
// changed after it was set, is somebody's own and stays. See decision 0035.
package tcp

import (
	"fmt"
	"slices"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/settings"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is the settings of TCP.
var Feature = feature.Feature{
	Name:   "tcp",
	Always: true, // its settings may say keep, and what it set is put back
	Render: func() feature.Render { return feature.Memo(readsOf, render) },
	Checks: []doctor.Check{podTCP},
}

// reads is all that render looks at.
type reads struct {
	node        string
	attachments *world.Attachments
	seen        *world.TCPSeen
	settings    *settings.List
	pods, own   world.TCP
	mode        world.OverlayMode
}

func readsOf(w *world.World) reads {
	return reads{w.Node.Name, w.Attachments, w.TCP, settings.Kept.Of(w.Allocations), w.Config.PodTCP, w.Config.NodeTCP, w.Config.Overlay.Mode}
}

func render(w *world.World) feature.Result {
	var r feature.Result
	now := &settings.List{}
	for _, key := range world.TCPKeys {
		nodes(w, key, &r, now)
	}
	var refused []world.Problem
	for _, a := range w.Attachments.List {
		seen, ok := w.TCP.Pod(a)
		for _, key := range world.TCPKeys {
			ours, known := settings.Kept.Of(w.Allocations).Find(a.Key(), key)
			switch {
			case ok && seen.Refused == "":
				j := judge(w, a, key)
				r.Part.Settings = append(r.Part.Settings, j.set...)
				now.List = append(now.List, j.ours...)
			case known:
				now.List = append(now.List, ours) // until it can be looked at
			}
		}
		if ok && seen.Refused != "" && (wanted(w, a) != world.TCP{} || isHeld(w, a)) {
			refused = append(refused, refusal(a, seen.Refused))
		}
	}
	r.Problems = append(r.Problems, few(w.Node.Name, refused)...)
	slices.SortFunc(now.List, settings.Setting.Compare)
	if last := settings.Kept.Of(w.Allocations); last != nil && last.Equal(now) {
		now = last
	}
	if settings.Kept.Of(w.Allocations) != nil || len(now.List) > 0 {
		r.Allocations = settings.Kept.Only(now)
	}
	return r
}

// wanted is what an attachment's namespace is to have. Where another network makes
// the pods' wires, those that are still ours are left as they were.
func wanted(w *world.World, a *world.Attachment) world.TCP {
	if w.Config.Overlay.Mode == world.None && !a.Chained {
		return world.TCP{}
	}
	return w.Config.PodTCP
}

func isHeld(w *world.World, a *world.Attachment) bool {
	return slices.ContainsFunc(world.TCPKeys, func(key string) bool {
		_, known := settings.Kept.Of(w.Allocations).Find(a.Key(), key)
		return known
	})
}

// nobodys are the values that kernels give new namespaces. From 4.19 on ports in
// TIME_WAIT are used again on the loopback (79e9fed460385a3d8ba0b5782e9e74405cb199b1).
var nobodys = map[string][]string{world.TCPTimestamps: {"1"}, world.TCPReuse: {"0", "2"}}

// A judgement is what becomes of one setting of a pod's namespace.
type judgement struct {
	set  []sysctl.Setting   // at most one
	ours []settings.Setting // at most one
	own  string             // the pod's own value, where another is wanted
}

// judge decides about a setting of a namespace that is seen.
func judge(w *world.World, a *world.Attachment, key string) judgement {
	seen, _ := w.TCP.Pod(a)
	value, want := seen.Of(key), wanted(w, a).Of(key)
	ours, known := settings.Kept.Of(w.Allocations).Find(a.Key(), key)
	switch {
	case value == "": // the kernel has no such setting
		return judgement{}
	case known && value != ours.Value && (ours.From == "" || value != ours.From):
		return judgement{ours: []settings.Setting{ours}, own: unlike(value, want)} // to be known as the pod's own
	case !known && !slices.Contains(nobodys[key], value):
		return judgement{own: unlike(value, want)}
	case !known:
		ours = settings.Setting{Holder: a.Key(), Netns: a.Netns, Inode: a.Inode, Key: key, Before: value}
	}
	if ours.Value = want; want == "" {
		ours.Value = ours.Before
	}
	ours.From = ""
	set := sysctl.Setting{Netns: a.Netns, Key: key, Value: ours.Value, Done: true}
	if value != ours.Value {
		ours.From, set.From, set.Done = value, value, false
	} else if ours.Value == ours.Before {
		return judgement{} // and nothing is left of us
	}
	return judgement{set: []sysctl.Setting{set}, ours: []settings.Setting{ours}}
}

// unlike is value where another is wanted.
func unlike(value, want string) string {
	if want == "" || value == want {
		return ""
	}
	return value
}

// nodes decides about a setting of the node's own namespace. What is asked for is
// kept, whoever wants it otherwise; what was before is put back if it is still ours.
func nodes(w *world.World, key string, r *feature.Result, now *settings.List) {
	value, want := w.TCP.Node.Of(key), w.Config.NodeTCP.Of(key)
	ours, known := settings.Kept.Of(w.Allocations).Find("", key)
	switch {
	case want == "" && (!known || value != ours.Value || value == ours.Before):
		return
	case want != "" && value == "":
		r.Problems = append(r.Problems, world.Problem{Object: "Node " + w.Node.Name, Field: key, Reason: "this kernel has no such setting",
			Hint: "leave hostTCPTimestamps and hostTCPReuse out, or run a newer kernel"})
		return
	case !known:
		ours = settings.Setting{Key: key, Before: value}
	}
	if want == "" {
		want = ours.Before
	} else {
		ours.Value = want
	}
	now.List = append(now.List, ours)
	r.Part.Settings = append(r.Part.Settings, sysctl.Setting{Key: key, Value: want})
}

func refusal(a *world.Attachment, why string) world.Problem {
	return world.Problem{Object: "Pod " + a.Namespace + "/" + a.Pod, Field: "TCP settings", Reason: "cannot be set: " + why,
		Hint: "the pod has its network all the same; the agent retries every minute"}
}

// most bounds how many pods are named whose settings cannot be set. Where there are
// more, the reason is hardly theirs.
const most = 10

func few(node string, refused []world.Problem) []world.Problem {
	if len(refused) <= most {
		return refused
	}
	p := refused[0]
	p.Reason = fmt.Sprintf("of %d pods, such as %s, %s", len(refused), p.Object, p.Reason)
	p.Object, p.Hint = "Node "+node, "the pods have their network all the same; the agent retries every minute"
	return []world.Problem{p}
}
