package cni

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/world"
)

func TestBookSetsADamagedRecordAside(t *testing.T) {
	b := open(t, t.TempDir())
	attach(t, b, "whole")
	path := b.record("c1@eth0")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b = reopen(t, b)
	if got := keys(b.Attachments().List); !slices.Equal(got, []string{"whole@eth0"}) {
		t.Errorf("read %v", got)
	}
	if said := errors.Join(b.Troubles()...); said == nil || !strings.Contains(said.Error(), path) {
		t.Errorf("%v does not name the file", said)
	}
	if content, err := os.ReadFile(path + replace.Damaged); err != nil || string(content) != "{" {
		t.Errorf("set aside %q, %v", content, err)
	}
	b = reopen(t, b)
	if len(b.Troubles()) != 0 {
		t.Errorf("told again: %v", b.Troubles())
	}
	wire := func(containerID, ifname string) string { return "fl-" + containerID }
	addr := netip.MustParseAddr("10.244.1.2")
	b.Adopt([]*world.Attachment{{Wire: "fl-c1", Addresses: []netip.Addr{addr}}, {Wire: "fl-c2"}, {Wire: "fl-whole"}}, wire)
	if got := keys(b.Attachments().List); !slices.Equal(got, []string{"c1@eth0", "fl-c2@", "whole@eth0"}) {
		t.Errorf("adopted %v", got)
	}
	if others := attach(t, b, "c3"); others[0] == addr {
		t.Error("its address was given to another")
	}
	b.Detach("c1@eth0")
	b.Detach("c2@eth0")
	if got := keys(b.Attachments().List); !slices.Equal(got, []string{"c3@eth0", "whole@eth0"}) {
		t.Errorf("detached, %v are left", got)
	}
	if _, err := os.Stat(path + replace.Damaged); err == nil {
		t.Error("what was set aside outlives its attachment")
	}
}

// A record is read as it was written, or not at all.
func FuzzRecord(f *testing.F) {
	r := &record{request("c1"), "fairlead"}
	r.Addresses = []netip.Addr{netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("fd00::2")}
	r.HostPorts = []world.HostPort{{Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Protocol: 6, PodPort: 8080}}
	content, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content, uint(0), byte(0))
	f.Add(content, uint(40), byte(1))
	f.Add([]byte(`{"ContainerID":"c1","Interface":"eth0","Addresses":[""]}`), uint(0), byte(0))
	f.Add([]byte(`{"ContainerID":"c1","Interface":"eth0","HostPorts":[]}`), uint(0), byte(0))
	f.Fuzz(func(t *testing.T, content []byte, at uint, flip byte) {
		first, err := decodeRecord("c1@eth0", content)
		if err == nil {
			again, err := first.encode()
			if err != nil {
				t.Fatal(err)
			}
			second, err := decodeRecord("c1@eth0", again)
			if err != nil {
				t.Fatalf("%v became %v", first, err)
			}
			// Not DeepEqual: a list that is empty, and is left out, comes back as none.
			if third, err := second.encode(); err != nil || !bytes.Equal(again, third) {
				t.Fatalf("%s became %s, %v", again, third, err)
			}
			content = again
		}
		// Below the checksum no flipped bit goes unseen.
		if len(content) <= sumEnds || !bytes.HasPrefix(content, []byte(sumAt)) || flip == 0 {
			return
		}
		damaged := bytes.Clone(content)
		damaged[sumEnds+int(at%uint(len(content)-sumEnds))] ^= flip
		if got, derr := decodeRecord("c1@eth0", damaged); derr == nil && err == nil {
			t.Fatalf("%s was read as %+v", damaged, got)
		}
	})
}
