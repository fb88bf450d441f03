package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// tracked is a host whose loopback is tracked.
func tracked(t *testing.T) *netnstest.Host {
	h := netnstest.New(t)
	h.Run("nft", "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new accept")
	return h
}

// A hearing reads events of one listening socket.
type hearing struct {
	*Events
	began []Entry
}

// until reads events until one that is not a beginning, of what began first, is
// wanted.
func (h *hearing) until(wanted func(*Event) bool) error {
	h.began = nil
	for done := false; !done; {
		err := h.Read(func(v *Event) bool {
			if v.Turn == Began {
				h.began = append(h.began, v.Entry)
			}
			done = v.Turn != Began && len(h.began) > 0 && v.Original == h.began[0].Original && wanted(v)
			return !done
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func TestEventsTellOfConnectionsThatBegin(t *testing.T) {
	t.Parallel()
	h := tracked(t)
	h.Do(func() error {
		e, err := OpenEvents(10 * time.Second)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		connect := func() error { // one that nobody accepts, and goes
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			return c.Close()
		}
		if err := errors.Join(connect(), e.Listen(), connect()); err != nil { // the first is not heard
			return err
		}
		heard := &hearing{Events: e}
		err = heard.until(func(v *Event) bool { return v.TCPState == SynReceived && v.Status&SeenReply != 0 })
		if err != nil {
			return err
		}
		if b := heard.began; len(b) != 1 || b[0].Protocol != unix.IPPROTO_TCP || b[0].Original.Destination.String() != l.Addr().String() {
			t.Errorf("what began is %+v, and somebody listens at %s", b, l.Addr())
		}
		// What happens meanwhile is not heard later.
		if err := errors.Join(e.Ignore(), connect(), e.Listen(), l.Close()); err != nil {
			return err
		}
		if err := connect(); !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("a port without a listener answers: %w", err)
		}
		// A reset that is the first answer ends it.
		if err := heard.until(func(v *Event) bool { return v.Turn == Ended }); err != nil {
			return err
		}
		if len(heard.began) != 1 {
			t.Errorf("what began is %+v", heard.began)
		}
		return e.Close()
	})
}

func TestEventsThatAreNotReadAreNotMissedInSilence(t *testing.T) {
	t.Parallel()
	h := tracked(t)
	h.Do(func() error {
		e, err := OpenEvents(10 * time.Second)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1), e.Listen()); err != nil {
			return err
		}
		for range 100 {
			c, err := net.Dial("udp", "127.0.0.1:9")
			if err != nil {
				return err
			}
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			if err := c.Close(); err != nil {
				return err
			}
		}
		for err == nil {
			err = e.Read(func(*Event) bool { return true })
		}
		if !errors.Is(err, ErrOverrun) {
			t.Errorf("the error is %v", err)
		}
		return e.Close()
	})
}

// Whatever comes by the socket, what is told has both tuples.
func FuzzEvents(f *testing.F) {
	message := make([]byte, netlinkHeader+netfilterHeader)
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	binary.NativeEndian.PutUint16(message[4:], unix.NFNL_SUBSYS_CTNETLINK<<8|msgDelete)
	f.Add(message)
	f.Fuzz(func(_ *testing.T, b []byte) {
		var e Event
		_, _ = e.each(b, func(e *Event) bool {
			if !e.Original.Source.IsValid() || !e.Reply.Destination.IsValid() || e.Turn > Ended {
				panic(e)
			}
			return true
		})
	})
}
