package agent

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

func TestAddIsIdempotentAndDelFreesTheAddress(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	pod := netnstest.New(t)
	request := cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path, Namespace: "default", Pod: "a"}
	_, first := n.post(t, "add", request)
	code, second := n.post(t, "add", request)
	if code != http.StatusOK || first != second || !strings.Contains(first, "10.244.1.2") || !strings.Contains(first, "fd00:10:244:1::2") {
		t.Fatalf("first %s, then %d %s", first, code, second)
	}
	if d := n.diffText(t); d != "" {
		t.Errorf("add answered before the kernel held everything:\n%s", d)
	}
	for range 2 {
		if code, body := n.post(t, "del", request); code != http.StatusOK {
			t.Fatalf("del: %d %s", code, body)
		}
	}
	if pools := cni.Pools(n.book.Attachments(), n.snapshot.Load().World.Node.PodCIDRs); pools[0].Used+pools[1].Used != 0 {
		t.Errorf("addresses stay taken: %+v", pools)
	}
}

func TestAPodThatCannotBeWiredDisturbsNoOther(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	good, occupied := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(occupied, "eth0", good, "other") // its eth0 is taken
	code, body := n.post(t, "add", cni.Request{ContainerID: "c2", Interface: "eth0", Netns: occupied.Path})
	if code == http.StatusOK || !strings.Contains(body, "file exists") {
		t.Errorf("a pod whose eth0 is taken: %d %s", code, body)
	}
	if code, body := n.post(t, "add", cni.Request{ContainerID: "c1", Interface: "eth0", Netns: good.Path}); code != http.StatusOK {
		t.Errorf("the next pod: %d %s", code, body)
	}
	if code, body := n.post(t, "add", cni.Request{ContainerID: "c3", Interface: "eth0", Netns: "/run/netns/nowhere"}); code == http.StatusOK || !strings.Contains(body, "is no network namespace") {
		t.Errorf("a pod without a namespace: %d %s", code, body)
	}
	if d := n.diffText(t); d != "" {
		t.Errorf("the kernel lacks:\n%s", d)
	}
	if list := n.book.Attachments().List; len(list) != 1 {
		t.Errorf("%d attachments in the book, want 1", len(list))
	}
}

func TestATombstoneIsHonoured(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	pod := netnstest.New(t)
	if code, body := n.post(t, "add", cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	stone := filepath.Join(n.dir, "state", "tombstones", "c1@eth0")
	if err := os.WriteFile(stone, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(n.book.Attachments().List) != 0 {
		t.Error("the attachment outlived its tombstone")
	}
	if _, err := os.Stat(stone); !os.IsNotExist(err) {
		t.Errorf("the tombstone stays: %v", err)
	}
	if links := n.host.Run("ip", "-o", "link"); strings.Count(links, "fl-") != 1 {
		t.Errorf("the wire stays:\n%s", links)
	}
}

// A DEL that found no agent came before the ADD that finds one.
func TestATombstoneIsNotOfThePodThatComesAfter(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	stone := filepath.Join(n.dir, "state", "tombstones", "c1@eth0")
	for _, name := range []string{"there is no attachment", "there is one"} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(stone, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			_, pod := attach(t, n, "c1")
			if _, err := n.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if links := pod.Run("ip", "-o", "link"); !strings.Contains(links, "eth0") {
				t.Errorf("ADD succeeded, and there is no wire:\n%s", links)
			}
		})
	}
}

func TestDelAfterTheNamespaceIsGone(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	pod := netnstest.New(t)
	request := cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}
	if code, body := n.post(t, "add", request); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	if err := netns.Delete(pod.Path); err != nil {
		t.Fatal(err)
	}
	request.Netns = "" // as runtimes say it then
	if code, body := n.post(t, "del", request); code != http.StatusOK {
		t.Errorf("del: %d %s", code, body)
	}
	if len(n.book.Attachments().List) != 0 {
		t.Error("the attachment stays")
	}
}

// The runtime made the sandbox anew without saying so, and the old one is not
// gone yet.
func TestAddAgainInAnotherNamespaceWiresThat(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	before, after := netnstest.New(t), netnstest.New(t)
	for _, pod := range []*netnstest.Host{before, after} {
		if code, body := n.post(t, "add", cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}); code != http.StatusOK {
			t.Fatalf("add: %d %s", code, body)
		}
	}
	if links := after.Run("ip", "-o", "link"); !strings.Contains(links, "eth0") {
		t.Errorf("the new namespace has no wire:\n%s", links)
	}
	if links := before.Run("ip", "-o", "link"); strings.Contains(links, "eth0") {
		t.Errorf("the old namespace keeps its wire:\n%s", links)
	}
}

func TestAPodInWhoseNamespaceIPv6IsOffGetsIt(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	pod := netnstest.New(t)
	pod.Sysctl("net/ipv6/conf/all/disable_ipv6", "1", "net/ipv6/conf/default/disable_ipv6", "1")
	if code, body := n.post(t, "add", cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}); code != http.StatusOK {
		t.Errorf("add: %d %s", code, body)
	}
}
