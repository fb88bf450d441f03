package main

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
)

// serve answers every byte and every datagram with itself until ctx is done.
func serve(ctx context.Context, address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() {
		l.Close()
		u.Close()
	})()
	if err := patient(u); err != nil {
		return err
	}
	go echoDatagrams(u)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // the client tells what broke
		}()
	}
}

// patient gives a socket a buffer that holds what comes while its process has to
// wait for seconds on a busy machine: what it then loses is not the network's
// loss.
func patient(u any) error {
	raw, err := u.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 16<<20)
	})
	return errors.Join(err, set)
}

func echoDatagrams(u net.PacketConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := u.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = u.WriteTo(buf[:n], from) // a lost answer is what the client counts
		}
	}
}
