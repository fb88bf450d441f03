package report

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// condition is a report about the node in the words of the API.
func condition(r world.Report) metav1.Condition {
	return metav1.Condition{Type: r.Type, Status: statusOf(r), Reason: r.Reason, Message: short(r.Message)}
}

func statusOf(r world.Report) metav1.ConditionStatus {
	switch {
	case r.Unknown:
		return metav1.ConditionUnknown
	case r.Status:
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

// longestObject is how long the name of an object may be that the cluster is told, in
// bytes.
const longestObject = 384

// listReports puts as many of the reports about other objects into a status as have
// room, and counts the others. Every object has its first before one has its second:
// what is wrong with one hides no other.
func listReports(to *v1alpha1.FairleadNodeStatus, reports []world.Report) {
	type subject struct{ object, condition string }
	told := make(map[subject]bool, len(reports))
	var first, further []world.Report
	for _, r := range reports {
		if s := (subject{r.Object, r.Type}); told[s] {
			further = append(further, r)
		} else {
			told[s] = true
			first = append(first, r)
		}
	}
	room := min(mostReported/2, mostReported-sizeOf(to)) // the rest is for problems
	for _, r := range append(first, further...) {
		one := v1alpha1.ObjectReport{Object: quote.Text(r.Object, longestObject), Type: r.Type, Status: statusOf(r),
			ObservedGeneration: r.Generation, Reason: r.Reason, Message: short(r.Message)}
		if room -= sizeOf(one) + 1; room < 0 || len(to.ObjectReports) == v1alpha1.MaxObjectReports {
			break
		}
		to.ObjectReports = append(to.ObjectReports, one)
	}
	to.MoreObjectReports = int64(len(reports) - len(to.ObjectReports))
}

// configReports say of each of the AgentConfigs that make up the node's settings what
// came of it here: every mistake in it, or that there is none.
func configReports(configs []*v1alpha1.AgentConfig, node string, problems []world.Problem) (out []world.Report) {
	settings := map[string]spec{}
	if len(problems) > 0 {
		for _, c := range configs {
			settings[c.Name] = specOf(c)
		}
	}
	for _, c := range configs {
		r := world.Report{Object: "AgentConfig " + c.Name, Type: v1alpha1.ConditionAccepted, Generation: c.Generation, Reason: "Problems"}
		told := map[string]bool{}
		for _, p := range problems {
			field, about := isAbout(p, c.Name, node, settings)
			if !about {
				continue
			}
			if r.Message = mistake(field, p); !told[r.Message] {
				told[r.Message] = true
				out = append(out, r)
			}
		}
		if len(told) == 0 {
			r.Status, r.Reason, r.Message = true, "Accepted", ""
			out = append(out, r)
		}
	}
	return out
}

// isAbout reports whether a problem on the node is about the AgentConfig, and of which
// field: it says so, or it is what that setting leads to on the node. The node's own
// AgentConfig answers for what it sets, and the default one for the rest.
func isAbout(p world.Problem, config, node string, settings map[string]spec) (field string, about bool) {
	if p.Object == "AgentConfig "+config {
		return p.Field, true
	}
	if p.Object != "Node "+node || !settings[config].sets(p.Field) || config != node && settings[node].sets(p.Field) {
		return "", false
	}
	return "spec." + p.Field, true
}

// mistake is a problem in one sentence: field, reason, and the way out.
func mistake(field string, p world.Problem) string {
	s := p.Reason
	if field != "" {
		s = field + ": " + s
	}
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return short(s)
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
