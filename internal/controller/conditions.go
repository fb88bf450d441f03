package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
)

// A Cluster is what the controller goes by.
type Cluster struct {
	Nodes   map[string]*corev1.Node // by name; what counts of them
	Objects []Object
	Reports []*v1alpha1.FairleadNode
}

// An Object is one whose conditions are made, among others of what agents report of it.
type Object struct {
	metav1.Object // another one once it has changed
	Kind          string
	Resource      string
	Status                       // that it shows
	Types         []contribution // of reports, to its conditions
	Node          string         // whose agent alone it is for; "": all
	NoNode        string         // what is the matter while there is no such Node
}

// A Status is what the controller makes of an object.
type Status struct {
	Conditions []metav1.Condition
	Addresses  []v1alpha1.EgressAddress // of an Egress
}

// A contribution is the type of a condition that is made of reports, and the status of
// it that a single node's report is enough for: what is bad.
type contribution struct {
	condition string
	bad       metav1.ConditionStatus // True or False
}

// good is the other one.
func (c contribution) good() metav1.ConditionStatus {
	if c.bad == metav1.ConditionTrue {
		return metav1.ConditionFalse
	}
	return metav1.ConditionTrue
}

// String is the object as reports name it.
func (o Object) String() string { return o.Kind + " " + o.GetName() }

// configs are the objects of kind AgentConfig.
const configs = "agentconfigs"

func ofConfig(c *v1alpha1.AgentConfig) Object {
	o := Object{Object: c, Kind: "AgentConfig", Resource: configs, Status: Status{Conditions: c.Status.Conditions},
		Types: []contribution{{v1alpha1.ConditionAccepted, metav1.ConditionFalse}}}
	if c.Name != v1alpha1.DefaultConfig {
		o.Node = c.Name
		o.NoNode = fmt.Sprintf("there is no Node %s: name an AgentConfig default, or after a Node", c.Name)
	}
	return o
}

// The reasons of conditions that no agent reports.
const (
	reasonNoNode = "NoSuchNode" // False: it is for a Node that is not there
	reasonUnread = "NotRead"    // Unknown: no agent has read it, or it as it is now
)

// A subject is what a condition is about, in the words of reports.
type subject struct{ object, condition string }

// A report is one of a node's.
type report struct {
	node string
	*v1alpha1.ObjectReport
}

// makesSense reports whether r says something. The API server's schema asks for as much;
// files have none.
func (r report) makesSense() bool {
	known := r.Status == metav1.ConditionTrue || r.Status == metav1.ConditionFalse || r.Status == metav1.ConditionUnknown
	return known && r.Reason != ""
}

// Verdicts returns the conditions of each object, without their times, by its name as
// a String. A report counts while its Node is there and its agent is heard of, and once
// it is about the generation that the object has now. Every report is looked at once.
func (c *Cluster) Verdicts() map[string][]metav1.Condition {
	byName := make(map[string]*v1alpha1.FairleadNode, len(c.Reports))
	for _, r := range c.Reports {
		if c.Nodes[r.Name] != nil {
			byName[r.Name] = r
		}
	}
	silent := map[string]bool{}
	said := map[subject][]report{} // in the order of nodes
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		r := byName[name]
		if isSilent(r) {
			silent[name] = true
			continue
		}
		for i := range r.Status.ObjectReports {
			p := &r.Status.ObjectReports[i]
			s := subject{p.Object, p.Type}
			said[s] = append(said[s], report{name, p})
		}
	}
	out := make(map[string][]metav1.Condition, len(c.Objects))
	for _, o := range c.Objects {
		t := tally{of: len(byName), silent: len(silent)}
		if o.Node != "" {
			t = tally{}
			if byName[o.Node] != nil {
				t.of = 1
			}
			if silent[o.Node] {
				t.silent = 1
			}
		}
		for _, t.contribution = range o.Types {
			condition := t.count(o, said[subject{o.String(), t.condition}]).made()
			if o.Node != "" && c.Nodes[o.Node] == nil {
				condition = metav1.Condition{Status: t.bad, Reason: reasonNoNode, Message: o.NoNode}
			}
			condition.Type, condition.ObservedGeneration = t.condition, o.GetGeneration()
			out[o.String()] = append(out[o.String()], condition)
		}
	}
	return out
}

// isSilent reports whether the agent of a node has not been heard of for too long. Its
// report says so, whoever led when that was found out.
func isSilent(r *v1alpha1.FairleadNode) bool {
	return slices.ContainsFunc(r.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == ready && c.Status == metav1.ConditionUnknown
	})
}

// A tally is what nodes say of one condition of one object.
type tally struct {
	contribution
	of     int    // nodes that it is for
	silent int    // of them, those that are not heard of
	read   int    // nodes that say something of the object as it is now
	well   string // why all is well, as the first says for whom it is
	found  map[finding]*where
}

// A finding is what several nodes find in one object.
type finding struct {
	status          metav1.ConditionStatus // what is bad, or Unknown
	reason, message string
}

// where are the nodes with a finding: how many, and an example.
type where struct {
	nodes         int
	example, last string
}

// count counts what nodes, one after the other, say of an object.
func (t tally) count(o Object, said []report) tally {
	t.found = map[finding]*where{}
	last := ""
	for _, r := range said {
		if r.ObservedGeneration != o.GetGeneration() || o.Node != "" && r.node != o.Node || !r.makesSense() {
			continue
		}
		if r.node != last {
			last = r.node
			t.read++
		}
		if r.Status == t.good() {
			t.well = cmp.Or(t.well, r.Reason)
			continue
		}
		f := finding{r.Status, r.Reason, r.Message}
		w := t.found[f]
		if w == nil {
			w = &where{example: r.node}
			t.found[f] = w
		}
		if w.last != r.node {
			w.last = r.node
			w.nodes++
		}
	}
	return t
}

// made is the condition that comes of it: bad where one node says so, good where others
// do, and else Unknown.
func (t tally) made() metav1.Condition {
	order := slices.SortedFunc(maps.Keys(t.found), func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.status, b.status), // what is bad comes before Unknown
			cmp.Compare(t.found[b].nodes, t.found[a].nodes), cmp.Compare(a.message, b.message), cmp.Compare(a.reason, b.reason))
	})
	var c metav1.Condition
	var said []string
	switch {
	case len(order) > 0 && order[0].status == t.bad:
		c.Status, c.Reason = t.bad, order[0].reason
	case t.well != "":
		c.Status, c.Reason = t.good(), t.well
		said = append(said, fmt.Sprintf("read on %d of %s, without a problem", t.read, nodes(t.of)))
	case len(order) > 0:
		c.Status, c.Reason = metav1.ConditionUnknown, order[0].reason
	default:
		c.Status, c.Reason = metav1.ConditionUnknown, reasonUnread
		said = append(said, "no agent has read its current version")
	}
	for i, f := range order {
		if i == mostFindings {
			said = append(said, fmt.Sprintf("and %d more", len(order)-i))
			break
		}
		said = append(said, t.tell(f))
	}
	if t.silent > 0 {
		said = append(said, fmt.Sprintf("unknown on %d of %s, whose agents are silent", t.silent, nodes(t.of)))
	}
	c.Message = strings.Join(said, "; ")
	return c
}

// What a condition's message has room for.
const (
	mostFindings = 10
	mostOfOne    = 512 // bytes of one finding
)

// tell puts a finding into words: what it is, on how many nodes, and where to look.
func (t tally) tell(f finding) string {
	w := t.found[f]
	s := fmt.Sprintf("%s on %d of %s", quote.Text(cmp.Or(f.message, f.reason), mostOfOne), w.nodes, nodes(t.of))
	switch w.nodes {
	case t.of:
		return s
	case 1:
		return fmt.Sprintf("%s (%s)", s, w.example)
	}
	return fmt.Sprintf("%s (%s and %d more)", s, w.example, w.nodes-1)
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}
