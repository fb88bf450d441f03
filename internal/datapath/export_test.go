package datapath

// Stops is how often Apply can be killed between two things it does: rules are
// one, every other change is one, and tables that go are one.
func (c Changes) Stops() int { return len(c.steps) + 3 }

// Until returns what Apply does before it is killed at a stop, the first of which
// is before everything.
func (c Changes) Until(stop int) Changes {
	if stop == 0 {
		return Changes{}
	}
	if stop-1 > len(c.steps) {
		return c
	}
	return Changes{nft: c.nft, steps: c.steps[:stop-1]}
}
