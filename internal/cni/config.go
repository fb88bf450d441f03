package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// Where the agent of a node is unless the configuration says otherwise.
const (
	DefaultSocket   = "/run/fairlead/agent.sock"
	DefaultStateDir = "/var/lib/fairlead"
)

// config is the plugin's part of the network configuration, with what the
// runtime puts into it.
type config struct {
	types.PluginConf
	Socket   string          `json:"socket"`   // of the agent
	StateDir string          `json:"stateDir"` // of the agent: tombstones go there
	Previous json.RawMessage `json:"prevResult"`
	Valid    json.RawMessage `json:"cni.dev/valid-attachments"`
	Runtime  struct {
		PortMappings json.RawMessage `json:"portMappings"`
		Bandwidth    json.RawMessage `json:"bandwidth"`
	} `json:"runtimeConfig"`
}

func parseConfig(stdin []byte) (config, error) {
	c := config{Socket: DefaultSocket, StateDir: DefaultStateDir}
	if err := json.Unmarshal(stdin, &c); err != nil {
		return c, types.NewError(types.ErrDecodingFailure, "network configuration is not JSON of the expected shape", err.Error())
	}
	return c, nil
}

// parse reads the configuration, and whose attachment it is about.
func parse(args *skel.CmdArgs) (config, Request, error) {
	conf, err := parseConfig(args.StdinData)
	r := Request{ContainerID: args.ContainerID, Interface: args.IfName, Netns: args.Netns, Network: conf.Name}
	if err != nil {
		return conf, r, err
	}
	for pair := range strings.SplitSeq(args.Args, ";") {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "K8S_POD_NAMESPACE":
			r.Namespace = value
		case "K8S_POD_NAME":
			r.Pod = value
		case "K8S_POD_UID":
			r.UID = value
		}
	}
	if err := r.Validate(); err != nil {
		return conf, r, types.NewError(types.ErrInvalidEnvironmentVariables, "the runtime's request makes no sense", err.Error())
	}
	return conf, r, nil
}

func invalid(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf(format, args...), "")
}

// A mapping is one of the runtime's portMappings; CNI conventions, "Well-known
// Capabilities". It is decoded as the portmap plugin does.
type mapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

var protocols = map[string]byte{"": unix.IPPROTO_TCP, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

func (m mapping) hostPort() (world.HostPort, error) {
	protocol, known := protocols[strings.ToLower(m.Protocol)]
	if !known {
		return world.HostPort{}, invalid("portMappings: protocol %s: use tcp, udp or sctp", quote.Of(m.Protocol))
	}
	if !isPort(m.HostPort) || !isPort(m.ContainerPort) {
		return world.HostPort{}, invalid("portMappings: %d to %d: use ports from 1 to 65535", m.HostPort, m.ContainerPort)
	}
	out := world.HostPort{Port: uint16(m.HostPort), Protocol: protocol, PodPort: uint16(m.ContainerPort)}
	if m.HostIP != "" {
		a, err := netip.ParseAddr(m.HostIP)
		if err != nil || a.Zone() != "" {
			return world.HostPort{}, invalid("portMappings: hostIP %s is no address", quote.Of(m.HostIP))
		}
		out.Address = a.Unmap()
	}
	return out, nil
}

func isPort(n int) bool { return 0 < n && n < 1<<16 }

// require puts into r what the runtime wants of the attachment besides a wire.
func (c *config) require(r *Request) error {
	var mappings []mapping
	if err := decode(c.Runtime.PortMappings, &mappings); err != nil {
		return invalid("portMappings: %v", err)
	}
	for _, m := range mappings {
		if m.HostPort == 0 {
			continue // a port that the pod listens on and the node does not pass on
		}
		p, err := m.hostPort()
		if err != nil {
			return err
		}
		r.HostPorts = append(r.HostPorts, p)
	}
	if err := decode(c.Runtime.Bandwidth, &r.Bandwidth); err != nil {
		return invalid("bandwidth: %v", err)
	}
	return nil
}

// decode is json.Unmarshal of what may be left out.
func decode(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// before are the addresses that the pod has already, or nil where nothing came
// before.
func (c *config) before() ([]netip.Addr, error) {
	if len(c.Previous) == 0 || string(c.Previous) == "null" {
		return nil, nil
	}
	var r *current.Result
	given, err := create.Create(c.CNIVersion, c.Previous)
	if err == nil {
		r, err = current.NewResultFromResult(given)
	}
	if err != nil {
		return nil, invalid("prevResult: %v", err)
	}
	out := []netip.Addr{}
	for _, ip := range r.IPs {
		if ip == nil || ip.Interface != nil && !inPod(r, *ip.Interface) {
			continue // the node's
		}
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			out = append(out, a.Unmap())
		}
	}
	return out, nil
}

func inPod(r *current.Result, i int) bool {
	return 0 <= i && i < len(r.Interfaces) && r.Interfaces[i] != nil && r.Interfaces[i].Sandbox != ""
}

// valid are the keys of the attachments that the runtime still has.
func (c *config) valid() ([]string, error) {
	if c.Valid == nil {
		return nil, invalid("cni.dev/valid-attachments is missing: which attachments are to stay?")
	}
	var attachments []types.GCAttachment
	if err := json.Unmarshal(c.Valid, &attachments); err != nil {
		return nil, invalid("cni.dev/valid-attachments: %v", err)
	}
	out := []string{}
	for _, v := range attachments {
		a := Request{ContainerID: v.ContainerID, Interface: v.IfName}.Attachment()
		out = append(out, a.Key())
	}
	return out, nil
}
