package pressure

import (
	"errors"
	"math"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/world"
)

// care is how closely somebody who asks wants to look.
type care int

const (
	unasked care = iota
	glance       // the counters now, and a listing that is not old
	closely      // a listing now, and the fullest destination's ports
)

const (
	readEvery  = time.Second // the counters of trouble
	mostSample = 2000        // entries
	lessSample = 250         // of a table that is as small as that, all is listed
	shown      = 10          // destinations in the status
)

// soon is when a destination that nears the threshold is looked at again.
const soon = 20 * time.Millisecond

// What listing costs, until it was measured.
const (
	perEntryAtFirst = 3 * time.Microsecond
	perCountAtFirst = 20 * time.Millisecond
)

// An observer takes the steps of a watch: it counts, lists where that is due and
// can be afforded, and judges.
type observer struct {
	counts, table     *conntrack.Table // two, since one may be closed halfway through a listing
	counting, listing credit
	perEntry          time.Duration // to list one
	perCount          time.Duration // to count one destination by itself
	perStep           time.Duration // to count the table, and to read the counters now and then
	owed              time.Duration // what it takes to make sure of what the last sample left in doubt

	pace    pace
	census  *census
	judge   *judge
	history history
	status  Status
}

func newObserver() (*observer, error) {
	counts, err := conntrack.Open()
	if err != nil {
		return nil, err
	}
	table, err := conntrack.Open()
	if err != nil {
		return nil, errors.Join(err, counts.Close())
	}
	now := time.Now()
	return &observer{counts: counts, table: table, census: newCensus(), judge: newJudge(),
		counting: newCredit(countingShare, now), listing: newCredit(listingShare, now),
		perEntry: perEntryAtFirst, perCount: perCountAtFirst}, nil
}

func (o *observer) close() {
	// Nothing was written that could be lost.
	_ = o.counts.Close()
	_ = o.table.Close()
}

// set changes what is watched for. What was seen of other ports says nothing.
func (o *observer) set(c Config) {
	was := o.census.config
	o.judge.config, o.census.config = c, c
	if o.pace.enter == 0 || was.Ports != c.Ports || was.Block != c.Block {
		clear(o.judge.scarce)
		o.pace.forget(portion(c.room(), portsScarce))
	}
}

// step looks at the table and returns what there is to tell.
func (o *observer) step(now time.Time, how care) ([]world.Event, error) {
	o.counting.grow(now)
	o.listing.grow(now)
	began := cpuTime()
	lost, err := o.count(now, how)
	if err != nil {
		return nil, err
	}
	counted := cpuTime() - began
	o.perStep = (o.perStep + counted) / 2
	o.status.CPU.Counting += o.counting.spend(counted)
	var events []world.Event
	if o.wanted(now, how, lost) && o.until() == 0 {
		began := cpuTime()
		if events, err = o.list(now, how); err != nil {
			return nil, err
		}
		o.status.CPU.Listing += o.listing.spend(cpuTime() - began)
	}
	events = append(events, o.judge.losses(now, o.status)...)
	events = append(events, o.judge.full(o.status)...)
	return events, nil
}

// count counts the table, and reads the counters of trouble if that is due. It
// reports whether anything was lost.
func (o *observer) count(now time.Time, how care) (lost bool, err error) {
	s := &o.status.Conntrack
	if how == unasked && now.Sub(o.history.last()) < readEvery {
		s.Entries, s.Max, err = o.counts.Count()
	} else if *s, err = o.counts.Stats(); err == nil {
		lost = o.judge.lose(o.history.add(now, *s))
		o.status.At, o.status.LastMinute = now, o.history.grown()
	}
	o.pace.count(now, s.Entries)
	return lost, err
}

// wanted reports whether the table should be listed, if that can be afforded.
func (o *observer) wanted(now time.Time, how care, lost bool) bool {
	age := now.Sub(o.pace.listedAt)
	old := age >= relist && (how == glance || len(o.judge.scarce) > 0)
	return o.pace.due(now) || how == closely || old || lost && age >= readEvery
}

// sample is how much of the table is listed at first.
func (o *observer) sample() int { return min(max(o.pace.entries/4, lessSample), mostSample) }

// until is how long it takes until the next listing can be afforded.
func (o *observer) until() time.Duration {
	return o.listing.until(time.Duration(o.sample())*o.perEntry + o.owed)
}

// wait is how long nothing need be done.
func (o *observer) wait() time.Duration {
	if o.pace.bound() >= o.pace.enter { // a listing is due, and could not be afforded
		return min(max(o.until(), quickly), idle)
	}
	return max(o.pace.wait(), o.counting.until(o.perStep))
}

// list lists a sample of the table, makes sure of what that leaves in doubt, and
// returns what there is to tell of destinations.
func (o *observer) list(now time.Time, how care) ([]world.Event, error) {
	began := cpuTime()
	o.census.alive = o.pace.alive()
	limit := o.sample()
	if how == closely {
		limit = max(limit, int(o.listing.left/4/o.perEntry))
	}
	if err := o.take(limit); err != nil {
		return nil, err
	}
	if err := o.verify(o.listing.left - (cpuTime() - began)); err != nil {
		return nil, err
	}
	events := o.judge.fills(o.census)
	o.pace.listed(now, o.census.reach(o.judge.scarce))
	return events, o.show(now, how)
}

// take takes the census and learns what it costs.
func (o *observer) take(limit int) error {
	began := cpuTime()
	if err := o.census.take(o.table, o.pace.entries, limit); err != nil {
		return err
	}
	if n := o.census.seen; n >= lessSample {
		o.perEntry = (o.perEntry + (cpuTime()-began)/time.Duration(n)) / 2
	}
	return nil
}

// verify makes sure of the destinations that may have come to the threshold: by
// themselves, or with the whole table if that is cheaper. What cannot be
// afforded is owed, and done once it can be. What another sample will be sure of
// in a moment, at the rate at which the table grows, is left to that.
func (o *observer) verify(left time.Duration) error {
	doubtful := slices.DeleteFunc(o.census.doubtful(o.judge.scarce), func(d Destination) bool {
		return float64(d.enter()-o.census.least(d)) < o.pace.rate*soon.Seconds()
	})
	whole, single := time.Duration(o.census.entries)*o.perEntry, time.Duration(len(doubtful))*o.perCount
	if o.owed = min(whole, single, o.listing.most()); o.owed > left {
		return nil
	}
	o.owed = 0
	if whole < single && !o.census.whole {
		return o.take(math.MaxInt)
	}
	for _, d := range doubtful {
		if _, err := o.examine(d); err != nil {
			return err
		}
	}
	return nil
}

// examine counts one destination by itself and learns what that costs.
func (o *observer) examine(d Destination) (Histogram, error) {
	began := cpuTime()
	h, err := o.census.count(o.table, d)
	o.perCount = (o.perCount + cpuTime() - began) / 2
	return h, err
}

// show puts what is known of destinations into the status.
func (o *observer) show(now time.Time, how care) error {
	s := &o.status
	s.Listed = Listed{now, min(o.census.seen, o.census.entries), o.census.entries}
	if o.census.whole {
		s.Listed.Entries = o.census.entries
	}
	s.Fullest, s.Ratios, s.Histogram = o.census.fullest(shown), o.census.ratios(), nil
	if how != closely || len(s.Fullest) == 0 || o.listing.until(o.perCount) > 0 {
		return nil
	}
	h, err := o.examine(s.Fullest[0].Destination)
	s.Fullest[0], s.Histogram = h.Fill, &h
	return err
}
