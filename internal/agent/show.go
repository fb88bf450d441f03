package agent

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/events"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// A List is what the agent shows of one kind of thing.
type List[T any] = view.List[T]

func list[T any](items []T) List[T] { return view.Of(items...) }

// Event is an event as an API server shows it.
type Event = events.Event

// Status is the agent's own state.
type Status struct {
	Node     string `json:"node"`
	PID      int    `json:"pid"`
	Ready    bool   `json:"ready"`
	Reason   string `json:"reason"`
	Observed int64  `json:"observed"`
	Applied  int64  `json:"applied"`
	Problems int    `json:"problems"`
	Metrics  string `json:"metrics"`
}

func (a *Agent) status(s *Snapshot) Status {
	return Status{a.config.Node, os.Getpid(), s.Ready, s.Reason, s.Observed, s.Applied, len(s.Problems), a.config.MetricsAddress}
}

func (s *Snapshot) problems() List[world.Problem] { return list(s.Problems) }

// Pod is a pod that is wired to this node.
type Pod struct {
	Namespace   string       `json:"namespace"`
	Name        string       `json:"name"`
	Addresses   []netip.Addr `json:"addresses"`
	Interface   string       `json:"interface"`
	Link        string       `json:"link"`
	Netns       string       `json:"netns"`
	ContainerID string       `json:"containerID"`
}

func pods(attachments *world.Attachments) List[Pod] {
	var out []Pod
	for _, at := range attachments.List {
		out = append(out, Pod{at.Namespace, at.Pod, at.Addresses, at.Interface,
			feature.Wire(at), at.Netns, at.ContainerID})
	}
	return list(out)
}

// Node is a node as this agent knows it.
type Node struct {
	Name      string         `json:"name"`
	Self      bool           `json:"self"`
	Addresses []netip.Addr   `json:"addresses"`
	PodCIDRs  []netip.Prefix `json:"podCIDRs"`
}

func (s *Snapshot) nodes() List[Node] {
	w := s.World
	if !s.known() {
		return list[Node](nil)
	}
	out := []Node{{w.Node.Name, true, w.Node.Addresses, w.Node.PodCIDRs}}
	for _, p := range w.Peers.Nodes {
		out = append(out, Node{p.Name, false, p.Addresses, p.PodCIDRs})
	}
	slices.SortFunc(out, func(x, y Node) int { return strings.Compare(x.Name, y.Name) })
	return list(out)
}

// Rendered is what the node must hold, as text.
type Rendered struct {
	NFT     string         `json:"nft"`
	IP      string         `json:"ip"`
	Reports []world.Report `json:"reports"`
}

func (s *Snapshot) rendered() Rendered {
	r := s.Rendered
	return Rendered{r.State.NFT(), r.State.IP(), r.Reports}
}

// Diff is what the kernel lacks, as commands.
type Diff struct {
	Changes []string `json:"changes"`
}

func (a *Agent) serveDiff(w http.ResponseWriter, _ *http.Request) {
	changes, err := a.diff()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, Diff{changes.Lines()})
}

// diff compares the kernel as it is with what the last turn wanted. While the node
// is unknown there is nothing to compare with.
func (a *Agent) diff() (datapath.Changes, error) {
	a.turning.Lock()
	defer a.turning.Unlock()
	s := a.snapshot.Load()
	if !s.known() {
		return datapath.Changes{}, fmt.Errorf("the agent is not ready: %s", s.Reason)
	}
	want := s.Rendered.State
	have, err := datapath.Read(want)
	if err != nil {
		return datapath.Changes{}, err
	}
	return datapath.Diff(have, want), nil
}

// Findings is what the doctor found.
type Findings struct {
	Findings []doctor.Finding `json:"findings"`
}

func (a *Agent) serveDoctor(w http.ResponseWriter, r *http.Request) {
	s := a.snapshot.Load()
	if !s.known() {
		answer(w, Findings{[]doctor.Finding{{ID: "agent", Status: doctor.Fail, Node: a.config.Node, Message: "the agent is not ready: " + s.Reason,
			Evidence: map[string]any{}, Hint: "see its log"}}})
		return
	}
	n := doctor.Node{Subject: s.subject(a.book.Attachments()), Diff: a.diff, Probe: r.URL.Query().Has("probe")}
	n.Pod.Namespace, n.Pod.Name, _ = strings.Cut(r.URL.Query().Get("pod"), "/")
	answer(w, Findings{doctor.Run(r.Context(), n, s.checks(a.config.Features, a.helpers))})
}

// known reports whether s has a node.
func (s *Snapshot) known() bool { return s.World != nil && s.World.Node != nil }

// checks are all questions to the node.
func (s *Snapshot) checks(features []feature.Feature, running helpers) []doctor.Check {
	out := slices.Clone(doctor.Checks)
	for _, f := range features {
		if f.On(s.World.Config) {
			out = append(out, f.Checks...)
		}
	}
	return append(out, running.checks(s)...)
}

// subject is what s and the pods that are attached tell of the node.
func (s *Snapshot) subject(attachments *world.Attachments) doctor.Subject {
	return doctor.Subject{World: s.World, Problems: s.Problems, Pools: s.pools(attachments)}
}

// pools are the node's pod addresses, where they are ours to give.
func (s *Snapshot) pools(attachments *world.Attachments) []doctor.Pool {
	if !s.known() || s.World.Config.Overlay.Mode == world.None {
		return nil
	}
	return cni.Pools(attachments, s.World.Node.PodCIDRs)
}
