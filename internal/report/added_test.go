package report

import (
	"fmt"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/events"
	"fairlead.dev/fairlead/internal/world"
)

// reportsOf are those of n objects, each with two conditions.
func reportsOf(n int, reason string) (out []world.Report) {
	for i := range n {
		for _, kind := range []string{"Allocated", "Ready"} {
			out = append(out, world.Report{Object: fmt.Sprintf("Egress e%d", i), Type: kind, Reason: reason})
		}
	}
	return out
}

// What a turn brings is compared with what the last one brought in as many steps as
// both have entries.
func TestReportsOfATurnAreEachLookedAtOnce(t *testing.T) {
	for _, n := range []int{10, 1000, 100_000} {
		last, now := reportsOf(n, "Waits"), reportsOf(n, "Waits")
		now[n].Reason = "Works"
		looked := 0
		news := events.Added(last, now, func(r world.Report) Key {
			looked++
			return KeyOf(r)
		})
		if len(news) != 1 || news[0] != now[n] {
			t.Errorf("of %d reports %d are news", len(now), len(news))
		}
		if looked != len(last)+len(now) {
			t.Errorf("%d reports after %d: looked at %d times", len(now), len(last), looked)
		}
	}
}

// Two objects may have conditions of one type, and messages count something.
func TestAReportIsNewsOncePerObjectAndWhatHolds(t *testing.T) {
	a := world.Report{Object: "Egress a", Type: "Allocated", Status: true, Reason: "Allocated", Message: "of 3"}
	other, more, lost, dark := a, a, a, a
	other.Object = "Egress b"
	more.Message = "of 4"
	lost.Status, lost.Reason = false, "Exhausted"
	dark.Unknown = true
	got := events.Added([]world.Report{a}, []world.Report{a, more, other, lost, dark}, KeyOf)
	if want := []world.Report{other, lost, dark}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
