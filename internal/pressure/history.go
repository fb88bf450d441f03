package pressure

import (
	"time"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
)

// A history is the counters as they were within the last minute.
type history []reading

type reading struct {
	at time.Time
	conntrack.Stats
}

// last is when the counters were read last.
func (h history) last() time.Time {
	if len(h) == 0 {
		return time.Time{}
	}
	return h[len(h)-1].at
}

// add notes a reading and returns what has grown since the one before.
func (h *history) add(now time.Time, s conntrack.Stats) Growth {
	*h = append(*h, reading{now, s})
	old := 0
	for old < len(*h)-2 && now.Sub((*h)[old+1].at) >= time.Minute {
		old++
	}
	*h = append((*h)[:0], (*h)[old:]...)
	if len(*h) < 2 {
		return Growth{}
	}
	return growth((*h)[len(*h)-2].Stats, s)
}

// grown is what has grown within the history.
func (h history) grown() Growth {
	if len(h) == 0 {
		return Growth{}
	}
	return growth(h[0].Stats, h[len(h)-1].Stats)
}

func growth(before, now conntrack.Stats) Growth {
	return Growth{grown(before.InsertFailed, now.InsertFailed), grown(before.Drop, now.Drop), grown(before.EarlyDrop, now.EarlyDrop),
		grown(before.ClashResolve, now.ClashResolve), grown(before.SearchRestart, now.SearchRestart)}
}

// grown is by how much a counter grew; each CPU's begins again after 32 bits.
func grown(before, now uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}
