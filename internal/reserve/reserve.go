// Package reserve keeps ports of the node from being taken by others, with
// sockets that are bound and never listen.
//
// NodePortLocal leads packets to such ports away before any socket sees them. The
// socket is for the other times: whoever binds the port gets EADDRINUSE, the kernel
// takes it for no outgoing connection, and while there is no rule a client is
// refused at once instead of hanging in a connection that nobody accepts. For that
// the socket is bound to the wildcard address of one family, has neither
// SO_REUSEADDR nor SO_REUSEPORT (with SO_REUSEADDR on both, somebody else could
// bind the port and listen), and is not in state LISTEN, so that a SYN finds no
// socket (tcp_v4_rcv in net/ipv4/tcp_ipv4.c) and is answered with RST. UDP has no
// such state: a bound socket swallows datagrams, and only a rule can refuse them.
//
// A [Keeper] holds whatever set of ports it is told to hold, and says what it could
// not do. Nothing waits for it: what fails is tried again by the next call, and the
// node's rules and what the cluster is told do not depend on it.
package reserve

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// Held is what a keeper has come to. Its lists are sorted by port.
type Held struct {
	// Reserved counts the wanted ports that have their socket.
	Reserved int
	// Taken are wanted ports that somebody else holds in some way: listening or
	// merely bound, on the wildcard address or on one of the node's, or as the
	// source port of a connection, up to the minute that it spends in TIME_WAIT.
	Taken []world.Port
	// Unreserved are wanted ports that have no socket for another reason. They are
	// to be mapped all the same; that nobody else has them is not known. There may
	// be as many as there are ports.
	Unreserved sorted.List[Failure]
	// Unreleased are ports that are not wanted any more and that the keeper still has.
	Unreleased []Failure
}

// Equal reports whether h and i say the same.
func (h Held) Equal(i Held) bool {
	return h.Reserved == i.Reserved && slices.Equal(h.Taken, i.Taken) &&
		h.Unreserved.Equal(i.Unreserved) && slices.Equal(h.Unreleased, i.Unreleased)
}

// A Failure is a port and why it could not be reserved or released.
type Failure struct {
	Port world.Port
	Why  Why
}

// Compare orders failures by port.
func (f Failure) Compare(g Failure) int { return f.Port.Compare(g.Port) }

// Why is one of the reasons below, or else the kernel's error as text.
type Why string

// Why a port is not reserved.
const (
	// NoDescriptors: the process or the machine has as many files open as it may,
	// or the process so many that it needs the rest for its other work.
	NoDescriptors Why = "no file descriptor is left for it"
	// NoSockets: the kernel has no sockets of the protocol or of the family. Those
	// of SCTP are not asked for where no module has them yet: asking would load it,
	// and from then on the kernel would answer for the node's other SCTP stacks.
	NoSockets Why = "the kernel has no sockets of its protocol"
)

// A Keeper holds ports. It makes its sockets in the network namespace of the
// thread that calls Hold. Its methods may be called at the same time.
type Keeper struct {
	kernel kernel

	mu      sync.Mutex
	wanted  sorted.List[world.Port]
	sockets sorted.List[socket]     // that hold their ports
	taken   []world.Port            // are wanted, and others'
	lacking sorted.List[Failure]    // are wanted, and have no socket for another reason
	left    sorted.List[world.Port] // are not wanted, and could not be released
	opened  []socket                // by the present call
	unbound []socket                // could be neither bound nor closed; they hold nothing
}

// New is a keeper that holds nothing.
func New() *Keeper { return &Keeper{kernel: linux} }

// Hold makes the keeper hold the wanted ports and no others, as far as that is
// possible now; they are in the order of [world.Port.Compare]. It releases before it
// reserves. Ports that it has stay untouched; what could not be done, now or in an
// earlier call, is tried again, but nothing in one call after a descriptor was
// lacking. Only what differs from the list of the last call is looked at, and what
// could not be done.
func (k *Keeper) Hold(want sorted.List[world.Port]) Held {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unbound = slices.DeleteFunc(k.unbound, func(s socket) bool { return k.close(s) == nil })
	gone, come := sorted.Differing(k.wanted, want, world.Port.Compare)
	k.wanted = want
	var h Held
	k.release(&h, k.left.With(come, gone, world.Port.Compare)) // what comes is not left any more
	k.reserve(gone, come)
	h.Reserved, h.Taken, h.Unreserved = k.sockets.Len()-k.left.Len(), slices.Clone(k.taken), k.lacking
	return h
}

func (k *Keeper) socket(p world.Port) (socket, bool) {
	return k.sockets.Find(func(s socket) int { return s.port.Compare(p) })
}

// release closes the sockets of ports that are not wanted.
func (k *Keeper) release(h *Held, ports sorted.List[world.Port]) {
	var closed []socket
	var left []world.Port
	for p := range ports.All() {
		s, has := k.socket(p)
		if !has {
			continue
		}
		if err := k.close(s); err != nil {
			left = append(left, p)
			h.Unreleased = append(h.Unreleased, Failure{p, Why(err.Error())})
			continue
		}
		closed = append(closed, s)
	}
	k.sockets, k.left = k.sockets.With(closed, nil, compareSockets), sorted.Of(left, world.Port.Compare)
}

// reserve opens the sockets that were lacking before, as long as descriptors are left,
// and then those of ports that come.
func (k *Keeper) reserve(gone, come []world.Port) {
	a := attempt{spared: k.kernel.spared(), absent: map[world.Port]bool{}}
	stay := k.lacking.With(k.lackingOf(gone), nil, Failure.Compare)
	again := slices.DeleteFunc(k.taken, func(p world.Port) bool { _, left := slices.BinarySearchFunc(gone, p, world.Port.Compare); return left })
	k.taken = nil
	var was, is []Failure
	note := func(p world.Port, why Why) {
		switch why {
		case "":
		case taken:
			k.taken = append(k.taken, p)
		default:
			is = append(is, Failure{p, why})
		}
	}
	for f := range stay.All() {
		if a.exhausted {
			break
		}
		if why := k.try(&a, f.Port); why != f.Why {
			was = append(was, f)
			note(f.Port, why)
		}
	}
	for _, p := range slices.Concat(again, come) {
		if _, has := k.socket(p); !has {
			note(p, k.try(&a, p))
		}
	}
	slices.SortFunc(k.taken, world.Port.Compare)
	slices.SortFunc(is, Failure.Compare)
	slices.SortFunc(k.opened, compareSockets)
	k.lacking = stay.With(was, is, Failure.Compare)
	k.sockets, k.opened = k.sockets.With(nil, k.opened, compareSockets), nil
}

// An attempt is what one call has found out about the kernel.
type attempt struct {
	spared    int
	exhausted bool                // no descriptor is left
	absent    map[world.Port]bool // with number 0: what the kernel has no sockets of
}

// taken says that others have a port.
const taken Why = "taken"

// try opens the socket of p, and returns why that failed; "": it did not.
func (k *Keeper) try(a *attempt, p world.Port) Why {
	kind := world.Port{IPv6: p.IPv6, Protocol: p.Protocol}
	switch {
	case a.absent[kind]:
		return NoSockets
	case a.exhausted:
		return NoDescriptors
	}
	err := k.open(p, a.spared)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.EADDRINUSE):
		return taken
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		a.exhausted = true
		return NoDescriptors
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		a.absent[kind] = true
		return NoSockets
	}
	return Why(err.Error())
}

// lackingOf is what is lacking of the ports.
func (k *Keeper) lackingOf(ports []world.Port) (out []Failure) {
	for _, p := range ports {
		if f, lacks := k.lacking.Find(func(f Failure) int { return f.Port.Compare(p) }); lacks {
			out = append(out, f)
		}
	}
	return out
}

// Ports are those that the keeper has now, sorted, whether wanted or not: each is
// looked for in the kernel. One whose socket is lost is bound anew by the next Hold.
func (k *Keeper) Ports() []world.Port {
	k.mu.Lock()
	defer k.mu.Unlock()
	var lost []socket
	out := make([]world.Port, 0, k.sockets.Len())
	for s := range k.sockets.All() {
		if s.open() {
			out = append(out, s.port)
		} else {
			lost = append(lost, s)
		}
	}
	k.forget(lost)
	return out
}

// forget notes that sockets are no more.
func (k *Keeper) forget(lost []socket) {
	var left []world.Port
	var lacking []Failure
	for _, s := range lost {
		if _, wanted := k.wanted.Find(func(p world.Port) int { return p.Compare(s.port) }); wanted {
			lacking = append(lacking, Failure{s.port, "its socket was closed"})
		} else {
			left = append(left, s.port)
		}
	}
	k.sockets, k.left = k.sockets.With(lost, nil, compareSockets), k.left.With(left, nil, world.Port.Compare)
	k.lacking = k.lacking.With(nil, lacking, Failure.Compare)
}

// Close releases all ports. After an error it, or Hold, may be called again.
func (k *Keeper) Close() error {
	if left := k.Hold(sorted.List[world.Port]{}).Unreleased; len(left) > 0 {
		return fmt.Errorf("%d ports are not released, the first is %s: %s", len(left), left[0].Port, left[0].Why)
	}
	return nil
}
