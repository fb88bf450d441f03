package feature

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

// A Host is an agent, as what runs beside its loop sees it.
type Host struct {
	Node string // its name
	Log  *slog.Logger
	// Tell records an event.
	Tell func(world.Event)
	// Wake has the agent reconcile soon: Observe would say something new.
	Wake func()
	// Before is what a setting of the node was before an agent changed it, and whether
	// one did.
	Before func(key string) (value string, changed bool, err error)
	// Earlier is what agents before this one allocated.
	Earlier *world.Parts
	// ShowsNotes: the world shows what annotations of pods say, notes included.
	ShowsNotes bool
}

// A Helper is what runs of a feature beside the agent's loop for as long as the agent
// does, also while the feature is switched off. What it has nothing for is nil. All but
// Run and what reads (Views, Collect, Checks) is called by the loop, in the network
// namespace of the node.
type Helper struct {
	// Run runs until ctx is done.
	Run func(ctx context.Context)
	// Observe is what the helper says in the next world. It is asked when the agent
	// begins to reconcile.
	Observe func() []world.Part
	// Prepare comes before the kernel is made to hold what want says. From then on the
	// helper serves want, and all else that it was prepared for and the kernel may hold
	// still. false: what it observes now forbids that, and the world is rendered again.
	Prepare func(want Seen) bool
	// Applied says that the kernel's rules are what want says, and no others.
	Applied func(want Seen)
	// Report is what is added to what the cluster is told.
	Report func(want Seen) Report
	// Views answer those who ask the agent for what they name.
	Views map[string]func(context.Context, Seen, url.Values) (any, error)
	// Metrics are the descriptions of what Collect collects.
	Metrics []*prometheus.Desc
	Collect func(Seen, chan<- prometheus.Metric)
	// Checks are the helper's questions to the node, besides those of the feature.
	Checks func(Seen) []doctor.Check
	// Close gives back what is held for the agent's lifetime. The kernel stays as it is.
	Close func()
}

// A Report is what a helper has for the cluster.
type Report struct {
	Reports []world.Report
	// PortUsePercent is how much of the source ports towards the destination that takes
	// most is taken.
	PortUsePercent int64
}

// Seen is what the agent came to when it reconciled last. It never changes.
type Seen struct {
	World  *world.World // with what was allocated for it; nil: nothing is known of the node
	Result *Result      // of the feature; nil: it is switched off
	// Since is when a value of a kind that is dated came to be; zero: that is not known.
	Since func(kind, key string) time.Time
}

// Unanswered is why a view has no answer.
type Unanswered struct {
	Status int // of HTTP
	Reason string
}

func (u Unanswered) Error() string { return u.Reason }

// Unanswerable returns an [Unanswered].
func Unanswerable(status int, format string, args ...any) error {
	return Unanswered{status, fmt.Sprintf(format, args...)}
}
