package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/ethtool"
	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/dump"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// twin proves that the text says what netlink does: the kernel holds the same,
// whichever road the state took there.
func (s *scenario) twin(t *testing.T, features []feature.Feature) {
	byText, byNetlink := newSide(t, s.pods), newSide(t, s.pods)
	w, _ := s.build(t, s.objects, inText)
	for _, i := range w.Kernel.Interfaces {
		byText.stub(i)
		byNetlink.stub(i)
	}
	byText.nft(s.want("foreign.nft"))
	byNetlink.nft(s.want("foreign.nft"))
	loadable, unloadable := split(s.want("want.nft"))
	byText.nft(loadable)
	lines := standIns(s.render(t, features, byText.netns).State).IP() + s.want("want.ip")
	for line := range strings.Lines(lines) {
		byText.command(strings.Fields(line))
	}
	if unloadable {
		byText.apply(s.state(t, features, byText.netns))
	}
	state := s.state(t, features, byNetlink.netns)
	byNetlink.apply(state)
	if d := cmp.Diff(strings.Split(byText.listing(), "\n"), strings.Split(byNetlink.listing(), "\n")); d != "" {
		t.Errorf("%s: text and netlink disagree (-text +netlink):\n%s", s.path, d)
	}
	if c := byNetlink.apply(state); !c.Empty() {
		t.Errorf("%s: applied twice, the second time changes:\n%s", s.path, c)
	}
	if c := byNetlink.diff(throughFile(t, dump.Dump{State: state}).State); !c.Empty() {
		t.Errorf("%s: of a state that was written and read back the kernel is told:\n%s", s.path, c)
	}
	if c := byText.diff(s.state(t, features, byText.netns)); !c.Empty() {
		t.Errorf("%s: what nft(8) and ip(8) made is not recognised:\n%s", s.path, c)
	}
}

// state is what the features render, with the links of other features on which they
// have something.
func (s *scenario) state(t *testing.T, features []feature.Feature, at netnsOf) datapath.State {
	t.Helper()
	state := s.render(t, features, at).State
	return append(standIns(state), state...)
}

// standIns are links for gates of links that other features make.
func standIns(s datapath.State) datapath.State {
	there := map[string]bool{}
	for _, p := range s {
		for _, l := range p.Links {
			there[l.Name] = true
		}
	}
	var out datapath.Part
	for _, p := range s {
		for _, g := range p.Gates {
			if !g.Egress && !there[g.Link] {
				out.Links = append(out.Links, &link.Link{Name: g.Link, IFB: true, MTU: 1500, MAC: world.HashMAC(g.Link)})
			}
		}
	}
	return datapath.State{&out}
}

// ported6 is a rule that nft(8) 1.0.6 lists but cannot load: it takes the upper
// bounds of IPv6 with ports from the wrong registers.
var ported6 = regexp.MustCompile(`(?m)^\s*meta l4proto \d+ snat ip6 to .*\n`)

// split takes from text what nft(8) cannot load. Netlink puts that in its place,
// with the rest of its chain, which stands alone for this reason.
func split(text string) (loadable string, more bool) {
	loadable = ported6.ReplaceAllString(text, "")
	return loadable, loadable != text
}

// A side is a node and its pods, empty at first.
type side struct {
	t    *testing.T
	node *netnstest.Host
	pods map[string]*netnstest.Host // by the path that stands for them in text
}

func newSide(t *testing.T, pods []attachment) *side {
	t.Helper()
	s := &side{t: t, node: netnstest.New(t), pods: map[string]*netnstest.Host{}}
	for _, a := range pods {
		h := netnstest.New(t)
		for key, value := range map[string]string{world.TCPTimestamps: a.TCP.Timestamps, world.TCPReuse: a.TCP.Reuse} {
			if value != "" && value != "none" {
				h.Sysctl(key, value)
			}
		}
		s.pods[inText(a)] = h
	}
	return s
}

// stub gives the node an interface that leads nowhere, for routes to hang on. A
// bridge needs no other end; its hardware address is the same on every side.
func (s *side) stub(i world.Interface) {
	s.t.Helper()
	if i.Name == "lo" {
		return
	}
	mac := world.HashMAC(i.Name)
	s.node.Do(func() error {
		l := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: i.Name, MTU: i.MTU, HardwareAddr: mac[:]}}
		if err := netlink.LinkAdd(l); err != nil || i.Down {
			return err
		}
		return netlink.LinkSetUp(l)
	})
	for _, a := range i.Addresses {
		s.node.Address(i.Name, a.String())
	}
}

func (s *side) netns(a attachment) string { return s.pods[inText(a)].Path }

// diff is what turns the kernel's state into the wanted one.
func (s *side) diff(want datapath.State) datapath.Changes {
	s.t.Helper()
	var c datapath.Changes
	s.node.Do(func() error {
		have, err := datapath.Read(want)
		c = datapath.Diff(have, want)
		return err
	})
	return c
}

func (s *side) apply(want datapath.State) datapath.Changes {
	s.t.Helper()
	c := s.diff(want)
	s.node.Do(func() error { return datapath.Apply(c) })
	return c
}

func (s *side) nft(script string) {
	s.t.Helper()
	s.run(s.node, script, "nft", "-f", "-")
}

// command runs one line of want.ip. sysctl(8) and ethtool(8) need not be there
// for it.
func (s *side) command(words []string) {
	s.t.Helper()
	where := s.node
	if len(words) > 3 && words[0] == "nsenter" && words[2] == "sysctl" {
		where, words = s.pod(strings.TrimPrefix(words[1], "--net=")), words[2:]
	}
	if len(words) > 2 && words[0] == "sysctl" {
		for _, word := range words[2:] {
			key, value, _ := strings.Cut(word, "=")
			where.Do(func() error { return sysctl.Apply(sysctl.Setting{Key: key, Value: value}) })
		}
		return
	}
	if len(words) == 5 && words[0] == "ethtool" {
		s.node.Do(func() error { return ethtool.Apply(ethtool.Setting{Link: words[2], State: ethtool.State(words[4])}) })
		return
	}
	if len(words) > 0 && words[0] == "gate" {
		s.gate(words)
		return
	}
	for i, word := range words {
		if path, inside := strings.CutPrefix(word, "--net="); inside {
			words[i] = "--net=" + s.real(path)
		} else if i > 0 && words[i-1] == "netns" {
			words[i] = s.real(word)
		}
	}
	s.run(s.node, "", words...)
}

// gate makes what a line says of a gate, for which there is no command.
func (s *side) gate(words []string) {
	s.t.Helper()
	var g gate.Gate
	var list *[]netip.Prefix
	for i := 1; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "from":
			list = &g.Sources
		case word == "to":
			list = &g.To
		case list != nil && word == "set":
			g.Set = true
		case list != nil && strings.Contains(word, "/"):
			*list = append(*list, netip.MustParsePrefix(word))
		case list != nil:
			a := netip.MustParseAddr(word)
			*list = append(*list, netip.PrefixFrom(a, a.BitLen()))
		case word == "egress":
			g.Egress = true
		case word == "dev":
			i++
			g.Link = words[i]
		case word == "neighbour":
			i++
			g.Neighbour = netip.MustParseAddr(words[i])
		case word == "priority":
			i++
			var major, minor uint32
			if _, err := fmt.Sscanf(words[i], "%x:%x", &major, &minor); err != nil {
				s.t.Fatal(err)
			}
			g.Priority = major<<16 | minor
		default:
			s.t.Fatalf("%s: %s is no word of a gate", words, word)
		}
	}
	add, _ := gate.Diff(nil, []gate.Gate{g}, func(string) bool { return true })
	for _, c := range add {
		s.node.Do(c.Apply)
	}
}

func (s *side) real(path string) string {
	s.t.Helper()
	return s.pod(path).Path
}

func (s *side) pod(path string) *netnstest.Host {
	s.t.Helper()
	pod, ok := s.pods[path]
	if !ok {
		s.t.Fatalf("%s is no pod's network namespace", path)
	}
	return pod
}

// runPatience bounds a program that a scenario asks.
const runPatience = 2 * time.Minute

// run runs a program on h and returns what it printed.
func (s *side) run(h *netnstest.Host, stdin string, argv ...string) string {
	s.t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		s.t.Fatalf("%v: run make deps", err)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), runPatience, fmt.Errorf("it did not end within %s", runPatience))
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.WaitDelay = strings.NewReader(stdin), time.Second
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := netns.Do(h.Path, cmd.Run); err != nil {
		s.t.Fatalf("%s: %v\n%s", cmd, errors.Join(err, context.Cause(ctx)), &complaint)
	}
	return out.String()
}

// listing is all that the kernel holds on this side, sorted, and without what
// differs from one run to the next: interface indexes, names of namespaces, and
// the state of a link, which follows its change after a while.
func (s *side) listing() string {
	s.t.Helper()
	var b strings.Builder
	show := func(h *netnstest.Host, commands ...string) {
		for _, c := range commands {
			lines := strings.SplitAfter(quiet(s.run(h, "", strings.Fields(c)...)), "\n")
			if !strings.HasPrefix(c, "nft") {
				slices.Sort(lines)
			}
			fmt.Fprintf(&b, "# %s\n%s\n", c, strings.Join(lines, ""))
		}
	}
	show(s.node, "nft -s list ruleset", "bridge fdb show", "tc qdisc")
	everywhere := []string{
		"ip -d -o link", "ip -o address", "ip -d route", "ip -d -6 route",
		"ip rule", "ip -6 rule", "ip -d route show table all proto 157", "ip -d -6 route show table all proto 157",
		"ip -4 neigh show nud permanent", "ip -6 neigh show nud permanent",
	}
	show(s.node, everywhere...)
	for _, a := range slices.Sorted(maps.Keys(s.pods)) {
		fmt.Fprintf(&b, "## %s\n", a)
		show(s.pods[a], everywhere...)
	}
	return b.String()
}

var noise = []*regexp.Regexp{
	regexp.MustCompile(`(?m)^\d+: `),
	regexp.MustCompile(`@[^:\s]+`),
	regexp.MustCompile(` link-netns(id)? \S+`),
	regexp.MustCompile(` [0-9a-f]+: dev\b`), // the kernel's names of queues
	regexp.MustCompile(` state (UP|DOWN|LOWERLAYERDOWN|UNKNOWN)`),
	regexp.MustCompile(`NO-CARRIER,|,LOWER_UP| linkdown\b`),
	regexp.MustCompile(`_timer +[\d.]+`), // of the bridges that stand for interfaces
	// The kernel's own, made some time after a link comes up.
	regexp.MustCompile(`(?m)^.*\bfe80::\S*/64 .*\n`),
	regexp.MustCompile(`(?m)^(33:33|01:00:5e):.*\n`),
}

func quiet(listing string) string {
	for _, n := range noise {
		listing = n.ReplaceAllString(listing, "")
	}
	return listing
}
