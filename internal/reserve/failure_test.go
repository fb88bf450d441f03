package reserve_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// sockets are the descriptors of those that this process has open.
func sockets(t *testing.T) map[int]bool {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]bool{}
	for _, f := range open {
		if is, _ := os.Readlink("/proc/self/fd/" + f.Name()); strings.HasPrefix(is, "socket:") {
			fd, err := strconv.Atoi(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			out[fd] = true
		}
	}
	return out
}

// faulty is a keeper with faults, on a node of its own.
func faulty(t *testing.T, f *reserve.Faults) *scene {
	s := &scene{t: t, node: netnstest.New(t), k: reserve.NewFaulty(f)}
	t.Cleanup(func() {
		if err := s.k.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tcp(numbers ...uint16) (out []world.Port) {
	for _, n := range numbers {
		out = append(out, world.Port{Protocol: unix.IPPROTO_TCP, Number: n})
	}
	return out
}

// A descriptor is freed when close fails, and may be another file's by the time
// that somebody tries again.
func TestACloseThatFailedFreesNobodyElsesDescriptor(t *testing.T) {
	var theirs *os.File
	f := &reserve.Faults{Close: func(fd int) error {
		_ = unix.Close(fd)
		var err error
		if theirs, err = os.Open("."); err != nil || theirs.Fd() != uintptr(fd) {
			t.Fatalf("the number is not used again: %v, %v", theirs, err)
		}
		return unix.EIO
	}}
	s := faulty(t, f)
	s.reserved(tcp(number)...)
	s.reserved() // gone, and nothing that remains to be done
	f.Close = nil
	s.reserved(tcp(number)...)
	s.reserved()
	if _, err := theirs.Stat(); err != nil {
		t.Errorf("somebody else's file was closed: %v", err)
	}
	theirs.Close()
}

// A mapping goes whether or not its socket does, and may come back meanwhile.
func TestAPortThatCannotBeReleasedIsTriedAgain(t *testing.T) {
	stuck := func(int) error { return unix.EINTR }
	f := &reserve.Faults{Close: stuck}
	s := faulty(t, f)
	two := tcp(number, number+1)
	s.reserved(two...)
	left := reserve.Held{Reserved: 1, Unreleased: []reserve.Failure{{Port: two[0], Why: "interrupted system call"}}}
	for range 3 {
		if h := s.hold(two[1]); !h.Equal(left) {
			t.Fatalf("%+v, want %+v", h, left)
		}
	}
	if err := s.k.Close(); err == nil || !strings.HasPrefix(err.Error(), "2 ports are not released, the first is 61000/tcp: ") {
		t.Errorf("Close: %v", err)
	}
	s.reserved(two...)
	f.Close = nil
	s.reserved(two[1])
	for range 2 {
		if err := s.k.Close(); err != nil || len(s.k.Ports()) != 0 {
			t.Fatalf("Close: %v, and it holds %v", err, s.k.Ports())
		}
	}
}

func failed(all ...reserve.Failure) sorted.List[reserve.Failure] {
	return sorted.Of(all, reserve.Failure.Compare)
}

// Mappings past the limit stay, and get their sockets as others go. How many have
// one is known to a few: entering a namespace takes descriptors too.
func TestDescriptorsAreLeftForTheAgent(t *testing.T) {
	next, err := os.Open(".") // the descriptors below its own are in use
	if err != nil {
		t.Fatal(err)
	}
	next.Close()
	s := faulty(t, &reserve.Faults{Spared: int(next.Fd()) + 100})
	var want []world.Port
	for i := range uint16(200) {
		want = append(want, tcp(i+1)...)
	}
	for _, gone := range []int{0, 0, 50} {
		h := s.hold(want[gone:]...)
		if h.Reserved < 70 || h.Reserved > 110 || h.Reserved+h.Unreserved.Len() != len(want)-gone {
			t.Fatalf("without %d: %d are reserved and %d not", gone, h.Reserved, h.Unreserved.Len())
		}
		for i, f := range h.Unreserved.Slice() {
			if want := (reserve.Failure{Port: want[gone+h.Reserved+i], Why: reserve.NoDescriptors}); f != want {
				t.Errorf("%+v, want %+v", f, want)
			}
		}
	}
	s.reserved(want[150:]...)
}

// The limit is a process's: this one gets a low one.
func TestTheLimitOfDescriptors(t *testing.T) {
	if os.Getenv("LOW_LIMIT") != "" {
		s := faulty(t, &reserve.Faults{})
		var want []world.Port
		for i := range uint16(1000) {
			want = append(want, tcp(i+1)...)
		}
		h := s.hold(want...)
		if n := h.Unreserved.Len(); h.Reserved < 400 || h.Reserved > 500 || h.Reserved+n != len(want) || h.Unreserved.Slice()[n-1].Why != reserve.NoDescriptors {
			t.Errorf("%d are reserved and %d not", h.Reserved, n)
		}
		for range 400 { // the agent's own work
			f, err := os.Open(".")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		return
	}
	self := exec.Command("sh", "-c", "ulimit -n 1000; exec "+os.Args[0]+" -test.run='^TestTheLimitOfDescriptors$' -test.v")
	self.Env = append(os.Environ(), "LOW_LIMIT=1")
	if out, err := self.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// An agent that was killed leaves nothing behind for the next to wait for.
func TestPortsOfAKilledProcessAreFreeAtOnce(t *testing.T) {
	var want []world.Port
	for i := range uint16(300) {
		for _, ipv6 := range []bool{false, true} {
			want = append(want, world.Port{IPv6: ipv6, Protocol: unix.IPPROTO_TCP, Number: i + 1}, world.Port{IPv6: ipv6, Protocol: unix.IPPROTO_UDP, Number: i + 1})
		}
	}
	slices.SortFunc(want, world.Port.Compare)
	if os.Getenv("HOLD_AND_DIE") != "" {
		fmt.Println(reserve.New().Hold(sorted.Of(want, world.Port.Compare)).Reserved)
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	s := faulty(t, &reserve.Faults{})
	for range 10 {
		agent := exec.Command(os.Args[0], "-test.run=^TestPortsOfAKilledProcessAreFreeAtOnce$")
		agent.Env = append(os.Environ(), "HOLD_AND_DIE=1")
		var out []byte
		s.node.Do(func() error { out, _ = agent.Output(); return nil })
		if got := strings.TrimSpace(string(out)); got != fmt.Sprint(len(want)) || agent.ProcessState.ExitCode() != -1 {
			t.Fatalf("it held %q of %d ports and ended with %s", got, len(want), agent.ProcessState)
		}
		s.reserved(want...)
		s.reserved()
	}
}

// What the kernel lacks is asked for once in a call: asking costs it a search for a
// module.
func TestProtocolsThatTheKernelLacks(t *testing.T) {
	asked := 0
	f := &reserve.Faults{Socket: func(p world.Port) error {
		switch {
		case p.Protocol == unix.IPPROTO_SCTP:
			asked++
			return unix.EPROTONOSUPPORT
		case p.IPv6:
			return unix.EAFNOSUPPORT
		}
		return nil
	}}
	want := []world.Port{{Protocol: unix.IPPROTO_SCTP, Number: 1}, {Protocol: unix.IPPROTO_TCP, Number: 2}, {Protocol: unix.IPPROTO_SCTP, Number: 3}, {IPv6: true, Protocol: unix.IPPROTO_UDP, Number: 4}}
	lacking := func(p world.Port) reserve.Failure { return reserve.Failure{Port: p, Why: reserve.NoSockets} }
	if h := faulty(t, f).hold(want...); !h.Equal(reserve.Held{Reserved: 1, Unreserved: failed(lacking(want[0]), lacking(want[2]), lacking(want[3]))}) || asked != 1 {
		t.Errorf("%+v, asked %d times", h, asked)
	}
	if _, err := os.Stat("/proc/sys/net/sctp"); err != nil {
		s := faulty(t, &reserve.Faults{})
		if h := s.hold(want[0]); !h.Equal(reserve.Held{Unreserved: failed(lacking(want[0]))}) {
			t.Errorf("this kernel has no SCTP: %+v", h)
		}
	}
}

// A failure that has no name of its own leaves the others alone.
func TestOtherFailures(t *testing.T) {
	f := &reserve.Faults{Bind: func(p world.Port) error {
		if p.Number == 2 {
			return unix.EACCES
		}
		return nil
	}}
	if h := faulty(t, f).hold(tcp(1, 2, 3)...); !h.Equal(reserve.Held{Reserved: 2, Unreserved: failed(reserve.Failure{Port: tcp(2)[0], Why: "permission denied"})}) {
		t.Errorf("%+v", h)
	}
}

// Ports tells what is in the kernel, and not what should be.
func TestPortsWhoseSocketIsLostAreSeenAndBoundAnew(t *testing.T) {
	s := faulty(t, &reserve.Faults{})
	s.reserved(tcp(1)...)
	before := sockets(t)
	s.reserved(tcp(1, 2)...)
	for fd := range sockets(t) {
		if !before[fd] {
			_ = unix.Close(fd)
		}
	}
	if got := s.k.Ports(); !slices.Equal(got, tcp(1)) {
		t.Errorf("after the loss of one: %v", got)
	}
	s.reserved(tcp(1, 2)...)
}
