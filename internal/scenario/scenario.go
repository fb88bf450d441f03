// Package scenario proves a feature four ways from one file.
//
// A scenario is a txtar file in testdata. Its comment is one sentence; its files
// are what a node is given and what must come of it:
//
//	cluster.yaml      manifests, as in a directory of objects
//	node              the name of this node, if not that of the first Node
//	kernel.yaml       what the node's kernel shows, where it is not ordinary
//	attachments.yaml  the pods wired to this node
//	foreign.nft       somebody else's tables, which are there before ours, and which packets meet too
//	want.nft          the tables, in nft(8) syntax
//	want.ip           the rest, as commands
//	want.reports      reports and problems, one a line
//	want.annotations  those of the node's pods, one a line
//	packets           what is sent, and where and how it is seen
//
// The first proof is text: the objects are rendered and compared, without a
// kernel; -update rewrites the wants. The second is that a world and a state that were
// written to a file and read back are worth the same. The third is a twin: one namespace
// gets the state through netlink, another the text through nft(8) and ip(8), and the
// kernel must list the same for both. The fourth is packets: the node stands
// between its pods and the outside, with every feature applied as on a real
// node, and real packets are sent and seen.
package scenario

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/feature"
)

var update = flag.Bool("update", false, "rewrite what scenarios want")

// Run proves the given features with every scenario in the calling package's
// testdata.
func Run(t *testing.T, features ...feature.Feature) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios in testdata (%v)", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			s := read(t, path)
			t.Run("text", func(t *testing.T) { s.text(t, features) })
			t.Run("file", s.file)
			t.Run("twin", func(t *testing.T) { s.twin(t, features) })
			if len(s.packets) > 0 {
				t.Run("packets", s.send)
			}
		})
	}
}
