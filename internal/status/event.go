package status

import (
	"context"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// event is one that happened, maybe again and again.
type event struct {
	tries
	s *APIServer

	want    corev1.Event
	changed time.Time
	told    int32     // how often it happened, as far as was told; 0: it was not
	next    time.Time // not told before
	going   bool      // a request about it is under way
	before  int32     // how often the API server knew of before this agent; Run's own
}

// setEvents forgets what is no longer remembered.
func (s *APIServer) setEvents(list []corev1.Event, now time.Time) {
	listed := map[string]bool{}
	for _, want := range list {
		key := want.Namespace + "/" + want.Name
		listed[key] = true
		e := s.events[key]
		if e == nil {
			e = &event{tries: tries{kind: s.kinds.event}, s: s}
			s.events[key] = e
		}
		if e.want.Count == e.told {
			e.changed = now
		}
		e.want = want
	}
	for key, e := range s.events {
		if !listed[key] {
			if e.told != e.want.Count && !e.going {
				s.metrics.dropped.Inc()
			}
			delete(s.events, key)
		}
	}
}

func (e *event) due() time.Time {
	if e.told == e.want.Count {
		return time.Time{}
	}
	return latest(e.changed, e.next)
}

func (e *event) write(ctx context.Context) error {
	s := e.s
	s.mu.Lock()
	want, told := e.want, e.told
	if s.events[want.Namespace+"/"+want.Name] != e { // it was forgotten since it was its turn
		s.mu.Unlock()
		return nil
	}
	e.going = true
	s.mu.Unlock()
	err := e.tell(ctx, want, told)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.going = false
	switch {
	case err == nil:
		s.metrics.writes.WithLabelValues(e.kind.name).Inc()
	// What is refused for what it says is so for good. It may be told when it happens again.
	case reasonOf(err) == refused:
		s.drop(e, err)
	// Events of a namespace that goes, or went, are for nobody.
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsNotFound(err):
	default:
		if s.events[want.Namespace+"/"+want.Name] != e { // it was forgotten meanwhile
			s.metrics.dropped.Inc()
		}
		return err
	}
	e.told, e.next = want.Count, time.Now().Add(about(eventAgain))
	return nil
}

// drop gives up an event, and says so now and then.
func (s *APIServer) drop(e *event, err error) {
	s.metrics.dropped.Inc()
	s.metrics.failures.WithLabelValues(e.kind.name, refused).Inc()
	if now := time.Now(); e.kind.by == nil && now.Sub(e.kind.at) >= complainOther {
		e.kind.at = now
		s.log.Warn("an Event that the API server refuses is dropped", "event", e.want.Name, "error", err)
	}
}

// tell creates the event, or counts it up. The API server forgets events after an
// hour, and may know one from an agent before this one.
func (e *event) tell(ctx context.Context, want corev1.Event, told int32) error {
	if told > 0 {
		if err := e.count(ctx, want); !apierrors.IsNotFound(err) {
			return err
		}
	}
	made := want
	made.Count += e.before
	err := e.s.core.Post().Namespace(want.Namespace).Resource("events").Body(&made).MaxRetries(0).Do(ctx).Error()
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	there, err := e.patch(ctx, want, map[string]any{}) // reads it, without a right to get
	if err != nil {
		return err
	}
	e.before = there.Count
	return e.count(ctx, want)
}

func (e *event) count(ctx context.Context, want corev1.Event) error {
	_, err := e.patch(ctx, want, map[string]any{
		"count": e.before + want.Count, "lastTimestamp": want.LastTimestamp, "message": want.Message,
	})
	return err
}

func (e *event) patch(ctx context.Context, want corev1.Event, change map[string]any) (there corev1.Event, err error) {
	body, err := json.Marshal(change)
	if err != nil {
		return there, err
	}
	err = e.s.core.Patch(types.StrategicMergePatchType).Namespace(want.Namespace).Resource("events").Name(want.Name).
		Body(body).MaxRetries(0).Do(ctx).Into(&there)
	return there, err
}
