package tc

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// Read lists the shapers of links whose names begin with prefix, and the
// redirects of the given preference on them.
func Read(c *rtnl.Conn, prefix string, pref int) ([]Shaper, []Redirect, error) {
	var shapers []Shaper
	var hooks []tcmsg
	all, err := rtnl.NewMessage(unix.RTM_GETQDISC, 0, tcmsg{})
	if err == nil {
		err = c.List(all, func(answer []byte) {
			h, attrs := rtnl.Parse[tcmsg](answer)
			link := c.Name(int(h.Ifindex))
			if !strings.HasPrefix(link, prefix) {
				return
			}
			if h.Parent == hClsact {
				hooks = append(hooks, h)
			}
			if b, ok := bucketFrom(attrs); ok && h.Parent == hRoot {
				shapers = append(shapers, Shaper{Link: link, Rate: 8 * b.rate, Burst: 8 * uint64(b.burst), found: &b})
			}
		})
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil, nil // a kernel that queues nothing
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list qdiscs: %w", err)
	}
	var redirects []Redirect
	for _, h := range hooks {
		r, err := readHook(c, h, pref)
		if err != nil {
			return nil, nil, fmt.Errorf("list filters of %s: %w", c.Name(int(h.Ifindex)), err)
		}
		redirects = append(redirects, r...)
	}
	return shapers, redirects, nil
}

// readHook returns the redirect in a link's ingress hook, if there is one.
func readHook(c *rtnl.Conn, hook tcmsg, pref int) ([]Redirect, error) {
	in, err := rtnl.NewMessage(unix.RTM_GETTFILTER, 0, tcmsg{Ifindex: hook.Ifindex, Parent: hIngress})
	if err != nil {
		return nil, err
	}
	var found []Redirect
	rules := 0
	err = c.List(in, func(answer []byte) {
		h, attrs := rtnl.Parse[tcmsg](answer)
		if h.Info>>16 != uint32(pref) {
			return
		}
		if found == nil {
			found = []Redirect{{Link: c.Name(int(hook.Ifindex)), odd: true}}
		}
		r, is := ruleFrom(attrs)
		if !is {
			return // the filter as a whole, and its table, are listed too
		}
		rules++
		found[0].To = c.Name(r.to)
		found[0].odd = rules > 1 || !r.all || h.Info&0xffff != allProtocols
	})
	return found, err
}

// bucketFrom is the shaper that a queue is, if it is one of the kind that is ours.
func bucketFrom(attrs attributes) (bucket, bool) {
	var b bucket
	for typ, value := range options(attrs, "tbf") {
		switch typ {
		case tbfParms:
			parms, _ := rtnl.Value[tbfQopt](value)
			if parms.Peakrate.Rate != 0 {
				return b, false
			}
			b.limit, b.ticks = parms.Limit, uint64(parms.Buffer)
			b.rate = max(b.rate, uint64(parms.Rate.Rate))
		case tbfRate64:
			b.rate, _ = rtnl.Value[uint64](value)
		}
	}
	return b, b.rate > 0
}

// A rule is one of a u32 filter.
type rule struct {
	all bool // of all packets
	to  int  // the index of the link that they are led to; 0 unless that is all
}

// ruleFrom is the rule in a filter, if there is one.
func ruleFrom(attrs attributes) (rule, bool) {
	var r rule
	is := false
	for typ, value := range options(attrs, "u32") {
		switch typ {
		case u32Sel:
			sel, ok := rtnl.Value[u32Match](value)
			is, r.all = true, ok && sel == u32Match{Flags: u32Terminal, Nkeys: 1}
		case u32Act:
			r.to = redirectFrom(value)
		}
	}
	return r, is
}

// redirectFrom is where a list of actions leads packets; 0 unless it has only a
// redirect.
func redirectFrom(actions []byte) int {
	to, n := 0, 0
	for _, action := range rtnl.Attributes(actions) {
		n++
		for typ, value := range options(rtnl.Attributes(action), "mirred") {
			if m, _ := rtnl.Value[mirred](value); typ == mirredParms && m.Eaction == egressRedirect {
				to = int(m.Ifindex)
			}
		}
	}
	if n != 1 {
		return 0
	}
	return to
}

// attributes are those of an answer, or of an attribute of it.
type attributes = iter.Seq2[uint16, []byte]

// options are those of a queue, a filter or an action of the given kind. All
// three number their attributes alike.
func options(attrs attributes, kind string) attributes {
	var body []byte
	is := false
	for typ, value := range attrs {
		switch typ {
		case tcaKind:
			is = string(value) == kind+"\x00"
		case tcaOptions:
			body = value
		}
	}
	if !is {
		body = nil
	}
	return rtnl.Attributes(body)
}
