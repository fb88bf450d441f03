package pressure

import "time"

// pace says when the table must be listed, and when it must be counted next.
// What it knows of the fullest destination is a bound from above.
type pace struct {
	enter    int // ports in use at which a destination is told of
	entries  int // when it was counted last
	at       time.Time
	rate     float64   // entries a second by which the table grows
	reach    int       // the fullest destination, when it was listed last
	grown    int       // entries that came since
	listedAt time.Time // zero: never

	low, lowBefore int       // the least counts of this spell and of the one before it
	spell          time.Time // when this one began
}

// young is an age that no entry dies before: the least of the kernel's timeouts
// (net/netfilter/nf_conntrack_proto_tcp.c, tcp_timeouts: 10 s once closed).
const young = 10 * time.Second

const (
	// burst is how many connections a second the pods of a node may suddenly
	// begin. Faster growth is followed once it is seen.
	burst = 20000
	// relist is how old a listing may grow while connections that come and go
	// may hide that one destination grows.
	relist = 10 * time.Second

	idle    = 250 * time.Millisecond // between counts at most
	quickly = 2 * time.Millisecond   // at least
)

// count notes how many entries the table has.
func (p *pace) count(now time.Time, entries int) {
	grown := max(0, entries-p.entries)
	if passed := now.Sub(p.at); passed > 0 {
		p.rate = float64(grown) / passed.Seconds()
	}
	p.grown += grown
	p.at, p.entries = now, entries
	p.low = min(p.low, entries)
	if now.Sub(p.spell) >= young/2 {
		p.low, p.lowBefore, p.spell = entries, p.low, now
	}
}

// alive is how many entries are not dead, at least: those that came while none
// can have died. The kernel counts dead ones until it comes across them.
func (p *pace) alive() int { return p.entries - min(p.low, p.lowBefore) }

// listed notes how full the fullest destination was, or may have been.
func (p *pace) listed(now time.Time, reach int) {
	p.reach, p.grown, p.listedAt = reach, 0, now
}

// forget makes nothing known but the count.
func (p *pace) forget(enter int) {
	*p = pace{enter: enter, entries: p.entries, at: p.at, grown: p.entries, low: p.entries, lowBefore: p.entries, spell: p.at}
}

// bound is what no destination exceeds: connections that came and went since
// the last count aside.
func (p *pace) bound() int { return min(p.entries, p.reach+p.grown) }

// due reports whether a destination may have come to its threshold.
func (p *pace) due(now time.Time) bool {
	return p.bound() >= p.enter || p.entries >= p.enter && now.Sub(p.listedAt) >= relist
}

// wait is how long it takes at least until a destination comes to its threshold.
func (p *pace) wait() time.Duration {
	room := float64(p.enter-p.bound()) / max(burst, 2*p.rate)
	return min(max(time.Duration(room*float64(time.Second)), quickly), idle)
}
