package pressure

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/doctor"
)

// far is the far end number n.
func far(n int) Far { return Far{towards(n).Source, towards(n).Protocol, towards(n).To} }

// about is an event of a pod's connection to far(443), by the pod's port.
func about(port uint16, turn conntrack.Turn, s conntrack.TCPState, status conntrack.Status) *conntrack.Event {
	pod := netip.AddrPortFrom(netip.MustParseAddr("10.244.1.7"), port)
	to := towards(443)
	return &conntrack.Event{Turn: turn, Entry: conntrack.Entry{Protocol: unix.IPPROTO_TCP, TCPState: s, Status: status | conntrack.SourceNAT,
		Original: conntrack.Tuple{Source: pod, Destination: to.To},
		Reply:    conntrack.Tuple{Source: to.To, Destination: netip.AddrPortFrom(to.Source, 40000+port%1000)}}}
}

func begins(port uint16) *conntrack.Event { return about(port, conntrack.Began, 1, 0) }
func answers(port uint16) *conntrack.Event {
	return about(port, conntrack.Changed, conntrack.SynReceived, conntrack.SeenReply)
}

// replies is something that comes back and is no SYN/ACK.
func replies(port uint16) *conntrack.Event {
	return about(port, conntrack.Changed, 0, conntrack.SeenReply)
}
func ends(port uint16) *conntrack.Event { return about(port, conntrack.Ended, 0, 0) }

// A moment is an event and when it happens.
type moment struct {
	at time.Duration
	e  *conntrack.Event
}

func TestAttemptsAreJudgedByWhatComesBack(t *testing.T) {
	slow := again + time.Millisecond
	for _, c := range []struct {
		name    string
		moments []moment
		want    Tally
	}{
		{"answered", []moment{{0, begins(1)}, {0, answers(1)}}, Tally{New: 1}},
		{"answered after a second", []moment{{0, begins(1)}, {slow, answers(1)}}, Tally{New: 1, Unanswered: 1}},
		{"never answered", []moment{{0, begins(1)}}, Tally{New: 1, Unanswered: 1}},
		{"not answered yet", []moment{{closes - again/2, begins(1)}}, Tally{}},
		{"reset by the far end", []moment{{0, begins(1)}, {0, ends(1)}}, Tally{New: 1}},
		{"held, and asks again", []moment{{0, begins(1)}, {0, replies(1)}, {0, about(1, conntrack.Changed, conntrack.Closed, conntrack.SeenReply)},
			{0, ends(1)}, {8, begins(1)}, {8, answers(1)}}, Tally{New: 1, Held: 1}},
		{"held twice", []moment{{0, begins(1)}, {0, replies(1)}, {8, begins(1)}, {9, replies(1)}}, Tally{New: 1, Held: 1}},
		{"the same pair of ports, once it was answered", []moment{{0, begins(1)}, {0, answers(1)}, {1, begins(1)}, {1, replies(1)}}, Tally{New: 2, Held: 1}},
		{"begun before the window", []moment{{0, replies(1)}, {0, answers(1)}}, Tally{}},
		{"an answered one changes", []moment{{0, begins(1)}, {0, answers(1)}, {1, replies(1)}, {2, ends(1)}}, Tally{New: 1}},
		{"two", []moment{{0, begins(1)}, {0, begins(2)}, {0, answers(2)}}, Tally{New: 2, Unanswered: 1}},
	} {
		w, now := newWindow(node), time.Now()
		for _, m := range c.moments {
			w.hear(now.Add(m.at), m.e, opening)
		}
		all, each := w.close(now.Add(closes))
		if all != c.want || all.New > 0 && each[far(443)] != all {
			t.Errorf("%s: %+v, want %+v; %v", c.name, all, c.want, each)
		}
	}
}

// closes is when the windows of these tests do.
const closes = 10 * time.Second

// Of others' connections, those that are not translated or get other ports, and
// those that come too late, nothing is said.
func TestOthersAreNotFollowed(t *testing.T) {
	untranslated, udp, elsewhere := begins(1), begins(2), begins(3)
	untranslated.Status &^= conntrack.SourceNAT
	udp.Protocol = unix.IPPROTO_UDP
	elsewhere.Reply.Destination = netip.AddrPortFrom(towards(443).Source, 39999)
	w, now := newWindow(node), time.Now()
	for _, e := range []*conntrack.Event{untranslated, udp, elsewhere} {
		w.hear(now, e, opening)
	}
	w.hear(now, begins(4), following)
	if len(w.attempts) != 0 {
		t.Errorf("%v", w.attempts)
	}
}

// What may have been answered unheard is forgotten, and what is sure stays.
func TestWhatWasNotHeardIsNotCounted(t *testing.T) {
	w, now := newWindow(node), time.Now()
	for _, e := range []*conntrack.Event{begins(1), answers(1), begins(2), replies(2), begins(3)} {
		w.hear(now, e, opening)
	}
	w.doubt()
	if all, _ := w.close(now.Add(closes)); all != (Tally{New: 2, Held: 1}) {
		t.Errorf("%+v", all)
	}
}

// Who slept while answers came does not know when they did.
func TestAWindowThatSleptCountsNoWaiting(t *testing.T) {
	for name, c := range map[string]struct {
		events []*conntrack.Event // after the sleep, in a read that had begun before it
		want   Tally
	}{
		"nothing read":    {nil, Tally{New: 2, Held: 1}},
		"an answer read":  {[]*conntrack.Event{answers(3)}, Tally{New: 2, Held: 1}},
		"a refusal read":  {[]*conntrack.Event{replies(3)}, Tally{New: 3, Held: 2}},
		"both, and again": {[]*conntrack.Event{replies(3), begins(3), answers(3)}, Tally{New: 3, Held: 2}},
	} {
		w, now := newWindow(node), time.Now()
		for _, e := range []*conntrack.Event{begins(1), answers(1), begins(2), replies(2), begins(3)} {
			w.hear(now, e, opening)
		}
		for range 3 {
			if now = now.Add(asleep); w.slept(now) {
				t.Fatal("it was awake")
			}
		}
		for _, e := range c.events {
			w.hear(now.Add(2*again), e, opening)
		}
		if !w.slept(now.Add(2 * again)) {
			t.Error("it does not notice that it slept")
		}
		if all, _ := w.close(now.Add(2 * again)); all != c.want {
			t.Errorf("%s: %+v, want %+v", name, all, c.want)
		}
	}
}

func TestAWindowIsBounded(t *testing.T) {
	w, now := newWindow(node), time.Now()
	for n := range 2 * mostFollowed {
		e := begins(uint16(n))
		e.Reply.Source = netip.AddrPortFrom(e.Reply.Source.Addr(), uint16(n))
		w.hear(now, e, opening)
	}
	all, each := w.close(now.Add(closes))
	if all.New != mostFollowed || len(each) != mostKept {
		t.Errorf("%d connections to %d destinations", all.New, len(each))
	}
}

func TestATapeForgetsAfterAMinute(t *testing.T) {
	now := time.Now()
	var tp tape
	for n := range 3 {
		tp = append(tp, closed{now.Add(time.Duration(n) * 40 * time.Second), Tally{New: 1, Held: 1}, map[Far]Tally{far(n): {New: 1, Held: 1}}})
	}
	tp.drop(now.Add(90 * time.Second))
	if all, worst := tp.sum(); all.New != 2 || len(worst) != 2 {
		t.Errorf("%+v, %v", all, worst)
	}
}

// Whatever is heard, what is counted adds up.
func FuzzWindow(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 1, 1, 2, 3, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		w, now := newWindow(node), time.Now()
		began := 0
		for ; len(b) >= 3; b = b[3:] {
			e := about(uint16(b[0]%4), conntrack.Turn(b[1]%3), conntrack.TCPState(b[1]/3%9), conntrack.Status(b[2]&2))
			if e.Turn == conntrack.Began {
				began++
			}
			now = now.Add(time.Duration(binary.NativeEndian.Uint16(b[1:])) * time.Millisecond / 64)
			w.hear(now, e, phase(b[0]>>7))
		}
		all, each := w.close(now)
		if all.Waited() > all.New || all.New > began || all.New > 0 && each[far(443)] != all {
			t.Errorf("%d began: %+v, %v", began, all, each)
		}
	})
}

func TestTheDoctorTellsTheCausesApart(t *testing.T) {
	byPort := func() (bool, error) { return true, nil }
	unknown := func() (bool, error) { return false, errors.New("no namespaces") }
	held, silent := Wait{far(443), Tally{New: 200, Held: 5}}, Wait{far(80), Tally{New: 4, Unanswered: 4}}
	few := Wait{far(443), Tally{New: 100, Held: 2}}
	monotonic := node
	monotonic.Monotonic = true
	for _, c := range []struct {
		config  Config
		waits   Waits
		offsets func() (bool, error)
		want    []string // each finding has one
		hint    string   // of the first
	}{
		{node, Waits{}, byPort, []string{"of 0 new connections that were followed in the last minute, 0 waited"}, ""},
		{node, Waits{LastMinute: few.Tally, Worst: []Wait{few}}, byPort, []string{"of 100 new connections that were followed in the last minute, 2 waited"}, ""},
		{node, Waits{Worst: []Wait{held}}, byPort, []string{"2.5 % of new connections to tcp 198.51.100.10:443 (5 of 200 that were followed in the last minute) waited: " +
			"source ports are reused within TIME_WAIT of the far end, which takes their timestamps for old ones; timestamps of this kernel depend on ports"}, "set podTCPTimestamps: monotonic"},
		{node, Waits{Worst: []Wait{held, silent}}, unknown, []string{"are not known: no namespaces", "100.0 % of new connections to tcp 198.51.100.10:80 (4 of 4 that were " +
			"followed in the last minute) got no answer to their first packet"}, "set podTCPTimestamps: monotonic"},
		{node, Waits{Worst: []Wait{silent}}, byPort, []string{"got no answer"}, "ports are not the reason"},
		{monotonic, Waits{Worst: []Wait{held}}, byPort, []string{"waited"}, "podTCPTimestamps: monotonic is set, and does not apply"},
		{node, Waits{Missing: "the kernel is silent"}, byPort, []string{"new connections are not watched: the kernel is silent"}, ""},
	} {
		found := c.waits.diagnose(c.config, c.offsets)
		if len(found) != len(c.want) || !strings.Contains(found[0].Hint, c.hint) {
			t.Errorf("%+v, want %q and %q", found, c.want, c.hint)
			continue
		}
		for n, want := range c.want {
			if !strings.Contains(found[n].Message, want) {
				t.Errorf("%q, want %q", found[n].Message, want)
			}
			if (found[n].Status == doctor.OK) != strings.HasPrefix(want, "of ") {
				t.Errorf("%+v", found[n])
			}
		}
	}
}

// Ports that come back are told of once in a while for each destination, and
// silence is not told of.
func TestReturnsAreToldOnce(t *testing.T) {
	j, now := newJudge(), time.Now()
	j.config = node
	s := Waits{Worst: []Wait{{far(443), Tally{New: 200, Held: 5}}, {far(80), Tally{New: 9, Unanswered: 9}}}}
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Minute, 0}, {returnsAgain, 1}} {
		events := j.returns(now.Add(step.after), s)
		if len(events) != step.want {
			t.Errorf("after %s: %v", step.after, events)
		}
		for _, e := range events {
			if e.Reason != reasonReturns || e.Subject != towards(443).Target() || !strings.HasSuffix(e.Message, ": set podTCPTimestamps: monotonic") {
				t.Errorf("%+v", e)
			}
		}
	}
}
