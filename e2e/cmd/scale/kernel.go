package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/e2e/enter"
)

// ears hear what the kernel announces of sets, and when.
type ears struct {
	conn  *netlink.Conn
	mu    sync.Mutex
	want  map[netip.Addr]time.Time
	heard []time.Duration
}

func listen(at enter.Place) (*ears, error) {
	e := &ears{want: map[netip.Addr]time.Time{}}
	err := at.Do(func() (err error) {
		e.conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	_ = e.conn.SetReadBuffer(8 << 20) // best effort: with less, more is lost
	if err := e.conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return nil, err
	}
	go e.hear()
	return e, nil
}

func (e *ears) close() { e.conn.Close() }

// expect begins to wait for an address.
func (e *ears) expect(a netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.want[a] = time.Now()
}

func (e *ears) hear() {
	for {
		messages, err := e.conn.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // what is lost is missed at the end
			return
		}
		now := time.Now()
		e.mu.Lock()
		for _, m := range messages {
			if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWSETELEM {
				continue
			}
			for a, since := range e.want {
				if bytes.Contains(m.Data, element(a)) {
					e.heard = append(e.heard, now.Sub(since))
					delete(e.want, a)
				}
			}
		}
		e.mu.Unlock()
	}
}

// took is how long each of n changes took, once all have been heard.
func (e *ears) took(n int) ([]time.Duration, error) {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		e.mu.Lock()
		out, left := e.heard, len(e.want)
		e.mu.Unlock()
		if left == 0 {
			return out, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d changes did not reach the kernel", left, n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
