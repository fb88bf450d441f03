package nft

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/netnstest"
)

// nft runs nft(8) on h.
func nft(t *testing.T, h *netnstest.Host, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	return h.Run("nft", args...)
}

// load lets nft(8) load text on h.
func load(t *testing.T, h *netnstest.Host, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "text.nft")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	nft(t, h, "-f", file)
}

// diff is what turns the tables on h into those wanted.
func diff(h *netnstest.Host, want ...*Table) []Change {
	var out []Change
	h.Do(func() error {
		have, err := Read("t")
		out = Diff(have, want)
		return err
	})
	return out
}

// apply makes h hold the tables, and wants nothing left to do then.
func apply(t *testing.T, h *netnstest.Host, want ...*Table) {
	t.Helper()
	changes := diff(h, want...)
	h.Do(func() error { return Apply(changes) })
	if left := diff(h, want...); len(left) > 0 {
		t.Errorf("applied, and still to do:\n%s", Text(left))
	}
}

// proveTwin applies a table by netlink on one host and its text on another: the
// kernel must list the same, and find nothing to do on either.
func proveTwin(t *testing.T, want *Table) {
	t.Helper()
	byText, byNetlink := netnstest.New(t), netnstest.New(t)
	load(t, byText, want.String())
	apply(t, byNetlink, want)
	if d := gocmp.Diff(nft(t, byText, "-s", "list", "ruleset"), nft(t, byNetlink, "-s", "list", "ruleset")); d != "" {
		t.Errorf("text and netlink disagree (-text +netlink):\n%s", d)
	}
	if left := diff(byText, want); len(left) > 0 {
		t.Errorf("what nft(8) loaded is not recognised:\n%s", Text(left))
	}
}
