package pressure

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/world"
)

// Parts of a range, or of the table, that are in use, in percent. What has come
// to a level is told of, and again when it is well. The kernel begins to miss
// free ports at 76 % of 28,232 ports, and at 89 % of 32,768.
const (
	portsScarce = 70
	portsWell   = 60
	tableFills  = 80
	tableFull   = 90
	tableWell   = 75
)

// Reasons of events.
const (
	reasonScarce  = "SNATPortsScarce"
	reasonFree    = "SNATPortsFree"
	reasonLost    = "ConnectionsLost"
	reasonFilling = "ConntrackTableFilling"
	reasonWell    = "ConntrackTableFree"
	reasonReturns = "SNATPortsComeBack"
)

// losesAgain is how long losses are put together into one event, and
// returnsAgain how long a destination to which ports come back is not told of
// again.
const (
	losesAgain   = 10 * time.Second
	returnsAgain = 10 * time.Minute
)

// A judge says what of all that is seen is worth an event. It remembers what it
// has said.
type judge struct {
	config   Config
	scarce   map[Destination]bool
	table    int       // the level of the table that was told of, in percent
	lost     Growth    // and not told yet
	lostTold time.Time // when losses were told last
	returned map[Far]time.Time
}

func newJudge() *judge {
	return &judge{scarce: map[Destination]bool{}, returned: map[Far]time.Time{}}
}

// portion is percent of size, rounded up.
func portion(size, percent int) int { return (size*percent + 99) / 100 }

// enter is how many ports in use make a destination scarce.
func (d Destination) enter() int { return portion(d.Ports.size(), portsScarce) }

// fills judges destinations: one is scarce when that is sure, and well when it
// cannot be otherwise.
func (j *judge) fills(c *census) (events []world.Event) {
	for d := range j.scarce {
		if c.most(d) < portion(d.Ports.size(), portsWell) {
			delete(j.scarce, d)
			events = append(events, j.event(world.Normal, reasonFree, d.Target(), fmt.Sprintf("%s: source ports are free again, %s", d, c.fill(d))))
		}
	}
	for d := range c.uses {
		if c.least(d) >= d.enter() && !j.scarce[d] {
			j.scarce[d] = true
			events = append(events, j.event(world.Warning, reasonScarce, d.Target(),
				fmt.Sprintf("%s: source ports run short, %s; %s", d, c.fill(d), j.advice())))
		}
	}
	slices.SortFunc(events, func(a, b world.Event) int { return cmp.Compare(a.Message, b.Message) })
	return events
}

// wide is the range that is recommended: its size is a power of two, and so the
// kernel finds free ports in it longest.
var wide = world.PortRange{Low: 32768, High: 65535}

// advice says what makes ports last longer.
func (j *judge) advice() string {
	s := "reuse connections, or give the service more addresses"
	switch {
	case j.config.Block > 0:
		return "set a larger nodeSNATPortBlock, " + s
	case j.config.room() < wide.Len():
		return fmt.Sprintf("set nodeSNATPortRange: %s if the firewall accepts replies to it, %s", wide, s)
	}
	return s
}

// lose notes what was lost, and reports whether that is anything.
func (j *judge) lose(l Growth) bool {
	j.lost.InsertFailed += l.InsertFailed
	j.lost.Drop += l.Drop
	return l.InsertFailed+l.Drop > 0
}

// losses tells of what was lost, at once and then now and again.
func (j *judge) losses(now time.Time, s Status) []world.Event {
	n := max(j.lost.InsertFailed, j.lost.Drop)
	if n == 0 || now.Sub(j.lostTold) < losesAgain {
		return nil
	}
	subject, why := "", ""
	full := s.Conntrack.Max > 0 && s.Conntrack.Entries >= portion(s.Conntrack.Max, 95)
	switch {
	case j.lost.Drop > j.lost.InsertFailed && full:
		why = fmt.Sprintf("the connection table is full (%d of %d): raise net.netfilter.nf_conntrack_max", s.Conntrack.Entries, s.Conntrack.Max)
	case len(s.Fullest) > 0 && s.Fullest[0].Used >= portion(s.Fullest[0].Size, portsScarce):
		f := s.Fullest[0]
		subject, why = f.Target(), fmt.Sprintf("most likely %s, where %s: %s", f.Destination, f, j.advice())
	case !j.config.Randomized:
		why = "most likely two connections took the same source port at the same instant: set nodeSNATRandomizePorts: true"
		if !j.config.Monotonic { // random ports come back to servers that hold them
			why += ", with podTCPTimestamps: monotonic"
		}
	default:
		why = "no destination is short of source ports: another NAT rule on this node may be the reason"
	}
	e := j.event(world.Warning, reasonLost, subject, fmt.Sprintf(
		"%d new connections lost a packet (insert_failed %d, drop %d), %s", n, j.lost.InsertFailed, j.lost.Drop, why))
	j.lost, j.lostTold = Growth{}, now
	return []world.Event{e}
}

// returns tells of ports that come back while the far end holds them. Those that
// are not answered are no affair of the node's.
func (j *judge) returns(now time.Time, s Waits) (events []world.Event) {
	maps.DeleteFunc(j.returned, func(_ Far, told time.Time) bool { return now.Sub(told) >= returnsAgain })
	for _, w := range s.Worst {
		if _, told := j.returned[w.Far]; !told && w.matter(w.Held) {
			j.returned[w.Far] = now
			events = append(events, j.event(world.Warning, reasonReturns, w.Target(), w.held()+": "+j.config.cure()))
		}
	}
	return events
}

// full judges the table as a whole.
func (j *judge) full(s Status) []world.Event {
	n, size := s.Conntrack.Entries, s.Conntrack.Max
	if size == 0 {
		return nil
	}
	message := fmt.Sprintf("the connection table holds %d of %d entries (%d %%)", n, size, n*100/size)
	level := 0
	for _, l := range []int{tableFills, tableFull} {
		if n >= portion(size, l) {
			level = l
		}
	}
	switch {
	case level > j.table:
		j.table = level
		return []world.Event{j.event(world.Warning, reasonFilling, "", message+"; when it is full, new connections are lost: raise net.netfilter.nf_conntrack_max")}
	case j.table > 0 && n < portion(size, tableWell):
		j.table = 0
		return []world.Event{j.event(world.Normal, reasonWell, "", message)}
	}
	return nil
}

func (j *judge) event(t world.EventType, reason, subject, message string) world.Event {
	return world.Event{Object: j.config.Object, Type: t, Reason: reason, Message: message, Subject: subject}
}
