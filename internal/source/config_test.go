package source

import (
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/world"
)

// A range that is understood prints as it means; one that is not says why, and
// the way out.
func FuzzParsePortRange(f *testing.F) {
	for _, s := range []string{"", "-", "1-65535", "0-5", "60999-32768", "80", "80-80", "1-65536", "+1-2", "1 - 2", "1-2-3", "٣-٤"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, reason, hint := ParsePortRange(s)
		if reason != "" {
			if hint == "" || r != (world.PortRange{}) {
				t.Errorf("%q: %s, hint %q, range %s", s, reason, hint, r)
			}
			return
		}
		if r.Low == 0 || r.High < r.Low || hint != "" {
			t.Errorf("%q is taken for %s, hint %q", s, r, hint)
		}
		if again, reason, _ := ParsePortRange(r.String()); reason != "" || again != r {
			t.Errorf("%q means %s, which means %s (%s)", s, r, again, reason)
		}
		if strings.ContainsAny(s, "+ ") {
			t.Errorf("%q is no range", s)
		}
	})
}
