package plan

import (
	"encoding/json"
	"fmt"
	"regexp"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source/manifest"
	"fairlead.dev/fairlead/internal/world"
)

// Config is lab.yaml as written. A list that is left out has a default; an
// empty one is empty.
type Config struct {
	APIVersion string                   `json:"apiVersion"`
	Kind       string                   `json:"kind"`
	Nodes      []NodeConfig             `json:"nodes,omitempty"`
	PodCIDRs   []string                 `json:"podCIDRs,omitempty"`
	Underlays  []UnderlayConfig         `json:"underlays,omitempty"`
	Hosts      []HostConfig             `json:"hosts,omitempty"`
	Firewalls  []FirewallConfig         `json:"firewalls,omitempty"`
	Agent      v1alpha1.AgentConfigSpec `json:"agent"`
}

// NodeConfig is a machine of the cluster.
type NodeConfig struct {
	Name     string `json:"name"`
	Underlay string `json:"underlay,omitempty"` // default: the first
}

// UnderlayConfig is a network of nodes, at most one CIDR of each family.
type UnderlayConfig struct {
	Name  string   `json:"name"`
	CIDRs []string `json:"cidrs"`
	// SourceCheck has the network drop what a node sends from an address that is none
	// of the node's, as clouds do.
	SourceCheck bool `json:"sourceCheck,omitempty"`
}

// HostConfig is a machine outside the cluster.
type HostConfig struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`        // each with the length of its network
	Behind    string   `json:"behind,omitempty"` // a firewall
}

// FirewallConfig is a stateless firewall; its first rule that matches decides.
type FirewallConfig struct {
	Name    string       `json:"name"`
	Default string       `json:"default,omitempty"` // accept (default) or drop
	Rules   []RuleConfig `json:"rules,omitempty"`
}

// RuleConfig is one rule of a firewall.
type RuleConfig struct {
	Direction string `json:"direction"`          // in: towards the cluster; out
	Protocol  string `json:"protocol,omitempty"` // tcp, udp, sctp or icmp (of both families)
	Ports     Ports  `json:"ports,omitempty"`    // destination: N or LOW-HIGH
	TCPFlags  Flags  `json:"tcpFlags,omitempty"` // one or a list; at least one of them is set
	Action    string `json:"action"`
}

// Ports is a port or a range of ports, written as a number or as a string.
type Ports string

// UnmarshalJSON takes 80, "80" and "80-90".
func (p *Ports) UnmarshalJSON(b []byte) error {
	var number json.Number
	if json.Unmarshal(b, &number) == nil {
		*p = Ports(number)
		return nil
	}
	return json.Unmarshal(b, (*string)(p))
}

// Flags are flags of a TCP header, written as a word or as a list of words.
type Flags []string

// UnmarshalJSON takes "ack" and ["syn", "ack"].
func (f *Flags) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*f = Flags{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(f))
}

// Parse reads lab.yaml. An empty file is the default lab.
func Parse(source string, file []byte) (*Plan, []world.Problem) {
	docs, problems := manifest.Parse(source, file)
	if len(problems) > 0 {
		return nil, problems
	}
	r := reader{source: source}
	config := Config{APIVersion: APIVersion, Kind: Kind}
	switch {
	case len(docs) > 1:
		r.problem("", fmt.Sprintf("holds %d objects", len(docs)), "keep one, of kind Lab")
	case len(docs) == 1 && (docs[0].APIVersion != APIVersion || docs[0].Kind != Kind):
		r.problem("", fmt.Sprintf("is a %s of %s", docs[0].Kind, docs[0].APIVersion),
			"write apiVersion: "+APIVersion+" and kind: "+Kind)
	case len(docs) == 1:
		docs[0].JSON = r.countedNodes(docs[0].JSON)
		for _, p := range docs[0].Decode(&config) {
			if p.Field == "nodes" {
				p.Hint = "write how many, or a list"
			}
			r.problem(p.Field, p.Reason, p.Hint)
		}
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	config.fill()
	p := r.plan(config)
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return p, nil
}

// maxNodes are as many as an IPv4 /24 has room for beside the gateway.
const maxNodes = 250

// countedNodes replaces "nodes: 3" by the three nodes.
func (r *reader) countedNodes(document []byte) []byte {
	var fields map[string]json.RawMessage
	var n int
	if json.Unmarshal(document, &fields) != nil || json.Unmarshal(fields["nodes"], &n) != nil {
		return document // Decode says what is wrong, if anything
	}
	if n < 1 || n > maxNodes {
		r.problem("nodes", fmt.Sprintf("is %d", n), fmt.Sprintf("a lab has 1 to %d nodes", maxNodes))
		return document
	}
	fields["nodes"], _ = json.Marshal(numbered(n)) // strings only: cannot fail
	out, err := json.Marshal(fields)
	if err != nil {
		return document
	}
	return out
}

func numbered(n int) []NodeConfig {
	out := make([]NodeConfig, n)
	for i := range out {
		out[i].Name = fmt.Sprintf("n%d", i+1)
	}
	return out
}

// fill gives what was left out its default.
func (c *Config) fill() {
	if c.Nodes == nil {
		c.Nodes = numbered(3)
	}
	if c.PodCIDRs == nil {
		c.PodCIDRs = []string{"10.244.0.0/16", "fd00:10:244::/48"}
	}
	if c.Underlays == nil {
		c.Underlays = []UnderlayConfig{{Name: "default", CIDRs: []string{"192.168.100.0/24", "fd00:100::/64"}}}
	}
	if c.Hosts == nil {
		c.Hosts = []HostConfig{{Name: "web", Addresses: []string{"198.51.100.10/24", "2001:db8:100::10/64"}}}
	}
}

// label is the form of a DNS label, RFC 1123 section 2.1.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// LabelHint says what a label is.
const LabelHint = "use up to 63 lower-case letters, digits and dashes, a letter or digit at both ends"

// IsLabel reports whether s can be the name of a lab, node, host, firewall or
// pod: all of them become file names.
func IsLabel(s string) bool { return label.MatchString(s) }
