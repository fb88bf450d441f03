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
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A Port is a port of the node, on all its addresses of one family.
type Port struct {
	IPv6     bool
	Protocol byte   // unix.IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	Number   uint16 // 1-65535
}

// Compare orders ports by number, then by protocol, then by family.
func (p Port) Compare(q Port) int { return cmp.Compare(p.key(), q.key()) }

func (p Port) key() int {
	key := int(p.Number)<<9 | int(p.Protocol)<<1
	if p.IPv6 {
		key |= 1
	}
	return key
}

// String is as in "tcp 61000 IPv4".
func (p Port) String() string {
	protocol, known := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[p.Protocol]
	if !known {
		protocol = fmt.Sprintf("protocol %d", p.Protocol)
	}
	version := 4
	if p.IPv6 {
		version = 6
	}
	return fmt.Sprintf("%s %d IPv%d", protocol, p.Number, version)
}

// Held is what a keeper has come to. Its lists are sorted by port.
type Held struct {
	// Reserved counts the wanted ports that have their socket.
	Reserved int
	// Taken are wanted ports that somebody else holds in some way: listening or
	// merely bound, on the wildcard address or on one of the node's, or as the
	// source port of a connection, up to the minute that it spends in TIME_WAIT.
	Taken []Port
	// Unreserved are wanted ports that have no socket for another reason. They are
	// to be mapped all the same; that nobody else has them is not known.
	Unreserved []Failure
	// Unreleased are ports that are not wanted any more and that the keeper still has.
	Unreleased []Failure
}

// Equal reports whether h and i say the same.
func (h Held) Equal(i Held) bool {
	return h.Reserved == i.Reserved && slices.Equal(h.Taken, i.Taken) &&
		slices.Equal(h.Unreserved, i.Unreserved) && slices.Equal(h.Unreleased, i.Unreleased)
}

// A Failure is a port and why it could not be reserved or released.
type Failure struct {
	Port Port
	Why  Why
}

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
	sockets []socket // that hold their ports, sorted by these
	unbound []socket // could be neither bound nor closed; they hold nothing
}

// New is a keeper that holds nothing.
func New() *Keeper { return &Keeper{kernel: linux} }

// Hold makes the keeper hold the wanted ports and no others, as far as that is
// possible now. It releases before it reserves. Ports that it has stay untouched;
// what could not be done, now or in an earlier call, is tried again, but nothing
// in one call after a descriptor was lacking. Want may name a port twice, and be in
// any order; where it is sorted, a call that finds nothing to do costs microseconds
// for each thousand ports.
func (k *Keeper) Hold(want []Port) Held {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unbound = slices.DeleteFunc(k.unbound, func(s socket) bool { return k.close(s) == nil })
	want = sorted(want)
	var h Held
	var lacking []Port
	kept := k.sockets[:0]
	for _, s := range k.sockets {
		for len(want) > 0 && want[0].Compare(s.port) < 0 {
			lacking, want = append(lacking, want[0]), want[1:]
		}
		if len(want) > 0 && want[0] == s.port {
			want, kept = want[1:], append(kept, s)
			h.Reserved++
		} else if err := k.close(s); err != nil {
			kept = append(kept, s)
			h.Unreleased = append(h.Unreleased, Failure{s.port, Why(err.Error())})
		}
	}
	k.sockets = kept
	if lacking = append(lacking, want...); len(lacking) > 0 {
		k.reserve(&h, lacking)
		slices.SortFunc(k.sockets, func(s, t socket) int { return s.port.Compare(t.port) })
	}
	return h
}

// sorted is want in order, and each port once.
func sorted(want []Port) []Port {
	for i := range want[min(1, len(want)):] {
		if want[i].Compare(want[i+1]) >= 0 {
			return slices.Compact(slices.SortedFunc(slices.Values(want), Port.Compare))
		}
	}
	return want
}

// reserve opens the sockets that are lacking.
func (k *Keeper) reserve(h *Held, lacking []Port) {
	spared, exhausted := k.kernel.spared(), false
	absent := map[Port]bool{} // with number 0: what the kernel has no sockets of
	for _, p := range lacking {
		kind := Port{IPv6: p.IPv6, Protocol: p.Protocol}
		var err error
		switch {
		case absent[kind]:
			err = unix.EPROTONOSUPPORT
		case exhausted:
			err = unix.EMFILE
		default:
			err = k.open(p, spared)
		}
		switch {
		case err == nil:
			h.Reserved++
		case errors.Is(err, unix.EADDRINUSE):
			h.Taken = append(h.Taken, p)
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			exhausted = true
			h.Unreserved = append(h.Unreserved, Failure{p, NoDescriptors})
		case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
			absent[kind] = true
			h.Unreserved = append(h.Unreserved, Failure{p, NoSockets})
		default:
			h.Unreserved = append(h.Unreserved, Failure{p, Why(err.Error())})
		}
	}
}

// Ports are those that the keeper has now, sorted, whether wanted or not: each is
// looked for in the kernel. One whose socket is lost is bound anew by the next Hold.
func (k *Keeper) Ports() []Port {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sockets = slices.DeleteFunc(k.sockets, func(s socket) bool { return !s.open() })
	out := make([]Port, 0, len(k.sockets))
	for _, s := range k.sockets {
		out = append(out, s.port)
	}
	return out
}

// Close releases all ports. After an error it, or Hold, may be called again.
func (k *Keeper) Close() error {
	if left := k.Hold(nil).Unreleased; len(left) > 0 {
		return fmt.Errorf("%d ports are not released, the first is %s: %s", len(left), left[0].Port, left[0].Why)
	}
	return nil
}
