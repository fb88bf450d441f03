package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/netns"
)

// idleConnections stay open, and silent, while something happens to the network.
const idleConnections = 1000

// patience bounds every step of the traffic; nothing here is measured.
const patience = 30 * time.Second

// listen opens a TCP listener inside the namespace at path.
func listen(t *testing.T, path, address string) net.Listener {
	t.Helper()
	var l net.Listener
	if err := netns.Do(path, func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dial connects from inside the namespace at path to a listener.
func dial(t *testing.T, path string, to net.Listener) (near, far net.Conn) {
	t.Helper()
	err := netns.Do(path, func() (err error) {
		near, err = net.DialTimeout("tcp", to.Addr().String(), patience)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if far, err = to.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// A stream is bytes that follow a pattern, from one end of a connection to the
// other, until it is told to stop.
type stream struct {
	stop    chan struct{}
	sent    chan int64
	ended   chan error // what reading came to
	arrived atomic.Int64
}

var pattern = bytes.Repeat([]byte("all's well and every byte is in its place; "), 1<<10)

// startStream sends as fast as it can.
func startStream(near, far net.Conn) *stream { return pacedStream(near, far, 0) }

// pacedStream rests after each 43 KiB, to leave the machine to others.
func pacedStream(near, far net.Conn, rest time.Duration) *stream {
	s := &stream{stop: make(chan struct{}), sent: make(chan int64, 1), ended: make(chan error, 1)}
	go s.write(near, rest)
	go s.read(far)
	return s
}

func (s *stream) write(c net.Conn, rest time.Duration) {
	var n int64
	defer func() { s.sent <- n }()
	for {
		select {
		case <-s.stop:
			_ = c.(*net.TCPConn).CloseWrite() // the reader says what is missing
			return
		default:
		}
		k, err := c.Write(pattern)
		n += int64(k)
		if err != nil {
			return
		}
		time.Sleep(rest)
	}
}

func (s *stream) read(c net.Conn) {
	block := make([]byte, len(pattern))
	for {
		k, err := io.ReadFull(c, block)
		n := s.arrived.Add(int64(k))
		switch {
		case !bytes.Equal(block[:k], pattern[:k]):
			s.ended <- fmt.Errorf("a byte between %d and %d is not what was sent", n-int64(k), n)
			return
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			s.ended <- nil
			return
		case err != nil:
			s.ended <- err
			return
		}
	}
}

// flow waits until so many more bytes have arrived.
func (s *stream) flow(t *testing.T, bytes int64) {
	t.Helper()
	want := s.arrived.Load() + bytes
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for s.arrived.Load() < want {
		select {
		case <-tick.C:
		case err := <-s.ended:
			t.Fatalf("the stream ended: %v", err)
		case <-timeout:
			t.Fatal("the stream stands still")
		}
	}
}

// end stops the stream and checks that what was sent has arrived.
func (s *stream) end(t *testing.T) {
	t.Helper()
	close(s.stop)
	sent := <-s.sent
	if err := <-s.ended; err != nil {
		t.Fatal(err)
	}
	if arrived := s.arrived.Load(); arrived != sent {
		t.Errorf("%d bytes sent, %d arrived", sent, arrived)
	}
}

// idle are the ends of connections on which nothing is said.
type idle [][2]net.Conn

func idleBetween(t *testing.T, path string, to net.Listener, n int) idle {
	t.Helper()
	out := make(idle, n)
	for i := range out {
		near, far := dial(t, path, to)
		out[i] = [2]net.Conn{near, far}
	}
	return out
}

// speak passes one byte each way on every connection.
func (all idle) speak(t *testing.T) {
	t.Helper()
	for i, c := range all {
		for _, way := range [][2]net.Conn{{c[0], c[1]}, {c[1], c[0]}} {
			if err := pass(way[0], way[1]); err != nil {
				t.Fatalf("idle connection %d: %v", i, err)
			}
		}
	}
}

func pass(from, to net.Conn) error {
	if _, err := from.Write([]byte{42}); err != nil {
		return err
	}
	if err := to.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := to.Read(make([]byte, 1))
	return err
}
