package journal

import (
	"encoding/json"
	"errors"
	"time"

	"fairlead.dev/fairlead/internal/world"
)

// A Kind is a kind of allocations as named values. Who allocates brings it along; nobody
// else knows what its values are.
type Kind struct {
	Name string
	// Changed tells what leads from one turn's allocations to another's. The first are
	// nil where all is told, in the order that counts.
	Changed func(last, now *world.Parts, tell func(Change))
	// Read is what values and lost ones, of which only the keys are known, are together.
	// Values that nobody wrote are told by their keys, and counted as lost.
	Read func(values []Value, lost []string) (*world.Parts, []Damage)
	// Dated: people ask when values came to be.
	Dated bool
	// Old is what an earlier release wrote; nil: nothing.
	Old *Old
}

// Kept is a Kind of allocations that are one part of the world.
type Kept[T any] struct {
	Name string
	Own  world.Own[T]
	// Changed tells what leads from one to another. The first is nil where all is told.
	Changed func(last, now *T, tell func(Change))
	// Read is the part that values and lost ones are together; nil: there is none.
	Read  func(values []Value, lost []string) (*T, []Damage)
	Dated bool
	// Member is where an earlier release had it, and Old what of the part is there.
	Member string
	Old    func(*T) any
	Refuse func(*T) error // what it cannot have been; nil: nothing
}

// Kind is k as one of all kinds.
func (k Kept[T]) Kind() Kind {
	out := Kind{Name: k.Name, Changed: k.changed, Dated: k.Dated, Read: func(values []Value, lost []string) (*world.Parts, []Damage) {
		part, wrong := k.Read(values, lost)
		return k.Own.Only(part), wrong
	}}
	if k.Old != nil {
		out.Old = &Old{Member: k.Member, Read: k.readOld, Write: func(values []Value) (any, error) {
			part, _ := k.Read(values, nil)
			if part == nil {
				return nil, nil
			}
			return k.Old(part), nil
		}}
	}
	return out
}

func (k Kept[T]) changed(last, now *world.Parts, tell func(Change)) {
	if a, b := k.Own.Of(last), k.Own.Of(now); b != nil && a != b {
		k.Changed(a, b, tell)
	}
}

func (k Kept[T]) readOld(text json.RawMessage) (out []Value, err error) {
	part := new(T)
	if err := json.Unmarshal(text, k.Old(part)); err != nil || string(text) == "null" {
		return nil, err
	}
	if k.Refuse != nil {
		if err := k.Refuse(part); err != nil {
			return nil, err
		}
	}
	k.Changed(nil, part, func(c Change) {
		v, verr := ValueOf(c.Key, time.Time{}, c.Value)
		err = errors.Join(err, verr)
		out = append(out, v)
	})
	return out, err
}

// A Change is a value that is otherwise than before.
type Change struct {
	Key   string
	Had   bool // there was one
	Value any  // nil: there is none any more
}

// Old is how releases that knew no journal wrote a kind: as a member of one object. Its
// values are without their kind.
type Old struct {
	Member string
	Read   func(json.RawMessage) ([]Value, error)
	Write  func([]Value) (any, error)
}

// ValueOf is v as a value by its key; nil: there is none any more.
func ValueOf(key string, at time.Time, v any) (Value, error) {
	out := Value{Key: key, At: at}
	if v == nil {
		return out, nil
	}
	var err error
	out.JSON, err = json.Marshal(v)
	return out, err
}
