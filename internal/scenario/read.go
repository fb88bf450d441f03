package scenario

import (
	"bytes"
	"cmp"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/dir"
	"fairlead.dev/fairlead/internal/world"
)

// A scenario is one file, read.
type scenario struct {
	path    string
	archive *txtar.Archive
	node    string
	objects *source.Objects
	kernel  kernel
	pods    []attachment
	packets []line
}

// kernel is what kernel.yaml says; what it leaves out is as on an ordinary node.
type kernel struct {
	Interfaces    []device          `json:"interfaces"`
	LocalPorts    string            `json:"localPorts"`
	ReservedPorts []string          `json:"reservedPorts"`
	Lacks         map[string]string `json:"lacks"`      // capability and reason
	TakenPorts    []string          `json:"takenPorts"` // those that others hold, as 61000/tcp or 61000/tcp6
	Metrics       netip.AddrPort    `json:"metrics"`    // where the agent serves them
	Drops         []drop            `json:"drops"`
	PodsPass      bool              `json:"podsPass"` // between the nodes, as an agent sees it
	Strict        bool              `json:"strict"`   // rp_filter of all interfaces is 1
	TCP           tcp               `json:"tcp"`
	SourceRules   []sourceRule      `json:"sourceRules"`
	Uplinks       []uplink          `json:"uplinks"` // of default routes, the best first
}

// sourceRule is a rule of routing for what has some of the node's addresses.
type sourceRule struct {
	Priority uint32       `json:"priority"`
	From     netip.Prefix `json:"from"`
	To       netip.Prefix `json:"to"`
	Table    uint32       `json:"table"`
}

// uplink is an interface with a default route, and the source that it says.
type uplink struct {
	Interface string     `json:"interface"`
	Source    netip.Addr `json:"source"`
	Said      bool       `json:"said"` // masquerade would give another
}

// drop is a filter of others, with all that it drops.
type drop struct {
	Family string   `json:"family"`
	Table  string   `json:"table"`
	Chain  string   `json:"chain"`
	Legacy bool     `json:"legacy"`
	IPv6   bool     `json:"ipv6"`
	Ways   []string `json:"ways"`
	By     string   `json:"by"`

	Accepting bool `json:"accepting"` // our rules are in it
}

func (d drop) world() (out []world.ForwardDrop) {
	for _, way := range d.Ways {
		filter := world.Filter{Family: d.Family, Table: d.Table, Chain: d.Chain, Legacy: d.Legacy}
		out = append(out, world.ForwardDrop{Filter: filter, IPv6: d.IPv6, Way: world.Way(way), By: d.By, Accepting: d.Accepting})
	}
	return out
}

type device struct {
	Name      string         `json:"name"`
	MTU       int            `json:"mtu"`
	Down      bool           `json:"down"`
	Addresses []netip.Prefix `json:"addresses"`
	Fleeting  []netip.Addr   `json:"fleeting"` // the more lasting first
}

// attachment is one pod wired to the node.
type attachment struct {
	Namespace   string       `json:"namespace"`
	Pod         string       `json:"pod"`
	ContainerID string       `json:"containerID"`
	Dead        bool         `json:"dead"` // its network namespace is gone
	Addresses   []netip.Addr `json:"addresses"`
	Chained     bool         `json:"chained"`
	HostPorts   []hostPort   `json:"hostPorts"`

	Bandwidth world.Bandwidth `json:"bandwidth"`
	TCP       tcp             `json:"tcp"`
}

// tcp is what a network namespace shows of TCP; what it leaves out is as it was born,
// and "none" is no setting at all.
type tcp struct {
	Timestamps string `json:"timestamps"`
	Reuse      string `json:"reuse"`
	Refused    string `json:"refused"`
}

func (s tcp) world() world.TCP {
	shows := func(written, plain string) string {
		if written == "none" {
			return ""
		}
		return cmp.Or(written, plain)
	}
	return world.TCP{Timestamps: shows(s.Timestamps, source.PlainTCP.Timestamps), Reuse: shows(s.Reuse, source.PlainTCP.Reuse)}
}

// hostPort is a port of the node that leads to the pod.
type hostPort struct {
	Address  netip.Addr `json:"address"`
	Port     uint16     `json:"port"`
	Protocol string     `json:"protocol"`
	PodPort  uint16     `json:"podPort"`
}

// world is a as an attachment whose network namespace is at a path.
func (a attachment) world(t *testing.T, netns string) *world.Attachment {
	t.Helper()
	out := &world.Attachment{
		Namespace: a.Namespace, Pod: a.Pod, ContainerID: a.ContainerID, Interface: "eth0",
		Netns: netns, Addresses: a.Addresses, Chained: a.Chained, Bandwidth: a.Bandwidth,
	}
	for _, p := range a.HostPorts {
		number, err := parseProtocol(p.Protocol)
		if err != nil {
			t.Fatalf("attachments.yaml: %v", err)
		}
		out.HostPorts = append(out.HostPorts, world.HostPort{Address: p.Address, Port: p.Port, Protocol: byte(number), PodPort: p.PodPort})
	}
	return out
}

func (a attachment) name() string { return a.Namespace + "/" + a.Pod }

// netnsOf says where a pod's network namespace is.
type netnsOf func(attachment) string

// inText is where namespaces are where there is no kernel.
func inText(a attachment) string { return "/run/netns/" + a.Pod }

func read(t *testing.T, path string) *scenario {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{path: path, archive: archive, node: strings.TrimSpace(string(find(archive, "node")))}
	known := []string{"cluster.yaml", "node", "kernel.yaml", "attachments.yaml", "foreign.nft", "want.nft", "want.ip", "want.reports", "want.annotations", "packets"}
	for _, f := range archive.Files {
		if !slices.Contains(known, f.Name) {
			t.Fatalf("%s: %s is no file of a scenario", path, f.Name)
		}
	}
	if len(bytes.TrimSpace(archive.Comment)) == 0 {
		t.Fatalf("%s: begin with a sentence that says what is proven", path)
	}
	for name, into := range map[string]any{"kernel.yaml": &s.kernel, "attachments.yaml": &s.pods} {
		if err := yaml.UnmarshalStrict(find(archive, name), into); err != nil {
			t.Fatalf("%s: %s: %v", path, name, err)
		}
	}
	s.objects = readObjects(t, find(archive, "cluster.yaml"))
	if s.node == "" && len(s.objects.Nodes) > 0 {
		s.node = s.objects.Nodes[0].Name
	}
	if s.packets, err = parseLines(string(find(archive, "packets"))); err != nil {
		t.Fatalf("%s: packets: %v", path, err)
	}
	return s
}

// readObjects reads manifests as an agent does.
func readObjects(t *testing.T, manifests []byte) *source.Objects {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cluster.yaml")
	if err := os.WriteFile(file, manifests, 0o644); err != nil {
		t.Fatal(err)
	}
	objects, err := dir.New(file).Read()
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range objects.Problems {
		objects.Problems[i].Source = filepath.Base(p.Source)
		objects.Problems[i].Reason = strings.ReplaceAll(p.Reason, file, filepath.Base(file))
	}
	for object, source := range objects.Files {
		objects.Files[object] = filepath.Base(source)
	}
	return objects
}

func find(a *txtar.Archive, name string) []byte {
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return a.Files[i].Data
}

func (s *scenario) want(name string) string { return string(find(s.archive, name)) }

// build builds the node's world from scratch, out of the given objects.
func (s *scenario) build(t *testing.T, objects *source.Objects, at netnsOf) (*world.World, []world.Problem) {
	t.Helper()
	b := source.NewBuilder(s.node, feature.Switches(all.Features)...)
	in := source.Inputs{Objects: objects, Attachments: &world.Attachments{}, Kernel: &world.Kernel{}}
	w, _ := b.Build(in)
	if w.Node == nil {
		t.Fatalf("%s: cluster.yaml has no Node %q", s.path, s.node)
	}
	in.Kernel = s.observe(t, w.Node)
	in.TCP = &world.TCPSeen{Node: s.kernel.TCP.world()}
	for _, a := range s.pods {
		in.Attachments.List = append(in.Attachments.List, a.world(t, at(a)))
		if !a.Dead {
			key := in.Attachments.List[len(in.Attachments.List)-1].Key()
			in.Kernel.Seen = append(in.Kernel.Seen, key)
			in.TCP.Pods = append(in.TCP.Pods, world.PodTCP{Attachment: key, TCP: a.TCP.world(), Refused: a.TCP.Refused})
		}
	}
	slices.SortFunc(in.TCP.Pods, world.PodTCP.Compare)
	slices.Sort(in.Kernel.Seen)
	in.Metrics, in.Observed = s.kernel.Metrics, []world.Part{world.PodsPass.Part(&s.kernel.PodsPass)}
	if taken := s.taken(t); taken != nil {
		in.Observed = append(in.Observed, world.PortsTaken.Part(taken))
	}
	return b.Build(in)
}

// taken are the ports that others hold.
func (s *scenario) taken(t *testing.T) *world.Taken {
	t.Helper()
	if s.kernel.TakenPorts == nil {
		return nil
	}
	out := &world.Taken{}
	for _, text := range s.kernel.TakenPorts {
		number, kind, _ := strings.Cut(text, "/")
		kind, six := strings.CutSuffix(kind, "6")
		protocol, err := parseProtocol(kind)
		r, rangeErr := parsePorts(number)
		if err = errors.Join(err, rangeErr); err != nil {
			t.Fatalf("%s: kernel.yaml: %s: %v", s.path, text, err)
		}
		for n := int(r.Low); n <= int(r.High); n++ {
			out.Ports = append(out.Ports, world.Port{IPv6: six, Protocol: byte(protocol), Number: uint16(n)})
		}
	}
	return out
}

// observe is what the kernel shows, kernel.yaml laid over an ordinary node's.
func (s *scenario) observe(t *testing.T, n *world.Node) *world.Kernel {
	t.Helper()
	k := source.PlainKernel(n)
	k.Strict = s.kernel.Strict
	if s.kernel.Interfaces != nil {
		k.Interfaces = nil
	}
	for _, d := range s.kernel.Interfaces {
		mtu := d.MTU
		if mtu == 0 {
			mtu = 1500
		}
		k.Interfaces = append(k.Interfaces, world.Interface{Name: d.Name, MTU: mtu, Down: d.Down, Addresses: d.Addresses, Fleeting: d.Fleeting})
	}
	families := map[bool]bool{}
	for _, u := range s.kernel.Uplinks {
		k.Uplinks = append(k.Uplinks, world.Uplink{Interface: u.Interface, Address: u.Source, Said: u.Said})
		if is4 := u.Source.Is4(); !families[is4] {
			families[is4] = true
			k.Exits = append(k.Exits, world.Exit{Interface: u.Interface, Address: u.Source})
		}
	}
	ports := func(text string) world.PortRange {
		r, reason, _ := source.ParsePortRange(text)
		if reason != "" {
			t.Fatalf("%s: kernel.yaml: %s", s.path, reason)
		}
		return r
	}
	if s.kernel.LocalPorts != "" {
		k.LocalPorts = ports(s.kernel.LocalPorts)
	}
	for _, r := range s.kernel.ReservedPorts {
		k.ReservedPorts = append(k.ReservedPorts, ports(r))
	}
	for _, d := range s.kernel.Drops {
		k.ForwardDrops = append(k.ForwardDrops, d.world()...)
	}
	for _, r := range s.kernel.SourceRules {
		k.SourceRules = append(k.SourceRules, world.SourceRule(r))
	}
	for name, reason := range s.kernel.Lacks {
		switch lacking := (world.Capability{Reason: reason}); name {
		case "fullyRandomPorts":
			k.Capabilities.FullyRandomPorts = lacking
		case "tcx":
			k.Capabilities.TCX = lacking
		case "tcxEgress":
			k.Capabilities.TCXEgress = lacking
		default:
			t.Fatalf("%s: kernel.yaml: %s is no capability", s.path, name)
		}
	}
	return k
}

// render renders the scenario from scratch.
func (s *scenario) render(t *testing.T, features []feature.Feature, at netnsOf) feature.Rendered {
	t.Helper()
	return s.renderObjects(t, features, s.objects, at)
}

func (s *scenario) renderObjects(t *testing.T, features []feature.Feature, objects *source.Objects, at netnsOf) feature.Rendered {
	t.Helper()
	w, problems := s.build(t, objects, at)
	r := feature.NewRenderer(features).Render(w)
	r.Problems = append(problems, r.Problems...)
	return r
}

// shuffled is the same objects in another order.
func shuffled(o *source.Objects) *source.Objects {
	out := *o
	out.Nodes, out.Configs = slices.Clone(o.Nodes), slices.Clone(o.Configs)
	shuffle(out.Nodes)
	shuffle(out.Configs)
	out.Reports = slices.Clone(o.Reports)
	shuffle(out.Reports)
	return &out
}

func shuffle[T any](s []T) { rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] }) }
