package doctor_test

import (
	"context"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/world"
)

// What the world does not say, a node is looked at for; of a file that is skipped, and
// nobody looks at the machine that reads it.
func TestOnlyANodeIsLookedAt(t *testing.T) {
	t.Parallel()
	says := func(message string) []doctor.Finding { return []doctor.Finding{{Status: doctor.OK, Message: message}} }
	looked := 0
	look := func(context.Context, doctor.Node) []doctor.Finding { looked++; return says("looked") }
	checks := []doctor.Check{
		{ID: "read", Read: func(doctor.Subject) []doctor.Finding { return says("read") }},
		{ID: "either", Read: func(doctor.Subject) []doctor.Finding { return says("read") }, Look: look, Needs: "its clock"},
		{ID: "unsaid", Read: func(doctor.Subject) []doctor.Finding { return nil }, Look: look, Needs: "its clock"},
		{ID: "look", Look: look, Needs: "its clock"},
		{ID: "nothing", Read: func(doctor.Subject) []doctor.Finding { return nil }},
	}
	s := doctor.Subject{World: &world.World{Node: &world.Node{Name: "n1"}}}
	const skipped = "not answered from a file: needs the running node (its clock)"
	for _, tt := range []struct {
		found  []doctor.Finding
		want   []string
		counts map[doctor.Status]int
	}{
		{doctor.Run(t.Context(), doctor.Node{Subject: s}, checks), []string{"read", "read", "looked", "looked"}, map[doctor.Status]int{doctor.OK: 4}},
		{doctor.Read(s, checks), []string{"read", "read", skipped, skipped}, map[doctor.Status]int{doctor.OK: 2, doctor.Skipped: 2}},
	} {
		for i, want := range tt.want {
			if f := tt.found[i]; f.ID != checks[i].ID || f.Node != "n1" || f.Message != want || f.Evidence == nil {
				t.Errorf("%+v, want %q of %s", f, want, checks[i].ID)
			}
		}
		for _, s := range doctor.Statuses {
			if got := doctor.Count(tt.found)[s]; len(tt.found) != len(tt.want) || got != tt.counts[s] {
				t.Errorf("%d findings are %s, want %d", got, s, tt.counts[s])
			}
		}
	}
	if looked != 2 {
		t.Errorf("looked %d times, want 2: never for a file", looked)
	}
}

// Who needs the running node says why.
func TestEveryCheckSaysWhatItNeeds(t *testing.T) {
	t.Parallel()
	checks := doctor.Checks
	for _, f := range all.Features {
		checks = append(slices.Clip(checks), f.Checks...)
		if f.Start == nil {
			continue
		}
		if h := f.Start(feature.Host{}); h.Checks != nil {
			checks = append(checks, h.Checks(feature.Seen{})...)
		}
	}
	seen := map[string]bool{}
	for _, c := range checks {
		if c.ID == "" || c.Ask == "" || seen[c.ID] || c.Read == nil && c.Look == nil || (c.Look == nil) != (c.Needs == "") {
			t.Errorf("%q asks %q, and needs %q", c.ID, c.Ask, c.Needs)
		}
		seen[c.ID] = true
	}
	if len(seen) < 15 {
		t.Errorf("only %d checks", len(seen))
	}
}
