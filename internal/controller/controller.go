// Package controller is what needs one writer in a cluster: it puts together what
// agents report of an object that all of them read, and writes it as conditions of
// that object; and it gives the addresses of Egresses numbers and nodes.
//
// What is written is a pure function of what is there, as in the agent: whatever
// happens, the controller looks at everything and writes what differs.
package controller

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A Store is where the cluster's objects are: an API server, or directories.
type Store interface {
	// Read returns the cluster as it is known; while something is missing, an error
	// that says what. The objects must not be changed.
	Read() (*Cluster, error)
	// Write gives the object the status, which is all that the controller makes.
	Write(ctx context.Context, o Object, s Status) error
	// Silent counts the nodes whose agents have not been heard of for too long, and
	// returns those of which that is to be written.
	Silent() (all int, news []Silence)
	// Doubt has the conditions of a node say that nobody knows how it is.
	Doubt(ctx context.Context, silence Silence) error
	// Watch calls changed whenever something may have changed, until ctx is done.
	Watch(ctx context.Context, changed func()) error
}

// How often the controller looks and writes.
const (
	settle    = 100 * time.Millisecond // a change waits for those that come with it
	pause     = time.Second            // between two turns: a thousand agents report one change
	between   = 50 * time.Millisecond  // between two writes
	lookAgain = 30 * time.Second       // whatever is announced
	mostWait  = time.Minute            // after failures
	patience  = 10 * time.Second       // with agents that have not read an object
)

// A loop keeps the conditions of a store as they should be.
type loop struct {
	store  Store
	log    *slog.Logger
	beat   func(error)        // called with every turn, and every write
	told   map[string]written // what the store may not show yet, by object
	book   book               // of the numbers of addresses
	wrong  map[string]string  // mistakes of Nodes that were logged
	unread map[subject]unread // objects whose agents are given a little time
	count  *metrics
	said   string // the last error, so that it is logged once
	failed int    // turns one after the other
}

func newLoop(log *slog.Logger, beat func(error)) *loop {
	return &loop{log: log, beat: beat, count: newMetrics()}
}

// unread is a generation that no agent has read, and since when.
type unread struct {
	generation int64
	since      time.Time
}

// written is a status that was written, and the object that has it now.
type written struct {
	object metav1.Object
	status Status
}

// run takes turns until ctx is done. It remembers nothing of when it last ran:
// another may have led since.
func (l *loop) run(ctx context.Context) error {
	l.told, l.unread, l.book = map[string]written{}, map[subject]unread{}, book{}
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	watching, stop := context.WithCancel(ctx)
	go func() {
		defer stop() // one does not go on without the other
		ended <- l.store.Watch(watching, func() {
			select {
			case changed <- struct{}{}:
			default: // a turn is due anyway
			}
		})
	}()
	l.turns(watching, changed)
	stop()
	return <-ended
}

func (l *loop) turns(ctx context.Context, changed <-chan struct{}) {
	for ctx.Err() == nil {
		wait := time.NewTimer(l.again())
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-changed:
			wait.Stop()
			sleep(ctx, settle)
		case <-wait.C:
		}
		l.note(l.turn(ctx))
		sleep(ctx, pause)
	}
}

// again is how soon the next turn is, if nothing changes.
func (l *loop) again() time.Duration {
	switch {
	case l.failed == 0 && len(l.unread) > 0:
		return patience
	case l.failed == 0:
		return lookAgain
	}
	wait := min(pause<<min(l.failed, 10), mostWait)
	return wait*3/4 + rand.N(wait/2)
}

// note remembers how a turn went, and logs an error that is new.
func (l *loop) note(err error) {
	l.beat(err)
	if err == nil {
		l.failed, l.said = 0, ""
		return
	}
	l.failed++
	if s := err.Error(); s != l.said {
		l.said = s
		l.log.Warn("not everything could be written; retrying", "error", err)
	}
}

// turn looks at everything and writes what differs.
func (l *loop) turn(ctx context.Context) error {
	c, err := l.store.Read()
	if err != nil {
		return err
	}
	l.forget(c)
	c.Objects = l.shown(c.Objects)
	verdicts := l.verdicts(c)
	for _, o := range c.Objects {
		next, news := l.news(o, verdicts[o.String()])
		if !news || ctx.Err() != nil {
			continue
		}
		unwritten := l.store.Write(ctx, o, next)
		l.beat(unwritten)
		l.count.wrote(unwritten)
		if unwritten != nil {
			err = unwritten // the others are no worse for it
			continue
		}
		l.told[o.String()] = written{o.Object, next}
		for _, c := range next.Conditions {
			l.log.Info("condition", "object", o.String(), "type", c.Type, "status", c.Status, "reason", c.Reason, "message", c.Message)
		}
		sleep(ctx, between)
	}
	return errors.Join(err, l.listen(ctx))
}

// shown returns objects in the order of their names, each with what it shows or is about
// to show.
func (l *loop) shown(objects []Object) []Object {
	objects = slices.SortedFunc(slices.Values(objects), func(a, b Object) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.GetName(), b.GetName()))
	})
	for i, o := range objects {
		if t, ok := l.told[o.String()]; ok {
			objects[i].Status = t.status
		}
	}
	return objects
}

// verdicts are what the status of each object should be, by its name as a String, and
// without the times of conditions.
func (l *loop) verdicts(c *Cluster) map[string]Status {
	reported := c.Verdicts()
	l.count.look(reported)
	out := l.book.assign(c, time.Now())
	l.count.placed(c, out)
	for name, conditions := range reported {
		s := out[name]
		s.Conditions = append(s.Conditions, conditions...)
		out[name] = s
	}
	wrong := c.mistakes()
	for node, most := range wrong {
		if l.wrong[node] != most {
			l.log.Warn("a Node's "+MostEgressIPs+" is no number from 0, and counts as none", "node", node, "value", most)
		}
	}
	l.wrong = wrong
	return out
}

// listen has it said of nodes whose agents are silent.
func (l *loop) listen(ctx context.Context) error {
	all, news := l.store.Silent()
	l.count.silent.Set(float64(all))
	var err error
	for _, s := range news {
		if ctx.Err() != nil {
			break
		}
		undone := l.store.Doubt(ctx, s)
		l.beat(undone)
		l.count.wrote(undone)
		if undone != nil {
			err = undone // the others are no worse for it
			continue
		}
		l.log.Warn("an agent is silent", "node", s.Node, "renewed", s.Renewed.Time, "for", s.Lasts)
		sleep(ctx, between)
	}
	return err
}

// news returns the status with the times of its conditions, and reports whether it
// differs from what the object shows. That nobody has read an object is news only when it lasts:
// after each change it is so for a moment.
func (l *loop) news(o Object, verdict Status) (next Status, news bool) {
	next.Addresses = verdict.Addresses
	news = !equality.Semantic.DeepEqual(o.Addresses, next.Addresses)
	for _, v := range verdict.Conditions {
		var one []metav1.Condition
		if has := meta.FindStatusCondition(o.Conditions, v.Type); has != nil {
			one = []metav1.Condition{*has}
		}
		if !l.early(o, v) && meta.SetStatusCondition(&one, v) {
			news = true
		}
		next.Conditions = append(next.Conditions, one...)
	}
	return next, news
}

// early reports whether agents still have a moment to read the object.
func (l *loop) early(o Object, verdict metav1.Condition) bool {
	s := subject{o.String(), verdict.Type}
	if verdict.Reason != reasonUnread {
		delete(l.unread, s)
		return false
	}
	u, known := l.unread[s]
	if !known || u.generation != o.GetGeneration() {
		u = unread{o.GetGeneration(), time.Now()}
		l.unread[s] = u
	}
	return time.Since(u.since) < patience
}

// forget lets go what was told of objects that have changed since: they show it
// now, or somebody else has written.
func (l *loop) forget(c *Cluster) {
	there := make(map[string]metav1.Object, len(c.Objects))
	for _, o := range c.Objects {
		there[o.String()] = o.Object
	}
	maps.DeleteFunc(l.told, func(name string, t written) bool { return there[name] != t.object })
	maps.DeleteFunc(l.unread, func(s subject, _ unread) bool { return there[s.object] == nil })
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
