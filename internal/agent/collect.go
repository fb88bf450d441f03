package agent

import (
	"context"
	"errors"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/world"
)

// collect strikes out the attachments whose DEL came while no agent ran, and
// those whose DEL never came.
func (a *Agent) collect() error {
	unburied := a.book.Bury()
	leaked, err := a.book.Collect()
	a.collected("its network namespace is gone", leaked)
	return errors.Join(unburied, err)
}

// keep detaches every pod of a network but those that the runtime still has.
func (a *Agent) keep(ctx context.Context, q cni.Request) (any, error) {
	valid := map[string]bool{}
	for _, key := range q.Valid {
		valid[key] = true
	}
	leaked, err := a.book.Keep(q.Network, valid)
	a.collected("the runtime does not know it", leaked)
	if _, serr := a.Sync(ctx); serr != nil {
		err = errors.Join(err, serr)
	}
	return done, err
}

// collected tells of attachments that were struck out without a DEL.
func (a *Agent) collected(why string, list []*world.Attachment) {
	a.metrics.collected.Add(float64(len(list)))
	for _, at := range list {
		a.config.Log.Info("attachment collected", "why", why, "pod", at.Namespace+"/"+at.Pod, "container", at.ContainerID, "addresses", at.Addresses)
	}
}
