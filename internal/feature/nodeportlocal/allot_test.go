package nodeportlocal_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/world"
)

// What was lost with our own record is taken from the annotations, as far as they
// make sense; the rest is put right. The cases have Antrea's names.
func TestRecall(t *testing.T) {
	for name, tt := range map[string]struct{ says, want string }{
		"TestInit":                           {`[{"podPort":80,"nodeIP":"192.168.100.1","nodePort":61005,"protocol":"tcp","ipFamily":"IPv4"}]`, "a: 61005>80/tcp"},
		"TestInitInvalidAnnotation":          {`invalid`, "a: 61000>80/tcp"},
		"TestInitOfAnotherType":              {`{"podPort":80}`, "a: 61000>80/tcp"},
		"TestInitNodePortOutOfRange":         {`[{"podPort":80,"nodePort":9,"protocol":"tcp","ipFamily":"IPv4"}]`, "a: 61000>80/tcp"},
		"TestInitNodePortThatIsNone":         {`[{"podPort":80,"nodePort":126541,"protocol":"tcp"}]`, "a: 61000>80/tcp"},
		"TestInitIncompleteRuleInAnnotation": {`[{"podPort":80,"protocol":"tcp"},{"nodePort":61003},{"podPort":80,"nodePort":61004,"protocol":"tcp"}]`, "a: 61004>80/tcp"},
		"TestInitOtherFamily":                {`[{"podPort":80,"nodePort":61004,"protocol":"tcp","ipFamily":"IPv6"}]`, "a: 61000>80/tcp"},
		"TestInitOtherProtocol":              {`[{"podPort":80,"nodePort":61004,"protocol":"udp"}]`, "a: 61000>80/tcp"},
		"TestInitNoProtocol":                 {`[{"podPort":80,"nodePort":61004,"protocols":["tcp"]}]`, "a: 61000>80/tcp"},
		"TestInitTwice":                      {`[{"podPort":80,"nodePort":61004,"protocol":"tcp"},{"podPort":80,"nodePort":61005,"protocol":"tcp"}]`, "a: 61004>80/tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(pods(pod("a", says(tt.says))), web("s", to(tcp, 80)))
			for range 2 {
				if got := s.turn(t); got != tt.want {
					t.Errorf("told %q, want %q", got, tt.want)
				}
			}
		})
	}
	t.Run("TestInitMissingPodIP", func(t *testing.T) {
		s := newSim(pods(pod("a", at(), says(`[{"podPort":80,"nodePort":61004,"protocol":"tcp"}]`))), web("s", to(tcp, 80)))
		if got := s.turn(t); got != "a:" {
			t.Errorf("told %q", got)
		}
	})
	t.Run("TestRestoreRules", func(t *testing.T) { // of either family, each by itself
		said := says(`[{"podPort":80,"nodePort":61004,"protocol":"tcp"},{"podPort":80,"nodePort":61005,"protocol":"tcp","ipFamily":"IPv6"}]`)
		s := newSim(pods(pod("a", at("10.244.1.2", "fd00::2"), said)), with(web("s", to(tcp, 80)), func(s *world.Service) { s.IPv6 = true }))
		if got, want := s.turn(t), "a: 61004>80/tcp 61005>80/tcp6"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	})
	t.Run("TestInitOneOfTwo", func(t *testing.T) { // both say that they have it
		said := says(`[{"podPort":80,"nodePort":61004,"protocol":"tcp"}]`)
		s := newSim(pods(pod("a", said), pod("b", said)), web("s", to(tcp, 80)))
		if got, want := s.turn(t), "a: 61004>80/tcp; b: 61000>80/tcp"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	})
}

// A tenant does not choose his port: while there is a record of what was given out,
// an annotation that we did not write counts for nothing, whether its port is
// another's, was just given back, or nobody's.
func TestAnAnnotationCountsOnlyWithoutARecord(t *testing.T) {
	said := func(port int) func(*world.Pod) {
		return says(fmt.Sprintf(`[{"podPort":80,"nodePort":%d,"protocol":"tcp","ipFamily":"IPv4"}]`, port))
	}
	s := newSim(pods(pod("z", app("other"))), web("s", to(tcp, 80)))
	for _, step := range []struct {
		pods []*world.Pod
		want string
	}{
		{pods(pod("z", app("other"))), ""}, // nothing was given out yet
		{pods(pod("a", said(61005))), "a: 61000>80/tcp"},
		{pods(pod("a"), pod("b")), "a: 61000>80/tcp; b: 61001>80/tcp"},
		{pods(pod("b"), pod("c", said(61000))), "b: 61001>80/tcp; c: 61002>80/tcp"}, // a's rests
		{pods(pod("b"), pod("c", says(`[{"podPort":80,"nodePort":61002,"protocol":"tcp"}]`)), pod("d", said(61002))), "b: 61001>80/tcp; c: 61002>80/tcp; d: 61003>80/tcp"},
		{pods(pod("z", app("other"))), ""},
		{pods(pod("e", said(61007))), "e: 61004>80/tcp"},
	} {
		s.set(step.pods, s.world.Services.List...)
		if got := s.turn(t); got != step.want {
			t.Errorf("told %q, want %q", got, step.want)
		}
	}
}

// What was not seen yet is no reason to begin a record: it would end what
// annotations tell of a lost one.
func TestNothingSeenIsNoRecord(t *testing.T) {
	a := pod("a", says(`[{"podPort":80,"nodePort":61005,"protocol":"tcp","ipFamily":"IPv4"}]`))
	s := newSim(nil, web("s", to(tcp, 80)))
	s.turn(t) // no pod is seen
	s.set(pods(a))
	s.world.Services = &world.Sorted[world.Service]{}
	render := nodeportlocal.Feature.Render()(s.world) // no Service is
	if render.Allocations != nil || nodeportlocal.Allocated.Of(s.world.Allocations) != nil {
		t.Fatal("nothing was seen, and there is a record")
	}
	s.set(pods(a), web("s", to(tcp, 80)))
	if got, want := s.turn(t), "a: 61005>80/tcp"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// A port that was given back is the last to be used again, in the order in which
// they were given back.
func TestPortsGivenBackAreUsedLast(t *testing.T) {
	s := newSim(nil, web("s", to(tcp, 80)))
	s.world.Config.NodePortLocal.Ports.High = 61003
	for _, step := range []struct {
		pods []*world.Pod
		want string
	}{
		{pods(pod("a"), pod("b")), "a: 61000>80/tcp; b: 61001>80/tcp"},
		{pods(pod("a")), "a: 61000>80/tcp"},
		{pods(pod("c")), "c: 61002>80/tcp"}, // b's was given back first, then a's
		{pods(pod("c"), pod("d")), "c: 61002>80/tcp; d: 61003>80/tcp"},
		{pods(pod("c"), pod("d"), pod("e")), "c: 61002>80/tcp; d: 61003>80/tcp; e: 61001>80/tcp"},
		{pods(pod("c"), pod("d"), pod("e"), pod("f"), pod("g")), "c: 61002>80/tcp; d: 61003>80/tcp; e: 61001>80/tcp; f: 61000>80/tcp"},
		{pods(pod("c"), pod("e"), pod("f"), pod("g")), "c: 61002>80/tcp; e: 61001>80/tcp; f: 61000>80/tcp; g: 61003>80/tcp"},
	} {
		s.set(step.pods, s.world.Services.List...)
		if got := s.turn(t); got != step.want {
			t.Errorf("told %q, want %q", got, step.want)
		}
	}
}

// Where none is left, those that have ports keep them, and everybody concerned is
// told.
func TestExhaustion(t *testing.T) {
	s := newSim(pods(pod("a"), pod("b"), pod("c")), web("s", to(tcp, 80)))
	s.world.Config.NodePortLocal.Ports.High = 61001
	if got, want := s.turn(t), "a: 61000>80/tcp; b: 61001>80/tcp"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	var about []string
	for _, e := range s.result.Events {
		about = append(about, e.Object)
	}
	if !slices.Equal(about, []string{"Pod default/c", "Service default/s"}) || len(s.result.Problems) != 1 || s.result.Problems[0].Object != "Pod default/c" ||
		len(s.result.Reports) != 1 || s.result.Reports[0].Status {
		t.Errorf("events %+v, problems %v, reports %+v", s.result.Events, s.result.Problems, s.result.Reports)
	}
	s.set(pods(pod("b"), pod("c")), s.world.Services.List...)
	if got, want := s.turn(t), "b: 61001>80/tcp; c: 61000>80/tcp"; got != want || len(s.result.Events)+len(s.result.Problems) > 0 || !s.result.Reports[0].Status {
		t.Errorf("told %q, want %q; events %+v", got, want, s.result.Events)
	}
}

// TestNodePortAlreadyBoundTo: a port that another program has is passed over, also
// by who had it.
func TestNodePortAlreadyBoundTo(t *testing.T) {
	s := newSim(pods(pod("a"), pod("b")), web("s", to(tcp, 80)))
	s.turn(t)
	s.world.Taken = &world.Taken{Ports: []world.Port{{Protocol: tcp, Number: 61000}, {Protocol: tcp, Number: 61002}}}
	if got, want := s.turn(t), "a: 61003>80/tcp; b: 61001>80/tcp"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	s.set(pods(pod("a"), pod("b"), pod("c")), s.world.Services.List...)
	s.world.Taken = &world.Taken{Ports: s.world.Taken.Ports, Closed: true}
	if got, want := s.turn(t), "a: 61003>80/tcp; b: 61001>80/tcp"; got != want {
		t.Errorf("while nothing is given out told %q, want %q", got, want)
	}
	s.world.Taken = nil
	if got, want := s.turn(t), "a: 61003>80/tcp; b: 61001>80/tcp; c: 61002>80/tcp"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// A range that changes moves what is outside it, and nothing else.
func TestTheRangeChanges(t *testing.T) {
	s := newSim(pods(pod("a"), pod("b"), pod("c")), web("s", to(tcp, 80)))
	s.turn(t)
	s.world.Config.NodePortLocal.Ports = world.PortRange{Low: 61002, High: 61005}
	if got, want := s.turn(t), "a: 61003>80/tcp; b: 61004>80/tcp; c: 61002>80/tcp"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	s.world.Config.NodePortLocal.Ports = world.PortRange{Low: 40000, High: 40001}
	problems := func() (fields []string) {
		for _, p := range s.result.Problems {
			fields = append(fields, p.Object+" "+p.Field)
		}
		return fields
	}
	if got, want := s.turn(t), "a: 40000>80/tcp; b: 40001>80/tcp; c:"; got != want ||
		!slices.Equal(problems(), []string{"Node n1 nodePortLocal.portRange", "Pod default/c metadata.annotations[nodeportlocal.antrea.io]"}) {
		t.Errorf("told %q, want %q; problems %v", got, want, s.result.Problems)
	}
	s.world.Config.NodePortLocal.Enabled = false
	if got, want := s.turn(t), "a:; b:"; got != want || len(s.result.Part.Tables)+len(s.result.Problems) > 0 {
		t.Errorf("told %q, want %q; problems %v", got, want, s.result.Problems)
	}
}

// A family that goes from a Service takes its ports, and one that comes gets the
// same numbers if it can.
func TestFamilies(t *testing.T) {
	families := func(ipv4, ipv6 bool) *world.Service {
		return with(web("s", to(tcp, 80)), func(s *world.Service) { s.IPv4, s.IPv6 = ipv4, ipv6 })
	}
	dual, six := []string{"10.244.1.2", "fd00::2"}, []string{"fd00::3"}
	for name, states := range map[string][]state{
		"TestDualStack": {
			{pods(pod("a", at(dual...)), pod("b")), services(families(true, true)), "a: 61000>80/tcp 61000>80/tcp6; b: 61001>80/tcp"},
			{pods(pod("a", at(dual...)), pod("b")), services(families(true, false)), "a: 61000>80/tcp; b: 61001>80/tcp"},
			{pods(pod("a", at(dual...)), pod("b")), services(families(true, true)), "a: 61000>80/tcp 61000>80/tcp6; b: 61001>80/tcp"},
			{pods(pod("a", at(dual...)), pod("b")), services(families(false, true)), "a: 61000>80/tcp6"},
		},
		"TestIPv6Only": {
			{pods(pod("a", at(six...))), services(families(false, true)), "a: 61000>80/tcp6"},
			{pods(pod("a", at(six...))), services(families(true, false)), ""},
		},
		"TestGetServiceIPFamilies": {
			{pods(pod("a", at(dual...)), pod("b", at(six...))), services(families(false, false)), "a: 61000>80/tcp; b: 61000>80/tcp6"},
		},
		"TestGetPodIPForFamily": {
			{pods(pod("a", at("fd00::2", "10.244.1.2"))), services(families(true, false)), "a: 61000>80/tcp"},
		},
		"TestIPFamilies": { // those of all Services together, each once
			{pods(pod("a", at(dual...))), services(families(true, false), families(true, false)), "a: 61000>80/tcp"},
			{pods(pod("a", at(dual...))), services(families(true, false), families(false, true)), "a: 61000>80/tcp 61000>80/tcp6"},
			{pods(pod("a", at(dual...))), nil, ""},
		},
		"numbers apart": {
			{pods(pod("a")), services(families(true, false)), "a: 61000>80/tcp"},
			{pods(pod("a"), pod("b", at(six...))), services(families(true, true)), "a: 61000>80/tcp; b: 61000>80/tcp6"},
			{pods(pod("a", at(dual...)), pod("b", at(six...))), services(families(true, true)), "a: 61000>80/tcp 61001>80/tcp6; b: 61000>80/tcp6"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(nil)
			for i, now := range states {
				s.set(now.pods, now.services...)
				if got := s.turn(t); got != now.want {
					t.Errorf("state %d: told %q, want %q", i, got, now.want)
				}
			}
		})
	}
}

// TestNodeIPUpdate: the node's addresses are those that the pods are told.
func TestNodeIPUpdate(t *testing.T) {
	both := with(web("s", to(tcp, 80)), func(s *world.Service) { s.IPv6 = true })
	s := newSim(pods(pod("a", at("10.244.1.2", "fd00::2"))), both)
	for _, step := range []struct {
		internal, external []string
		want               string
	}{
		{[]string{"192.168.100.1", "2001:db8::1"}, nil, "a: 61000>80/tcp 61000>80/tcp6"},
		{[]string{"192.168.100.2", "192.168.100.1"}, []string{"2001:db8::9"}, "a: 61000>80/tcp@192.168.100.2 61000>80/tcp6@2001:db8::9"},
		{[]string{"192.168.100.2"}, nil, "a: 61000>80/tcp@192.168.100.2"},
	} {
		s.world.Node = &world.Node{Name: "n1", Addresses: addresses(step.internal...), External: addresses(step.external...)}
		if got := s.turn(t); got != step.want {
			t.Errorf("told %q, want %q", got, step.want)
		}
	}
	if len(s.result.Problems) != 1 || !strings.Contains(s.result.Problems[0].Reason, "IPv6") {
		t.Errorf("problems %v", s.result.Problems)
	}
}

// It is known which Services ask for a port, of those that are there now: the names
// are no part of what is recorded. The cases have Antrea's names.
func TestServicesOfAMapping(t *testing.T) {
	const restored = `[{"podPort":80,"nodePort":61005,"protocol":"tcp"}]`
	for name, states := range map[string][]state{
		"TestServiceNameStoredWithNamedPort": {
			{pods(pod("a", named("web", 8080))), services(web("s", toName("web"))), "61000>8080/tcp s"},
		},
		"TestServiceNameSharedByMultipleServices": {
			{pods(pod("a")), services(one, web("t", to(tcp, 80), to(tcp, 81))), "61000>80/tcp s t; 61001>81/tcp t"},
			{pods(pod("a", named("web", 80))), services(one, web("t", toName("web"))), "61000>80/tcp s t"},
		},
		"TestServiceNameUpdatedAfterOwningServiceReplaced": {
			{pods(pod("a")), services(one), "61000>80/tcp s"},
			{pods(pod("a")), services(web("t", to(tcp, 80))), "61000>80/tcp t"},
		},
		"TestServiceNameBackfilledAfterRestore": {
			{pods(pod("a", says(restored))), services(one), "61005>80/tcp s"},
		},
		"TestGetServiceForNPLPort": { // a number is of one protocol
			{pods(pod("a"), pod("b")), services(one, web("u", to(udp, 80))), "61000>80/tcp s; 61000>80/udp u; 61001>80/tcp s; 61001>80/udp u"},
		},
		"TestSetServiceForPodPort": { // one more asks for a port that is mapped
			{pods(pod("a")), services(one), "61000>80/tcp s"},
			{pods(pod("a")), services(one, web("t", to(tcp, 80))), "61000>80/tcp s t"},
			{pods(pod("a")), services(one, web("t", toName("none"))), "61000>80/tcp s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(nil)
			for i, now := range states {
				s.set(now.pods, now.services...)
				s.turn(t)
				var got []string
				for _, m := range nodeportlocal.Decide(s.world).Mappings {
					words := fmt.Sprintf("%d>%d/%s", m.Port.Number, m.PodPort, world.ProtocolName(m.Port.Protocol))
					for _, k := range m.Services {
						words += " " + k.Name
					}
					got = append(got, words)
				}
				if got := strings.Join(got, "; "); got != now.want {
					t.Errorf("state %d: %q, want %q", i, got, now.want)
				}
			}
		})
	}
}

// One mapping more, or less, is an element more or less, and no rule; only with the
// last of them the table goes. The cases have Antrea's names.
func TestAMappingIsAnElement(t *testing.T) {
	for name, tt := range map[string]struct {
		protocol byte
		more     []*world.Pod
		want     []string // elements, with their set
	}{
		"TestAddAndDeleteRule/tcp": {tcp, pods(pod("b")), []string{"ports4 { 6 . 61001 : 10.244.1.3 . 80 }", "self4 { 10.244.1.3 . 10.244.1.3 }"}},
		"TestAddAndDeleteRule/udp": {udp, pods(pod("b")), []string{"ports4 { 17 . 61001 : 10.244.1.3 . 80 }", "self4 { 10.244.1.3 . 10.244.1.3 }", "udp4 { 61001 }"}},
		"TestAddAndDeleteAllRules": {tcp, pods(pod("b"), pod("c")), []string{
			"ports4 { 6 . 61001 : 10.244.1.3 . 80, 6 . 61002 : 10.244.1.4 . 80 }", "self4 { 10.244.1.3 . 10.244.1.3, 10.244.1.4 . 10.244.1.4 }"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(pods(pod("a")), web("s", to(tt.protocol, 80)))
			s.turn(t)
			before := s.result.Part
			s.set(append(tt.more, pod("a")), s.world.Services.List...)
			s.turn(t)
			after := s.result.Part
			for verb, states := range map[string][2]datapath.State{"add": {{&before}, {&after}}, "delete": {{&after}, {&before}}} {
				var want string
				for _, element := range tt.want {
					want += "nft " + verb + " element inet fairlead-nodeportlocal " + element + "\n"
				}
				if got := datapath.DiffStates(states[0], states[1]).String(); got != want {
					t.Errorf("to %s them is\n%swant\n%s", verb, got, want)
				}
			}
			s.set(nil)
			s.turn(t)
			if got, want := datapath.DiffStates(datapath.State{&after}, datapath.State{&s.result.Part}).String(), "nft delete table inet fairlead-nodeportlocal\n"; got != want {
				t.Errorf("none any more is\n%swant\n%s", got, want)
			}
		})
	}
}
