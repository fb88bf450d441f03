package feature_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Two wires never get one name, whatever their hashes are.
func TestAWireHasItsOwnName(t *testing.T) {
	t.Parallel()
	alike := func(containerID, _ string) string { return "fl-" + containerID[:1] }
	there := []*world.Attachment{{ContainerID: "a1", Interface: "eth0"}, {ContainerID: "b1", Interface: "eth0", Chained: true}}
	for id, want := range map[string]*world.Attachment{"a1": nil, "a2": there[0], "b2": nil, "c1": nil} {
		if got := feature.Namesake(there, &world.Attachment{ContainerID: id, Interface: "eth0"}, alike); got != want {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
	}
	if got := feature.Namesake(there, &world.Attachment{ContainerID: "a2", Interface: "eth0"}, feature.LinkName); got != nil {
		t.Errorf("the names of a1 and a2 differ, and %+v is found", got)
	}
}
