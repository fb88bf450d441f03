// Package doctor asks a node questions that the comparison of desired and
// actual state cannot answer, and puts the answers in words.
package doctor

import (
	"context"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/world"
)

// A Check is one question. Run answers it with at least one finding, and makes
// as much progress as it can when something is broken.
type Check struct {
	ID  string // "overlay-mtu"
	Ask string // "Does a full-size packet reach every peer?"
	Run func(context.Context, Subject) []Finding
}

// A Subject is the node that is asked.
type Subject struct {
	World    *world.World
	Problems []world.Problem                  // mistakes in objects
	Diff     func() (datapath.Changes, error) // what the kernel lacks right now
	Pools    []Pool                           // the node's pod addresses
	Pod      world.Key                        // the pod that somebody asks about; zero: about none
	Probe    bool                             // somebody wants what could be tried to be tried, too
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
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

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

// Run asks every question in order.
func Run(ctx context.Context, s Subject, checks []Check) []Finding {
	var out []Finding
	for _, c := range checks {
		for _, f := range c.Run(ctx, s) {
			f.ID, f.Node = c.ID, s.World.Node.Name
			if f.Evidence == nil {
				f.Evidence = map[string]any{}
			}
			out = append(out, f)
		}
	}
	return out
}

// Worst returns the worst answer of all.
func Worst(findings []Finding) Status {
	worst := OK
	for _, f := range findings {
		if f.Status == Fail || f.Status == Warn && worst == OK {
			worst = f.Status
		}
	}
	return worst
}
