package journal

import (
	"encoding/json"
	"time"

	"fairlead.dev/fairlead/internal/world"
)

// A Kind is a kind of allocations as named values. Who allocates brings it along; nobody
// else knows what its values are.
type Kind struct {
	Name string
	// Changed tells what leads from one turn's allocations to another's. The first are
	// nil where all is told, in the order that counts.
	Changed func(last, now *world.Allocations, tell func(Change))
	// Read is what values and lost ones, of which only the keys are known, are together.
	// Values that nobody wrote are told by their keys, and counted as lost.
	Read func(values []Value, lost []string) (*world.Allocations, []Damage)
	// Dated: people ask when values came to be.
	Dated bool
	// Old is what an earlier release wrote; nil: nothing.
	Old *Old
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
