package kernel

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// Settings of pods' network namespaces announce no change, and each look costs
// going there. So a namespace is looked at when it is new and when something was
// set in it, and otherwise in its turn, a few a second.
type podTCP struct {
	mu    sync.Mutex
	known map[string]*lookedAt // by key of the attachment
	order []string             // those whose turn comes first
}

// A lookedAt is what a namespace was seen to have.
type lookedAt struct {
	netns   string
	inode   uint64
	seen    world.PodTCP
	stale   bool      // something was set since
	refused time.Time // when a setting was refused; zero: none was
}

// lookedAtOnce bounds how many namespaces one turn looks at: of 200, each is looked
// at every ten seconds, for a thousandth of the time.
const lookedAtOnce = 20

const tryAgain = time.Minute

// ObserveTCP returns what the node's namespace, which is the calling thread's, and
// those of the given attachments that k sees have.
func (o *Observer) ObserveTCP(k *world.Kernel, attachments *world.Attachments) (*world.TCPSeen, error) {
	out := &world.TCPSeen{}
	var err error
	if out.Node, err = readTCP(); err != nil {
		return nil, err
	}
	o.tcp.mu.Lock()
	defer o.tcp.mu.Unlock()
	known := make(map[string]*lookedAt, len(attachments.List))
	for _, a := range attachments.List {
		if !k.Sees(a) {
			continue
		}
		l := o.tcp.known[a.Key()]
		if l == nil || l.netns != a.Netns || l.inode != a.Inode {
			l = &lookedAt{netns: a.Netns, inode: a.Inode, seen: world.PodTCP{Attachment: a.Key()}, stale: true}
			if !slices.Contains(o.tcp.order, a.Key()) {
				o.tcp.order = append(o.tcp.order, a.Key())
			}
		}
		if l.stale {
			l.look()
		}
		known[a.Key()] = l
		out.Pods = append(out.Pods, l.seen)
	}
	o.tcp.known = known
	slices.SortFunc(out.Pods, world.PodTCP.Compare)
	return out, nil
}

// LookAtTCP looks at some of the namespaces again, and reports whether one has
// something else than it was seen to have, or is to be tried again.
func (o *Observer) LookAtTCP() bool {
	o.tcp.mu.Lock()
	defer o.tcp.mu.Unlock()
	changed := false
	n := min(lookedAtOnce, len(o.tcp.order))
	turn := slices.Clone(o.tcp.order[:n])
	o.tcp.order = o.tcp.order[n:]
	for _, key := range turn {
		l := o.tcp.known[key]
		if l == nil {
			continue
		}
		o.tcp.order = append(o.tcp.order, key)
		before := l.seen
		if !l.refused.IsZero() && time.Since(l.refused) > cmp.Or(o.TryAgain, tryAgain) {
			l.refused, l.seen.Refused = time.Time{}, ""
		}
		l.look()
		changed = changed || l.seen != before
	}
	return changed
}

// TCPChanged has the namespace at a path looked at when it is observed next. Where a
// setting was refused, why says so.
func (o *Observer) TCPChanged(path string, why error) {
	o.tcp.mu.Lock()
	defer o.tcp.mu.Unlock()
	for _, l := range o.tcp.known {
		if l.netns == path {
			l.stale = true
			if why != nil {
				l.refused, l.seen.Refused = time.Now(), quote.Errors(why)
			}
		}
	}
}

// look reads what the namespace has. What it refused stays refused.
func (l *lookedAt) look() {
	var t world.TCP
	err := netns.Do(l.netns, func() (err error) {
		t, err = readTCP()
		return err
	})
	l.stale, l.seen.TCP = false, t
	switch {
	case err != nil:
		l.seen.Refused = quote.Errors(err)
	case l.refused.IsZero():
		l.seen.Refused = ""
	}
}

func readTCP() (t world.TCP, err error) {
	if t.Timestamps, err = sysctl.Read(world.TCPTimestamps); err != nil {
		return t, err
	}
	t.Reuse, err = sysctl.Read(world.TCPReuse)
	return t, err
}
