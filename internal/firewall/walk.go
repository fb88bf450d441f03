package firewall

// An answer is what can be said of a rule and a flow without seeing the packets.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func (a answer) not() answer { return yes - a }

func isIt(b bool) answer {
	if b {
		return yes
	}
	return no
}

// An outcome is what may become of the packets of a flow. It may hold more than what
// really does, never less.
type outcome struct {
	accept, drop bool
	through      bool   // they come out at the end of the chain
	by           string // what ends them for sure
}

var (
	accepted = outcome{accept: true}
	passed   = outcome{through: true}
	anything = outcome{accept: true, drop: true, through: true}
)

// A rule is one of a chain: all its matches, and what then becomes of the packets.
type rule struct {
	matches []match
	then    outcome
	to      string // a chain to go to instead
	away    bool   // and not come back
	back    bool   // or back to where the walk came from
}

// A match says whether a flow's packets have something.
type match func(flow) answer

func (r rule) matched(f flow) answer {
	a := yes
	for _, m := range r.matches {
		a = min(a, m(f))
	}
	return a
}

// A chain is a list of rules.
type chain struct {
	name  string
	rules []rule
}

// deepest is how many jumps are followed; the kernel allows 16 (NFT_JUMP_STACK_SIZE).
const deepest = 16

// A walk follows one flow through chains.
type walk struct {
	flow flow
	load func(name string) (*chain, bool) // false: nothing is known of it
	done map[string]outcome               // of whole chains
}

// in is what becomes of the flow in the named chain.
func (w *walk) in(name string, depth int) outcome {
	if out, ok := w.done[name]; ok {
		return out
	}
	c, ok := w.load(name)
	if !ok || depth > deepest {
		return anything
	}
	out := w.through(c, depth)
	w.done[name] = out
	return out
}

// through is what becomes of the flow in c.
func (w *walk) through(c *chain, depth int) outcome {
	var out outcome
	for _, r := range c.rules {
		m := r.matched(w.flow)
		if m == no {
			continue
		}
		end := r.then
		if r.to != "" {
			end = w.in(r.to, depth+1)
		}
		leaves := end.through && (r.away || r.back) // this chain, as it would at its end
		goesOn := end.through && !leaves || m == maybe
		out.accept, out.drop = out.accept || end.accept, out.drop || end.drop
		out.through = out.through || leaves
		if !goesOn {
			out.by = end.by
			return out
		}
	}
	out.through = true
	return out
}
