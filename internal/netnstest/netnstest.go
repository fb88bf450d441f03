// Package netnstest makes hosts and wires out of network namespaces, for tests
// and benchmarks on the real kernel.
//
// Every host has a name of its own, so that tests run side by side, and goes
// when the test ends. Hosts of a test that was killed are removed by the next.
package netnstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
)

// T is what this package needs of a test; a benchmark program can be one.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// A Host is one network namespace.
type Host struct {
	Name string
	Path string
	t    T
}

const prefix = "fairlead-test-"

var (
	count atomic.Int64
	sweep sync.Once
)

// New makes an empty host with its loopback up, gone when t ends.
func New(t T) *Host {
	t.Helper()
	sweep.Do(removeOrphans)
	h := &Host{Name: fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), count.Add(1)), t: t}
	h.Path = netns.Path(h.Name)
	if err := netns.New(h.Name); err != nil {
		t.Fatalf("kernel tests need root: %v", err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(h.Path); err != nil {
			t.Fatalf("%v", err)
		}
	})
	h.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	// Without a link-local address, which duplicate address detection holds back
	// for a second or two, a router asks nobody for its neighbours.
	h.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	return h
}

// removeOrphans removes the hosts of tests whose process is gone.
func removeOrphans() {
	paths, _ := filepath.Glob(netns.Path(prefix + "*"))
	for _, path := range paths {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), prefix), "-")
		if _, err := strconv.Atoi(pid); err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); os.IsNotExist(err) {
			_ = netns.Delete(path) // another test may be quicker
		}
	}
}

// Do runs f on a thread inside h and ends the test if it fails.
func (h *Host) Do(f func() error) {
	h.t.Helper()
	if err := netns.Do(h.Path, f); err != nil {
		h.t.Fatalf("%s: %v", h.Name, err)
	}
}

// Wire connects a and b with a veth pair whose ends have the given names.
func Wire(a *Host, nameA string, b *Host, nameB string) {
	a.t.Helper()
	far, err := os.Open(b.Path)
	if err != nil {
		a.t.Fatalf("%v", err)
	}
	defer far.Close()
	a.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA, MTU: 1500},
			PeerName: nameB, PeerMTU: 1500, PeerNamespace: netlink.NsFd(int(far.Fd()))})
	})
	a.up(nameA)
	b.up(nameB)
}

func (h *Host) up(name string) {
	h.t.Helper()
	h.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	})
}

// Address gives an interface addresses, usable at once.
func (h *Host) Address(link string, addresses ...string) {
	h.t.Helper()
	h.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		for _, s := range addresses {
			p := netip.MustParsePrefix(s)
			a := &netlink.Addr{IPNet: ipNet(p)}
			if p.Addr().Is6() {
				a.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				return fmt.Errorf("address %s: %w", s, err)
			}
		}
		return nil
	})
}

// Route leads to dst by way of via, or directly through the named link.
func (h *Host) Route(dst, viaOrLink string) {
	h.t.Helper()
	h.Do(func() error {
		r := &netlink.Route{Dst: ipNet(netip.MustParsePrefix(dst))}
		if via, err := netip.ParseAddr(viaOrLink); err == nil {
			r.Gw = via.AsSlice()
		} else {
			l, err := netlink.LinkByName(viaOrLink)
			if err != nil {
				return err
			}
			r.LinkIndex = l.Attrs().Index
		}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("route %s by %s: %w", dst, viaOrLink, err)
		}
		return nil
	})
}

// Sysctl sets kernel settings: "net/ipv4/ip_forward", "1", and so on.
func (h *Host) Sysctl(pairs ...string) {
	h.t.Helper()
	h.Do(func() error {
		for i := 0; i+1 < len(pairs); i += 2 {
			if err := sysctl.Apply(sysctl.Setting{Key: pairs[i], Value: pairs[i+1]}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Start starts cmd inside h; it is killed when the test ends.
func (h *Host) Start(cmd *exec.Cmd) {
	h.t.Helper()
	cmd.WaitDelay = outputPatience
	if err := netns.Start(h.Path, cmd); err != nil {
		h.t.Fatalf("%s: %v", cmd, err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
	})
}

const (
	runPatience    = 2 * time.Minute // bounds a program of a test
	outputPatience = 5 * time.Second // and what it left behind, who may hold its output open
)

// Run runs a program inside h and returns what it printed.
func (h *Host) Run(name string, args ...string) string {
	h.t.Helper()
	var out []byte
	ctx, cancel := context.WithTimeoutCause(context.Background(), runPatience, fmt.Errorf("it did not end within %s", runPatience))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = outputPatience
	if err := netns.Do(h.Path, func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		h.t.Fatalf("%s: %v\n%s", cmd, errors.Join(err, context.Cause(ctx)), out)
	}
	return string(out)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
