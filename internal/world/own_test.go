package world

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

type numbers struct{ List []int }

func (n *numbers) Equal(m *numbers) bool { return slices.Equal(n.List, m.List) }

const (
	some   = Own[numbers]("some")
	others = Own[numbers]("others")
	flag   = Own[bool]("flag") // without a method Equal
)

func TestPartsKeepTheirPointers(t *testing.T) {
	one, same, two, yes := &numbers{[]int{1}}, &numbers{[]int{1}}, &numbers{[]int{2}}, true
	p := some.Only(one)
	if some.Of(p) != one || others.Of(p) != nil || some.Of(nil) != nil || some.Of(some.Only(nil)) != nil {
		t.Error("a part is not what was given, or one that was not given is there")
	}
	if p.With(nil) != p || p.With(some.Only(one)) != p || p.With(some.Only(nil)) != p {
		t.Error("what is there already makes other parts")
	}
	q := p.With(others.Only(two)).With(flag.Only(&yes))
	if some.Of(q) != one || others.Of(q) != two || flag.Of(q) != &yes || others.Of(p) != nil {
		t.Errorf("%+v, and before %+v", q, p)
	}
	if r := q.With(some.Only(two)); some.Of(r) != two || some.Of(q) != one {
		t.Error("a part is not in the place of the one before, or the one before was changed")
	}
	if r := some.Only(same).Keeping(p); r != p {
		t.Error("what says the same has another pointer")
	}
	no := true
	r := some.Only(same).With(others.Only(one)).With(flag.Only(&no)).Keeping(q)
	if some.Of(r) != one || others.Of(r) != one || flag.Of(r) != &no {
		t.Errorf("kept are %+v", r)
	}
	if r := (&Parts{}).With(p); some.Of(r) != one || (*Parts)(nil).With(p) == nil {
		t.Error("nothing takes no part")
	}
}

// A part that was read from a file is one value, however often it is asked for.
func TestPartsAreReadFromAFile(t *testing.T) {
	yes := true
	text, err := json.Marshal(some.Only(&numbers{[]int{1, 2}}).With(flag.Only(&yes)))
	if err != nil {
		t.Fatal(err)
	}
	p := &Parts{}
	if err := json.Unmarshal(text, p); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(p); err != nil || string(again) != string(text) {
		t.Errorf("%s becomes %s, %v", text, again, err)
	}
	n := some.Of(p)
	if n == nil || !slices.Equal(n.List, []int{1, 2}) || some.Of(p) != n || *flag.Of(p) != yes || others.Of(p) != nil {
		t.Errorf("read is %+v", n)
	}
	if err := json.Unmarshal([]byte(`{"some":null,"others":[1]}`), p); err != nil || some.Of(p) != nil {
		t.Errorf("of what is none is read %+v, %v", some.Of(p), err)
	}
	defer func() {
		if said := fmt.Sprint(recover()); !strings.Contains(said, "others: ") {
			t.Errorf("of what is no such part is said %s", said)
		}
	}()
	t.Errorf("of what is no such part is read %+v", others.Of(p))
}
