package agent

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature/pod"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

// A refusal is an answer to the plugin that is no success. Status 503 makes the
// runtime try again later.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func later(format string, args ...any) *refusal {
	return &refusal{http.StatusServiceUnavailable, fmt.Sprintf(format, args...)}
}

func bad(format string, args ...any) *refusal {
	return &refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func (a *Agent) serveAdd(w http.ResponseWriter, r *http.Request) {
	a.withRequest(w, r, func(q cni.Request) (any, *refusal) { return a.add(r, q) })
}

func (a *Agent) serveDel(w http.ResponseWriter, r *http.Request) {
	a.withRequest(w, r, func(q cni.Request) (any, *refusal) {
		if err := a.del(r, q); err != nil {
			return nil, later("%v", err)
		}
		return struct{}{}, nil
	})
}

// del detaches a pod. It returns when its wire is gone.
func (a *Agent) del(r *http.Request, q cni.Request) error {
	if err := a.book.Detach(q.ContainerID, q.Interface); err != nil {
		return err
	}
	_, err := a.Sync(r.Context())
	return err
}

func (a *Agent) serveCheck(w http.ResponseWriter, r *http.Request) {
	a.withRequest(w, r, func(q cni.Request) (any, *refusal) {
		if a.book.Find(q) == nil {
			return nil, bad("nothing is known of container %s, interface %s", q.ContainerID, q.Interface)
		}
		changes, err := a.diff()
		if err != nil {
			return nil, later("%v", err)
		}
		if missing := changes.About(pod.LinkName(q.ContainerID, q.Interface)); missing != "" {
			return nil, bad("the pod's wire is not as it was made; missing:\n%s", missing)
		}
		return struct{}{}, nil
	})
}

func (a *Agent) withRequest(w http.ResponseWriter, r *http.Request, do func(cni.Request) (any, *refusal)) {
	var q cni.Request
	// Fields of a newer plugin are passed over: a DEL must not fail for them.
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := q.Validate(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	v, refused := do(q)
	if refused != nil {
		a.config.Log.Warn("pod request refused", "pod", q.Namespace+"/"+q.Pod, "container", q.ContainerID, "reason", refused.text)
		http.Error(w, refused.text, refused.status)
		return
	}
	answer(w, v)
}

// add attaches a pod: an address from the book, then a turn of the loop that
// makes its wire. It answers when the pod's datapath is in the kernel.
func (a *Agent) add(r *http.Request, q cni.Request) (any, *refusal) {
	s := a.snapshot.Load()
	if s.World == nil || s.World.Node == nil {
		return nil, later("the agent is not ready: %s", s.Reason)
	}
	if len(s.World.Node.PodCIDRs) == 0 {
		return nil, later("Node %s has no pod CIDR yet", a.config.Node)
	}
	if !netns.Alive(q.Netns) {
		return nil, bad("%q is no network namespace", q.Netns)
	}
	if old := a.book.Find(q); old != nil && old.Netns != q.Netns {
		// The runtime made the sandbox anew without saying so. The old wire has
		// the name of the new one and goes first.
		if err := a.del(r, q); err != nil {
			return nil, later("%v", err)
		}
	}
	attachment, err := a.book.Attach(q, s.World.Node.PodCIDRs)
	if err != nil {
		return nil, &refusal{http.StatusInternalServerError, err.Error()}
	}
	link := pod.LinkName(q.ContainerID, q.Interface)
	s, err = a.Sync(r.Context())
	if err == nil {
		err = s.failure(link)
	}
	if err != nil {
		// The runtime will ask again, with this container or another.
		if derr := a.book.Detach(q.ContainerID, q.Interface); derr != nil {
			err = fmt.Errorf("%w; and the address stays taken: %w", err, derr)
		}
		if _, serr := a.Sync(r.Context()); serr != nil {
			err = fmt.Errorf("%w; and the attempt is not cleared away: %w", err, serr)
		}
		return nil, &refusal{http.StatusInternalServerError, err.Error()}
	}
	return wired(attachment, link, s.World.PodMTU()), nil
}

// failure is what kept the named link, anything on it, or the rules that its
// packets must meet from being made. What fails elsewhere is no pod's affair.
func (s *Snapshot) failure(link string) error {
	for _, f := range s.Failures {
		if f.Kind == datapath.KindRules || f.Link == link {
			return f.Err
		}
	}
	if len(s.Failures) == 0 && s.Reason != "" {
		return fmt.Errorf("not applied: %s", s.Reason)
	}
	return nil
}

func wired(a *world.Attachment, link string, mtu int) cni.Answer {
	mac := pod.MAC(a.ContainerID, a.Interface)
	out := cni.Answer{Link: link, LinkMAC: net.HardwareAddr(datapath.WireMAC[:]).String(),
		MAC: net.HardwareAddr(mac[:]).String(), MTU: mtu, Addresses: a.Addresses}
	for _, addr := range a.Addresses {
		out.Gateways = append(out.Gateways, pod.Gateway(addr))
	}
	return out
}
