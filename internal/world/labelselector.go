package world

import "slices"

// A LabelSelector selects by labels (meta/v1, LabelSelector): what has all of Labels and
// meets all Requirements. One that asks for nothing selects everything, and so does nil.
type LabelSelector struct {
	Labels       Labels        `json:",omitzero"`
	Requirements []Requirement `json:",omitempty"`
}

// A Requirement is what a LabelSelector asks of one label.
type Requirement struct {
	Key    string
	Op     SelectorOp
	Values []string `json:",omitempty"`
}

// SelectorOp is how a label is compared, as in the API.
type SelectorOp string

// The ways to compare.
const (
	OpIn           SelectorOp = "In"
	OpNotIn        SelectorOp = "NotIn"
	OpExists       SelectorOp = "Exists"
	OpDoesNotExist SelectorOp = "DoesNotExist"
)

// Equal reports whether s and t say the same.
func (s *LabelSelector) Equal(t *LabelSelector) bool {
	if s == nil || t == nil {
		return s == t
	}
	return s.Labels == t.Labels && slices.EqualFunc(s.Requirements, t.Requirements, func(a, b Requirement) bool {
		return a.Key == b.Key && a.Op == b.Op && slices.Equal(a.Values, b.Values)
	})
}

// Matches reports whether s selects what has the given labels.
func (s *LabelSelector) Matches(l Labels) bool {
	if s == nil {
		return true
	}
	for name, value := range s.Labels.All() {
		if has, ok := l.Get(name); !ok || has != value {
			return false
		}
	}
	for _, r := range s.Requirements {
		if !r.meets(l) {
			return false
		}
	}
	return true
}

// meets reports whether labels are as r wants. A label that is not there is not in any
// values (apimachinery pkg/labels, Requirement.Matches).
func (r Requirement) meets(l Labels) bool {
	value, has := l.Get(r.Key)
	switch r.Op {
	case OpIn:
		return has && slices.Contains(r.Values, value)
	case OpNotIn:
		return !has || !slices.Contains(r.Values, value)
	case OpExists:
		return has
	case OpDoesNotExist:
		return !has
	}
	return false
}
