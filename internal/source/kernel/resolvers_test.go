package kernel

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Resolvers are those of the file as it is now. One that cannot be read says nothing
// about them, and one without bounds has some.
func TestResolversAreThoseThatWereReadLast(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	o := &Observer{ResolvConf: path}
	write := func(content string) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	one, other := netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("192.0.2.54")
	for _, step := range []struct {
		name   string
		change func()
		want   []netip.Addr
	}{
		{"no file yet", func() {}, nil},
		{"one", func() { write("nameserver 192.0.2.53\n") }, []netip.Addr{one}},
		{"another", func() { write("nameserver 192.0.2.54\n") }, []netip.Addr{other}},
		{"a line without end", func() { write("nameserver 192.0.2.54\n" + strings.Repeat("x", 1<<20)) }, []netip.Addr{other}},
		{"a directory", func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}, []netip.Addr{other}},
		{"no file any more", func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, []netip.Addr{other}},
		{"thousands", func() { write(strings.Repeat("nameserver 192.0.2.53\n", 5000)) }, slices.Repeat([]netip.Addr{one}, mostResolvers)},
	} {
		step.change()
		if got := o.lookForResolvers(); !slices.Equal(got, step.want) {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
}
