package controller

import (
	"hash/fnv"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// A book remembers who had which number last. What nodes still hold of a number that
// was freed, such as connections, is not to be taken for another address's: so one is
// given to another only when there is no better. What an address gets first follows
// from the address: one that comes back has its number again, and a controller that
// knows nothing of the past rarely gives one that was another's.
type book struct {
	last [v1alpha1.MaxEgressNumber + 1]use // by number
	turn int64
}

// A use is who had a number, and in which turn last.
type use struct {
	address netip.Addr // zero: nobody yet
	turn    int64
}

// give adds numbers for those that want one to those that are held, one number for each
// address, as far as there are any.
func (b *book) give(held map[netip.Addr]int, want []netip.Addr) {
	b.turn++
	var taken [v1alpha1.MaxEgressNumber + 1]bool
	fresh := v1alpha1.MaxEgressNumber
	for n := 1; n <= v1alpha1.MaxEgressNumber; n++ {
		if b.last[n].address.IsValid() {
			fresh--
		}
	}
	for a, n := range held {
		if !b.last[n].address.IsValid() {
			fresh--
		}
		taken[n], b.last[n] = true, use{a, b.turn}
	}
	want = slices.SortedFunc(slices.Values(want), netip.Addr.Compare)
	for _, a := range want {
		if len(held) == v1alpha1.MaxEgressNumber {
			return
		}
		n := b.best(a, &taken, fresh > 0)
		if !b.last[n].address.IsValid() {
			fresh--
		}
		held[a], taken[n], b.last[n] = n, true, use{a, b.turn}
	}
}

// best is the number for an address: from where its hash points on the first that was
// its own or nobody's, else the one that was another's longest ago.
// One is free.
func (b *book) best(a netip.Addr, taken *[v1alpha1.MaxEgressNumber + 1]bool, fresh bool) int {
	h := fnv.New32a()
	_, _ = h.Write(a.AsSlice())
	first := int(h.Sum32() % v1alpha1.MaxEgressNumber)
	oldest := 0
	for i := range v1alpha1.MaxEgressNumber {
		n := (first+i)%v1alpha1.MaxEgressNumber + 1
		if taken[n] {
			continue
		}
		if u := b.last[n]; u.address == a || fresh && !u.address.IsValid() {
			return n
		}
		if oldest == 0 || b.last[n].turn < b.last[oldest].turn {
			oldest = n
		}
	}
	return oldest
}
