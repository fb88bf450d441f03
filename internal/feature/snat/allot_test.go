package snat

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/world"
)

func somePods(names ...string) []*world.Attachment {
	var out []*world.Attachment
	for _, name := range names {
		out = append(out, &world.Attachment{Namespace: "default", Pod: name, ContainerID: name, Interface: "eth0"})
	}
	return out
}

// told is who has which block, and who had it: "0 a, 1 (b)".
func told(a Allotted) string {
	var out []string
	for _, b := range a.Blocks.List {
		who := strings.TrimPrefix(b.Pod, "default/")
		if b.Freed != 0 {
			who = "(" + who + ")"
		}
		out = append(out, fmt.Sprint(b.Number, " ", who))
	}
	for _, p := range a.Sharing {
		out = append(out, "shares "+p.Pod)
	}
	return strings.Join(out, ", ")
}

// Every step follows from the one before.
func TestBlocksStayAndAreUsedAgainLate(t *testing.T) {
	var last *BlockList
	for _, step := range []struct {
		count int
		pods  string
		want  string
	}{
		{4, "a b", "0 a, 1 b"},
		{4, "b c", "0 (a), 1 b, 2 c"}, // what was never given comes first
		{4, "b d", "0 (a), 1 b, 2 (c), 3 d"},
		{4, "b e", "0 e, 1 b, 2 (c), 3 (d)"}, // a's was given back first
		{4, "b e f g", "0 e, 1 b, 2 f, 3 g"},
		{4, "b e f g h", "0 e, 1 b, 2 f, 3 g, shares h"},
		{4, "b f g h", "0 h, 1 b, 2 f, 3 g"},
		{2, "b f g h", "0 h, 1 b, shares f, shares g"}, // a larger block: who fits stays
		{2, "f g", "0 f, 1 g"},
		{5, "f g", "0 f, 1 g"},
		{5, "", "0 (f), 1 (g)"},
		{0, "a", "shares a"},
		{2, "a", "0 a"}, // what was taken back is forgotten
	} {
		a := allot(step.count, somePods(strings.Fields(step.pods)...), last)
		if d := cmp.Diff(step.want, told(a)); d != "" {
			t.Fatalf("%d blocks, pods %s (-want +got):\n%s", step.count, step.pods, d)
		}
		last = a.Blocks
	}
}

// Pods come and go, the number of blocks changes, and whatever the state file
// says: nobody who has a block loses it while it is there, nobody is without
// while one is left, and a block that was given back waits its turn.
func FuzzAllot(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, seed))
		last, count := anyBlocks(random), random.IntN(8)
		for range 100 {
			if random.IntN(10) == 0 {
				count = random.IntN(12)
			}
			var names []string
			for i := range 12 {
				if random.IntN(3) > 0 {
					names = append(names, fmt.Sprintf("p%02d", i))
				}
			}
			before := last
			a := allot(count, somePods(names...), before)
			d := day{count, names}
			checkAllotted(t, a, d)
			checkKept(t, before, a.Blocks, d)
			if again := allot(count, somePods(names...), a.Blocks); again.Blocks != a.Blocks {
				t.Fatalf("given back as it is, %s becomes %s", told(a), told(again))
			}
			last = a.Blocks
		}
	})
}

// anyBlocks may contradict themselves, as a file may.
func anyBlocks(random *rand.Rand) *BlockList {
	out := &BlockList{}
	for range random.IntN(10) {
		out.List = append(out.List, Block{
			Number: random.IntN(14) - 2, Holder: []string{"", "p01@eth0", "p02@eth0", "gone@eth0"}[random.IntN(4)], Freed: int64(random.IntN(3)),
		})
	}
	return out
}

// A day is what blocks are given out for: how many there are, and the pods.
type day struct {
	count int
	names []string
}

// checkAllotted looks at one day.
func checkAllotted(t *testing.T, a Allotted, d day) {
	t.Helper()
	numbers, holders := map[int]bool{}, map[string]bool{}
	for i, b := range a.Blocks.List {
		if numbers[b.Number] || b.Number < 0 || b.Number >= d.count || i > 0 && a.Blocks.List[i-1].Number > b.Number {
			t.Fatalf("of %d blocks: %s", d.count, told(a))
		}
		numbers[b.Number] = true
		if b.Freed == 0 {
			if holders[b.Holder] {
				t.Fatalf("%s has two: %s", b.Holder, told(a))
			}
			holders[b.Holder] = true
		}
	}
	for _, p := range a.Sharing {
		if holders[p.Key()] {
			t.Fatalf("%s has one and shares: %s", p.Pod, told(a))
		}
		holders[p.Key()] = true
	}
	if len(holders) != len(d.names) || slices.ContainsFunc(d.names, func(n string) bool { return !holders[n+"@eth0"] }) {
		t.Fatalf("of pods %v: %s", d.names, told(a))
	}
	if len(a.Sharing) > 0 && a.Held() != d.count {
		t.Fatalf("of %d blocks, some are left, and pods share: %s", d.count, told(a))
	}
}

// checkKept looks at what became of yesterday's blocks.
func checkKept(t *testing.T, before, after *BlockList, d day) {
	t.Helper()
	if !slices.IsSortedFunc(before.List, func(x, y Block) int { return x.Number - y.Number }) {
		return // made up, not an earlier result
	}
	now := map[int]Block{}
	for _, b := range after.List {
		now[b.Number] = b
	}
	var reused, waiting int64 // the last given back that was used again, the first that was not
	seen := map[int]bool{}
	for _, b := range before.List {
		if b.Number < 0 || b.Number >= d.count || b.Holder == "" || seen[b.Number] {
			return
		}
		seen[b.Number] = true
		n := now[b.Number]
		lives := slices.Contains(d.names, strings.TrimSuffix(b.Holder, "@eth0"))
		switch {
		case b.Freed == 0 && lives && (n.Holder != b.Holder || n.Freed != 0):
			t.Fatalf("block %d was %s's, who is there, and is %+v", b.Number, b.Holder, n)
		case b.Freed != 0 && n.Freed == 0:
			reused = max(reused, b.Freed)
			if len(now) < d.count {
				t.Fatalf("block %d is used again while some were never given", b.Number)
			}
		case b.Freed != 0 && (waiting == 0 || b.Freed < waiting):
			waiting = b.Freed
		}
	}
	if waiting != 0 && reused > waiting {
		t.Fatalf("what was given back %d-th is used again before the %d-th", reused, waiting)
	}
}

// However ranges and sizes are chosen, blocks are apart from each other and in
// the range.
func TestBlocksDoNotOverlap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a, b := uint16(random.IntN(1<<16)), uint16(random.IntN(1<<16))
		w := &world.World{Kernel: &world.Kernel{}, Config: &world.Config{NodeSNAT: world.SNAT{
			Ports: world.PortChoice{Mode: world.PortsFixed, Range: world.PortRange{Low: min(a, b), High: max(a, b)}},
			Block: 1 + random.IntN(1<<random.IntN(16)),
		}}}
		p := InForce(w)
		if p.Blocks() == 0 {
			if len(p.problems("n1")) == 0 {
				t.Fatalf("no block of %d in %s, and nobody is told", w.Config.NodeSNAT.Block, p)
			}
			continue
		}
		end := p.Range.Low
		for n := range p.Blocks() {
			r := p.Numbered(n)
			if r.Low != end || r.Len() != p.Block || r.High > p.Range.High {
				t.Fatalf("block %d of %d in %s is %s", n, p.Block, p, r)
			}
			end = r.High + 1
		}
		if s, r := p.Shared(), p.Numbered(p.Blocks()-1); s.Low != r.Low || s.High != p.Range.High || s.Len() >= 2*p.Block {
			t.Fatalf("of blocks of %d in %s, %s is shared", p.Block, p, s)
		}
	}
}
