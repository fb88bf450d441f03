package reserve

import (
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/world"
)

// A socket holds a port. Its cookie tells whether the descriptor still stands for
// the socket that was opened.
type socket struct {
	port       world.Port
	descriptor int
	cookie     uint64 // SO_COOKIE: no other socket of this boot has it
}

func compareSockets(s, t socket) int { return s.port.Compare(t.port) }

// A kernel is what a keeper asks of the kernel; tests let it fail.
type kernel struct {
	socket func(world.Port) (descriptor int, err error)
	bind   func(descriptor int, p world.Port) error
	close  func(descriptor int) error
	spared func() int // the lowest descriptor that is kept for other work
}

var linux = kernel{socket: newSocket, bind: bind, close: unix.Close, spared: spared}

// open makes the socket that holds p.
func (k *Keeper) open(p world.Port, spared int) error {
	fd, err := k.kernel.socket(p)
	if err != nil {
		return err
	}
	s := socket{port: p, descriptor: fd}
	if s.cookie, err = cookie(fd); err == nil {
		// The kernel gives out the lowest descriptor there is: as many are in use.
		if err = unix.EMFILE; fd < spared {
			err = k.kernel.bind(fd, p)
		}
	}
	if err == nil {
		k.opened = append(k.opened, s)
	} else if k.close(s) != nil {
		k.unbound = append(k.unbound, s)
	}
	return err
}

// close closes s; after an error it is still open. Linux frees a descriptor before
// it can meet an error, with EINTR too (close(2)), and whoever opens something next
// may get its number: only what still is our socket may be closed again. Nobody
// else closes it, so that it cannot become somebody else's after this look.
func (k *Keeper) close(s socket) error {
	if !s.open() {
		return nil
	}
	if err := k.kernel.close(s.descriptor); err != nil && s.open() {
		return err
	}
	return nil
}

// open reports whether the descriptor is that of s.
func (s socket) open() bool {
	c, err := cookie(s.descriptor)
	return err == nil && c == s.cookie
}

func cookie(descriptor int) (uint64, error) {
	return unix.GetsockoptUint64(descriptor, unix.SOL_SOCKET, unix.SO_COOKIE)
}

// newSocket makes a socket for p that is not bound yet.
func newSocket(p world.Port) (int, error) {
	// The kernel shows these settings as soon as it has the protocol.
	if p.Protocol == unix.IPPROTO_SCTP && unix.Access("/proc/sys/net/sctp", unix.F_OK) != nil {
		return 0, unix.EPROTONOSUPPORT
	}
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	if p.IPv6 {
		domain = unix.AF_INET6
	}
	if p.Protocol == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	return unix.Socket(domain, kind|unix.SOCK_CLOEXEC, int(p.Protocol))
}

// bind binds a new socket to p on the wildcard address of its family.
func bind(descriptor int, p world.Port) error {
	if p.Protocol == unix.IPPROTO_UDP {
		// Datagrams that no rule keeps away stay with it until its buffer is full.
		// The kernel takes what it allows for the least.
		if err := unix.SetsockoptInt(descriptor, unix.SOL_SOCKET, unix.SO_RCVBUF, 0); err != nil {
			return err
		}
	}
	if !p.IPv6 {
		return unix.Bind(descriptor, &unix.SockaddrInet4{Port: int(p.Number)})
	}
	if err := unix.SetsockoptInt(descriptor, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return err
	}
	return unix.Bind(descriptor, &unix.SockaddrInet6{Port: int(p.Number)})
}

// spareDescriptors are left for the node's other work: pods' namespaces, requests
// of container runtimes, files, connections. Of a low limit it is half.
const spareDescriptors = 512

// spared counts from the soft limit, which Go raises to the hard one when a program
// starts (syscall/rlimit.go).
func spared() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	most := min(limit.Cur, 1<<30) // the kernel allows fewer, whatever the limit (fs.nr_open)
	return int(most - min(spareDescriptors, most/2))
}
