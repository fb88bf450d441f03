package status

import (
	"context"
	"encoding/json"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/sorted"
)

// pod is the annotations of one pod.
type pod struct {
	tries
	s *APIServer

	want    Pod
	changed time.Time
	have    map[string]string // in the cluster
	look    time.Time         // when they are applied again; zero: they never were
	sent    bool              // something was that may have come in, for all we know

	rewrites  int       // by somebody else, one soon after the other
	rewritten time.Time // the last of them
}

// Somebody who rewrites what we wrote, such as another controller that thinks the
// annotation is its own, gets it back at once, then ever less often; and at once
// again after a time of peace.
const (
	rewriteMost  = 10 * time.Minute
	rewritePeace = time.Hour
	rewriteTold  = 3 // from how many on it is told
)

// rewrittenAt notes that somebody else wrote, and returns when it is written back.
func (p *pod) rewrittenAt(now time.Time) time.Time {
	if now.Sub(p.rewritten) > rewritePeace {
		p.rewrites = 0
	}
	p.rewrites, p.rewritten = p.rewrites+1, now
	if p.rewrites == 1 {
		return now
	}
	if p.rewrites == rewriteTold && now.Sub(p.kind.rewritten) > complainOther {
		p.kind.rewritten = now
		p.s.log.Warn("somebody rewrites what was written on a pod, again and again; it is written back ever less often",
			"pod", p.want.Namespace+"/"+p.want.Name, "hint", "metadata.managedFields of the pod says who")
	}
	return now.Add(backoff(p.rewrites-2, soonFirst, rewriteMost))
}

// setPods takes back the annotations of pods that are no longer listed, and then
// forgets them.
func (s *APIServer) setPods(list sorted.List[*Pod], now time.Time) {
	gone, come := sorted.Differing(s.listed, list, ComparePods)
	s.listed = list
	for _, p := range gone {
		s.leaving[p.UID] = true
	}
	for _, want := range come {
		delete(s.leaving, want.UID)
		p := s.pods[want.UID]
		if p == nil {
			p = &pod{tries: tries{kind: s.kinds.pod}, s: s, changed: now}
			s.pods[want.UID] = p
			if len(want.Present) > 0 && maps.Equal(want.Present, want.Annotations) {
				p.have, p.look = want.Annotations, now.Add(about(applyAgain))
			}
		}
		if !maps.Equal(p.want.Annotations, want.Annotations) {
			p.changed = now
		}
		// Somebody else wrote, or what we wrote is not seen yet. What waits to be written
		// already waits no longer for that.
		if !maps.Equal(p.want.Present, want.Present) && !maps.Equal(want.Present, want.Annotations) && !p.look.IsZero() {
			p.changed, p.look = p.rewrittenAt(now), time.Time{}
		}
		p.want = *want
	}
	for uid := range s.leaving {
		switch p := s.pods[uid]; {
		case len(p.have) == 0 && !p.sent:
			delete(s.pods, uid)
			delete(s.leaving, uid)
		case p.want.Annotations != nil:
			p.want.Annotations, p.changed = nil, now
		}
	}
}

func (p *pod) due() time.Time {
	switch {
	case p.look.IsZero() || p.sent || !maps.Equal(p.want.Annotations, p.have):
		return p.changed
	case len(p.have)+len(p.want.Present) > 0:
		return p.look
	}
	return time.Time{}
}

// write applies the annotations to this very pod: one of the same name that is
// another is left alone.
func (p *pod) write(ctx context.Context) error {
	s := p.s
	s.mu.Lock()
	want := p.want
	p.sent = true
	s.mu.Unlock()
	err := p.send(ctx, want)
	switch {
	case err == nil:
		s.metrics.writes.WithLabelValues(p.kind.name).Inc()
	// What is not there is a conflict with the UID, and another pod invalid.
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err):
		if gone, lookErr := p.gone(ctx, want); lookErr != nil || !gone {
			return err
		}
	default:
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.have, p.sent, p.look = want.Annotations, false, time.Now().Add(about(applyAgain))
	if now := p.want.Present; !maps.Equal(now, want.Present) && !maps.Equal(now, p.want.Annotations) { // seen meanwhile
		p.changed, p.look = p.rewrittenAt(time.Now()), time.Time{}
	}
	return nil
}

// send applies what should be there. What is there and should not be goes by a
// patch that does not ask whose it is: to apply nothing leaves what others wrote.
func (p *pod) send(ctx context.Context, want Pod) error {
	stale := map[string]any{}
	for name := range want.Present {
		if _, stays := want.Annotations[name]; !stays {
			stale[name] = nil
		}
	}
	to := func(r *rest.Request) error {
		return r.Namespace(want.Namespace).Resource("pods").Name(want.Name).Do(ctx).Error()
	}
	if len(stale) > 0 {
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": want.UID, "annotations": stale}})
		if err != nil {
			return err
		}
		err = to(p.s.core.Patch(types.MergePatchType).Param("fieldManager", Component).Body(body).MaxRetries(0))
		if err != nil || len(want.Annotations) == 0 {
			return err
		}
	}
	meta := map[string]any{"name": want.Name, "namespace": want.Namespace, "uid": want.UID}
	if len(want.Annotations) > 0 {
		meta["annotations"] = want.Annotations
	}
	return to(patch(p.s.core, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": meta}))
}

// gone reports whether there is no such pod any more.
func (p *pod) gone(ctx context.Context, want Pod) (bool, error) {
	var there corev1.Pod
	err := p.s.core.Get().Namespace(want.Namespace).Resource("pods").Name(want.Name).MaxRetries(0).Do(ctx).Into(&there)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return err == nil && there.UID != want.UID, err
}
