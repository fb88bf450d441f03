// Package echo is a small server that tells its peers the address and port they
// come from, over TCP, UDP and HTTP, and the client that asks it.
package echo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A Server is the addresses to listen on, each HOST:PORT or :PORT.
type Server struct{ TCP, UDP, HTTP []string }

// Default listens on all addresses of both families.
var Default = Server{TCP: []string{":8080"}, UDP: []string{":8080"}, HTTP: []string{":80"}}

// Run serves until ctx is done or an address cannot be listened on. It calls
// ready when it listens everywhere.
func (s Server) Run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := s.listen(ctx)
	if err != nil {
		return err
	}
	ready()
	return l.serve(ctx)
}

// listeners are things that serve until their context is done.
type listeners []func() error

// listen listens on every address of s, in the calling thread's namespace.
func (s Server) listen(ctx context.Context) (listeners, error) {
	var out listeners
	for _, p := range []struct {
		listen    func(context.Context, string) (func() error, error)
		addresses []string
	}{{listenTCP, s.TCP}, {listenUDP, s.UDP}, {listenHTTP, s.HTTP}} {
		for _, a := range p.addresses {
			serve, err := p.listen(ctx, a)
			if err != nil {
				return nil, err
			}
			out = append(out, serve)
		}
	}
	return out, nil
}

func (l listeners) serve(ctx context.Context) error {
	failed := make(chan error, len(l))
	for _, serve := range l {
		go func() { failed <- serve() }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
}

// Line is what a peer is told.
func Line(peer net.Addr) string {
	p, err := netip.ParseAddrPort(peer.String())
	if err != nil {
		return peer.String() + "\n"
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()).String() + "\n"
}

func listenTCP(ctx context.Context, address string) (func() error, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	return func() error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go answer(c)
		}
	}, nil
}

// answer tells the peer who it is and then sends back what it sends.
func answer(c net.Conn) {
	defer c.Close()
	if _, err := io.WriteString(c, Line(c.RemoteAddr())); err != nil {
		return // the peer has gone
	}
	_, _ = io.Copy(c, c)
}

func listenHTTP(ctx context.Context, address string) (func() error, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, err := netip.ParseAddrPort(r.RemoteAddr)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, Line(net.TCPAddrFromAddrPort(peer)))
		}),
	}
	context.AfterFunc(ctx, func() { server.Close() })
	return func() error { return server.Serve(l) }, nil
}

func listenUDP(ctx context.Context, address string) (func() error, error) {
	p, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	c := p.(*net.UDPConn)
	if err := askWhereTo(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	return func() error {
		datagram, control := make([]byte, 1<<16), make([]byte, 256)
		for {
			_, n, _, peer, err := c.ReadMsgUDPAddrPort(datagram, control)
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			if err != nil {
				continue // an ICMP error about an earlier answer
			}
			line := Line(net.UDPAddrFromAddrPort(peer))
			_, _, _ = c.WriteMsgUDPAddrPort([]byte(line), from(control[:n]), peer) // a peer may be unreachable
		}
	}, nil
}

// askWhereTo has the kernel say which address a datagram was sent to: the
// answer must come from there. It serves both families (ip(7), ipv6(7)).
func askWhereTo(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Control(func(fd uintptr) {
		e6 := unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		e4 := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		if e6 != nil {
			err = e4 // a socket of IPv4 only
		}
	})
	if err != nil {
		return fmt.Errorf("ask for packet info: %w", err)
	}
	return nil
}

// from turns "it was sent to this address of mine" into "send it from this
// address of mine", by whatever interface leads there.
func from(control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 20:
			info := unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])}
			return unix.PktInfo6(&info)
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			info := unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[8:12])}
			return unix.PktInfo4(&info)
		}
	}
	return nil
}
