package dump_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/dump"
	"fairlead.dev/fairlead/internal/world"
)

// A mapping is as long as one of NodePortLocal's.
type mapping struct {
	Namespace, Pod, Protocol, Address string
	Port, PodPort                     uint16
}

type mappings struct{ List []mapping }

const mapped world.Own[mappings] = "mapped"

// What a node with 50,000 mappings has allocated reads back.
func TestManyAllocationsReadBack(t *testing.T) {
	t.Parallel()
	var all mappings
	for i := range 50_000 {
		all.List = append(all.List, mapping{"default", fmt.Sprintf("web-%06d", i), "TCP", "192.0.2.1", uint16(i), 80})
	}
	d := filled(t)
	d.World.Allocations = mapped.Only(&all)
	back, err := dump.Read(bytes.NewReader(write(t, d)))
	if err != nil {
		t.Fatal(err)
	}
	if got := mapped.Of(back.World.Allocations); got == nil || len(got.List) != len(all.List) || got.List[7] != all.List[7] {
		t.Errorf("%d mappings were written, and %v are read", len(all.List), got)
	}
}

// A part that cannot be read is not one in which nothing is: whoever asks for it must not
// go on, and what it makes has a bound.
func TestAPartThatCannotBeReadIsNotEmpty(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"List": 7}`: "cannot unmarshal",
		`{"List": [` + strings.Repeat("{},", 100_000) + `{}]}`: "too many values for its size",
	} {
		var p world.Parts
		if err := p.UnmarshalJSON([]byte(`{"mapped": ` + text + `}`)); err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.Contains(said, "mapped: ") || !strings.Contains(said, want) {
					t.Errorf("%.40s: %s, want %s", text, said, want)
				}
			}()
			if got := mapped.Of(&p); got != nil {
				t.Errorf("%.40s is read as a list of %d", text, len(got.List))
			}
		}()
	}
}
