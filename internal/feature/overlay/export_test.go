package overlay

import (
	"context"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

// FullSize is the check of the same name, one path after the other: by the calling
// thread, which is in the node's namespace.
func FullSize(ctx context.Context, w *world.World) []doctor.Finding {
	all, ask := Paths(w), fullSize(w)
	var errs []error
	for _, p := range all {
		limited, stop := context.WithTimeout(ctx, echoTimeout)
		errs = append(errs, ask(limited, p))
		stop()
	}
	return findings(all, errs, w.PodMTU())
}
