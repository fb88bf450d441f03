package datapath

import (
	"errors"
	"fmt"

	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
)

// Read lists what the kernel holds of what we own, and the present values of
// the settings that want mentions.
func Read(want State) (Kernel, error) {
	return link.Whole(func() (Kernel, error) { return read(want) })
}

func read(want State) (Kernel, error) {
	var k Kernel
	var err error
	if k.tables, err = nft.Read(TablePrefix); err != nil {
		return k, err
	}
	if k.rest.Links, err = link.Read(LinkPrefix); err != nil {
		return k, err
	}
	var names []string
	for _, l := range k.rest.Links {
		names = append(names, l.Name)
	}
	if k.rest.Neighbours, err = neigh.Read(names); err != nil {
		return k, err
	}
	if k.rest.Routes, err = route.Read(RouteProtocol); err != nil {
		return k, err
	}
	for _, s := range want.flatten().Settings {
		value, err := sysctl.Read(s.Key)
		if err != nil {
			return k, err
		}
		k.rest.Settings = append(k.rest.Settings, sysctl.Setting{Key: s.Key, Value: value})
	}
	return k, nil
}

// A Failure is a change that the kernel refused. It concerns whoever uses Link;
// one of [KindRules] concerns everybody, and one of neither, such as a setting or
// a route to nowhere, is the node's alone.
type Failure struct {
	Kind Kind
	Link string // the link it was about, ours or not; "" for none
	Err  error
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
// not find a way before they find the rules for it. A change that fails does
// not keep the others from being made.
func Apply(c Changes) error {
	var failed Failures
	if err := nft.Apply(c.nft); err != nil {
		failed = append(failed, Failure{Kind: KindRules, Err: err})
	}
	broken := map[string]bool{} // links that could not be made: nothing can hang on them
	for _, s := range c.steps() {
		if broken[s.link] {
			continue
		}
		if err := s.apply(); err != nil {
			failed = append(failed, Failure{Kind: s.kind, Link: s.link, Err: err})
			broken[s.link] = s.makes
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("apply: %w", failed)
	}
	return nil
}

// A step is one change outside nftables.
type step struct {
	kind  Kind
	link  string
	text  func() string
	apply func() error
	makes bool // the link itself
}

// steps are in the order in which they are made.
func (c Changes) steps() []step {
	var out []step
	links := func(changes []link.Change) {
		for _, l := range changes {
			out = append(out, step{Kind(l.About), l.Link, l.String, l.Apply, l.New})
		}
	}
	links(c.links)
	for _, s := range c.settings {
		out = append(out, step{kind: KindSetting, text: s.String, apply: func() error { return sysctl.Apply(s) }})
	}
	for _, n := range c.add.neighbours {
		out = append(out, step{kind: kindOf(n), link: n.Link, text: n.AddText, apply: func() error { return neigh.Add(n) }})
	}
	for _, r := range c.add.routes {
		text := func() string { return r.AddText(RouteProtocol) }
		out = append(out, step{kind: KindRoute, link: r.Link, text: text, apply: func() error { return route.Add(r, RouteProtocol) }})
	}
	for _, r := range c.del.routes {
		text := func() string { return r.DeleteText(RouteProtocol) }
		out = append(out, step{kind: KindRoute, link: r.Link, text: text, apply: func() error { return route.Delete(r, RouteProtocol) }})
	}
	for _, n := range c.del.neighbours {
		out = append(out, step{kind: kindOf(n), link: n.Link, text: n.DeleteText, apply: func() error { return neigh.Delete(n) }})
	}
	links(c.delLinks)
	return out
}

func kindOf(n neigh.Neighbour) Kind {
	if n.Forward {
		return KindForwarding
	}
	return KindNeighbour
}
