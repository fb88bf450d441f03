package reserve_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/world"
)

// A chaos is a kernel in which a share of all calls fails, and somebody who uses
// descriptors again as soon as they are free.
type chaos struct {
	*rand.Rand
	t      *testing.T
	share  float64
	theirs []*os.File
}

func (c *chaos) fails() bool { return c.Float64() < c.share }

func (c *chaos) oneOf(errors ...error) error { return errors[c.IntN(len(errors))] }

func (c *chaos) socket(world.Port) error {
	if c.fails() {
		return c.oneOf(unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.EAFNOSUPPORT)
	}
	return nil
}

func (c *chaos) bind(world.Port) error {
	if c.fails() {
		return c.oneOf(unix.EADDRINUSE, unix.EACCES, unix.ENOMEM)
	}
	return nil
}

// close fails before the descriptor is free, or after, when it is theirs at once.
func (c *chaos) close(fd int) error {
	if !c.fails() {
		return unix.Close(fd)
	}
	if c.fails() {
		return unix.EINTR
	}
	_ = unix.Close(fd)
	f, err := os.Open(".")
	if err != nil {
		c.t.Error(err)
	}
	c.theirs = append(c.theirs, f)
	return c.oneOf(unix.EINTR, unix.EIO)
}

// ports are a random choice of few, so that the same come and go often.
func (c *chaos) ports() (out []world.Port) {
	for range c.IntN(12) {
		out = append(out, world.Port{IPv6: c.IntN(2) == 0, Protocol: []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP}[c.IntN(2)], Number: uint16(1 + c.IntN(4))})
	}
	return out
}

// After whatever failed, the first call in which nothing does makes the keeper hold
// what is wanted, and nothing else stays open; meanwhile it says how things are.
func TestRandomHistoriesEndInWhatIsWanted(t *testing.T) {
	const calls, stretch = 6000, 6
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &chaos{Rand: rand.New(rand.NewPCG(seed, 0)), t: t}
	s := faulty(t, &reserve.Faults{Socket: c.socket, Bind: c.bind, Close: c.close})
	before := len(sockets(t))
	for i := range calls {
		want := c.ports()
		unique := slices.Compact(slices.SortedFunc(slices.Values(want), world.Port.Compare))
		if c.share = 0.4; i%stretch == stretch-1 {
			c.share = 0
		}
		h := s.hold(want...)
		has, open := s.k.Ports(), len(sockets(t))-before
		if h.Reserved+len(h.Taken)+h.Unreserved.Len() != len(unique) || len(has) != h.Reserved+len(h.Unreleased) || open < len(has) {
			t.Fatalf("call %d: of %v it says %+v, has %v and %d sockets", i, want, h, has, open)
		}
		for _, p := range h.Taken {
			if slices.Contains(has, p) {
				t.Fatalf("call %d: %s is taken and reserved", i, p)
			}
		}
		if c.share == 0 && (!h.Equal(reserve.Held{Reserved: len(unique)}) || !slices.Equal(has, unique) || open != len(has)) {
			t.Fatalf("call %d, without failures: of %v it says %+v, has %v and %d sockets", i, want, h, has, open)
		}
		for _, f := range c.theirs {
			if err := f.Close(); err != nil {
				t.Fatalf("call %d: somebody else's file was closed: %v", i, err)
			}
		}
		c.theirs = nil
	}
	c.share = 0
}
