package pressure

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

var node = Config{Object: "Node n1", Ports: world.PortRange{Low: 40000, High: 40999}}

// towards is destination number n of node.
func towards(n int) Destination {
	return Destination{netip.MustParseAddr("192.0.2.1"), Ports(node.Ports), 6, netip.AddrPortFrom(netip.MustParseAddr("198.51.100.10"), uint16(n))}
}

// holding is a census of destinations with so many ports.
func holding(used ...int) *census {
	c := newCensus()
	c.config, c.whole = node, true
	for n, u := range used {
		for range u {
			c.add(towards(n), 3)
		}
	}
	return c
}

// A destination is told of once, at 70 %, and again when it is below 60 %.
func TestDestinationsAreToldOfOnce(t *testing.T) {
	j := newJudge()
	j.config = node
	for _, step := range []struct {
		used int
		want string // reason
	}{{699, ""}, {700, reasonScarce}, {999, ""}, {600, ""}, {650, ""}, {599, reasonFree}, {650, ""}, {700, reasonScarce}} {
		events := j.fills(holding(step.used, 10))
		have := ""
		for _, e := range events {
			have += e.Reason
			if e.Object != node.Object || e.Subject != towards(0).Target() {
				t.Errorf("%+v is about something else", e)
			}
		}
		if have != step.want {
			t.Errorf("at %d of 1000: %q, want %q", step.used, have, step.want)
		}
	}
}

// Connections that get lost are told of at once and with the likeliest reason;
// those that follow are put together.
func TestLossesAreToldWithAReason(t *testing.T) {
	now := time.Now()
	full := Status{Fullest: []Fill{{towards(0), 950, 0, 1000}}}
	for name, c := range map[string]struct {
		status Status
		random bool
		lost   Growth
		want   []string
	}{
		"no free port":     {full, true, Growth{InsertFailed: 5, Drop: 5}, []string{"5 new connections", "most likely tcp 198.51.100.10 from 192.0.2.1", "950 of 1000", "32768-65535"}},
		"the same instant": {Status{}, false, Growth{InsertFailed: 5, Drop: 5}, []string{"nodeSNATRandomizePorts: true"}},
		"nothing of ours":  {Status{}, true, Growth{InsertFailed: 1}, []string{"no destination is short"}},
		"a full table":     {Status{Conntrack: conntrack.Stats{Entries: 99, Max: 100}}, true, Growth{Drop: 7}, []string{"7 new connections", "99 of 100", "nf_conntrack_max"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJudge()
			j.config = node
			j.config.Randomized = c.random
			if !j.lose(c.lost) || j.lose(Growth{EarlyDrop: 1}) {
				t.Error("what is lost is taken for none, or the other way round")
			}
			events := j.losses(now, c.status)
			if len(events) != 1 || events[0].Type != world.Warning {
				t.Fatalf("%v, want one warning", events)
			}
			for _, w := range c.want {
				if !strings.Contains(events[0].Message, w) {
					t.Errorf("%q does not say %q", events[0].Message, w)
				}
			}
			j.lose(Growth{InsertFailed: 1})
			j.lose(Growth{InsertFailed: 2})
			if early := j.losses(now.Add(losesAgain/2), c.status); len(early) != 0 {
				t.Errorf("told again at once: %v", early)
			}
			if later := j.losses(now.Add(losesAgain), c.status); len(later) != 1 || !strings.HasPrefix(later[0].Message, "3 ") {
				t.Errorf("later %v, want what was lost since", later)
			}
			if none := j.losses(now.Add(time.Hour), c.status); len(none) != 0 {
				t.Errorf("nothing was lost: %v", none)
			}
		})
	}
}

func TestTheTableIsToldOfAtItsLevels(t *testing.T) {
	j := newJudge()
	for _, step := range []struct {
		entries int
		want    string
	}{{79, ""}, {80, reasonFilling}, {85, ""}, {91, reasonFilling}, {82, ""}, {76, ""}, {74, reasonWell}, {60, ""}, {95, reasonFilling}} {
		have := ""
		for _, e := range j.full(Status{Conntrack: conntrack.Stats{Entries: step.entries, Max: 100}}) {
			have += e.Reason
		}
		if have != step.want {
			t.Errorf("at %d of 100: %q, want %q", step.entries, have, step.want)
		}
	}
	if events := j.full(Status{Conntrack: conntrack.Stats{Entries: 1e6}}); events != nil {
		t.Errorf("a table without a limit is full: %v", events)
	}
}

// A sample's bounds hold, but for what three standard deviations leave out.
func TestASampleBoundsWhatIsThere(t *testing.T) {
	const draws, entries, seen = 1000, 20000, 2000
	dice := rand.New(rand.NewPCG(1, 2))
	wrong := 0
	for range draws {
		used := dice.IntN(entries)
		c := newCensus()
		c.config, c.entries, c.alive, c.seen = node, entries, entries, seen
		for range seen {
			if dice.IntN(entries) < used {
				c.add(towards(0), 3)
			}
		}
		if c.most(towards(0)) < used || c.least(towards(0)) > used {
			wrong++
		}
	}
	if wrong > draws/100 {
		t.Errorf("the bounds were wrong %d times of %d", wrong, draws)
	}
}

// Where there are more destinations than a census holds, the full ones are still
// in it, and bounded from both sides.
func TestACensusKeepsTheFullest(t *testing.T) {
	c := holding(0, 800)
	for n := range 4 * maxDestinations {
		d := towards(n%60000 + 2)
		d.Protocol = Protocol(n / 60000)
		c.add(d, 3)
	}
	if d := towards(1); len(c.uses) > maxDestinations || c.least(d) > 800 || c.most(d) < 800 || c.least(d) < 780 {
		t.Errorf("%d destinations; the fullest has %d to %d ports, want 800", len(c.uses), c.least(d), c.most(d))
	}
	if f := c.fullest(3); len(f) == 0 || f[0].Destination != towards(1) {
		t.Errorf("the fullest are %v", f)
	}
}

func TestBlocksAreFullByThemselves(t *testing.T) {
	c := Config{Ports: world.PortRange{Low: 40000, High: 40999}, Block: 300}
	for port, want := range map[uint16]Ports{40000: {40000, 40299}, 40299: {40000, 40299}, 40300: {40300, 40599}, 40899: {40600, 40999}, 40999: {40600, 40999}} {
		if have, ok := c.sharing(port); !ok || have != want {
			t.Errorf("port %d is of %v %v, want %v", port, have, ok, want)
		}
	}
	for _, port := range []uint16{39999, 41000} {
		if have, ok := c.sharing(port); ok {
			t.Errorf("port %d is of %v, want none", port, have)
		}
	}
	if c.room() != 300 {
		t.Errorf("there is room for %d, want 300", c.room())
	}
}

func TestTheDoctorSaysWhatIsWrong(t *testing.T) {
	seen := Status{At: time.Now(), Conntrack: conntrack.Stats{Entries: 10, Max: 100}, Fullest: []Fill{{towards(0), 10, 0, 1000}}}
	scarce, losing, full := seen, seen, seen
	scarce.Fullest = []Fill{{towards(0), 700, 0, 1000}}
	losing.LastMinute.InsertFailed = 1
	full.Conntrack.Entries = 80
	for name, c := range map[string]struct {
		status Status
		want   doctor.Status
	}{
		"well": {seen, doctor.OK}, "scarce": {scarce, doctor.Warn}, "losing": {losing, doctor.Fail}, "full": {full, doctor.Warn}, "not watched": {Status{}, doctor.Warn},
	} {
		found := diagnose(c.status)
		if len(found) != 1 || found[0].Status != c.want || found[0].Message == "" || c.want != doctor.OK && found[0].Hint == "" {
			t.Errorf("%s: %+v, want %s", name, found, c.want)
		}
	}
}
