package nodeportlocal_test

import (
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
	t.Run("TestInitOneOfTwo", func(t *testing.T) { // both say that they have it
		said := says(`[{"podPort":80,"nodePort":61004,"protocol":"tcp"}]`)
		s := newSim(pods(pod("a", said), pod("b", said)), web("s", to(tcp, 80)))
		if got, want := s.turn(t), "a: 61004>80/tcp; b: 61000>80/tcp"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	})
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

// TestServiceNameSharedByMultipleServices: it is known who asked for a port.
func TestServiceNameSharedByMultipleServices(t *testing.T) {
	s := newSim(pods(pod("a", named("web", 80))), web("s", to(tcp, 80), to(tcp, 81)), web("t", toName("web")))
	var got []string
	for _, m := range nodeportlocal.Decide(s.world).Mappings {
		for _, k := range m.Services {
			got = append(got, k.Name)
		}
		got = append(got, ";")
	}
	if want := []string{"s", "t", ";", "s", ";"}; !slices.Equal(got, want) {
		t.Errorf("asked for by %q, want %q", got, want)
	}
}

// One mapping more, or less, is an element more or less, and no rule.
func TestAMappingIsAnElement(t *testing.T) {
	s := newSim(pods(pod("a")), web("s", to(tcp, 80)))
	s.turn(t)
	before := s.result.Part
	s.set(pods(pod("a"), pod("b")), s.world.Services.List...)
	s.turn(t)
	after := s.result.Part
	want := "nft add element inet fairlead-nodeportlocal ports4 { 6 . 61001 : 10.244.1.3 . 80 }\n" +
		"nft add element inet fairlead-nodeportlocal self4 { 10.244.1.3 . 10.244.1.3 }\n"
	if got := datapath.DiffStates(datapath.State{&before}, datapath.State{&after}).String(); got != want {
		t.Errorf("one more is\n%swant\n%s", got, want)
	}
	want = strings.ReplaceAll(want, "add element", "delete element")
	if got := datapath.DiffStates(datapath.State{&after}, datapath.State{&before}).String(); got != want {
		t.Errorf("one less is\n%swant\n%s", got, want)
	}
}
