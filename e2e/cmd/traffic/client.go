package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// A Report is what a client saw.
type Report struct {
	Connections  int           // that were opened
	Broken       []string      // why one ended before its time, or failed to answer in the end
	StreamBytes  int64         // that came back as they were sent
	StreamBroken string        // "": it flowed to the end
	StreamStall  time.Duration // the longest time without a byte
	Sent         int           // datagrams
	Lost         int           // that never came back
	LostInARow   int
}

// Idle connections say something now and then, so that a lost one is noticed.
const (
	chatEvery     = 2 * time.Second
	datagramEvery = 5 * time.Millisecond
	answerWithin  = 5 * time.Second // after the end, for what is still on its way
	chunk         = 16 << 10
	pause         = 5 * time.Millisecond // between chunks
)

// drive opens n connections, streams and sends datagrams until ctx is done.
func drive(ctx context.Context, to string, n int) (*Report, error) {
	r := &Report{Connections: n, Broken: []string{}}
	idle := make([]net.Conn, n)
	for i := range idle {
		c, err := net.DialTimeout("tcp", to, answerWithin)
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		defer c.Close()
		idle[i] = c
	}
	stream, err := net.DialTimeout("tcp", to, answerWithin)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	datagrams, err := net.Dial("udp", to)
	if err != nil {
		return nil, err
	}
	defer datagrams.Close()
	if err := patient(datagrams); err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "flowing")
	var all sync.WaitGroup
	all.Go(func() { r.chat(ctx, idle) })
	all.Go(func() { r.flow(ctx, stream) })
	all.Go(func() { r.count(ctx, datagrams) })
	all.Wait()
	return r, nil
}

// chat has every connection answer one byte every so often, and once at the end.
func (r *Report) chat(ctx context.Context, idle []net.Conn) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, c := range idle {
		all.Go(func() {
			one := []byte{byte(i)}
			for last := false; !last; {
				select {
				case <-ctx.Done():
					last = true
				case <-time.After(chatEvery/2 + rand.N(chatEvery)):
				}
				if err := ask(c, one); err != nil {
					mu.Lock()
					r.Broken = append(r.Broken, fmt.Sprintf("%s: %v", c.LocalAddr(), err))
					mu.Unlock()
					return
				}
			}
		})
	}
	all.Wait()
}

func ask(c net.Conn, b []byte) error {
	// Minutes: TCP itself decides when a connection is lost.
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("sent %x, got %x", b, got)
	}
	return nil
}

// flow sends what a seeded generator makes, and compares what comes back.
func (r *Report) flow(ctx context.Context, c net.Conn) {
	sent := rand.NewChaCha8([32]byte{1})
	written := make(chan error, 1)
	go func() {
		buf := make([]byte, chunk)
		for ctx.Err() == nil {
			_, _ = sent.Read(buf)
			if _, err := c.Write(buf); err != nil {
				written <- err
				return
			}
			time.Sleep(pause) // a stream beside others, not a flood, which two processors would have to carry twice
		}
		written <- c.(*net.TCPConn).CloseWrite()
	}()
	err := r.compare(c)
	if werr := <-written; werr != nil && !errors.Is(err, io.EOF) {
		err = errors.Join(err, werr)
	}
	if !errors.Is(err, io.EOF) || r.StreamBytes%chunk != 0 {
		r.StreamBroken = fmt.Sprint(err)
	}
}

func (r *Report) compare(c net.Conn) error {
	expected := rand.NewChaCha8([32]byte{1})
	got, want := make([]byte, chunk), make([]byte, chunk)
	for {
		began := time.Now()
		if err := c.SetReadDeadline(began.Add(2 * time.Minute)); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
		r.StreamStall = max(r.StreamStall, time.Since(began))
		_, _ = expected.Read(want)
		if !bytes.Equal(got, want) {
			return fmt.Errorf("bytes after %d are not those that were sent", r.StreamBytes)
		}
		r.StreamBytes += chunk
	}
}

// count sends numbered datagrams and counts those that do not come back.
func (r *Report) count(ctx context.Context, c net.Conn) {
	back := make(map[uint32]bool)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64)
		for {
			n, err := c.Read(buf)
			if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if err == nil && n == 4 {
				back[binary.BigEndian.Uint32(buf)] = true
			}
		}
	}()
	tick := time.NewTicker(datagramEvery)
	defer tick.Stop()
	var number uint32
	for ctx.Err() == nil {
		<-tick.C
		if _, err := c.Write(binary.BigEndian.AppendUint32(nil, number)); err == nil {
			number++
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second)) // fails only on a closed connection
	<-done
	row := 0
	for i := range number {
		if back[i] {
			row = 0
			continue
		}
		r.Lost++
		row++
		r.LostInARow = max(r.LostInARow, row)
	}
	r.Sent = int(number)
}
