package echo

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

// inNamespace runs f beside a server, alone in a namespace whose loopback has
// further addresses.
func inNamespace(t *testing.T, f func(ctx context.Context)) {
	t.Helper()
	err := netns.Scratch(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, a := range []string{"192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128", "2001:db8::2/128"} {
			parsed, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			parsed.Flags = unix.IFA_F_NODAD // else it is no source until that is done, some time after the link is up
			if err := netlink.AddrAdd(lo, parsed); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		l, err := Default.listen(ctx) // on this thread; serving may be on any
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() { done <- l.serve(ctx) }()
		f(ctx)
		cancel()
		return <-done
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPeersAreToldWhoTheyAre(t *testing.T) {
	inNamespace(t, func(ctx context.Context) {
		for _, q := range []Question{
			{"tcp", "192.0.2.1:8080", 5001}, {"udp", "192.0.2.2:8080", 5002},
			{"tcp", "[2001:db8::1]:8080", 5003}, {"udp", "[2001:db8::2]:8080", 5004},
		} {
			seen, err := Ask(ctx, q)
			if err != nil {
				t.Errorf("%+v: %v", q, err)
				continue
			}
			// From loopback the kernel asks with the address it asks for.
			to := netip.MustParseAddrPort(q.Server)
			if want := netip.AddrPortFrom(to.Addr(), uint16(q.SourcePort)).String(); seen != want {
				t.Errorf("%+v: seen as %s, want %s", q, seen, want)
			}
		}
	})
}

func TestTCPEchoesWhatItIsSent(t *testing.T) {
	inNamespace(t, func(context.Context) {
		c, err := net.Dial("tcp", "127.0.0.1:8080")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil || line != c.LocalAddr().String()+"\n" {
			t.Errorf("greeting %q, %v", line, err)
		}
		if _, err := c.Write([]byte("ahoy\n")); err != nil {
			t.Fatal(err)
		}
		if line, err := r.ReadString('\n'); err != nil || line != "ahoy\n" {
			t.Errorf("echo %q, %v", line, err)
		}
	})
}

func TestNobodyThereIsAnError(t *testing.T) {
	inNamespace(t, func(ctx context.Context) {
		if _, err := Ask(ctx, Question{Protocol: "tcp", Server: "192.0.2.1:9"}); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("tcp: %v", err)
		}
		if _, err := Ask(ctx, Question{Protocol: "carrier pigeon", Server: "192.0.2.1:9"}); err == nil {
			t.Error("a protocol that there is not was spoken")
		}
	})
}
