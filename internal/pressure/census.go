package pressure

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
)

// maxDestinations bounds the memory of a census. Where there are more, those
// with few ports give way (Misra and Gries, "Finding repeated elements", 1982).
const maxDestinations = 1 << 14

// A census is who uses how many ports, from one listing of the table.
type census struct {
	config  Config
	entries int  // that the table had; some may be dead, and are listed no more
	alive   int  // of them, at least
	seen    int  // of them, those that were listed
	whole   bool // all of them were
	missed  int  // ports that each destination may have more of
	uses    map[Destination]use
}

// A use is how many ports one destination takes.
type use struct {
	used, waiting int
	counted       bool // by itself
}

func newCensus() *census { return &census{uses: map[Destination]use{}} }

// take lists the table, or a sample of about limit entries. It uses the memory
// of the last one again.
func (c *census) take(t *conntrack.Table, entries, limit int) error {
	clear(c.uses)
	c.entries, c.seen, c.missed, c.whole = entries, 0, 0, entries <= limit
	f := conntrack.Filter{Status: conntrack.SourceNAT}
	if !c.whole {
		f = conntrack.Filter{} // a sample of all, since it is known how many all are
	}
	return t.Dump(f, func(e *conntrack.Entry) bool {
		c.seen++
		if ports, ok := c.config.sharing(e.Reply.Destination.Port()); ok && e.Status&conntrack.SourceNAT != 0 {
			c.add(Destination{e.Reply.Destination.Addr(), ports, Protocol(e.Protocol), e.Reply.Source}, e.TCPState)
		}
		return c.whole || c.seen < limit
	})
}

func (c *census) add(d Destination, s conntrack.TCPState) {
	u, known := c.uses[d]
	if !known && len(c.uses) == maxDestinations {
		c.thin()
		return
	}
	u.used++
	if s == conntrack.TimeWait {
		u.waiting++
	}
	c.uses[d] = u
}

// thin takes a port from every destination, so that those with one give way.
func (c *census) thin() {
	c.missed++
	for d, u := range c.uses {
		if u.used--; u.used == 0 {
			delete(c.uses, d)
			continue
		}
		u.waiting = min(u.waiting, u.used)
		c.uses[d] = u
	}
}

// count lists one destination's connections, whatever the rest of the table is.
func (c *census) count(t *conntrack.Table, d Destination) (Histogram, error) {
	h := Histogram{Fill: Fill{Destination: d, Size: d.Ports.size()}}
	f := conntrack.Filter{Status: conntrack.SourceNAT, Protocol: byte(d.Protocol),
		Reply: conntrack.Tuple{Source: d.To, Destination: netip.AddrPortFrom(d.Source, 0)}}
	err := t.Dump(f, func(e *conntrack.Entry) bool {
		port := e.Reply.Destination.Port()
		if !d.Ports.contains(port) {
			return true
		}
		h.Used++
		h.Slices[int(port-d.Ports.Low)*Slices/h.Size]++
		if e.TCPState == conntrack.TimeWait {
			h.Waiting++
		}
		return true
	})
	if err == nil {
		c.uses[d] = use{h.Used, h.Waiting, true}
	}
	return h, err
}

// exact reports whether it is known how many ports d takes, not only about.
func (c *census) exact(d Destination) bool { return c.whole && c.missed == 0 || c.uses[d].counted }

// scale is how many entries stand behind each that was seen.
func (c *census) scale() float64 { return max(1, float64(c.entries)/float64(max(1, c.seen))) }

// fill is how full d is, as far as is known.
func (c *census) fill(d Destination) Fill {
	u, scale := c.uses[d], 1.0
	if !c.whole && !u.counted {
		scale = c.scale()
	}
	return Fill{d, int(float64(u.used) * scale), int(float64(u.waiting) * scale), d.Ports.size()}
}

// most is how many ports d takes at most, in the same sense as least.
func (c *census) most(d Destination) int {
	u := c.uses[d]
	switch {
	case c.exact(d):
		return u.used
	case c.whole:
		return u.used + c.missed
	}
	used := float64(u.used + c.missed)
	return int((used + 3*math.Sqrt(used+1)) * c.scale())
}

// doubtful are the destinations that may have got scarce, and may not, without
// those that are already.
func (c *census) doubtful(scarce map[Destination]bool) (out []Destination) {
	for d := range c.uses {
		if !scarce[d] && c.most(d) >= d.enter() && c.least(d) < d.enter() && !c.exact(d) {
			out = append(out, d)
		}
	}
	return out
}

// reach is how many ports any destination takes at most, without the scarce.
func (c *census) reach(scarce map[Destination]bool) int {
	reach := c.most(Destination{}) // one that is in no sample
	for d := range c.uses {
		if !scarce[d] {
			reach = max(reach, c.most(d))
		}
	}
	return reach
}

// least is how many ports d takes at least. The error of a sample is taken as
// three times its standard deviation.
func (c *census) least(d Destination) int {
	u := c.uses[d]
	if c.whole || u.counted {
		return u.used
	}
	n := float64(max(1, c.seen))
	part := float64(u.used) / n
	return int((part - 3*math.Sqrt((part*(1-part)+1/n)/n)) * float64(c.alive))
}

// fullest are the n destinations with the most ports, in order.
func (c *census) fullest(n int) []Fill {
	var out []Fill
	for d := range c.uses {
		f := c.fill(d)
		if at, _ := slices.BinarySearchFunc(out, f, fuller); at < n {
			out = slices.Insert(out, at, f)
			out = out[:min(n, len(out))]
		}
	}
	return out
}

// ratios are how full the fullest destination of each named protocol is. There
// is always one of each: what is counted has bounds.
func (c *census) ratios() Ratios {
	out := Ratios{}
	for p := range names {
		out[p] = 0
	}
	for d := range c.uses {
		if ratio, ok := out[d.Protocol]; ok {
			out[d.Protocol] = max(ratio, c.fill(d).Ratio())
		}
	}
	return out
}

// fuller orders fills, the fullest first.
func fuller(a, b Fill) int {
	return cmp.Or(b.Used-a.Used, a.Source.Compare(b.Source), int(a.Protocol)-int(b.Protocol), a.To.Compare(b.To), int(a.Ports.Low)-int(b.Ports.Low))
}
