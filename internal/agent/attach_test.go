package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

const unchained = `
apiVersion: fairlead.dev/v1alpha1
kind: AgentConfig
metadata: {name: default}
spec: {overlay: {mode: none}}
`

func attach(t *testing.T, n *node, id string) (cni.Request, *netnstest.Host) {
	t.Helper()
	pod := netnstest.New(t)
	q := cni.Request{ContainerID: id, Interface: "eth0", Netns: pod.Path, Namespace: "default", Pod: id, Network: "fairlead"}
	if code, body := n.post(t, "add", q); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	return q, pod
}

// refused returns the CNI error of a request; code 0: it was served.
func refused(t *testing.T, n *node, verb string, q cni.Request) types.Error {
	t.Helper()
	code, body := n.post(t, verb, q)
	var out types.Error
	if code == http.StatusOK {
		return out
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || out.Code == 0 || out.Msg == "" {
		t.Fatalf("%s: %d %s is no CNI error (%v)", verb, code, body, err)
	}
	return out
}

func TestAHundredPodsAtOnce(t *testing.T) {
	const pods = 100
	n := newNode(t, nodes)
	n.start(t)
	var mu sync.Mutex
	owner := map[netip.Addr]string{}
	var took []time.Duration
	hosts := make([]*netnstest.Host, pods)
	for i := range hosts {
		hosts[i] = netnstest.New(t)
	}
	var wg sync.WaitGroup
	began := time.Now()
	for i, h := range hosts {
		wg.Go(func() {
			id := fmt.Sprintf("c%d", i)
			code, body := n.post(t, "add", cni.Request{ContainerID: id, Interface: "eth0", Netns: h.Path})
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			var answer cni.Answer
			if err := json.Unmarshal([]byte(body), &answer); code != http.StatusOK || err != nil || len(answer.Addresses) != 2 {
				t.Errorf("%s: %d %s", id, code, body)
			}
			for _, a := range answer.Addresses {
				if owner[a] != "" {
					t.Errorf("%s belongs to %s and to %s", a, owner[a], id)
				}
				owner[a] = id
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	if list := n.book.Attachments().List; len(list) != pods || len(owner) != 2*pods {
		t.Errorf("%d attachments and %d addresses, want %d and %d", len(list), len(owner), pods, 2*pods)
	}
	if d := n.diffText(t); d != "" {
		t.Errorf("the kernel lacks:\n%s", d)
	}
	t.Logf("the first after %s, half after %s, all after %s", took[0], took[pods/2], took[pods-1])
}

func TestCheckSeesBothEndsOfAWire(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	for name, tt := range map[string]struct {
		harm func(q *cni.Request, pod *netnstest.Host)
		want string
	}{
		"nothing": {func(*cni.Request, *netnstest.Host) {}, ""},
		"address": {func(_ *cni.Request, pod *netnstest.Host) { pod.Run("ip", "address", "flush", "dev", "eth0") }, "address 10.244.1."},
		"route":   {func(_ *cni.Request, pod *netnstest.Host) { pod.Run("ip", "-6", "route", "del", "default") }, "default route by way of fe80::1"},
		"interface": {func(_ *cni.Request, pod *netnstest.Host) {
			pod.Run("ip", "link", "set", "eth0", "down", "name", "eth9")
		}, "the interface"},
		"down": {func(_ *cni.Request, pod *netnstest.Host) { pod.Run("ip", "link", "set", "eth0", "down") }, "that it is up"},
		"answer": {func(q *cni.Request, _ *netnstest.Host) {
			q.Before = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
		}, "ADD answered with the addresses [192.0.2.9]"},
		"namespace": {func(_ *cni.Request, pod *netnstest.Host) {
			if err := netns.Delete(pod.Path); err != nil {
				t.Error(err)
			}
		}, "is gone"},
		"pod": {func(q *cni.Request, _ *netnstest.Host) { q.ContainerID = "stranger" }, "nothing is known of container stranger"},
	} {
		t.Run(name, func(t *testing.T) {
			q, pod := attach(t, n, name)
			tt.harm(&q, pod)
			var out types.Error
			n.host.Do(func() error { out = refused(t, n, "check", q); return nil })
			if (out.Code == 0) != (tt.want == "") || !strings.Contains(out.Msg, tt.want) {
				t.Errorf("check: %+v, want %q", out, tt.want)
			}
		})
	}
}

func TestStatusSaysWhyNoPodCanBeAttached(t *testing.T) {
	one, _, _ := strings.Cut(nodes, "---")
	n := newNode(t, "")
	is := func(code uint, why string) {
		t.Helper()
		if out := refused(t, n, "status", cni.Request{}); out.Code != code || !strings.Contains(out.Msg, why) {
			t.Errorf("status: %+v, want %d %q", out, code, why)
		}
	}
	is(types.ErrPluginNotAvailable, "starting")
	n.mustTurn(t)
	is(types.ErrPluginNotAvailable, "there is no Node n1 yet")
	n.write(t, "objects.yaml", strings.Replace(one, `podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]`, "", 1))
	n.mustTurn(t)
	is(types.ErrPluginNotAvailable, "Node n1 has no pod CIDR yet")
	n.write(t, "config.yaml", unchained)
	n.mustTurn(t)
	is(0, "")
	n.remove(t, "config.yaml")
	n.write(t, "objects.yaml", strings.Replace(one, "10.244.1.0/24", "10.244.1.0/30", 1))
	n.start(t)
	is(0, "")
	attach(t, n, "only")
	is(types.ErrPluginNotAvailable, "all 1 addresses of pod CIDR 10.244.1.0/30 are in use")
}

func TestGCDetachesWhatTheRuntimeDoesNotKnow(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	attach(t, n, "known")
	attach(t, n, "leaked")
	if out := refused(t, n, "gc", cni.Request{Network: "another"}); out.Code != 0 || len(n.book.Attachments().List) != 2 {
		t.Errorf("GC of another network: %+v", out)
	}
	if out := refused(t, n, "gc", cni.Request{Network: "fairlead"}); out.Code != 0 || len(n.book.Attachments().List) != 2 {
		t.Errorf("GC by a runtime that knows nothing: %+v", out)
	}
	if out := refused(t, n, "gc", cni.Request{Network: "fairlead", Valid: []string{"known@eth0", "gone@eth0"}}); out.Code != 0 {
		t.Errorf("gc: %+v", out)
	}
	if list := n.book.Attachments().List; len(list) != 1 || list[0].Pod != "known" {
		t.Errorf("%d attachments left", len(list))
	}
	if links := n.host.Run("ip", "-o", "link"); strings.Count(links, "fl-") != 2 {
		t.Errorf("the wire stays:\n%s", links)
	}
}

// A sandbox that went without a DEL gives its address back by itself.
func TestLeakedAttachmentsAreCollected(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	_, pod := attach(t, n, "leaked")
	attach(t, n, "living")
	if err := netns.Delete(pod.Path); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // the kernel takes a namespace down by and by
		if _, err := n.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(n.book.Attachments().List) == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if list := n.book.Attachments().List; len(list) != 1 || list[0].Pod != "living" {
		t.Errorf("%d attachments left", len(list))
	}
	if log := n.log.String(); strings.Count(log, "attachment collected") != 1 {
		t.Errorf("it should be told once:\n%s", log)
	}
	if metrics := n.metricsText(); !strings.Contains(metrics, "fairlead_attachments_collected_total 1\n") {
		t.Errorf("it is not counted:\n%s", metrics)
	}
}

func TestAReplacedNamespaceGetsNoWireOfTheOldPod(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	q, pod := attach(t, n, "before")
	if err := netns.Delete(pod.Path); err != nil {
		t.Fatal(err)
	}
	if err := netns.New(filepath.Base(pod.Path)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if links := pod.Run("ip", "-o", "link"); strings.Contains(links, "eth0") {
		t.Errorf("another's namespace has the pod's wire:\n%s", links)
	}
	q.Pod = "after"
	if out := refused(t, n, "add", q); out.Code != 0 {
		t.Errorf("add: %+v", out)
	}
	if links := pod.Run("ip", "-o", "link"); !strings.Contains(links, "eth0") {
		t.Errorf("the new pod has no wire:\n%s", links)
	}
}

func TestAttachmentsSurviveTheAgentAndNotTheMachine(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	q, _ := attach(t, n, "a")
	n.restart(t)
	n.start(t)
	if out := refused(t, n, "add", q); out.Code != 0 || len(n.book.Attachments().List) != 1 {
		t.Errorf("after a restart: %+v", out)
	}
	n.boot = "another-boot"
	n.restart(t)
	if list := n.book.Attachments().List; len(list) != 0 || !strings.Contains(n.log.String(), "attachments of an earlier boot deleted") {
		t.Errorf("after a boot %d attachments are left", len(list))
	}
}
