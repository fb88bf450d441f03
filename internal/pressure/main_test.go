package pressure_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// clientVariable makes the test binary a client: a process of its own, since one
// may not have as many sockets as a test needs.
const clientVariable = "FAIRLEAD_TEST_CLIENT"

func TestMain(m *testing.M) {
	if to := os.Getenv(clientVariable); to != "" {
		os.Exit(runClient(to))
	}
	os.Exit(m.Run())
}

// patience is how long a connection may take. By then the kernel has not sent its
// SYN again (RFC 6298 section 2: 1 s), if the machine is not too busy; if it is,
// that is counted.
const patience = 900 * time.Millisecond

// outcome is what became of a client's connections.
type outcome struct {
	Opened       int
	TimedOut     int
	LostSYNs     int       // one of each connection that timed out, and those that were sent again
	FirstFailure time.Time // zero: none timed out
	Took         time.Duration
}

// A call is a connection that is not there yet.
type call struct {
	fd    int
	begun time.Time
}

// runClient opens as many connections as its first argument says, at the rate
// that the second says, and holds them until its input ends.
func runClient(to string) int {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return fail(err)
	}
	rate, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return fail(err)
	}
	o, err := openAll(sockaddr(netip.MustParseAddrPort(to)), n, rate)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(o)
	}
	if err != nil {
		return fail(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test is over
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func socket(to unix.Sockaddr, flags int) (int, error) {
	family := unix.AF_INET
	if _, six := to.(*unix.SockaddrInet6); six {
		family = unix.AF_INET6
	}
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
}

// sweep is how often a client looks for answers.
const sweep = 20 * time.Millisecond

func openAll(to unix.Sockaddr, n, rate int) (o outcome, err error) {
	began := time.Now()
	swept := began
	var calls []call
	for begun := 0; begun < n || len(calls) > 0; {
		now := time.Now()
		if ahead := time.Duration(begun)*time.Second/time.Duration(rate) - now.Sub(began); begun == n || ahead > 0 {
			time.Sleep(time.Millisecond)
		} else {
			c, err := begin(to)
			if err != nil {
				return o, err
			}
			calls, begun = append(calls, c), begun+1
		}
		if now.Sub(swept) >= sweep {
			if calls, err = o.answered(calls); err != nil {
				return o, err
			}
			swept = time.Now()
		}
	}
	o.Took = time.Since(began)
	return o, nil
}

func begin(to unix.Sockaddr) (c call, err error) {
	c.begun = time.Now()
	if c.fd, err = socket(to, unix.SOCK_NONBLOCK); err != nil {
		return c, err
	}
	if err := unix.Connect(c.fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return c, err
	}
	return c, nil
}

// answered returns the calls that wait on.
func (o *outcome) answered(calls []call) (left []call, err error) {
	for _, c := range calls {
		info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return nil, err
		}
		switch {
		case info.State == unix.BPF_TCP_ESTABLISHED:
			o.Opened++
			o.LostSYNs += int(info.Total_retrans)
		case info.State != unix.BPF_TCP_SYN_SENT:
			return nil, fmt.Errorf("a connection is in state %d", info.State)
		case time.Since(c.begun) < patience:
			left = append(left, c)
		default:
			o.TimedOut++
			o.LostSYNs += 1 + int(info.Total_retrans)
			if o.FirstFailure.IsZero() {
				o.FirstFailure = time.Now()
			}
			if err := unix.Close(c.fd); err != nil {
				return nil, err
			}
		}
	}
	return left, nil
}

// flood is connections to one address.
type flood struct {
	to   netip.AddrPort
	each int // from each host
	rate int // a second, from each host
}

// open has a client in each host open connections, and returns what became of
// them all. They stay open until the test ends.
func open(t *testing.T, hosts []*netnstest.Host, f flood) (all outcome) {
	t.Helper()
	outcomes := make(chan *json.Decoder, len(hosts))
	for _, h := range hosts {
		cmd := exec.Command("/proc/self/exe", strconv.Itoa(f.each), strconv.Itoa(f.rate))
		cmd.Env = append(os.Environ(), clientVariable+"="+f.to.String())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		h.Start(cmd)
		outcomes <- json.NewDecoder(out)
	}
	for range hosts {
		var o outcome
		if err := (<-outcomes).Decode(&o); err != nil {
			t.Fatal(err)
		}
		all.Opened += o.Opened
		all.TimedOut += o.TimedOut
		all.LostSYNs += o.LostSYNs
		all.Took = max(all.Took, o.Took)
		if all.FirstFailure.IsZero() || !o.FirstFailure.IsZero() && o.FirstFailure.Before(all.FirstFailure) {
			all.FirstFailure = o.FirstFailure
		}
	}
	return all
}
