package agent

import (
	"context"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// offer shows the container runtime the pod network from the first time that pods can be attached on, until ctx
// is done, and repairs what is shown.
func (a *Agent) offer(ctx context.Context) error {
	o := cni.Offering{ConfDir: a.config.CNIConfDir, BinDir: a.config.CNIBinDir, Socket: a.config.Socket, StateDir: a.config.StateDir, Log: a.config.Log}
	var last string
	for {
		s := a.snapshot.Load()
		if s.Ready && s.unready() == nil {
			said := ""
			if err := o.Make(s.World.Config); err != nil {
				said = quote.Errors(err)
			}
			if said != "" && said != last {
				a.config.Log.Error("the container runtime is not shown the pod network; trying again", "error", said)
			}
			if said != last {
				a.unoffered.Store(&said)
				a.loop.Wake()
			}
			last = said
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.next:
		}
	}
}

// ofRuntime is what keeps the container runtime from being shown the pod network, as a
// Problem.
func (a *Agent) ofRuntime() []world.Problem {
	said := a.unoffered.Load()
	if said == nil || *said == "" {
		return nil
	}
	return []world.Problem{{Object: "Node " + a.config.Node, Field: "container runtime", Reason: "is not shown the pod network: " + *said,
		Hint: "pods that begin may get no network, or another: correct or remove the file, and the agent writes it again within seconds"}}
}
