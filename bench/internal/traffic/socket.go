package traffic

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

// Listen opens a listening socket at the path's end; port 0 is any.
func (p Path) Listen(port uint16) (fd int, at netip.AddrPort, err error) {
	err = netns.Do(p.To, func() error {
		if fd, err = socket(p.Address); err != nil {
			return err
		}
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(p.Address, port))); err != nil {
			return fmt.Errorf("bind %s: %w", p.Address, err)
		}
		return unix.Listen(fd, unix.SOMAXCONN)
	})
	if err != nil {
		return 0, at, err
	}
	name, err := unix.Getsockname(fd)
	return fd, address(name), err
}

// Connect opens a connection from the calling thread's namespace; source port 0
// is any.
func Connect(to netip.AddrPort, source uint16) (fd int, err error) {
	fd, err = socket(to.Addr())
	if err != nil {
		return 0, err
	}
	if source != 0 {
		own := netip.IPv4Unspecified()
		if to.Addr().Is6() {
			own = netip.IPv6Unspecified()
		}
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(own, source)))
	}
	if err == nil {
		_, err = again(func() (int, error) { return 0, unix.Connect(fd, sockaddr(to)) })
	}
	if err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("connect to %s: %w", to, err)
	}
	return fd, nil
}

// again repeats a call that a signal cut short: those on sockets with a time
// limit are not begun again by the kernel (signal(7)).
func again(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func read(fd int, b []byte) (int, error) {
	return again(func() (int, error) { return unix.Read(fd, b) })
}
func write(fd int, b []byte) (int, error) {
	return again(func() (int, error) { return unix.Write(fd, b) })
}

// accept waits for a connection for as long as it takes.
func accept(l int) (fd int, from netip.AddrPort, err error) {
	var s unix.Sockaddr
	fd, err = again(func() (c int, err error) {
		if c, s, err = unix.Accept4(l, unix.SOCK_CLOEXEC); errors.Is(err, unix.EAGAIN) {
			err = unix.EINTR
		}
		return c, err
	})
	if err != nil {
		return 0, from, fmt.Errorf("accept: %w", err)
	}
	return fd, address(s), nil
}

func socket(like netip.Addr) (int, error) {
	domain := unix.AF_INET
	if like.Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	return fd, errors.Join(
		unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, Congestion),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func address(s unix.Sockaddr) netip.AddrPort {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), uint16(s.Port))
	default:
		return netip.AddrPort{}
	}
}
