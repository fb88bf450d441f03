package datapath

// Stops is how often Apply can be killed between two things it does: rules are
// one, every other change is one.
func (c Changes) Stops() int { return len(c.steps) + 2 }

// Until returns what Apply does before it is killed at a stop, the first of which
// is before everything.
func (c Changes) Until(stop int) Changes {
	if stop == 0 {
		return Changes{}
	}
	return Changes{nft: c.nft, steps: c.steps[:stop-1]}
}
