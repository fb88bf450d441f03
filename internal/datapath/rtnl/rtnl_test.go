package rtnl_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mdlayher/netlink"
	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
	"fairlead.dev/fairlead/internal/netnstest"
)

// An entry is a neighbour on link.
type entry struct {
	n      int
	family uint8 // one that the kernel refuses, or AF_INET
}

func (e entry) String() string { return fmt.Sprintf("entry %d", e.n) }

func (e entry) Message(c *rtnl.Conn) (netlink.Message, error) {
	on, err := c.Index(link)
	if err != nil {
		return netlink.Message{}, err
	}
	return rtnl.NewMessage(unix.RTM_NEWNEIGH, netlink.Create|netlink.Replace,
		unix.NdMsg{Family: e.family, Ifindex: int32(on), State: unix.NUD_PERMANENT},
		netlink.Attribute{Type: unix.NDA_DST, Data: []byte{10, 0, byte(e.n >> 8), byte(e.n)}},
		netlink.Attribute{Type: unix.NDA_LLADDR, Data: []byte{2, 0, 0, 0, byte(e.n >> 8), byte(e.n)}})
}

func (e entry) Refused(_ *rtnl.Conn, err error) error { return err }

const link = "a"

// inConversation runs f in a namespace with one link.
func inConversation(t *testing.T, f func(*rtnl.Conn) error) {
	t.Helper()
	netnstest.New(t).Do(func() error {
		if err := vnl.LinkAdd(&vnl.Ifb{LinkAttrs: vnl.LinkAttrs{Name: link}}); err != nil {
			return err
		}
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return f(c)
	})
}

// Of many requests each is made or refused by itself, wherever it stands.
func TestEachIsMadeOrRefusedByItself(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]func(int) bool{
		"none":     func(int) bool { return false },
		"all":      func(int) bool { return true },
		"some":     func(n int) bool { return n%7 == 3 },
		"the last": func(n int) bool { return n == 2999 || n == 255 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inConversation(t, func(c *rtnl.Conn) error {
				var changes []rtnl.Change
				want := 0
				for n := range 3000 {
					e := entry{n, unix.AF_INET}
					if refused(n) {
						e.family = 200
					} else {
						want++
					}
					changes = append(changes, e)
				}
				for n, err := range c.Make(changes) {
					if (err != nil) != refused(n) || err != nil && err.Error()[:len("entry ")] != "entry " {
						t.Errorf("%d: %v", n, err)
					}
				}
				if got := count(t, c); got != want {
					t.Errorf("%d entries, want %d", got, want)
				}
				return nil
			})
		})
	}
}

func count(t *testing.T, c *rtnl.Conn) int {
	t.Helper()
	request, err := rtnl.NewMessage(unix.RTM_GETNEIGH, 0, unix.NdMsg{Family: unix.AF_INET})
	if err != nil {
		t.Error(err)
	}
	n := 0
	if err := c.List(request, func([]byte) { n++ }); err != nil {
		t.Error(err)
	}
	return n
}

func TestLinksByNameAndIndex(t *testing.T) {
	t.Parallel()
	inConversation(t, func(c *rtnl.Conn) error {
		i, err := c.Index(link)
		if err != nil || c.Name(i) != link {
			t.Errorf("index %d, name %q: %v", i, c.Name(i), err)
		}
		for _, none := range []string{"b", "a-name-that-is-too-long"} {
			if _, err := c.Index(none); !errors.Is(err, unix.ENODEV) {
				t.Errorf("%s: %v", none, err)
			}
		}
		if name := c.Name(12345); name != "" {
			t.Errorf("a link that is not there is called %q", name)
		}
		return nil
	})
}

// Whatever is in an answer, attributes lie within it, one behind the other.
func FuzzAttributes(f *testing.F) {
	m, err := rtnl.NewMessage(unix.RTM_NEWNEIGH, 0, unix.NdMsg{Family: 1},
		netlink.Attribute{Type: 1, Data: []byte{1, 2, 3}}, netlink.Attribute{Type: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Data)
	f.Add(m.Data[:unix.SizeofNdMsg-1])
	f.Fuzz(func(t *testing.T, answer []byte) {
		h, attrs := rtnl.Parse[unix.NdMsg](answer)
		if len(answer) < unix.SizeofNdMsg && h != (unix.NdMsg{}) {
			t.Errorf("%x has a header", answer)
		}
		left := len(answer) - unix.SizeofNdMsg
		for typ, value := range attrs {
			if left -= 4 + len(value); left < 0 || typ > 1<<14 {
				t.Errorf("attribute %d of %d bytes in %x", typ, len(value), answer)
			}
		}
	})
}
