package tcp_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/feature/tcp"
	"fairlead.dev/fairlead/internal/settings"
	"fairlead.dev/fairlead/internal/world"
)

// What becomes of a setting follows from what is wanted, what the namespace has, and
// what is known of it: decision 0035.
func TestWhoseAValueIs(t *testing.T) {
	done := settings.Setting{Holder: "a@eth0", Netns: "/run/netns/a", Key: world.TCPTimestamps, Before: "1", Value: "2"}
	setting, puttingBack := done, done
	setting.From = "1"
	puttingBack.Value, puttingBack.From = "1", "2"
	for _, c := range []struct {
		name, want, has string
		known           *settings.Setting
		set             string // "": nothing; "=": it was made so
		then            *settings.Setting
	}{
		{"new", "2", "1", nil, "2", &setting},
		{"new, and as wanted", "2", "2", nil, "", nil},
		{"its own before we came", "2", "0", nil, "", nil},
		{"nothing wanted", "", "1", nil, "", nil},
		{"nothing wanted, its own", "", "0", nil, "", nil},
		{"no such setting", "2", "", nil, "", nil},
		{"not made so yet", "2", "1", &setting, "2", &setting},
		{"made so, not told", "2", "2", &setting, "=", &done},
		{"another meanwhile", "2", "0", &setting, "", &setting},
		{"made so", "2", "2", &done, "=", &done},
		{"changed since, to what it was", "2", "1", &done, "", &done},
		{"changed since", "2", "0", &done, "", &done},
		{"changed since, and nothing wanted", "", "1", &done, "", &done},
		{"taken back", "", "2", &done, "1", &puttingBack},
		{"another wanted, which it had before", "1", "2", &done, "1", &puttingBack},
		{"not put back yet", "", "2", &puttingBack, "1", &puttingBack},
		{"put back", "", "1", &puttingBack, "", nil},
		{"put back, and wanted again", "2", "1", &puttingBack, "2", &setting},
		{"not put back, and wanted again", "2", "2", &puttingBack, "=", &done},
		{"another while it was put back", "", "0", &puttingBack, "", &puttingBack},
		{"taken back before it was made so", "", "1", &setting, "", nil},
	} {
		w := &world.World{Node: &world.Node{Name: "n1"}, Allocations: &world.Parts{}, Config: &world.Config{PodTCP: world.TCP{Timestamps: c.want}},
			Attachments: &world.Attachments{List: []*world.Attachment{{ContainerID: "a", Interface: "eth0", Netns: "/run/netns/a"}}},
			TCP:         &world.TCPSeen{Pods: []world.PodTCP{{Attachment: "a@eth0", TCP: world.TCP{Timestamps: c.has, Reuse: "2"}}}}}
		if c.known != nil {
			w.Allocations = settings.Kept.Only(&settings.List{List: []settings.Setting{*c.known}})
		}
		r := tcp.Feature.Render()(w)
		var set string
		for _, s := range r.Part.Settings {
			if set = s.Value; s.Done {
				set = "="
			}
			if !s.Done && s.From != c.has {
				t.Errorf("%s: set where it is %q", c.name, s.From)
			}
		}
		var then []settings.Setting
		if r.Allocations != nil {
			then = settings.Kept.Of(r.Allocations).List
		}
		var want []settings.Setting
		if c.then != nil {
			want = append(want, *c.then)
		}
		if set != c.set || !slices.Equal(then, want) {
			t.Errorf("%s: set %q and then %+v, want %q and %+v", c.name, set, then, c.set, want)
		}
	}
}

// A pod whose namespace is not seen, or refuses, keeps what is known of it.
func TestWhatIsKnownStaysWhileNothingIsSeen(t *testing.T) {
	known := &settings.List{List: []settings.Setting{{Holder: "a@eth0", Netns: "/run/netns/a", Key: world.TCPTimestamps, Before: "1", Value: "2"}}}
	for _, seen := range [][]world.PodTCP{nil, {{Attachment: "a@eth0", Refused: "read-only file system"}}} {
		w := &world.World{Node: &world.Node{Name: "n1"}, Allocations: settings.Kept.Only(known), Config: &world.Config{},
			Attachments: &world.Attachments{List: []*world.Attachment{{Namespace: "b", Pod: "a", ContainerID: "a", Interface: "eth0", Netns: "/run/netns/a"}}},
			TCP:         &world.TCPSeen{Pods: seen}}
		r := tcp.Feature.Render()(w)
		if settings.Kept.Of(r.Allocations) != known || len(r.Part.Settings) > 0 || len(r.Problems) != len(seen) {
			t.Errorf("%+v leads to %+v", seen, r)
		}
		w.Attachments = &world.Attachments{}
		if r := tcp.Feature.Render()(w); len(settings.Kept.Of(r.Allocations).List) > 0 {
			t.Errorf("of a pod that is gone is left %+v", settings.Kept.Of(r.Allocations).List)
		}
	}
}

// Where many namespaces refuse it is hardly the pods' affair, and one Problem.
func TestManyRefusalsAreOneProblem(t *testing.T) {
	w := &world.World{Node: &world.Node{Name: "n1"}, Allocations: &world.Parts{}, Config: &world.Config{PodTCP: world.TCP{Timestamps: "2"}},
		Attachments: &world.Attachments{}, TCP: &world.TCPSeen{}}
	for i := range 300 {
		a := &world.Attachment{Namespace: "b", Pod: strings.Repeat("a", i+1), ContainerID: strings.Repeat("a", i+1), Interface: "eth0"}
		w.Attachments.List = append(w.Attachments.List, a)
		w.TCP.Pods = append(w.TCP.Pods, world.PodTCP{Attachment: a.Key(), Refused: "read-only file system"})
	}
	slices.SortFunc(w.TCP.Pods, func(x, y world.PodTCP) int { return cmp.Compare(x.Attachment, y.Attachment) })
	r := tcp.Feature.Render()(w)
	if len(r.Problems) != 1 || r.Problems[0].Object != "Node n1" || !strings.Contains(r.Problems[0].Reason, "300 pods") {
		t.Errorf("problems are %v", r.Problems)
	}
}
