package source

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// Defaults is the configuration where no AgentConfig says otherwise.
func Defaults() *world.Config {
	return &world.Config{
		Overlay:       world.Overlay{Mode: world.VXLAN, VNI: 1, Port: 4789},
		NodeSNAT:      world.SNAT{Randomize: true},
		EgressSNAT:    world.SNAT{Randomize: true},
		NodePortLocal: world.NodePortLocal{Enabled: true, Ports: world.PortRange{Low: 61000, High: 62000}, MaxPerPod: 100, MaxPerNamespace: 1000},
		PodTCP:        world.TCP{Timestamps: world.TimestampsMonotonic, Reuse: defaultPodReuse},
	}
}

// defaultPodReuse is world.TCP's Reuse of pods where no AgentConfig says otherwise.
const defaultPodReuse = ""

// buildConfig lays the default AgentConfig over the defaults, and the node's
// own over both. A field that makes no sense is a problem and keeps what it
// had.
func (b *Builder) buildConfig(configs []*v1alpha1.AgentConfig) (*world.Config, []world.Problem) {
	c := Defaults()
	var problems []world.Problem
	for _, written := range ConfigsOf(configs, b.node) {
		o := overlayer{object: "AgentConfig " + written.Name, config: c, switches: b.switches}
		o.apply(&written.Spec)
		problems = append(problems, o.problems...)
	}
	if !c.EgressSNAT.Asked {
		c.EgressSNAT.Randomize, c.EgressSNAT.Asked = c.NodeSNAT.Randomize, c.NodeSNAT.Asked
	}
	return c, problems
}

// ConfigsOf returns those of the AgentConfigs that make up the node's settings:
// the default one, and the node's own over it.
func ConfigsOf(configs []*v1alpha1.AgentConfig, node string) []*v1alpha1.AgentConfig {
	var out []*v1alpha1.AgentConfig
	for _, name := range []string{v1alpha1.DefaultConfig, node} {
		i := slices.IndexFunc(configs, func(o *v1alpha1.AgentConfig) bool { return o.Name == name })
		if i >= 0 && !slices.Contains(out, configs[i]) {
			out = append(out, configs[i])
		}
	}
	return out
}

// An overlayer lays one AgentConfig over a configuration.
type overlayer struct {
	object   string
	config   *world.Config
	switches []world.Switch
	problems []world.Problem
}

func (o *overlayer) report(field, reason, hint string) {
	o.problems = append(o.problems, world.Problem{Object: o.object, Field: "spec." + field, Reason: reason, Hint: hint})
}

func (o *overlayer) apply(s *v1alpha1.AgentConfigSpec) {
	if s.Overlay != nil {
		o.overlay(s.Overlay)
	}
	if s.NodeSNATRandomizePorts != nil {
		o.config.NodeSNAT.Randomize, o.config.NodeSNAT.Asked = *s.NodeSNATRandomizePorts, true
	}
	if s.NodeSNATPortRange != nil {
		o.portChoice("nodeSNATPortRange", *s.NodeSNATPortRange, &o.config.NodeSNAT.Ports)
	}
	if s.EgressSNATRandomizePorts != nil {
		o.config.EgressSNAT.Randomize, o.config.EgressSNAT.Asked = *s.EgressSNATRandomizePorts, true
	}
	if s.EgressSNATPortRange != nil {
		o.portChoice("egressSNATPortRange", *s.EgressSNATPortRange, &o.config.EgressSNAT.Ports)
	}
	if s.NodeSNATPortBlock != nil {
		o.portBlock(*s.NodeSNATPortBlock, s.NodeSNATPortRange)
	}
	if s.DisableTXChecksumOffload != nil {
		o.config.DisableTXChecksumOffload = *s.DisableTXChecksumOffload
	}
	if s.CNI != nil && s.CNI.Exclusive != nil {
		o.config.CNIShared = !*s.CNI.Exclusive
	}
	if s.AcceptForwarding != nil {
		o.config.AcceptForwarding = *s.AcceptForwarding
	}
	o.timestamps("podTCPTimestamps", s.PodTCPTimestamps, &o.config.PodTCP)
	o.timestamps("hostTCPTimestamps", s.HostTCPTimestamps, &o.config.NodeTCP)
	reuse(s.PodTCPReuse, &o.config.PodTCP)
	reuse(s.HostTCPReuse, &o.config.NodeTCP)
	if s.NonMasqueradeCIDRs != nil {
		o.cidrs("nonMasqueradeCIDRs", s.NonMasqueradeCIDRs, &o.config.NonMasqueradeCIDRs)
	}
	if s.ClusterCIDRs != nil {
		o.cidrs("clusterCIDRs", s.ClusterCIDRs, &o.config.ClusterCIDRs)
	}
	if s.NodePortLocal != nil {
		o.nodePortLocal(s.NodePortLocal)
	}
	o.settled(s)
	o.features(s)
}

// timestamps takes a choice of timestamps where one is written.
func (o *overlayer) timestamps(field string, choice *string, into *world.TCP) {
	values := map[string]string{"monotonic": world.TimestampsMonotonic, "random": world.TimestampsRandom, "keep": ""}
	if choice == nil {
		return
	}
	v, ok := values[*choice]
	if !ok {
		o.report(field, quote.Of(*choice)+" is no choice", "write monotonic, random or keep")
		return
	}
	into.Timestamps = v
}

// reuse takes whether ports in TIME_WAIT are used again, where it is written.
func reuse(choice *bool, into *world.TCP) {
	switch {
	case choice == nil:
	case *choice:
		into.Reuse = world.ReuseAnywhere
	default:
		into.Reuse = ""
	}
}

// settled reports values of fields whose names are settled and which can only
// have their defaults so far.
func (o *overlayer) settled(s *v1alpha1.AgentConfigSpec) {
	var overlay v1alpha1.Overlay
	if s.Overlay != nil {
		overlay = *s.Overlay
	}
	var policy v1alpha1.Policy
	if s.Policy != nil {
		policy = *s.Policy
	}
	onlyDefault(o, "overlay.encryption", overlay.Encryption, "none")
	onlyDefault(o, "policy.onNewDenial", policy.OnNewDenial, "keep")
}

func onlyDefault[T comparable](o *overlayer, field string, value *T, standard T) {
	if value != nil && *value != standard {
		o.report(field, quoted(*value)+" is not offered yet", fmt.Sprintf("write %s, or leave it out", quoted(standard)))
	}
}

func quoted(value any) string {
	if s, ok := value.(string); ok {
		return quote.Of(s)
	}
	return fmt.Sprint(value)
}

// portBlock takes a block of n ports. That it fits into the range is checked here
// where one object says both; where it takes two, package snat sees it.
func (o *overlayer) portBlock(n int, ports *string) {
	const field = "nodeSNATPortBlock"
	if n < 0 || n > mostBlock {
		o.report(field, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("write 1 to %d, or 0 to share the range", mostBlock))
		return
	}
	if ports != nil {
		if r, wrong, _ := ParsePortRange(*ports); wrong == "" && n > r.Len() {
			o.report(field, fmt.Sprintf("%d is more ports than %s has", n, r), "write a smaller nodeSNATPortBlock, or a wider nodeSNATPortRange")
			return
		}
	}
	o.config.NodeSNAT.Block = n
}

// mostBlock leaves room for two blocks in the port space.
const mostBlock = 1 << 15

var overlayModes = []world.OverlayMode{world.VXLAN, world.Direct, world.Hybrid, world.None}

func (o *overlayer) overlay(s *v1alpha1.Overlay) {
	if s.Mode != nil {
		if m := world.OverlayMode(*s.Mode); slices.Contains(overlayModes, m) {
			o.config.Overlay.Mode = m
		} else {
			o.report("overlay.mode", quote.Of(*s.Mode)+" is no mode", "write vxlan, direct, hybrid or none")
		}
	}
	if s.Interface != nil {
		o.overlayInterface(*s.Interface)
	}
	o.number("overlay.vni", s.VNI, limits{1, 1<<24 - 1}, &o.config.Overlay.VNI)
	o.number("overlay.port", s.Port, limits{1, 1<<16 - 1}, &o.config.Overlay.Port)
	// 1280 is the least that IPv6 works with (RFC 8200 section 5); 0 derives it.
	o.number("overlay.mtu", unlessZero(s.MTU), limits{1280, 1<<16 - 1}, &o.config.Overlay.MTU)
	if s.MTU != nil && *s.MTU == 0 {
		o.config.Overlay.MTU = 0
	}
}

// limits are the least and the most that a number may be.
type limits struct{ low, high int }

// number takes a number where one is written.
func (o *overlayer) number(field string, value *int, l limits, into *int) {
	switch {
	case value == nil:
	case *value < l.low || *value > l.high:
		o.report(field, fmt.Sprintf("%d is out of range", *value), fmt.Sprintf("write %d to %d", l.low, l.high))
	default:
		*into = *value
	}
}

// Of 2000 mappings an annotation says what takes less than the 256 KiB that Kubernetes
// allows; there are six times 65535 ports.
const (
	mostPerPod       = 2000
	mostPerNamespace = 6 * (1<<16 - 1)
)

func (o *overlayer) nodePortLocal(s *v1alpha1.NodePortLocal) {
	into := &o.config.NodePortLocal
	if s.Enabled != nil {
		into.Enabled = *s.Enabled
	}
	if s.PortRange != nil {
		if r, reason, hint := ParsePortRange(*s.PortRange); reason != "" {
			o.report("nodePortLocal.portRange", reason, hint)
		} else {
			into.Ports = r
		}
	}
	o.number("nodePortLocal.maxPerPod", s.MaxPerPod, limits{1, mostPerPod}, &into.MaxPerPod)
	o.number("nodePortLocal.maxPerNamespace", s.MaxPerNamespace, limits{1, mostPerNamespace}, &into.MaxPerNamespace)
}

// What no name of an interface has (dev_valid_name in net/core/dev.c), and the
// parts of patterns that nobody needs for names. The schema refuses the same.
const (
	notInPatterns  = ": \t\n\f\r\\^"
	longestPattern = 64
)

// overlayInterface reads a CIDR, or the name or pattern of an interface.
func (o *overlayer) overlayInterface(s string) {
	const field = "overlay.interface"
	if strings.Contains(s, "/") {
		p, reason, hint := parseCIDR(s)
		if reason != "" {
			o.report(field, reason, hint)
			return
		}
		o.config.Overlay.Interface = world.InterfaceChoice{CIDR: p}
		return
	}
	if a, err := netip.ParseAddr(s); err == nil {
		o.report(field, quote.Of(s)+" is an address", fmt.Sprintf("write a CIDR: %s", netip.PrefixFrom(a.WithZone(""), a.BitLen())))
		return
	}
	if _, err := path.Match(s, ""); err != nil || strings.ContainsAny(s, notInPatterns) || utf8.RuneCountInString(s) > longestPattern {
		o.report(field, quote.Of(s)+" is no pattern of names", "write a name such as eth0, a pattern such as eth*, or a CIDR")
		return
	}
	o.config.Overlay.Interface = world.InterfaceChoice{Pattern: s}
}

func unlessZero(n *int) *int {
	if n != nil && *n == 0 {
		return nil
	}
	return n
}

func (o *overlayer) portChoice(field, s string, into *world.PortChoice) {
	switch s {
	case "auto":
		*into = world.PortChoice{Mode: world.PortsAuto}
	case "kernel":
		*into = world.PortChoice{Mode: world.PortsKernel}
	default:
		r, reason, hint := ParsePortRange(s)
		if reason != "" {
			o.report(field, reason, hint+", or auto, or kernel")
			return
		}
		*into = world.PortChoice{Mode: world.PortsFixed, Range: r}
	}
}

// ParsePortRange reads LOW-HIGH.
func ParsePortRange(s string) (r world.PortRange, reason, hint string) {
	const form = "write LOW-HIGH, such as 32768-60999"
	low, high, found := strings.Cut(s, "-")
	l, errLow := strconv.ParseUint(low, 10, 16)
	h, errHigh := strconv.ParseUint(high, 10, 16)
	switch {
	case !found || errLow != nil || errHigh != nil || max(len(low), len(high)) > len("65535"):
		return r, "invalid port range " + quote.Of(s), form
	case l == 0:
		return r, "invalid port range " + s, "begin with port 1 or higher"
	case l > h:
		return r, "invalid port range " + s, fmt.Sprintf("write the lower port first: %d-%d", h, l)
	}
	return world.PortRange{Low: uint16(l), High: uint16(h)}, "", ""
}

// mostCIDRs is the schema's bound.
const mostCIDRs = 1024

func (o *overlayer) cidrs(field string, cidrs []string, into *[]netip.Prefix) {
	var out []netip.Prefix
	if len(cidrs) > mostCIDRs {
		o.report(field, fmt.Sprintf("has %d items", len(cidrs)), fmt.Sprintf("write at most %d", mostCIDRs))
		return
	}
	for i, s := range cidrs {
		p, reason, hint := parseCIDR(s)
		if reason != "" {
			o.report(fmt.Sprintf("%s[%d]", field, i), reason, hint)
			continue
		}
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	*into = slices.Compact(out)
}

func (o *overlayer) features(s *v1alpha1.AgentConfigSpec) {
	features := s.Features
	none := s.Overlay != nil && s.Overlay.Mode != nil && *s.Overlay.Mode == string(world.None)
	for _, name := range slices.Sorted(maps.Keys(features)) {
		i := slices.IndexFunc(o.switches, func(s world.Switch) bool { return s.Name == name })
		if i < 0 {
			var names []string
			for _, s := range o.switches {
				names = append(names, s.Name)
			}
			o.report("features."+name, "is no feature", "features are "+strings.Join(names, ", "))
			continue
		}
		if none && features[name] && o.switches[i].PodNetwork {
			o.report("features."+name, "cannot be on while overlay.mode is none", "leave it out, or write another mode")
			continue
		}
		off := slices.DeleteFunc(o.config.DisabledFeatures, func(f string) bool { return f == name })
		if !features[name] {
			off = append(off, name)
			slices.Sort(off)
		}
		o.config.DisabledFeatures = off
	}
}
