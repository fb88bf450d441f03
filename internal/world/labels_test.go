package world

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// Labels say what they were made of, and two that say the same are one.
func TestLabelsAreWhatTheyWereMadeOf(t *testing.T) {
	for _, m := range []map[string]string{
		nil, {"": ""}, {"a": "b"}, {"a": "", "b": "a", "c/d": strings.Repeat("x", 300)}, {"a\x00": "\x01", "a": "\x00\x01"},
	} {
		l := NewLabels(m)
		if got := maps.Collect(l.All()); !maps.Equal(got, m) {
			t.Errorf("%q, want %q", got, m)
		}
		if l != NewLabels(maps.Clone(m)) || len(m) > 0 && l == NewLabels(nil) {
			t.Errorf("%q: equality is not that of what they say", m)
		}
		var names []string
		for name := range l.All() {
			names = append(names, name)
			if v, ok := l.Get(name); !ok || v != m[name] {
				t.Errorf("%q is %q, want %q", name, v, m[name])
			}
		}
		if !slices.IsSorted(names) {
			t.Errorf("%q are out of order", names)
		}
		if _, ok := l.Get("nobody"); ok {
			t.Error("a label that is not there is found")
		}
		text, err := l.MarshalJSON()
		var back Labels
		if err != nil || back.UnmarshalJSON(text) != nil || back != l {
			t.Errorf("%s comes back as %q, error %v", text, maps.Collect(back.All()), err)
		}
	}
}
