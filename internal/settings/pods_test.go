package settings

import (
	"os"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/fill"
	"fairlead.dev/fairlead/internal/world"
)

// The journal of settings says what was written last, whatever came to an end in the
// middle, and does not grow for ever.
func TestTheJournalOfSettingsKeepsUp(t *testing.T) {
	dir := t.TempDir()
	p, _, err := OpenPods(dir, "boot")
	if err != nil {
		t.Fatal(err)
	}
	now := &List{}
	onDisk := func() string {
		t.Helper()
		content, err := os.ReadFile(podsPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	give := func() {
		t.Helper()
		if err := p.Write(&List{List: slices.Clone(now.List)}); err != nil {
			t.Fatal(err)
		}
		_, got, err := OpenPods(dir, "boot")
		if err != nil || !got.Equal(now) {
			t.Fatalf("the journal says %+v, %v, want %+v:\n%s", got, err, now, onDisk())
		}
	}
	for i := range 3 * mostLines {
		s := Setting{Holder: string(rune('a' + i%7)), Key: world.TCPTimestamps, Before: "1", Value: "2", From: strings.Repeat("1", i%2)}
		now.List = slices.DeleteFunc(now.List, func(o Setting) bool { return o.Compare(s) == 0 })
		if i%3 > 0 {
			now.List = append(now.List, s)
			slices.SortFunc(now.List, Setting.Compare)
		}
		give()
	}
	if lines := strings.Count(onDisk(), "\n"); lines > mostLines+mostLinesEach*7+1 {
		t.Errorf("it has %d lines for at most 7 settings", lines)
	}
	whole := onDisk()
	if err := os.WriteFile(podsPath(dir), []byte(whole+`{"holder":"x@eth0","key":"ne`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, got, err := OpenPods(dir, "boot"); err != nil || !got.Equal(now) {
		t.Errorf("with a line that was cut it says %+v, %v", got, err)
	}
	if _, got, err := OpenPods(dir, "another boot"); err != nil || got != nil {
		t.Errorf("of another boot it says %+v, %v", got, err)
	}
	if err := os.Remove(podsPath(dir)); err != nil {
		t.Fatal(err)
	}
	now.List = append(now.List, Setting{Holder: "z", Key: world.TCPReuse, Before: "2", Value: "1"})
	give()
}

func TestEqualComparesEveryField(t *testing.T) {
	if missed := fill.Compared((*List).Equal); len(missed) > 0 {
		t.Errorf("not compared: %v", missed)
	}
}
