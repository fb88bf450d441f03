package nodeportlocal

import (
	"fmt"

	"fairlead.dev/fairlead/internal/world"
)

// An excess is mappings of one pod that are left out.
type excess struct {
	pod   *world.Pod
	left  int
	bound string // "nodePortLocal.maxPerPod is 100"
}

// String says what is left out, and why.
func (e excess) String() string {
	return fmt.Sprintf("Services select more of its ports than are mapped, by %d: %s", e.left, e.bound)
}

// bound moves at most so many choices to the front, in order: those that have a port,
// and then the first of the others. It returns how many there are.
func bound(list []choice, most int) int {
	had := 0
	for i := range list {
		if list[i].had {
			had++
		}
	}
	others := max(0, most-had)
	had, n := min(had, most), 0
	for i := range list {
		left := &others
		if list[i].had {
			left = &had
		}
		if *left > 0 {
			*left--
			list[n] = list[i]
			n++
		}
	}
	return n
}

// boundNamespace leaves in found what the namespace may have.
func (c *chooser) boundNamespace() {
	if len(c.found) <= c.settings.MaxPerNamespace {
		return
	}
	before := map[*world.Pod]int{}
	var order []*world.Pod
	for _, f := range c.found {
		if before[f.pod]++; before[f.pod] == 1 {
			order = append(order, f.pod)
		}
	}
	c.found = c.found[:bound(c.found, c.settings.MaxPerNamespace)]
	for _, f := range c.found {
		before[f.pod]--
	}
	for _, p := range order {
		if before[p] > 0 {
			c.leave(p, before[p], c.namespaceBound())
		}
	}
}

func (c *chooser) namespaceBound() string {
	return fmt.Sprintf("nodePortLocal.maxPerNamespace is %d, of all pods of the namespace on this node", c.settings.MaxPerNamespace)
}

// leave notes mappings of p that are not made.
func (c *chooser) leave(p *world.Pod, n int, bound string) {
	c.left += n
	if i := len(c.over) - 1; i >= 0 && c.over[i].pod == p && c.over[i].bound == bound {
		c.over[i].left += n
	} else if len(c.over) < mostTold {
		c.over = append(c.over, excess{p, n, bound})
	}
}
