package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"fairlead.dev/fairlead/api/v1alpha1"

	"fairlead.dev/fairlead/internal/quote"
)

// A Cluster is what the controller goes by.
type Cluster struct {
	Nodes   map[string]bool // names
	Configs []*v1alpha1.AgentConfig
	Reports []*v1alpha1.FairleadNode
}

// Accepted is the type of the condition that says whether an AgentConfig is
// without mistakes.
const Accepted = "Accepted"

// The reasons of Accepted.
const (
	reasonAccepted = "Accepted"   // True: nodes have read it, and none found a mistake
	reasonProblems = "Problems"   // False: some did
	reasonNoNode   = "NoSuchNode" // False: it is named after a Node that is not there
	reasonUnread   = "NotRead"    // Unknown: no agent has read it, or it as it is now
)

// Accept returns the condition Accepted of each AgentConfig, by name, without its
// times. A report counts while its Node is there, and once it is about the
// generation that the object has now.
func (c *Cluster) Accept() map[string]metav1.Condition {
	byName := map[string]*v1alpha1.FairleadNode{}
	for _, r := range c.Reports {
		if c.Nodes[r.Name] {
			byName[r.Name] = r
		}
	}
	all := slices.SortedFunc(maps.Values(byName), func(a, b *v1alpha1.FairleadNode) int { return cmp.Compare(a.Name, b.Name) })
	settings := map[string]spec{}
	for _, config := range c.Configs {
		settings[config.Name] = specOf(config)
	}
	out := map[string]metav1.Condition{}
	for _, config := range c.Configs {
		audience := all
		if config.Name != v1alpha1.DefaultConfig {
			audience = nil
			if r := byName[config.Name]; r != nil {
				audience = []*v1alpha1.FairleadNode{r}
			}
		}
		condition := accept(config, audience, settings)
		if config.Name != v1alpha1.DefaultConfig && !c.Nodes[config.Name] {
			condition.Status, condition.Reason = metav1.ConditionFalse, reasonNoNode
			condition.Message = fmt.Sprintf("there is no Node %s: name an AgentConfig default, or after a Node", config.Name)
		}
		condition.Type, condition.ObservedGeneration = Accepted, config.Generation
		out[config.Name] = condition
	}
	return out
}

// accept says what the agents that the AgentConfig is for make of it, one of all
// settings.
func accept(config *v1alpha1.AgentConfig, audience []*v1alpha1.FairleadNode, settings map[string]spec) metav1.Condition {
	mistakes := map[mistake][]string{} // the nodes that find it
	read := 0
	for _, r := range audience {
		if !slices.Contains(r.Status.ObservedConfigs, v1alpha1.ObservedConfig{Name: config.Name, Generation: config.Generation}) {
			continue
		}
		read++
		for _, p := range r.Status.Problems {
			if m, ok := about(p, config.Name, r.Name, settings); ok {
				if nodes := mistakes[m]; len(nodes) == 0 || nodes[len(nodes)-1] != r.Name {
					mistakes[m] = append(nodes, r.Name)
				}
			}
		}
	}
	switch {
	case len(mistakes) > 0:
		return metav1.Condition{Status: metav1.ConditionFalse, Reason: reasonProblems, Message: tell(mistakes, len(audience))}
	case read == 0:
		return metav1.Condition{Status: metav1.ConditionUnknown, Reason: reasonUnread, Message: "no agent has read its current version"}
	}
	return metav1.Condition{Status: metav1.ConditionTrue, Reason: reasonAccepted,
		Message: fmt.Sprintf("read on %d of %s, without a problem", read, nodes(len(audience)))}
}

// about reports whether a problem in the report of a node is about the AgentConfig:
// it says so, or it is what that setting leads to on the node. The node's own
// AgentConfig answers for what it sets, and the default one for the rest.
func about(p v1alpha1.Problem, config, node string, settings map[string]spec) (mistake, bool) {
	if p.Object == "AgentConfig "+config {
		return mistake{p.Field, p.Reason, p.Hint}, true
	}
	if p.Object != "Node "+node || !settings[config].sets(p.Field) || config != node && settings[node].sets(p.Field) {
		return mistake{}, false
	}
	return mistake{"spec." + p.Field, p.Reason, p.Hint}, true
}

// A spec is what an AgentConfig sets, by JSON names.
type spec map[string]any

func specOf(config *v1alpha1.AgentConfig) spec {
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&config.Spec)
	if err != nil {
		return nil // a type of ours that cannot be written as JSON: no test passes
	}
	return out
}

// sets reports whether there is a field such as overlay.mtu.
func (s spec) sets(field string) bool {
	name, rest, deeper := strings.Cut(field, ".")
	value, ok := s[name]
	if !deeper || !ok {
		return ok
	}
	inner, ok := value.(map[string]any)
	return ok && spec(inner).sets(rest)
}

// A mistake is what several nodes find in one object.
type mistake struct{ field, reason, hint string }

// What a condition's message has room for.
const (
	mostMistakes = 10
	mostNames    = 3
	mostOfOne    = 512 // bytes of one mistake
)

// tell puts mistakes into words: those that most of the n nodes find come first.
func tell(mistakes map[mistake][]string, n int) string {
	order := slices.SortedFunc(maps.Keys(mistakes), func(a, b mistake) int {
		return cmp.Or(cmp.Compare(len(mistakes[b]), len(mistakes[a])),
			cmp.Compare(a.field, b.field), cmp.Compare(a.reason, b.reason), cmp.Compare(a.hint, b.hint))
	})
	var said []string
	for i, m := range order {
		if i == mostMistakes {
			said = append(said, fmt.Sprintf("and %d more", len(order)-i))
			break
		}
		found := mistakes[m]
		where := fmt.Sprintf(" on %d of %s", len(found), nodes(n))
		if len(found) < n {
			where += " (" + names(found) + ")"
		}
		said = append(said, m.String()+where)
	}
	return strings.Join(said, "; ")
}

// String is the mistake in one sentence: field, reason, and the way out.
func (m mistake) String() string {
	s := m.reason
	if m.field != "" {
		s = m.field + ": " + s
	}
	if m.hint != "" {
		s += " (" + m.hint + ")"
	}
	return quote.Text(s, mostOfOne)
}

func names(all []string) string {
	if more := len(all) - mostNames; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:mostNames], ", "), more)
	}
	return strings.Join(all, ", ")
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}
