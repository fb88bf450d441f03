package echo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Question is whom to ask, and how.
type Question struct {
	Protocol   string // tcp, udp or http
	Server     string // ADDR:PORT
	SourcePort int    // 0: any
}

// Ask returns what the server says about the caller: its address and port.
func Ask(ctx context.Context, q Question) (string, error) {
	d := &net.Dialer{Control: reuse}
	switch q.Protocol {
	case "tcp", "http":
		d.LocalAddr = &net.TCPAddr{Port: q.SourcePort}
	case "udp":
		d.LocalAddr = &net.UDPAddr{Port: q.SourcePort}
	default:
		return "", fmt.Errorf("protocol %q: use tcp, udp or http", q.Protocol)
	}
	if q.Protocol == "http" {
		return askHTTP(ctx, d, q.Server)
	}
	c, err := d.DialContext(ctx, q.Protocol, q.Server)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if q.Protocol == "udp" {
		if _, err := io.WriteString(c, "?\n"); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(io.LimitReader(c, 1<<10)).ReadString('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// reuse lets a fixed source port be used again while the last connection from
// it is still remembered.
func reuse(_, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

func askHTTP(ctx context.Context, d *net.Dialer, server string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server+"/", nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", server, response.Status)
	}
	return strings.TrimSpace(string(body)), nil
}
