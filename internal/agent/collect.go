package agent

import (
	"context"
	"errors"
	"fmt"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/report"
	"fairlead.dev/fairlead/internal/source/kernel"
	"fairlead.dev/fairlead/internal/world"
)

// collect strikes out the attachments whose DEL came while no agent ran, and
// those whose DEL never came. It returns what the disk lacks.
func (a *Agent) collect() error {
	unburied := a.book.Bury()
	a.collected("its network namespace is gone", a.book.Collect())
	lag, err := a.book.Settle()
	if err != nil {
		err = fmt.Errorf("%d records of attachments are not on the disk as they should be: %w", lag, err)
	}
	return errors.Join(unburied, err)
}

// adopt takes in the wires that the kernel holds and no record tells of. Records are
// lost before an agent starts, and not while it runs.
func (a *Agent) adopt() error {
	if a.adopted {
		return nil
	}
	wires, err := kernel.Wires()
	if err != nil {
		return err
	}
	for _, at := range a.book.Adopt(wires, feature.LinkName) {
		a.config.Log.Error("an attachment without a record: its veth pair and its addresses stay as they are",
			"veth", at.Wire, "container", at.ContainerID, "addresses", at.Addresses)
	}
	a.adopted = true
	return nil
}

// complain tells of what was kept on the disk and cannot be read.
func (a *Agent) complain() {
	for _, err := range a.troubles {
		a.config.Log.Error("what was kept on the disk is not known", "error", err)
		a.events.Record(world.Event{Object: "Node " + a.config.Node, Type: world.Warning, Reason: "StateDamaged", Message: quote.Text(err.Error(), report.Longest), Subject: err.Error()})
	}
}

// keep detaches every pod of a network but those that the runtime still has.
func (a *Agent) keep(ctx context.Context, q cni.Request) (any, error) {
	valid := map[string]bool{}
	for _, key := range q.Valid {
		valid[key] = true
	}
	a.collected("the runtime does not know it", a.book.Keep(q.Network, valid))
	_, err := a.Sync(ctx)
	return done, err
}

// collected tells of attachments that were struck out without a DEL.
func (a *Agent) collected(why string, list []*world.Attachment) {
	a.metrics.collected.Add(float64(len(list)))
	for _, at := range list {
		a.config.Log.Info("attachment collected", "why", why, "pod", at.Namespace+"/"+at.Pod, "container", at.ContainerID, "addresses", at.Addresses)
	}
}
