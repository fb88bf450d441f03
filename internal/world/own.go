package world

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// An Own names a part of the world that one feature brings along: what it observed,
// say. Nobody else has to know its type.
type Own[T any] string

// In returns the part of what was observed in w; nil: nobody said anything. It is never
// changed.
func (o Own[T]) In(w *World) *T { return o.Of(w.Observed) }

// Of returns the part among p; nil: it is not there. It is never changed. It panics where
// a file has something under the name that is no T: that is not the same as nothing.
func (o Own[T]) Of(p *Parts) *T {
	switch v := p.find(string(o)).value.(type) {
	case *T:
		return v
	case *unread:
		return o.read(v)
	}
	return nil
}

func (o Own[T]) read(u *unread) *T {
	u.mu.Lock()
	defer u.mu.Unlock()
	if v, is := u.value.(*T); is {
		return v
	}
	var v *T
	err := errors.New("it has too many values for its size")
	if !dense(u.text) {
		err = json.Unmarshal(u.text, &v)
	}
	if err != nil {
		panic(fmt.Errorf("%s: %w", o, err))
	}
	u.value = v
	return v
}

// leastEach is how long each object and each list of a part is at least, on average: who
// writes one writes all of its fields.
const leastEach = 16

// dense reports whether much more would be made of a text than it is long, as of a list
// of {}.
func dense(text []byte) bool {
	n := bytes.Count(text, []byte("{")) + bytes.Count(text, []byte("["))
	return n*leastEach > len(text)+1<<10
}

// Part returns v as a part. The same pointer says the same, and where there is a method
// Equal what that says.
func (o Own[T]) Part(v *T) Part { return Part{string(o), v} }

// Only returns v as all parts that there are; nil: there are none.
func (o Own[T]) Only(v *T) *Parts {
	if v == nil {
		return &Parts{}
	}
	return &Parts{[]Part{o.Part(v)}}
}

// A Part is the value of an [Own].
type Part struct {
	name  string
	value any
}

// alike reports whether two values of parts say the same, though they are not the same.
func alike(a, b any) bool {
	if reflect.TypeOf(a) != reflect.TypeOf(b) {
		return false
	}
	equal := reflect.ValueOf(a).MethodByName("Equal")
	return equal.IsValid() && equal.Call([]reflect.Value{reflect.ValueOf(b)})[0].Bool()
}

// unread is a part of a world that was read from a file: whose it is knows its type.
type unread struct {
	text  json.RawMessage
	mu    sync.Mutex
	value any // once it was asked for
}

// Parts are parts of the world, sorted by name. They are never changed; nil has none.
type Parts struct{ list []Part }

func (p *Parts) find(name string) Part {
	if p != nil {
		for _, part := range p.list {
			if part.name == name {
				return part
			}
		}
	}
	return Part{}
}

// PartsOf returns p if it says the same as all of parts, and otherwise what does.
func (p *Parts) PartsOf(parts []Part) *Parts {
	parts = slices.SortedFunc(slices.Values(parts), func(a, b Part) int { return strings.Compare(a.name, b.name) })
	if p != nil && slices.EqualFunc(p.list, parts, func(a, b Part) bool {
		return a.name == b.name && a.value == b.value
	}) {
		return p
	}
	return &Parts{parts}
}

// With returns p with the parts that q has in the place of its own; p itself if it has
// them already. Nil has none.
func (p *Parts) With(q *Parts) *Parts {
	if q == nil {
		return p
	}
	out, differs := &Parts{}, false
	if p != nil {
		out.list = slices.Clone(p.list)
	}
	for _, part := range q.list {
		i, found := slices.BinarySearchFunc(out.list, part.name, func(a Part, name string) int { return strings.Compare(a.name, name) })
		switch {
		case !found:
			out.list, differs = slices.Insert(out.list, i, part), true
		case out.list[i].value != part.value:
			out.list[i], differs = part, true
		}
	}
	if !differs && p != nil {
		return p
	}
	return out
}

// Keeping returns what p says, with every part that last has alike as last's own pointer.
func (p *Parts) Keeping(last *Parts) *Parts {
	out := &Parts{slices.Clone(p.list)}
	for i, part := range out.list {
		if was := last.find(part.name); was.value != part.value && alike(part.value, was.value) {
			out.list[i] = was
		}
	}
	if slices.EqualFunc(out.list, last.list, func(a, b Part) bool { return a.name == b.name && a.value == b.value }) {
		return last
	}
	return out
}

// MarshalJSON writes the parts as members of an object.
func (p *Parts) MarshalJSON() ([]byte, error) {
	out := make(map[string]any, len(p.list))
	for _, part := range p.list {
		out[part.name] = part.value
		if u, is := part.value.(*unread); is {
			out[part.name] = u.text
		}
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
		p.list = append(p.list, Part{name: name, value: &unread{text: value}})
	}
	slices.SortFunc(p.list, func(a, b Part) int { return strings.Compare(a.name, b.name) })
	return nil
}
