package agent

import (
	"context"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

// faulty is an attachment that is not as ADD left it.
func faulty(format string, args ...any) error { return refuse(types.ErrInternal, format, args...) }

// check says whether a pod is attached as ADD left it.
func (a *Agent) check(_ context.Context, q cni.Request) (any, error) {
	asked := q.Attachment()
	at := a.book.Find(asked.Key())
	if at == nil {
		return nil, refuse(types.ErrUnknownContainer, "nothing is known of container %s, interface %s", q.ContainerID, q.Interface)
	}
	if at.Wire != "" {
		return nil, faulty("the record of this pod's attachment is lost; its veth pair %s stays as it is", at.Wire)
	}
	if !netns.Is(at.Netns, at.Inode) {
		return nil, faulty("the pod's network namespace %s is gone", at.Netns)
	}
	if q.Before != nil && !slices.Equal(q.Before, at.Addresses) {
		return nil, faulty("ADD answered with the addresses %s, and the pod's are %s", q.Before, at.Addresses)
	}
	if at.Chained {
		return done, nil // the wire is another's
	}
	return done, a.checkWire(at)
}

// checkWire compares both ends of a pod's wire with what they were made to be.
func (a *Agent) checkWire(at *world.Attachment) error {
	name := feature.LinkName(at.ContainerID, at.Interface)
	changes, err := a.diff()
	if err != nil {
		return later("%v", err)
	}
	if missing := changes.About(name) + changes.About(datapath.IFBLink(name)); missing != "" {
		return faulty("the pod's veth pair is not as it was made; missing:\n%s", missing)
	}
	wire := a.snapshot.Load().wire(name)
	if wire == nil {
		return faulty("the pod has no veth pair: it is not part of the node's pod network")
	}
	missing, err := wire.MissingInside()
	if err != nil {
		return faulty("the pod's %s cannot be looked at: %v", at.Interface, err)
	}
	if len(missing) > 0 {
		return faulty("the pod's %s is not as it was made; missing: %s", at.Interface, missing)
	}
	return nil
}

// wire is the named link as it is rendered, or nil.
func (s *Snapshot) wire(name string) *link.Link {
	for _, p := range s.Rendered.State {
		for _, l := range p.Links {
			if l.Name == name {
				return l
			}
		}
	}
	return nil
}
