package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// A verb answers one of the plugin's commands. Its errors are CNI's; any other
// is an internal one.
type verb func(context.Context, cni.Request) (any, error)

func refuse(code uint, format string, args ...any) error {
	return types.NewError(code, fmt.Sprintf(format, args...), "")
}

// later makes the runtime try again.
func later(format string, args ...any) error { return refuse(types.ErrTryAgainLater, format, args...) }

// about is a verb that concerns one attachment.
func about(do verb) verb {
	return func(ctx context.Context, q cni.Request) (any, error) {
		if err := q.Validate(); err != nil {
			return nil, refuse(types.ErrInvalidEnvironmentVariables, "%v", err)
		}
		return do(ctx, q)
	}
}

// cniCommands are the commands that ask the agent; VERSION asks nobody.
var cniCommands = []string{"ADD", "DEL", "CHECK", "GC", "STATUS"}

// serveCNI answers the plugin's command: with what do says, or with an error as
// the plugin passes it on.
func (a *Agent) serveCNI(command string, do verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		var q cni.Request
		// Fields of a newer plugin are passed over: a DEL must not fail for them.
		err := json.NewDecoder(r.Body).Decode(&q)
		var v any
		if err == nil {
			v, err = do(r.Context(), q)
		}
		a.metrics.cni.answered(command, time.Since(began), err)
		if err == nil {
			answer(w, v)
			return
		}
		var refused *types.Error
		if !errors.As(err, &refused) {
			refused = types.NewError(types.ErrInternal, err.Error(), "")
		}
		refused = types.NewError(refused.Code, quote.Text(refused.Msg, quote.Sentence), quote.Text(refused.Details, quote.Sentence))
		if q.ContainerID != "" { // a runtime asks for the status all the time
			a.config.Log.Warn("pod request refused", "pod", q.Namespace+"/"+q.Pod, "container", q.ContainerID, "reason", refused.Msg)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		answer(w, refused)
	}
}

// done is the answer that says nothing more.
var done = struct{}{}

// add attaches a pod: a record in the book, then a turn of the loop that makes
// its wire. It answers when the pod's datapath is in the kernel.
func (a *Agent) add(ctx context.Context, q cni.Request) (any, error) {
	s, err := a.attachable(ctx)
	if err == nil {
		s, err = a.expected(ctx, s, q)
	}
	if err != nil {
		return nil, err
	}
	attachment, cidrs, err := s.place(q)
	if err == nil {
		err = a.refuses(s, &attachment)
	}
	if err != nil {
		return nil, err
	}
	if other := feature.Namesake(a.book.Attachments().List, &attachment, feature.LinkName); other != nil && !attachment.Chained {
		return nil, later("the veth pair would have the name of the one of pod %s/%s", other.Namespace, other.Pod)
	}
	if old := a.book.Find(attachment.Key()); old != nil && !asWritten(old, &attachment) || a.book.Buried(attachment.Key()) {
		// The runtime made the sandbox anew without saying so, or said so to a
		// tombstone. The old wire has the name of the new one and goes first.
		if _, err := a.del(ctx, q); err != nil {
			return nil, err
		}
	}
	made, err := a.book.Attach(attachment, q.Network, cidrs)
	if err != nil {
		return nil, err
	}
	link := feature.LinkName(q.ContainerID, q.Interface)
	s, err = a.Sync(ctx)
	if err == nil {
		err = s.failure(link)
	}
	if err != nil {
		// The runtime will ask again, with this container or another.
		a.book.Detach(made.Key())
		if _, serr := a.Sync(ctx); serr != nil {
			err = fmt.Errorf("%w; and the attempt could not be undone: %w", err, serr)
		}
		return nil, err
	}
	return wired(made, link, s.World.PodMTU()), nil
}

// warmUp is how long after its start an agent lets pods wait until it knows the
// cluster; later it refuses them, and the runtime asks again.
const warmUp = 10 * time.Second

// attachable returns a snapshot with which pods can be attached.
func (a *Agent) attachable(ctx context.Context) (*Snapshot, error) {
	over := time.After(time.Until(a.started.Add(warmUp)))
	for {
		s := a.snapshot.Load()
		err := s.unready()
		if err == nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-over:
			return nil, err
		case <-s.next:
		}
	}
}

// awaiting is how long a pod waits for what features await; then the runtime asks again.
const awaiting = 5 * time.Second

// expected waits until features know of a pod what they await: what makes its wire then
// follows from it. It returns the snapshot that has it.
func (a *Agent) expected(ctx context.Context, s *Snapshot, q cni.Request) (*Snapshot, error) {
	over := time.After(awaiting)
	for {
		lacks := a.awaits(s, q)
		if lacks == "" {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, later("%s", lacks)
		case <-over:
			return nil, later("%s", lacks)
		case <-s.next:
			s = a.snapshot.Load()
		}
	}
}

func (a *Agent) awaits(s *Snapshot, q cni.Request) string {
	for _, f := range a.config.Features {
		if f.Awaits == nil || q.UID == "" || !f.On(s.World.Config) {
			continue
		}
		if lacks := f.Awaits(s.World, world.Key{Namespace: q.Namespace, Name: q.Pod}, q.UID); lacks != "" {
			return lacks
		}
	}
	return ""
}

// unready is why no pod can be attached yet.
func (s *Snapshot) unready() error {
	if s.World == nil || s.World.Node == nil {
		return later("the agent is not ready: %s", s.Reason)
	}
	if s.World.Config.Overlay.Mode != world.None && len(s.World.Node.PodCIDRs) == 0 {
		return later("Node %s has no pod CIDR yet", s.World.Node.Name)
	}
	return nil
}

// place says what a request asks for, and where its addresses come from: of the
// plugin before this one where the pod network is another's, and of the pod CIDRs
// where it is ours.
func (s *Snapshot) place(q cni.Request) (world.Attachment, []netip.Prefix, error) {
	out := q.Attachment()
	if out.Inode = netns.Inode(q.Netns); out.Inode == 0 {
		return out, nil, refuse(types.ErrInvalidNetNS, "%s is no network namespace", quote.Of(q.Netns))
	}
	out.Place = netns.Place(q.Netns)
	mode := s.World.Config.Overlay.Mode
	switch {
	case mode != world.None && q.Before != nil:
		return out, nil, refuse(types.ErrInvalidNetworkConfig,
			"another plugin has made this pod's network (CNI chaining), and overlay.mode is %s: set it to none, or take fairlead out of network %s", mode, q.Network)
	case mode != world.None:
		return out, s.World.Node.PodCIDRs, nil
	case q.Before == nil:
		return out, nil, refuse(types.ErrInvalidNetworkConfig,
			"overlay.mode is none: CNI chaining needs fairlead behind the plugin that makes the pods' network, in network %s", q.Network)
	}
	out.Chained, out.Addresses = true, q.Before
	out.HostPorts, out.Bandwidth = nil, world.Bandwidth{} // theirs too
	return out, nil, nil
}

// refuses asks the features whether an attachment can be made.
func (a *Agent) refuses(s *Snapshot, at *world.Attachment) error {
	for _, f := range a.config.Features {
		if f.Refuses == nil || !f.On(s.World.Config) {
			continue
		}
		if reason, hint := f.Refuses(s.World, at); reason != "" {
			return refuse(types.ErrInvalidNetworkConfig, "%s (%s)", reason, hint)
		}
	}
	return nil
}

// asWritten reports whether a request asks for what is in the book.
func asWritten(old, asked *world.Attachment) bool {
	return old.Netns == asked.Netns && old.Inode == asked.Inode && old.Chained == asked.Chained &&
		(!asked.Chained || slices.Equal(old.Addresses, asked.Addresses)) &&
		slices.Equal(old.HostPorts, asked.HostPorts) && old.Bandwidth == asked.Bandwidth
}

// failure is what kept the named link, anything on it, or the rules that its
// packets must meet from being made. What fails elsewhere is no pod's affair.
func (s *Snapshot) failure(link string) error {
	for _, f := range s.Failures {
		if f.Kind == datapath.KindRules || f.Link == link || f.Link == datapath.IFBLink(link) {
			return f.Err
		}
	}
	if len(s.Failures) == 0 && s.unapplied != "" {
		return fmt.Errorf("not applied: %s", s.unapplied)
	}
	return nil
}

func wired(a *world.Attachment, link string, mtu int) cni.Answer {
	mac := feature.PodMAC(a.ContainerID, a.Interface)
	out := cni.Answer{Link: link, LinkMAC: net.HardwareAddr(datapath.WireMAC[:]).String(),
		MAC: net.HardwareAddr(mac[:]).String(), MTU: mtu, Addresses: a.Addresses}
	for _, addr := range a.Addresses {
		out.Gateways = append(out.Gateways, feature.PodGateway(addr))
	}
	return out
}

// del detaches a pod. It returns when its wire is gone.
func (a *Agent) del(ctx context.Context, q cni.Request) (any, error) {
	attachment := q.Attachment()
	a.book.Detach(attachment.Key())
	if _, err := a.Sync(ctx); err != nil {
		return nil, later("%v", err)
	}
	return done, nil
}

// ready says whether the next ADD would be served; CNI spec, "STATUS".
func (a *Agent) ready(context.Context, cni.Request) (any, error) {
	s := a.snapshot.Load()
	if err := s.unready(); err != nil {
		return nil, refuse(types.ErrPluginNotAvailable, "%v", err)
	}
	if !s.Ready {
		return nil, refuse(types.ErrLimitedConnectivity, "pods would not get what they should: %s", s.Reason)
	}
	for _, p := range s.pools(a.book.Attachments()) {
		if p.Used >= p.Size {
			return nil, refuse(types.ErrPluginNotAvailable, "all %d addresses of pod CIDR %s are in use", p.Size, p.CIDR)
		}
	}
	return done, nil
}
