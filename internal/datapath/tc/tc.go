// Package tc describes as plain values how links queue packets, and makes the
// kernel hold them: what bounds how much a pod receives and sends.
//
// A [Shaper] holds what leaves by a link to a rate with a token bucket (TBF,
// tc-tbf(8)). What enters by a link cannot wait there; a [Redirect] leads it to
// another device, which a shaper can hold, and from which it goes on as if it had
// just come in. On a pod's wire the one bounds what the pod receives, and the
// other, with an IFB device, what it sends.
//
// Shapers stand at the root of our links, redirects in the ingress hook under a
// preference of our own. The hook itself stays, and what else hangs on it is left
// alone.
package tc

import (
	"fmt"
	"math"
	"slices"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// A Shaper holds what leaves by Link to a rate.
type Shaper struct {
	Link  string
	Rate  uint64 // bits a second, at least 8
	Burst uint64 // bits that may leave at once; see LeastBurst

	found *bucket // of one that was read
}

// LeastBurst is the burst below which a full packet of a link with the given MTU
// would never leave. Larger packets are segmented (Linux net/sched/sch_tbf.c,
// tbf_segment).
func LeastBurst(mtu int) uint64 { return 8 * uint64(mtu+ethernetHeader) }

const ethernetHeader = 14

// A bucket is a shaper as the kernel knows it.
type bucket struct {
	rate  uint64 // bytes a second
	limit uint32 // bytes that may wait; what exceeds them is dropped
	burst uint32 // bytes, which the kernel shows as ticks
	ticks uint64 // the time that a burst takes
}

const (
	// A tick of packet scheduling is 64 ns, PSCHED_SHIFT of Linux
	// include/net/pkt_sched.h.
	ticksPerSecond = 1e9 / 64
	// Packets wait for a 40th of a second at most, as with the CNI plugin "bandwidth",
	// and for as long as a burst takes; but some runtimes ask for bursts of 2^31 bits.
	waitsPerSecond = 40
	mostBurst      = 256 << 10
)

func (s Shaper) bucket() bucket {
	if s.found != nil {
		return *s.found
	}
	b := bucket{rate: max(s.Rate/8, 1), burst: uint32(min(s.Burst/8, math.MaxUint32))}
	b.limit = uint32(min(b.rate/waitsPerSecond+uint64(min(b.burst, mostBurst)), math.MaxUint32))
	b.ticks = uint64(b.burst) * ticksPerSecond / b.rate
	return b
}

// same reports whether the kernel does the same for s and t. Our arithmetic may
// differ a little from the kernel's, which multiplies by a rounded reciprocal of
// the rate, and shows the last 32 bits of the ticks.
func (s Shaper) same(t Shaper) bool {
	a, b := s.bucket(), t.bucket()
	apart := int64(int32(uint32(a.ticks) - uint32(b.ticks)))
	slack := int64(64 + max(a.ticks, b.ticks)>>28)
	return a.rate == b.rate && a.limit == b.limit && apart <= slack && apart >= -slack
}

// String is the command of tc(8) that makes s.
func (s Shaper) String() string {
	b := s.bucket()
	return fmt.Sprintf("tc qdisc replace dev %s root tbf rate %dbit burst %d limit %d", s.Link, 8*b.rate, b.burst, b.limit)
}

// A Redirect leads what enters by Link to To.
type Redirect struct {
	Link, To string

	odd bool // of one that was read: it is not as one of ours
}

// A Change is one step towards the wanted shapers and redirects, on Link.
type Change struct {
	rtnl.Change
	Link string
}

// DiffShapers returns the changes that turn the shapers in have into those wanted.
// What is on a link that is not left counts as not there.
func DiffShapers(have, want []Shaper, left func(link string) bool) (add, del []Change) {
	there := onLinks(have, left)
	for _, w := range want {
		if h, found := there[w.Link]; !found || !h.same(w) {
			add = append(add, Change{hold{w}, w.Link})
		}
	}
	for _, h := range unwanted(have, want, left) {
		del = append(del, Change{release{h}, h.Link})
	}
	return add, del
}

// DiffRedirects is the same for redirects, which have the given preference.
func DiffRedirects(have, want []Redirect, left func(link string) bool, pref int) (add, del []Change) {
	there := onLinks(have, left)
	for _, w := range want {
		switch h, found := there[w.Link]; {
		case !found:
			add = append(add, Change{hook{w}, w.Link}, Change{lead{w, pref}, w.Link})
		case h != w || !left(w.To):
			add = append(add, Change{stop{w, pref}, w.Link}, Change{lead{w, pref}, w.Link})
		}
	}
	for _, h := range unwanted(have, want, left) {
		del = append(del, Change{stop{h, pref}, h.Link})
	}
	return add, del
}

// onLink is what stands on a link, one of a kind.
type onLink interface{ link() string }

func (s Shaper) link() string   { return s.Link }
func (r Redirect) link() string { return r.Link }

func onLinks[T onLink](have []T, left func(string) bool) map[string]T {
	out := make(map[string]T, len(have))
	for _, h := range have {
		if left(h.link()) {
			out[h.link()] = h
		}
	}
	return out
}

// unwanted is what of have is on a link for which nothing is wanted.
func unwanted[T onLink](have, want []T, left func(string) bool) []T {
	wanted := onLinks(want, func(string) bool { return true })
	return slices.DeleteFunc(slices.Clone(have), func(h T) bool {
		_, is := wanted[h.link()]
		return is || !left(h.link())
	})
}

// Commands are those of tc(8) that make r.
func (r Redirect) Commands(pref int) []string {
	return []string{hook{r}.String(), lead{r, pref}.String()}
}
