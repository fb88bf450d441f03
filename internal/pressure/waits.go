package pressure

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
)

// A Far is a far end, and the address that it is shown.
type Far struct {
	Source   netip.Addr     `json:"source"`
	Protocol Protocol       `json:"protocol"`
	To       netip.AddrPort `json:"destination"`
}

// Target is what is at the far end: "tcp 198.51.100.10:443".
func (f Far) Target() string { return Destination{Protocol: f.Protocol, To: f.To}.Target() }

// A Wait is how new TCP connections to one far end fared, of those that were
// followed.
type Wait struct {
	Far
	Tally
}

// A Tally counts new connections.
type Tally struct {
	New int `json:"new"`
	// Held were answered by something that is neither SYN/ACK nor a reset, and ask
	// again: the far end still holds the port that they were given, most likely in
	// TIME_WAIT, and takes the SYN for an old one (RFC 7323 section 5, PAWS).
	Held int `json:"held"`
	// Unanswered got no answer before their SYN was sent again.
	Unanswered int `json:"unanswered"`
}

// Waited are those that came later than the network alone makes them.
func (t Tally) Waited() int { return t.Held + t.Unanswered }

func (t *Tally) add(u Tally) {
	t.New += u.New
	t.Held += u.Held
	t.Unanswered += u.Unanswered
}

// Waits is what was seen of connections that begin.
type Waits struct {
	Missing    string `json:"missing,omitempty"` // why nothing is seen
	Total      Tally  `json:"total"`             // since the watch runs
	LastMinute Tally  `json:"lastMinute"`
	Worst      []Wait `json:"worst"` // far ends of the last minute, at most ten
}

// again is when a SYN that was not answered is sent again, less what a busy
// machine may be late (RFC 6298 section 2: 1 s).
const again = 900 * time.Millisecond

// asleep is how late a window may read what happened: an answer that comes so much sooner
// than a SYN is sent again is not taken for one that came later.
const asleep = again / 2

const (
	mostFollowed = 4096 // connections in one window
	mostKept     = 64   // far ends of one window
)

// A window follows connections that begin while it is open, until they are
// answered or have waited.
type window struct {
	config   Config
	attempts map[conntrack.Tuple]attempt
	done     map[Far]Tally
	awake    time.Time // all that had happened until then was read; zero: it begins
}

// An attempt is a connection that begins.
type attempt struct {
	at             time.Time
	to             Far
	answered, held bool
	late           bool // it was answered only after its SYN was sent again
}

func newWindow(c Config) *window {
	return &window{config: c, attempts: map[conntrack.Tuple]attempt{}, done: map[Far]Tally{}}
}

// full reports whether no more connections are followed.
func (w *window) full() bool { return len(w.attempts) >= mostFollowed }

// slept is asked before events are read. It reports whether that is too late, as on a busy
// machine or after the process was stopped: when what is there to be read happened, nobody
// knows then.
func (w *window) slept(now time.Time) bool {
	was := w.awake
	w.awake = now
	if was.IsZero() || now.Sub(was) <= asleep {
		return false
	}
	w.doubt()
	return true
}

// hear notes an event. In the phase that follows no more connections are added.
func (w *window) hear(now time.Time, e *conntrack.Event, phase phase) {
	a, known := w.attempts[e.Original]
	if e.Turn == conntrack.Began {
		w.begin(now, e, phase)
		return
	}
	if !known || a.answered {
		return
	}
	switch {
	case e.Turn == conntrack.Ended:
		// A reset that is the first answer ends it without another word. If it was
		// refused, it is about to ask again.
		a.answered = !a.held
	case e.TCPState == conntrack.SynReceived || e.TCPState == conntrack.Established:
		a.answered, a.late = true, now.Sub(a.at) >= again
	case e.TCPState == 0 && e.Status&conntrack.SeenReply != 0:
		// Something came back, and it is asking still: a SYN/ACK would have changed
		// its state, and a reset ended it (net/netfilter/nf_conntrack_proto_tcp.c,
		// nf_conntrack_tcp_packet).
		a.held = true
	}
	w.attempts[e.Original] = a
}

// begin follows a connection that begins, unless it is one that was refused and
// asks again: its old entry went with its reset.
func (w *window) begin(now time.Time, e *conntrack.Event, phase phase) {
	a, known := w.attempts[e.Original]
	if known && a.held && !a.answered {
		return
	}
	if known {
		w.end(now, a)
		delete(w.attempts, e.Original)
	}
	if _, ours := w.config.sharing(e.Reply.Destination.Port()); !ours || phase == following || w.full() || e.Status&conntrack.SourceNAT == 0 || e.Protocol != unix.IPPROTO_TCP {
		return
	}
	w.attempts[e.Original] = attempt{at: now, to: Far{e.Reply.Destination.Addr(), Protocol(e.Protocol), e.Reply.Source}}
}

// A phase of a window.
type phase int

const (
	opening   phase = iota // connections that begin are followed
	following              // until they are answered, and no others
)

// end counts an attempt. One that has not waited long enough says nothing.
func (w *window) end(now time.Time, a attempt) {
	t := Tally{New: 1}
	switch {
	case a.held:
		t.Held = 1
	case a.late, !a.answered && now.Sub(a.at) >= again:
		t.Unanswered = 1
	case !a.answered:
		return
	}
	sum := w.done[a.to]
	sum.add(t)
	w.done[a.to] = sum
}

// close ends all attempts and returns how they fared in all, and to each of the
// far ends that matter most.
func (w *window) close(now time.Time) (all Tally, each map[Far]Tally) {
	for _, a := range w.attempts {
		w.end(now, a)
	}
	for _, t := range w.done {
		all.add(t)
	}
	return all, worst(w.done, mostKept)
}

// doubt forgets what may have been answered unheard, or sooner than it was heard.
func (w *window) doubt() {
	maps.DeleteFunc(w.attempts, func(_ conntrack.Tuple, a attempt) bool { return (!a.answered || a.late) && !a.held })
}

// worst are the n far ends with the most connections that waited, and of
// equals those with the most connections.
func worst(all map[Far]Tally, n int) map[Far]Tally {
	out := map[Far]Tally{}
	for _, w := range ranked(all, n) {
		out[w.Far] = w.Tally
	}
	return out
}

func ranked(all map[Far]Tally, n int) []Wait {
	var out []Wait
	for d, t := range all {
		out = append(out, Wait{d, t})
	}
	slices.SortFunc(out, func(a, b Wait) int {
		return cmp.Or(-cmp.Compare(a.Waited(), b.Waited()), -cmp.Compare(a.New, b.New),
			a.To.Compare(b.To), a.Source.Compare(b.Source))
	})
	return out[:min(n, len(out))]
}

// A tape is the windows that closed within the last minute.
type tape []closed

type closed struct {
	at   time.Time
	all  Tally
	each map[Far]Tally
}

// drop forgets what is older than a minute.
func (t *tape) drop(now time.Time) {
	*t = slices.DeleteFunc(*t, func(c closed) bool { return now.Sub(c.at) > time.Minute })
}

// sum is all that is on the tape.
func (t tape) sum() (all Tally, worst []Wait) {
	each := map[Far]Tally{}
	for _, c := range t {
		all.add(c.all)
		for d, u := range c.each {
			sum := each[d]
			sum.add(u)
			each[d] = sum
		}
	}
	return all, ranked(each, shown)
}
