// Package kernel observes the node's kernel: interfaces and their addresses,
// ephemeral ports, capabilities. What it sees is part of the world.
//
// Interfaces announce their changes; sysctls do not, and are looked at again
// whenever the world is built.
package kernel

import (
	"fmt"
	"strconv"
	"strings"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// Observe returns what the kernel of the calling thread's network namespace shows
// now.
func (o *Observer) Observe(attachments *world.Attachments) (*world.Kernel, error) {
	seen, err := o.look()
	if err != nil {
		return nil, err
	}
	k := &world.Kernel{Capabilities: o.Capabilities, Interfaces: seen.interfaces, Exits: seen.exits, Uplinks: seen.uplinks, Resolvers: o.lookForResolvers(),
		ForwardDrops: o.drops(seen.exits), SourceRules: seen.rules}
	if k.AcceptRA, err = acceptRA(seen.interfaces); err != nil {
		return nil, err
	}
	all, err := sysctl.Read(datapath.ReversePathFilter("all"))
	if err != nil {
		return nil, err
	}
	k.Strict = all == datapath.StrictReversePath
	if k.LocalPorts, err = localPorts(); err != nil {
		return nil, err
	}
	reserved, err := sysctl.Read("net/ipv4/ip_local_reserved_ports")
	if err != nil {
		return nil, err
	}
	if k.ReservedPorts, err = parseReserved(reserved); err != nil {
		return nil, err
	}
	sandboxes(k, attachments.List)
	return k, nil
}

func localPorts() (world.PortRange, error) {
	const key = "net/ipv4/ip_local_port_range"
	s, err := sysctl.Read(key)
	if err != nil {
		return world.PortRange{}, err
	}
	f := strings.Fields(s)
	if len(f) != 2 {
		return world.PortRange{}, fmt.Errorf("%s is %s", key, quote.Of(s))
	}
	return parseRange(f[0], f[1])
}

// parseReserved reads the kernel's list of ports and ranges: "8080,9000-9010".
func parseReserved(s string) ([]world.PortRange, error) {
	var out []world.PortRange
	for item := range strings.SplitSeq(s, ",") {
		if item == "" {
			continue
		}
		low, high, isRange := strings.Cut(item, "-")
		if !isRange {
			high = low
		}
		r, err := parseRange(low, high)
		if err != nil {
			return nil, fmt.Errorf("net/ipv4/ip_local_reserved_ports: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

func parseRange(low, high string) (world.PortRange, error) {
	l, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return world.PortRange{}, fmt.Errorf("port %s: %w", quote.Of(low), err)
	}
	h, err := strconv.ParseUint(high, 10, 16)
	if err != nil {
		return world.PortRange{}, fmt.Errorf("port %s: %w", quote.Of(high), err)
	}
	if h < l {
		return world.PortRange{}, fmt.Errorf("ports %d-%d run backwards", l, h)
	}
	return world.PortRange{Low: uint16(l), High: uint16(h)}, nil
}
