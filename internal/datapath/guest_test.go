package datapath_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// guests are our rules in both chains of iptables-nft.
func guests() datapath.State {
	p := &datapath.Part{}
	for _, place := range datapath.AcceptPlaces {
		p.Guests = append(p.Guests,
			nft.Guest{Place: place, Mark: datapath.AcceptMark, Oif: datapath.LinkPrefix + "*"},
			nft.Guest{Place: place, Mark: datapath.AcceptMark, Iif: datapath.LinkPrefix + "*"})
	}
	return datapath.State{p}
}

// dockers is what Docker leaves in iptables-nft, and more of others' rules.
const dockers = `iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP
iptables-nft -N DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN
iptables-nft -A FORWARD -j DOCKER-USER
iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables-nft -A FORWARD -i fl-+ -m comment --comment mine -j ACCEPT
ip6tables-nft -A FORWARD -i docker0 -j ACCEPT`

func newDocker(t *testing.T) *netnstest.Host {
	t.Helper()
	h := netnstest.New(t)
	shell(t, h, dockers)
	return h
}

// shell runs a script on h and returns what it printed.
func shell(t *testing.T, h *netnstest.Host, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-efc", script)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := netns.Do(h.Path, cmd.Run); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, &complaint)
	}
	return out.String()
}

// iptables is what iptables-nft itself says.
func iptables(t *testing.T, h *netnstest.Host) []string {
	t.Helper()
	out := shell(t, h, "iptables-nft -S; ip6tables-nft -S; nft -s list ruleset")
	return strings.Split(strings.TrimSpace(out), "\n")
}

var ours = []string{
	"-A FORWARD -i fl-+ -m comment --comment fairlead-forward -j ACCEPT",
	"-A FORWARD -o fl-+ -m comment --comment fairlead-forward -j ACCEPT",
}

func TestGuestsComeAndGo(t *testing.T) {
	t.Parallel()
	node := newDocker(t)
	bare := iptables(t, node)
	apply(node, guests())
	for _, program := range []string{"iptables-nft", "ip6tables-nft"} {
		got := strings.Split(shell(t, node, program+" -S FORWARD"), "\n")
		if got[0] != "-P FORWARD DROP" || !slices.Equal(got[1:3], ours) {
			t.Errorf("%s shows\n%s", program, strings.Join(got, "\n"))
		}
	}
	if c := diff(node, guests()); !c.Empty() {
		t.Errorf("applied, and still to do:\n%s", c)
	}
	apply(node, nil)
	if d := cmp.Diff(bare, iptables(t, node)); d != "" {
		t.Errorf("something is left, or went with ours (-before +after):\n%s", d)
	}
}

// What iptables-nft would do with each command is what we do.
func TestGuestsAreCommands(t *testing.T) {
	t.Parallel()
	byHand, byUs := newDocker(t), newDocker(t)
	for line := range strings.Lines(diff(byHand, guests()).String()) {
		shell(t, byHand, line)
	}
	apply(byUs, guests())
	if d := cmp.Diff(iptables(t, byHand), iptables(t, byUs)); d != "" {
		t.Errorf("the commands do something else (-commands +we):\n%s", d)
	}
	bare := iptables(t, newDocker(t))
	for line := range strings.Lines(diff(byHand, nil).String()) {
		shell(t, byHand, line)
	}
	if d := cmp.Diff(bare, iptables(t, byHand)); d != "" {
		t.Errorf("the commands do not take ours away (-before +after):\n%s", d)
	}
}

// Without a chain that packets meet there is nothing to accept, and nothing is made.
func TestGuestsMakeNoChain(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{
		"nothing":                       "true",
		"a table":                       "nft add table ip filter",
		"a chain that nothing leads to": "nft add table ip filter; nft add chain ip filter FORWARD",
		"a chain of another hook":       "nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook input priority 0; }'",
		"of another family":             "nft add table inet filter; nft add chain inet filter FORWARD '{ type filter hook forward priority 0; }'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := netnstest.New(t)
			shell(t, node, before)
			bare := run(t, node, "nft list ruleset")
			if c := diff(node, guests()); !c.Empty() {
				t.Errorf("to do:\n%s", c)
			}
			node.Do(func() error { return datapath.Apply(datapath.DiffStates(nil, guests())) })
			if after := run(t, node, "nft list ruleset"); after != bare {
				t.Errorf("before\n%s\nafter\n%s", bare, after)
			}
		})
	}
}

// Whatever others do to their chain, ours are in it once, and theirs stay.
func TestGuestsAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for n, accident := range []string{
		"iptables-nft -F FORWARD",
		"iptables-nft -D FORWARD -i fl-+ -m comment --comment fairlead-forward -j ACCEPT",
		"iptables-nft -D FORWARD 1; iptables-nft -D FORWARD 1",
		"iptables-nft-save > $F; nft flush ruleset; iptables-nft-restore < $F; ip6tables-nft -P FORWARD DROP; ip6tables-nft -A FORWARD -i docker0 -j ACCEPT",
		"nft delete table ip filter; " + strings.ReplaceAll(dockers, "\n", "; "),
		"iptables-nft -I FORWARD -i fl-+ -m comment --comment fairlead-forward -j ACCEPT",
		"iptables-nft -I FORWARD -i fl-+ -m comment --comment fairlead-forward -j DROP",
		"iptables-nft -I FORWARD -i fl-+ -p tcp -m comment --comment fairlead-forward -j ACCEPT",
		"iptables-nft -A FORWARD -m comment --comment fairlead-forward -j ACCEPT",
		`nft add rule ip filter FORWARD oifname "fl-*" ip saddr 10.0.0.1 drop comment \"fairlead-forward\"`,
		`nft add rule ip6 filter FORWARD oifname != "fl-*" accept comment \"fairlead-forward\"`,
	} {
		t.Run(accident, func(t *testing.T) {
			t.Parallel()
			node := newDocker(t)
			apply(node, guests())
			shell(t, node, "F="+filepath.Join(dir, fmt.Sprint(n))+"; "+accident)
			others := othersOf(iptables(t, node))
			if !strings.Contains(accident, "-save") && diff(node, guests()).Empty() {
				t.Error("not found")
			}
			apply(node, guests())
			if c := diff(node, guests()); !c.Empty() {
				t.Errorf("still to do:\n%s", c)
			}
			now := iptables(t, node)
			for _, rule := range ours {
				if n := count(now, rule); n != 2 {
					t.Errorf("%d times in two families: %s", n, rule)
				}
			}
			if d := cmp.Diff(others, othersOf(now)); d != "" {
				t.Errorf("others' rules changed (-before +after):\n%s", d)
			}
		})
	}
}

// othersOf are the lines of iptables-nft -S that are not ours.
func othersOf(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool {
		return !strings.HasPrefix(l, "-") || strings.Contains(l, datapath.AcceptMark)
	})
}

func count(lines []string, line string) int {
	n := 0
	for _, l := range lines {
		if l == line {
			n++
		}
	}
	return n
}

// Wherever Apply is killed, the next one comes to the same, also without a look at
// the kernel.
func TestGuestsAfterAKill(t *testing.T) {
	t.Parallel()
	sample := newDocker(t)
	bare := iptables(t, sample)
	apply(sample, guests())
	full := iptables(t, sample)
	for stop := range 6 {
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			t.Parallel()
			node := newDocker(t)
			node.Do(func() error { return datapath.Apply(datapath.DiffStates(nil, guests()).Until(stop)) })
			apply(node, guests())
			if now := slices.Sorted(slices.Values(iptables(t, node))); !slices.Equal(now, slices.Sorted(slices.Values(full))) {
				t.Errorf("put in:\n%s", strings.Join(now, "\n"))
			}
			node.Do(func() error { return datapath.Apply(datapath.DiffStates(guests(), nil).Until(stop)) })
			apply(node, nil)
			if d := cmp.Diff(bare, iptables(t, node)); d != "" {
				t.Errorf("taken away (-before +after):\n%s", d)
			}
		})
	}
}
