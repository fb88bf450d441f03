package tc

import (
	"strings"
	"testing"

	vnl "github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
	"fairlead.dev/fairlead/internal/netnstest"
)

const pref = 157

// newLinks makes a host with two links of ours and one of somebody else's.
func newLinks(t *testing.T) *netnstest.Host {
	t.Helper()
	h := netnstest.New(t)
	h.Do(func() error {
		for _, name := range []string{"fl-a", "fl-b", "theirs"} {
			if err := vnl.LinkAdd(&vnl.Ifb{LinkAttrs: vnl.LinkAttrs{Name: name, MTU: 1450}}); err != nil {
				return err
			}
		}
		return nil
	})
	return h
}

func all(string) bool { return true }

// due returns what is to be changed on h, and makes it.
func due(h *netnstest.Host, shapers []Shaper, redirects []Redirect) []string {
	var out []string
	h.Do(func() error {
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		haveShapers, haveRedirects, err := Read(c, "fl-", pref)
		if err != nil {
			return err
		}
		add, del := DiffShapers(haveShapers, shapers, all)
		lead, unlead := DiffRedirects(haveRedirects, redirects, all, pref)
		var changes []rtnl.Change
		for _, q := range append(append(append(add, lead...), unlead...), del...) {
			changes, out = append(changes, q.Change), append(out, q.String())
		}
		for _, err := range c.Make(changes) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// What is asked for is read back as the same, whatever the kernel rounds, and
// whether netlink or tc(8) asked; anything else is not.
func TestRatesAndBurstsAreReadBack(t *testing.T) {
	t.Parallel()
	h := newLinks(t)
	for _, rate := range []uint64{8, 1e3, 64e3, 1e6 + 1, 10e6, 123_456_789, 1e9, 10e9, 34_359_738_360, 34_359_738_368, 40e9, 100e9, 400e9} {
		for _, burst := range []uint64{LeastBurst(1450), 800_001, 10e6, 1<<31 - 1, 1<<32 - 1} {
			want := Shaper{Link: "fl-a", Rate: rate, Burst: burst}
			for _, how := range []string{"netlink", "tc"} {
				if how == "tc" {
					words := strings.Fields(want.String())
					h.Run(words[0], words[1:]...)
				} else {
					due(h, []Shaper{want}, nil)
				}
				if left := due(h, []Shaper{want}, nil); len(left) > 0 {
					t.Errorf("by %s: still to do:\n%s\n%s", how, left, h.Run("tc", "-d", "qdisc", "show", "dev", "fl-a"))
				}
			}
			for _, other := range []Shaper{
				{Link: "fl-a", Rate: rate + rate/100 + 8, Burst: burst},
				{Link: "fl-a", Rate: rate, Burst: burst + burst/100 + 8e3},
				{Link: "fl-b", Rate: rate, Burst: burst},
			} {
				if left := due(h, []Shaper{other}, nil); len(left) == 0 {
					t.Errorf("%s is taken for %s", want, other)
				}
			}
		}
	}
	if due(h, nil, nil); strings.Contains(h.Run("tc", "qdisc"), "tbf") {
		t.Error("it stays when nobody wants it")
	}
}

// What others hang on the hook, or made of it, does not keep ours from it and is
// not taken away by it.
func TestOthersMayUseTheHook(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"clsact", "ingress"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newLinks(t)
			theirs := []string{"filter", "add", "dev", "fl-a", "ingress", "protocol", "ip", "pref", "1", "u32", "match", "ip", "dst", "192.0.2.1", "action", "mirred", "egress", "mirror", "dev", "theirs"}
			h.Run("tc", "qdisc", "add", "dev", "fl-a", kind)
			h.Run("tc", theirs...)
			h.Run("tc", "qdisc", "add", "dev", "theirs", "clsact")
			if left := due(h, nil, nil); len(left) > 0 {
				t.Errorf("a hook of others is to be changed: %s", left)
			}
			for _, to := range []string{"fl-b", "theirs"} {
				want := []Redirect{{Link: "fl-a", To: to}}
				due(h, nil, want)
				if left := due(h, nil, want); len(left) > 0 {
					t.Errorf("still to do: %s", left)
				}
				shown := h.Run("tc", "filter", "show", "dev", "fl-a", "ingress")
				if strings.Count(shown, "Redirect") != 1 || !strings.Contains(shown, "Redirect to device "+to) || !strings.Contains(shown, "Mirror") {
					t.Errorf("filters:\n%s", shown)
				}
			}
		})
	}
}

// Whatever a kernel answers can be compared.
func FuzzFrom(f *testing.F) {
	c, err := rtnl.Dial()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	for _, change := range []rtnl.Change{
		hold{Shaper{Link: "lo", Rate: 1e6, Burst: 1e6}}, hold{Shaper{Link: "lo", Rate: 1e12, Burst: 1e6}},
		lead{Redirect{Link: "lo", To: "lo"}, pref}, hook{Redirect{Link: "lo"}},
	} {
		m, err := change.Message(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Data)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		_, attrs := rtnl.Parse[tcmsg](answer)
		if b, ok := bucketFrom(attrs); ok && !(Shaper{found: &b}).same(Shaper{found: &b}) {
			t.Errorf("%+v differs from itself", b)
		}
		ruleFrom(attrs)
	})
}
