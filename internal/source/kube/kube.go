// Package kube reads objects from a Kubernetes API server, and watches them.
//
// Of every kind only what counts is kept, taken out of each object as it comes
// in. What does not count, such as the heartbeats of nodes, is no change. While
// the API server is away nothing changes, and when it is back only what really
// did.
package kube

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// Config says what is watched, and where.
type Config struct {
	REST *rest.Config // how to connect
	Node string       // the node that the objects are for
	Log  *slog.Logger
}

// settle is how long a change waits for others that come with it.
const settle = 20 * time.Millisecond

// A Source is an API server's objects.
type Source struct {
	config Config
	kinds  []kind

	mu       sync.Mutex // guards what is below, and all kinds
	changed  func()
	settling bool // changed will be called
	last     *source.Objects
	news     bool      // since last was made
	down     time.Time // when the API server ceased to answer; zero: it answers
}

// A kind is a watched kind of objects, whatever its type.
type kind interface {
	run(ctx context.Context)
	name() string
	state() *health
	needed() bool // nothing can be made of the others without it
	collect(into *source.Objects)
	problem() (world.Problem, bool)
}

// New returns the source. It asks for nothing before it is watched.
func New(c Config) (*Source, error) {
	s := &Source{config: c, changed: func() {}}
	for _, add := range []func() error{
		func() error { return watchKind(s, nodes) },
		func() error { return watchKind(s, configs) },
		func() error { return watchKind(s, reports) },
	} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func watchKind[T any](s *Source, f form[T]) error {
	client, err := s.client(f.group)
	if err != nil {
		return err
	}
	s.kinds = append(s.kinds, &watched[T]{form: f, source: s, client: client, list: list[T]{key: f.key, equal: f.equal}})
	return nil
}

func (s *Source) client(group schema.GroupVersion) (rest.Interface, error) {
	return kube.Client(s.config.REST, group)
}

// Watch keeps the objects up to date until ctx is done, and calls changed soon
// after each change that counts.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	s.mu.Lock()
	s.changed = changed
	s.mu.Unlock()
	for _, k := range s.kinds {
		go k.run(ctx) // may wait for its next try when ctx is done, and then ends
	}
	<-ctx.Done()
	return nil
}

// announce notes that there is news, and tells it soon. The caller holds the lock.
func (s *Source) announce() {
	s.news = true
	if s.settling {
		return
	}
	s.settling = true
	time.AfterFunc(settle, func() {
		s.mu.Lock()
		s.settling = false
		changed := s.changed
		s.mu.Unlock()
		changed()
	})
}

// Read returns the objects as they are known. While nothing changed that counts,
// that is the same value as before. Before all that is needed has come, it says
// what it waits for.
func (s *Source) Read() (*source.Objects, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && !s.news {
		return s.last, nil
	}
	if err := s.waiting(); err != nil {
		return nil, err
	}
	out := &source.Objects{Revision: 1}
	if s.last != nil {
		out.Revision = s.last.Revision + 1
	}
	for _, k := range s.kinds {
		k.collect(out)
		if p, ok := k.problem(); ok {
			out.Problems = append(out.Problems, p)
		}
	}
	s.last, s.news = out, false
	return out, nil
}

// waiting says what has not come yet, and why.
func (s *Source) waiting() error {
	var reasons []string
	names := map[string][]string{}
	for _, k := range s.kinds {
		h := k.state()
		if h.known || h.absent() && !k.needed() {
			continue
		}
		reason := "no answer yet"
		if h.err != nil {
			reason = plain(h.err).Error()
		}
		if names[reason] == nil {
			reasons = append(reasons, reason)
		}
		names[reason] = append(names[reason], k.name()+"s")
	}
	if len(reasons) == 0 {
		return nil
	}
	slices.SortStableFunc(reasons, strings.Compare)
	var parts []string
	for _, r := range reasons {
		parts = append(parts, strings.Join(names[r], ", ")+": "+r)
	}
	return fmt.Errorf("waiting for the API server %s: %s", s.config.REST.Host, strings.Join(parts, "; "))
}

// outage logs when the API server ceases to answer, and when it answers again.
// The caller holds the lock.
func (s *Source) outage() {
	var err error
	for _, k := range s.kinds {
		if h := k.state(); h.err != nil && !h.absent() {
			err = plain(h.err)
		}
	}
	switch {
	case err != nil && s.down.IsZero():
		s.down = time.Now()
		s.config.Log.Warn("the API server does not answer as it should; going on with what is known", "server", s.config.REST.Host, "error", err)
	case err == nil && !s.down.IsZero():
		s.config.Log.Info("the API server answers again", "server", s.config.REST.Host, "after", time.Since(s.down).Round(time.Second))
		s.down = time.Time{}
	}
}
