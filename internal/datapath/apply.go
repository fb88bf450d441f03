package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/rtnl"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/datapath/tc"
)

// Read lists what the kernel holds of what we own, and the present values of
// the settings that want mentions.
func Read(want State) (Kernel, error) {
	return link.Whole(func() (Kernel, error) { return read(want, nft.Read) })
}

// Glance is Read where rules may change meanwhile: see [nft.Glance].
func Glance(want State) (Kernel, error) {
	return link.Whole(func() (Kernel, error) { return read(want, nft.Glance) })
}

func read(want State, tables func(prefix string) ([]*nft.Found, error)) (Kernel, error) {
	var k Kernel
	var err error
	if k.tables, err = tables(TablePrefix); err != nil {
		return k, err
	}
	if k.rest.Links, err = link.Read(LinkPrefix); err != nil {
		return k, err
	}
	if k.rest.Gates, err = gate.Read(LinkPrefix); err != nil {
		return k, err
	}
	c, err := rtnl.Dial()
	if err != nil {
		return k, err
	}
	defer c.Close()
	if k.rest.Neighbours, err = neigh.Read(c, LinkPrefix); err != nil {
		return k, err
	}
	if k.rest.Proxies, err = neigh.ReadProxies(c, RouteProtocol); err != nil {
		return k, err
	}
	if k.rest.Routes, err = route.Read(c, RouteProtocol, NodesTable, EgressTable, EgressGuardTable); err != nil {
		return k, err
	}
	if k.rest.Rules, err = route.ReadRules(c, RouteProtocol); err != nil {
		return k, err
	}
	if k.rest.Shapers, k.rest.Redirects, err = tc.Read(c, LinkPrefix, FilterPref); err != nil {
		return k, err
	}
	k.open = map[nft.Place]bool{}
	for _, p := range AcceptPlaces {
		guests, open, err := p.Guests(AcceptMark)
		if err != nil {
			return k, err
		}
		k.rest.Guests, k.open[p] = append(k.rest.Guests, guests...), open
	}
	for _, s := range undone(want.settings()) {
		value, err := s.Now()
		if err != nil && s.Netns == "" {
			return k, err
		}
		s.Value = value // of a namespace that nobody can enter, nothing
		k.rest.Settings = append(k.rest.Settings, s)
	}
	return k, nil
}

// Young are the links whose gates are to be settled.
func (k Kernel) Young() (links []string) {
	for _, g := range k.rest.Gates {
		if g.Young() {
			links = append(links, g.Link)
		}
	}
	return links
}

// Young are the links with gates to be settled once the changes are made.
func (c Changes) Young() (links []string) {
	for _, s := range slices.Concat(c.first, c.steps) {
		if g, is := s.change.(gate.Change); is && g.Young {
			links = append(links, s.link)
		}
	}
	return links
}

// Gated are those of the links that are to have a gate, each once.
func (s State) Gated(links []string) []string {
	waits := make(map[string]bool, len(links))
	for _, l := range links {
		waits[l] = false
	}
	for _, p := range s {
		for _, g := range p.Gates {
			if _, is := waits[g.Link]; is {
				waits[g.Link] = true
			}
		}
	}
	return slices.DeleteFunc(links, func(l string) bool {
		wanted := waits[l]
		waits[l] = false // its next name is one too many
		return !wanted
	})
}

// Settle takes the gate of a link to where it stays, which takes long, and reports
// whether there was anything to do.
func Settle(link string) (bool, error) { return gate.Settle(link) }

// A Failure is a change that the kernel refused. It concerns whoever uses Link;
// one of [KindRules] concerns everybody, and one of neither, such as a setting or
// a route to nowhere, is the node's alone.
type Failure struct {
	Kind Kind
	Link string     // the link it was about, ours or not; "" for none
	Addr netip.Addr // where the route or neighbour would have led; zero for none
	// Setting is the one that was refused; zero for none.
	Setting sysctl.Setting
	Err     error
}

// Failures are all changes that the kernel refused; the others were made.
type Failures []Failure

// Error is the failures as one line.
func (f Failures) Error() string {
	var errs []error
	for _, one := range f {
		errs = append(errs, one.Err)
	}
	return errors.Join(errs...).Error()
}

// Apply makes the changes. Rules come first, in one transaction: packets must
// not find a way before they find the rules for it. Before them come gates of links
// that are there, since rules may go that did the same. Tables that go, go last, in
// another: what closes is made before what opens. A change that fails does not
// keep the others from being made, but what was not closed keeps its rules.
func Apply(c Changes) error {
	a := applying{broken: map[string]bool{}}
	if err := a.make(c.first); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if err := nft.Apply(c.nft); err != nil {
		a.failed, a.unruled = append(a.failed, Failure{Kind: KindRules, Err: err}), true
	}
	if err := a.make(c.steps); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if err := nft.Apply(c.late); err != nil {
		a.failed = append(a.failed, Failure{Kind: KindRules, Err: err})
	}
	if a.open && len(c.ends) > 0 {
		a.failed = append(a.failed, Failure{Kind: KindRules, Err: errors.New("tables stay until the links and settings that they guard are as they should be")})
	} else if err := nft.Apply(c.ends); err != nil {
		a.failed = append(a.failed, Failure{Kind: KindRules, Err: err})
	}
	if len(a.failed) > 0 {
		return fmt.Errorf("apply: %w", a.failed)
	}
	return nil
}

// onTheWay is how long a packet may take from finding its route to using what the
// route leads to, on a busy machine.
const onTheWay = 20 * time.Millisecond

// An applying is one call of Apply on its way.
type applying struct {
	failed  Failures
	broken  map[string]bool // links that could not be made: nothing can hang on them
	unruled bool            // the rules were refused
	open    bool            // a link or a setting is still there that should not be
}

// make makes steps in their order; those that the kernel takes by the hundred are
// sent together.
func (a *applying) make(steps []step) error {
	if len(steps) == 0 {
		return nil
	}
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	waited := false
	for len(steps) > 0 {
		s := steps[0]
		if s.late && !waited {
			time.Sleep(onTheWay)
			waited = true
		}
		if s.apply == nil {
			n := together(steps)
			a.send(c, steps[:n])
			steps = steps[n:]
			continue
		}
		if n := going(steps); n > 1 {
			a.remove(steps[:n])
			steps = steps[n:]
			continue
		}
		steps = steps[1:]
		if a.broken[s.link] || a.unruled && s.kind == KindGate && !s.closes {
			continue // the rules that are to do what the gate did are not there
		}
		if err := s.apply(); err != nil {
			a.fail(s, err)
			a.broken[s.link] = s.makes || s.closes
			if s.closes {
				a.shut(s)
			}
			a.open = a.open || s.kind == KindSetting && s.setting().Netns == "" || s.gone()
		}
	}
	return nil
}

// together is how many steps from the first on are sent together.
func together(steps []step) int {
	for i, s := range steps {
		if s.apply != nil || s.late != steps[0].late {
			return i
		}
	}
	return len(steps)
}

// going is how many steps from the first on remove links.
func going(steps []step) int {
	for i, s := range steps {
		if !s.gone() {
			return i
		}
	}
	return len(steps)
}

// shut takes a link down whose gate was refused: rules that did the same may be gone
// in the next moment. It comes up again with its gate.
func (a *applying) shut(s step) {
	if err := link.Down(s.link); err != nil {
		a.fail(s, fmt.Errorf("%s: %w", s.link, err))
	}
}

func (a *applying) remove(steps []step) {
	var names []string
	for _, s := range steps {
		names = append(names, s.link)
	}
	for i, err := range link.Remove(names, DoomedGroup) {
		if err != nil {
			a.open = true
			a.fail(steps[i], fmt.Errorf("%s: %w", steps[i].change, err))
		}
	}
}

func (a *applying) send(c *rtnl.Conn, steps []step) {
	var changes []rtnl.Change
	var of []step
	for _, s := range steps {
		if !a.broken[s.link] {
			changes, of = append(changes, s.change.(rtnl.Change)), append(of, s)
		}
	}
	for i, err := range c.Make(changes) {
		if err != nil {
			a.fail(of[i], err)
		}
	}
}

func (a *applying) fail(s step, err error) {
	a.failed = append(a.failed, Failure{Kind: s.kind, Link: s.link, Addr: s.addr, Setting: s.setting(), Err: err})
}
