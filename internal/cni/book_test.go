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
)

var cidrs = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")}

func open(t *testing.T, dir string) *Book {
	t.Helper()
	b, err := OpenBook(dir)
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
	if _, err := OpenBook(b.dir); err == nil || !strings.Contains(err.Error(), "an agent has "+b.dir+" open") {
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

func request(id string) Request {
	return Request{ContainerID: id, Interface: "eth0", Netns: "/run/netns/" + id}
}

func attach(t *testing.T, b *Book, id string) []netip.Addr {
	t.Helper()
	a, err := b.Attach(request(id), cidrs)
	if err != nil {
		t.Fatal(err)
	}
	return a.Addresses
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
	pools, err := b.Pools(cidrs)
	if err != nil || pools[0].Used != 100 || pools[0].Size != 253 {
		t.Errorf("pools %+v, %v", pools, err)
	}
}

func TestBookSurvivesTheAgent(t *testing.T) {
	b := open(t, t.TempDir())
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
	if err := b.Detach("c9", "eth0"); err != nil || b.Attachments() != before {
		t.Errorf("detaching a stranger changed the view, or %v", err)
	}
}

func TestBookGivesBackWhatACrashLeftTaken(t *testing.T) {
	b := open(t, t.TempDir())
	attach(t, b, "c1")
	attach(t, b, "c2")
	// The agent dies between writing the address and the record of c1.
	if err := os.Remove(b.record("c1@eth0")); err != nil {
		t.Fatal(err)
	}
	pools, err := reopen(t, b).Pools(cidrs)
	if err != nil || pools[0].Used != 1 || pools[1].Used != 1 {
		t.Errorf("pools %+v, %v; want one address taken of each", pools, err)
	}
}

func TestBookFollowsASandboxMadeAnew(t *testing.T) {
	b := open(t, t.TempDir())
	attach(t, b, "c1")
	anew := request("c1")
	anew.Netns = "/run/netns/other"
	if _, err := b.Attach(anew, cidrs); err != nil {
		t.Fatal(err)
	}
	if list := b.Attachments().List; len(list) != 1 || list[0].Netns != anew.Netns {
		t.Errorf("attachments %+v", list)
	}
}

func TestBookWhenThePoolIsEmpty(t *testing.T) {
	b := open(t, t.TempDir())
	small := []netip.Prefix{cidrs[1], netip.MustParsePrefix("10.244.1.0/30")}
	for i, want := range []string{"", "no IP addresses available"} {
		_, err := b.Attach(request(fmt.Sprintf("c%d", i)), small)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("pod %d: %v, want %q", i, err, want)
		}
	}
	pools, err := b.Pools(small)
	if err != nil || pools[0].Used != 1 {
		t.Errorf("the pod that got nothing holds an address: %+v, %v", pools, err)
	}
	if err := b.Detach("c0", "eth0"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Attach(request("c9"), small); err != nil {
		t.Errorf("after one was freed: %v", err)
	}
}

func TestBookRefusesADamagedRecord(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if err := os.WriteFile(b.record("c1@eth0"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBook(dir); err == nil || !strings.Contains(err.Error(), filepath.Base(b.record("c1@eth0"))) {
		t.Errorf("error %v does not name the file", err)
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("c1", "eth0")
	f.Add("../../etc/passwd", "eth0")
	f.Add("c1", "a/b")
	f.Add("", "")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, id, ifname string) {
		r := Request{ContainerID: id, Interface: ifname}
		if r.Validate() != nil {
			return
		}
		if filepath.Dir(filepath.Join(dir, r.key())) != dir || strings.Count(r.key(), "@") != 1 {
			t.Errorf("%q leaves the directory or is ambiguous", r.key())
		}
	})
}
