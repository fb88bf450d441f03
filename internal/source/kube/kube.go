// Package kube reads objects from a Kubernetes API server, and watches them.
//
// Of every kind only what counts is kept, taken out of each object as it comes
// in. What does not count, such as the heartbeats of nodes, is no change. While
// the API server is away nothing changes, and when it is back only what really
// did.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// Config says what is watched, and where.
type Config struct {
	REST   *rest.Config // how to connect
	Node   string       // the node that the objects are for
	Needs  world.Needs  // what is watched besides Nodes, AgentConfigs and FairleadNodes
	Memory string       // directory in which objects are kept for a start without API server; "": none
	// Fallback has AgentConfigs for names of which the API server has none, such as
	// those that come with the agent; and what is wrong with them.
	Fallback *source.Objects
	// Patience is how long a start waits for an API server before it goes on with
	// what is remembered; 0: the usual time.
	Patience time.Duration
	Log      *slog.Logger
}

const (
	usualPatience = 5 * time.Second
	// A list that has begun to come is awaited so many times longer.
	patienceOnceAnswered = 6
)

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
	news     bool         // since last was made
	unkept   error        // why what is known could not be put on disk
	server   []netip.Addr // of the API server, as far as it is known
	down     time.Time    // when the API server ceased to answer; zero: it answers
}

// A kind is a watched kind of objects, whatever its type.
type kind interface {
	run(ctx context.Context)
	name() string
	len() int
	state() *health
	lacks() string
	recall()
	remember() error
	collect(into *source.Objects)
}

// New returns the source. It asks for nothing before it is watched.
func New(c Config) (*Source, error) {
	if c.Patience == 0 {
		c.Patience = usualPatience
	}
	s := &Source{config: c, changed: func() {}}
	door := source.Door{Node: c.Node, Intern: (&interner{}).of}
	settings := configs
	settings.guides = c.Fallback == nil
	err := errors.Join(watchKind(s, nodes), watchKind(s, settings), watchKind(s, reports))
	if c.Needs.Pods > world.NoPods {
		err = errors.Join(err, watchKind(s, pods(door, c.Needs.Pods)))
	}
	if c.Needs.Namespaces {
		err = errors.Join(err, watchKind(s, namespaces(door)))
	}
	if c.Needs.Services {
		err = errors.Join(err, watchKind(s, services(door)))
	}
	if c.Needs.Egresses {
		err = errors.Join(err, watchKind(s, egresses))
	}
	return s, err
}

func watchKind[T any](s *Source, f form[T]) error {
	client, err := kube.Client(s.config.REST, f.group)
	if err != nil {
		return err
	}
	s.kinds = append(s.kinds, &watched[T]{form: f, source: s, client: client, list: list[T]{key: f.key, equal: f.equal},
		memory: newMemory[T](s.config.Memory, f.kind, f.resource, f.fields)})
	return nil
}

// Watch keeps the objects up to date until ctx is done, and calls changed soon
// after each change that counts.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	s.mu.Lock()
	s.changed = changed
	s.mu.Unlock()
	s.locate(ctx)
	for _, k := range s.kinds {
		go k.run(ctx) // may wait for its next try when ctx is done, and then ends
	}
	unanswered := func(h *health) bool { return !h.answered }
	all := func(*health) bool { return true }
	defer time.AfterFunc(s.config.Patience, func() { s.recall(unanswered) }).Stop()
	defer time.AfterFunc(patienceOnceAnswered*s.config.Patience, func() { s.recall(all) }).Stop()
	<-ctx.Done()
	return nil
}

// recall goes on with what is remembered of kinds that have no value yet.
func (s *Source) recall(of func(*health) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kinds {
		if of(k.state()) {
			k.recall()
		}
	}
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
// that is the same value as before. What it returns is on disk already: what was
// acted upon is what an agent that starts next remembers. Before all that is
// needed has come, it says what it waits for.
func (s *Source) Read() (*source.Objects, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && !s.news && s.unkept == nil {
		return s.last, nil
	}
	// What was complete once stays so: a kind that may not be watched, and whose next
	// try meets no server at all, is no reason to know less than before.
	if s.last == nil {
		if err := s.waiting(); err != nil {
			return nil, err
		}
	}
	was := s.unkept
	s.remember()
	if s.last != nil && !s.news && s.unkept != nil && was != nil {
		return s.last, nil
	}
	out := &source.Objects{Revision: 1, APIServer: s.server}
	if s.last != nil {
		out.Revision = s.last.Revision + 1
	}
	for _, k := range s.kinds {
		k.collect(out)
	}
	if f := s.config.Fallback; f != nil {
		out.Configs = slices.Concat(out.Configs, f.Configs) // the first of a name counts
		out.Problems = append(out.Problems, f.Problems...)
	}
	if s.unkept != nil {
		out.Problems = append(slices.Clip(out.Problems), world.Problem{Object: "Node " + s.config.Node,
			Reason: fmt.Sprintf("the cluster's objects cannot be cached on disk: %s", s.unkept),
			Hint:   "correct that; until then an agent that starts without the API server uses older objects"})
	}
	s.last, s.news = out, false
	return out, nil
}

// remember puts on disk what is not there yet. The caller holds the lock.
func (s *Source) remember() {
	s.unkept = nil
	for _, k := range s.kinds {
		s.unkept = errors.Join(s.unkept, k.remember())
	}
}

// waiting says what has not come yet, and why.
func (s *Source) waiting() error {
	names := map[string][]string{}
	for _, k := range s.kinds {
		if why := k.lacks(); why != "" {
			names[why] = append(names[why], plural(k.name()))
		}
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(names)) {
		parts = append(parts, strings.Join(names[why], ", ")+": "+why)
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("%w for the API server %s: %s", source.ErrWaiting, s.config.REST.Host, strings.Join(parts, "; "))
}

// plural is how people call several of a kind.
func plural(kind string) string {
	if strings.HasSuffix(kind, "s") {
		return kind + "es"
	}
	return kind + "s"
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
		s.config.Log.Warn("the API server does not answer properly; using the last known objects", "server", s.config.REST.Host, "error", err)
	case err == nil && !s.down.IsZero():
		s.config.Log.Info("the API server answers again", "server", s.config.REST.Host, "after", time.Since(s.down).Round(time.Second))
		s.down = time.Time{}
	}
}
