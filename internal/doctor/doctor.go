// Package doctor asks a node questions that the comparison of desired and
// actual state cannot answer, and puts the answers in words.
package doctor

import (
	"context"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/world"
)

// A Check is one question. What the world says is Read's to answer, which looks at nothing
// else, so that it says the same of a node that was written to a file. What only the
// running node shows is Look's, which is asked where Read found nothing. Both make as much
// progress as they can when something is broken.
type Check struct {
	ID  string // "overlay-mtu"
	Ask string // "Does a full-size packet reach every peer?"
	// Read answers from what is known; nil, or nothing found: that does not say.
	Read func(Subject) []Finding
	// Look answers from the node that runs; nil: Read says all there is to say.
	Look func(context.Context, Node) []Finding
	// Needs is what Look has to see or do there, for people.
	Needs string
}

// A Subject is what is known of the node that is asked.
type Subject struct {
	World    *world.World
	Problems []world.Problem // mistakes in objects
	Pools    []Pool          // the node's pod addresses
	Pod      world.Key       // the pod that somebody asks about; zero: about none
}

// A Node is a subject that runs here: the caller's thread is in its network namespace.
type Node struct {
	Subject
	Diff  func() (datapath.Changes, error) // what the kernel lacks right now
	Probe bool                             // somebody wants what could be tried to be tried, too
}

// A Pool is the pod addresses of one family.
type Pool struct {
	CIDR string `json:"cidr"`
	Used int    `json:"used"`
	Size int    `json:"size"` // addresses that can be given to pods, at most Countless
}

// Countless is the size of every pool that is larger.
const Countless = 1 << 31

// Status is the answer in one word.
type Status string

// The answers.
const (
	OK      Status = "ok"
	Warn    Status = "warn"
	Fail    Status = "fail"
	Skipped Status = "skipped" // nobody looked
)

// Statuses are all answers, in the order in which they are counted.
var Statuses = []Status{OK, Warn, Fail, Skipped}

// A Finding is one answer.
type Finding struct {
	ID       string         `json:"id"`
	Status   Status         `json:"status"`
	Node     string         `json:"node"`
	Object   string         `json:"object"`
	Message  string         `json:"message"`
	Evidence map[string]any `json:"evidence"`
	Hint     string         `json:"hint"`
}

// Run asks the node every question in order.
func Run(ctx context.Context, n Node, checks []Check) []Finding {
	return each(n.Subject, checks, func(c Check) []Finding { return c.Look(ctx, n) })
}

// Read asks every question in order of a node that is not here. What only the running
// node could answer is skipped, and said to be.
func Read(s Subject, checks []Check) []Finding {
	return each(s, checks, func(c Check) []Finding {
		return []Finding{{Status: Skipped, Message: "not answered from a file: needs the running node (" + c.Needs + ")"}}
	})
}

func each(s Subject, checks []Check, look func(Check) []Finding) []Finding {
	out := []Finding{}
	for _, c := range checks {
		var found []Finding
		if c.Read != nil {
			found = c.Read(s)
		}
		if len(found) == 0 && c.Look != nil {
			found = look(c)
		}
		for _, f := range found {
			f.ID, f.Node = c.ID, s.World.Node.Name
			if f.Evidence == nil {
				f.Evidence = map[string]any{}
			}
			out = append(out, f)
		}
	}
	return out
}

// Count says how often there is each answer; each has a count.
func Count(findings []Finding) map[Status]int {
	out := map[Status]int{}
	for _, s := range Statuses {
		out[s] = 0
	}
	for _, f := range findings {
		out[f.Status]++
	}
	return out
}
