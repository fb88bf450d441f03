package kernel

import (
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// BenchmarkObserve is one look at a node with 250 pods.
func BenchmarkObserve(b *testing.B) {
	h := netnstest.New(b)
	at := &world.Attachments{}
	for range 250 {
		at.List = append(at.List, &world.Attachment{Netns: h.Path})
	}
	h.Do(func() error {
		for i := range 250 {
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("fl-%012x", i)}, PeerName: fmt.Sprintf("p%d", i)}); err != nil {
				return err
			}
		}
		for b.Loop() {
			if _, err := (&Observer{}).Observe(at); err != nil {
				return err
			}
		}
		return nil
	})
}
