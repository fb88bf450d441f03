package cni

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

var cidrs = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")}

const boot = "a-boot"

func open(t *testing.T, dir string) *Book {
	t.Helper()
	b, err := OpenBook(dir, boot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // some tests close it before
	return b
}

// reopen is what the next agent finds.
func reopen(t *testing.T, b *Book) *Book {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, b.dir)
}

func TestBookBelongsToOneAgent(t *testing.T) {
	b := open(t, t.TempDir())
	if _, err := OpenBook(b.dir, boot); err == nil || !strings.Contains(err.Error(), "an agent has "+b.dir+" open") {
		t.Errorf("a second agent opens the book: %v", err)
	}
	reopen(t, b)
}

func TestBookHonoursTheOtherTombstonesWhenOneCannotBe(t *testing.T) {
	b := open(t, t.TempDir())
	attach(t, b, "c1")
	for _, stone := range []string{"a-directory/with-something", "c1@eth0"} {
		path := filepath.Join(tombstones(b.dir), stone)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Bury(); err == nil || !strings.Contains(err.Error(), "a-directory") {
		t.Errorf("error %v does not name what is in the way", err)
	}
	if len(b.Attachments().List) != 0 {
		t.Error("the attachment outlived its tombstone")
	}
}

func request(id string) world.Attachment {
	return world.Attachment{ContainerID: id, Interface: "eth0", Netns: "/run/netns/" + id}
}

func attach(t *testing.T, b *Book, id string) []netip.Addr {
	t.Helper()
	a, err := b.Attach(request(id), "fairlead", cidrs)
	if err != nil {
		t.Fatal(err)
	}
	return a.Addresses
}

// A second interface of the network would take the pod's default route from the first.
func TestAPodHasTheNetworkOnce(t *testing.T) {
	b := open(t, t.TempDir())
	attach(t, b, "c1")
	first, second := request("c1"), request("c1")
	second.Interface = "net1"
	if a, err := b.Attach(second, "fairlead", cidrs); err == nil || !strings.Contains(err.Error(), "as eth0") {
		t.Errorf("a second interface: %v %v, want an error that names the first", a, err)
	}
	b.Detach(second.Key()) // as after every ADD that fails
	if b.Find(first.Key()) == nil {
		t.Error("the first interface went with the second")
	}
	second.Chained = true
	if _, err := b.Attach(second, "behind", nil); err != nil {
		t.Errorf("behind another plugin: %v", err)
	}
	b.Detach(first.Key())
	again := request("c1")
	again.Interface = "net2"
	if _, err := b.Attach(again, "fairlead", cidrs); err != nil {
		t.Errorf("once the first is gone: %v", err)
	}
}

func TestBookGivesEveryoneAddressesOfHisOwn(t *testing.T) {
	b := open(t, t.TempDir())
	var mu sync.Mutex
	owner := map[netip.Addr]string{}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			id := fmt.Sprintf("c%d", i)
			addrs := attach(t, b, id)
			mu.Lock()
			defer mu.Unlock()
			for j, a := range addrs {
				if owner[a] != "" {
					t.Errorf("%s belongs to %s and to %s", a, owner[a], id)
				}
				if !cidrs[j].Contains(a) || a == cidrs[j].Addr().Next() {
					t.Errorf("%s is not a pod's", a)
				}
				owner[a] = id
			}
		})
	}
	wg.Wait()
	if len(owner) != 200 {
		t.Errorf("%d addresses given, want 200", len(owner))
	}
	if pools := Pools(b.Attachments(), cidrs); pools[0].Used != 100 || pools[0].Size != 253 {
		t.Errorf("pools %+v", pools)
	}
}

func TestBookSurvivesTheAgent(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "[lab]")) // a pattern to some
	first := attach(t, b, "c1")
	b = reopen(t, b)
	if again := attach(t, b, "c1"); !slices.Equal(first, again) {
		t.Errorf("had %v, now %v", first, again)
	}
	if others := attach(t, b, "c2"); others[0] == first[0] {
		t.Errorf("%s given twice", first[0])
	}
}

func TestBookKeepsItsViewWhileNothingChanges(t *testing.T) {
	b := open(t, t.TempDir())
	attach(t, b, "c1")
	before := b.Attachments()
	attach(t, b, "c1")
	if b.Attachments() != before {
		t.Error("the same request again changed the view")
	}
	if b.Detach("c9@eth0"); b.Attachments() != before {
		t.Error("detaching a stranger changed the view")
	}
}

func TestBookWhenThePoolIsEmpty(t *testing.T) {
	b := open(t, t.TempDir())
	small := []netip.Prefix{cidrs[1], netip.MustParsePrefix("10.244.1.0/30")}
	for i, want := range []string{"", "10.244.1.0/30: no address is left"} {
		_, err := b.Attach(request(fmt.Sprintf("c%d", i)), "fairlead", small)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("pod %d: %v, want %q", i, err, want)
		}
	}
	if pools := Pools(b.Attachments(), small); pools[0].Used != 1 {
		t.Errorf("the pod that got nothing holds an address: %+v", pools)
	}
	b.Detach("c0@eth0")
	if _, err := b.Attach(request("c9"), "fairlead", small); err != nil {
		t.Errorf("after one was freed: %v", err)
	}
}

// An address that was given back rests until all others have been given.
func TestBookLetsAddressesRest(t *testing.T) {
	small := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/29")} // .2 to .6
	b := open(t, t.TempDir())
	var given []string
	for i := range 7 {
		if i == 2 {
			b = reopen(t, b)
		}
		a, err := b.Attach(request(fmt.Sprintf("c%d", i)), "fairlead", small)
		if err != nil {
			t.Fatal(err)
		}
		given = append(given, a.Addresses[0].String()[len("10.244.1."):])
		b.Detach(a.Key())
	}
	if want := []string{"2", "3", "4", "5", "6", "2", "3"}; !slices.Equal(given, want) {
		t.Errorf("given %v, want %v", given, want)
	}
}

func TestPoolsCountWhatPodsCanHave(t *testing.T) {
	for cidr, want := range map[string]int{
		"10.244.1.0/24": 253, "10.244.1.0/30": 1, "10.244.1.0/31": 0, "10.244.1.0/32": 0,
		"fd00::/120": 254, "fd00::/127": 0, "fd00::/128": 0, "fd00::/64": doctor.Countless,
	} {
		c := netip.MustParsePrefix(cidr)
		if got := poolSize(c); got != want {
			t.Errorf("%s has %d addresses, want %d", cidr, got, want)
		}
		if want > 300 {
			continue
		}
		taken := map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true}
		for range want {
			a, ok := pick(c, taken, netip.Addr{})
			if !ok || taken[a] || !c.Contains(a) {
				t.Fatalf("%s gives %s, %v", cidr, a, ok)
			}
			taken[a] = true
		}
		if a, ok := pick(c, taken, netip.Addr{}); ok {
			t.Errorf("%s gives %s when it is empty", cidr, a)
		}
	}
}

// No sandbox outlives the machine.
func TestBookForgetsWhatWasBeforeTheBoot(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	attach(t, b, "c1")
	attach(t, b, "c2")
	if err := os.WriteFile(b.record("c3@eth0"), nil, 0o600); err != nil { // as power loss leaves files
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := OpenBook(dir, "another-boot")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = after.Close() })
	if n := len(after.Attachments().List); n != 0 || after.Forgotten() != 3 {
		t.Errorf("%d attachments left, %d forgotten", n, after.Forgotten())
	}
	if pools := Pools(after.Attachments(), cidrs); pools[0].Used != 0 {
		t.Errorf("addresses stay taken: %+v", pools)
	}
}

func keys(list []*world.Attachment) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.Key())
	}
	slices.Sort(out)
	return out
}

func TestBookKeepsWhatTheRuntimeKnowsOfItsNetwork(t *testing.T) {
	b := open(t, t.TempDir())
	for id, network := range map[string]string{"c1": "fairlead", "c2": "fairlead", "c3": "other"} {
		if _, err := b.Attach(request(id), network, cidrs); err != nil {
			t.Fatal(err)
		}
	}
	struck := b.Keep("fairlead", map[string]bool{"c1@eth0": true})
	if !slices.Equal(keys(struck), []string{"c2@eth0"}) {
		t.Errorf("struck out %v", keys(struck))
	}
	if left := keys(b.Attachments().List); !slices.Equal(left, []string{"c1@eth0", "c3@eth0"}) {
		t.Errorf("left %v", left)
	}
}

// living is an attachment in a namespace that lives as long as the test.
func living(t *testing.T, id string) world.Attachment {
	t.Helper()
	a := request(id)
	a.Netns = netnstest.New(t).Path
	a.Inode = netns.Inode(a.Netns)
	return a
}

// namesAnother stands for the kernel's word in tests that have no wires.
func namesAnother(a *world.Attachment) bool { return netns.Inode(a.Netns) != a.Inode }

func TestBookCollectsWhatIsGoneAtTwoLooks(t *testing.T) {
	b := open(t, t.TempDir())
	b.Gone = namesAnother
	there, reused, gone := living(t, "there"), living(t, "reused"), living(t, "gone")
	reused.Inode++ // its path names another namespace by now
	for _, a := range []world.Attachment{there, reused, gone} {
		if _, err := b.Attach(a, "fairlead", cidrs); err != nil {
			t.Fatal(err)
		}
	}
	if err := netns.Delete(gone.Netns); err != nil {
		t.Fatal(err)
	}
	for look, want := range [][]string{nil, {"gone@eth0", "reused@eth0"}, nil} {
		if struck := b.Collect(); !slices.Equal(keys(struck), want) {
			t.Errorf("look %d: struck out %v; want %v", look, keys(struck), want)
		}
	}
	if left := keys(b.Attachments().List); !slices.Equal(left, []string{"there@eth0"}) {
		t.Errorf("left %v", left)
	}
}

func TestBookGivesAHostPortOnce(t *testing.T) {
	b := open(t, t.TempDir())
	b.Gone = namesAnother
	first := living(t, "first")
	first.Namespace, first.Pod = "default", "a"
	one := netip.MustParseAddr("192.0.2.1")
	first.HostPorts = []world.HostPort{{Port: 80, Protocol: 6}, {Address: one, Port: 81, Protocol: 6}}
	if _, err := b.Attach(first, "fairlead", cidrs); err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		port  world.HostPort
		taken string
	}{
		{world.HostPort{Port: 80, Protocol: 6}, "host port 80/tcp is taken by pod default/a"},
		{world.HostPort{Address: one, Port: 80, Protocol: 6}, "host port 192.0.2.1:80/tcp is taken"},
		{world.HostPort{Port: 81, Protocol: 6}, "host port 81/tcp is taken"},
		{world.HostPort{Port: 80, Protocol: 17}, ""},
		{world.HostPort{Address: one.Next(), Port: 81, Protocol: 6}, ""},
	} {
		a := living(t, fmt.Sprintf("c%d", i))
		a.HostPorts = []world.HostPort{tt.port}
		_, err := b.Attach(a, "fairlead", cidrs)
		if (err == nil) != (tt.taken == "") || err != nil && !strings.Contains(err.Error(), tt.taken) {
			t.Errorf("%s: %v, want %q", tt.port, err, tt.taken)
		}
	}
	if err := netns.Delete(first.Netns); err != nil {
		t.Fatal(err)
	}
	again := living(t, "again")
	again.HostPorts = []world.HostPort{{Port: 80, Protocol: 6}}
	if _, err := b.Attach(again, "fairlead", cidrs); err != nil || b.Find(first.Key()) != nil {
		t.Errorf("a pod that is gone keeps its port: %v", err)
	}
}

// A lock that is given back is given back at once, whoever else has its file: a process
// that is being started does until it runs its own program.
func TestAClosedBookCanBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := OpenBook(dir, "boot")
	if err != nil {
		t.Fatal(err)
	}
	other, err := unix.Dup(int(b.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenBook(dir, "boot")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
