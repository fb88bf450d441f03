package world

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// An Own names a part of the world that one feature brings along: what it observed,
// say. Nobody else has to know its type.
type Own[T any] string

// In returns the part in w; nil: nobody said anything. It is never changed.
func (o Own[T]) In(w *World) *T {
	switch v := w.Observed.find(string(o)).(type) {
	case *T:
		return v
	case json.RawMessage: // of a world that was read from a file
		out := new(T)
		if json.Unmarshal(v, out) == nil {
			return out
		}
	}
	return nil
}

// Part returns v as a part. The same pointer says the same.
func (o Own[T]) Part(v *T) Part { return Part{string(o), v} }

// A Part is the value of an [Own].
type Part struct {
	name  string
	value any
}

// Parts are parts of the world, sorted by name. They are never changed; nil has none.
type Parts struct{ list []Part }

func (p *Parts) find(name string) any {
	if p == nil {
		return nil
	}
	for _, part := range p.list {
		if part.name == name {
			return part.value
		}
	}
	return nil
}

// PartsOf returns p if it says the same as all of parts, and otherwise what does.
func (p *Parts) PartsOf(parts []Part) *Parts {
	parts = slices.SortedFunc(slices.Values(parts), func(a, b Part) int { return strings.Compare(a.name, b.name) })
	if p != nil && slices.EqualFunc(p.list, parts, func(a, b Part) bool {
		raw, is := a.value.(json.RawMessage)
		other, also := b.value.(json.RawMessage)
		return a.name == b.name && (is && also && bytes.Equal(raw, other) || !is && !also && a.value == b.value)
	}) {
		return p
	}
	return &Parts{parts}
}

// MarshalJSON writes the parts as members of an object.
func (p *Parts) MarshalJSON() ([]byte, error) {
	out := make(map[string]any, len(p.list))
	for _, part := range p.list {
		out[part.name] = part.value
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote. Whose a part is knows its type.
func (p *Parts) UnmarshalJSON(text []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	p.list = nil
	for name, value := range all {
		p.list = append(p.list, Part{name, value})
	}
	slices.SortFunc(p.list, func(a, b Part) int { return strings.Compare(a.name, b.name) })
	return nil
}
