// Package cni is both ends of the container network interface (CNI spec 0.3.0 to
// 1.1.0): the plugin, which a container runtime runs once for every pod, and the
// node's address book, in which the agent writes down who has which address.
//
// The plugin is thin. It passes the request to the agent over a unix socket and
// prints the answer: only the agent touches the kernel. ADD returns when the
// pod's datapath is in place; with the agent away it asks the runtime to try
// again. DEL must always succeed: with the agent away it leaves a tombstone,
// which the agent honours when it is back.
package cni

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// A Request is what the plugin asks of the agent.
type Request struct {
	ContainerID string `json:"containerID,omitempty"`
	Interface   string `json:"interface,omitempty"`
	Netns       string `json:"netns,omitempty"`
	Namespace   string `json:"namespace,omitempty"` // of the pod, where the runtime says
	Pod         string `json:"pod,omitempty"`
	UID         string `json:"uid,omitempty"`

	Network   string           `json:"network,omitempty"` // the name of the configuration
	HostPorts []world.HostPort `json:"hostPorts,omitempty"`
	Bandwidth world.Bandwidth  `json:"bandwidth,omitzero"`
	// Before are the addresses that the pod has already: in ADD by the plugins before
	// this one, in CHECK by the whole ADD. It is nil where nothing came before.
	Before []netip.Addr `json:"before"`
	// Valid are the keys of the attachments that GC leaves alone.
	Valid []string `json:"valid,omitempty"`
}

// Lengths of what becomes a name of a file or an interface: ours, and Linux
// dev_valid_name.
const (
	longestContainerID = 128
	longestInterface   = 15
	longestPodName     = 253 // as an API server lets it be; a namespace's is shorter
)

// isName reports whether s is a name as in the CNI spec, "Parameters". No regular
// expression: compiling one takes a millisecond of every run of the plugin.
func isName(s string, longest int) bool {
	const letters, marks = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", "_.-"
	return s != "" && len(s) <= longest && !strings.ContainsRune(marks, rune(s[0])) && strings.Trim(s, letters+marks) == ""
}

// Validate says what is wrong with the names of r's attachment, if anything.
func (r Request) Validate() error {
	if !isName(r.ContainerID, longestContainerID) {
		return fmt.Errorf("container id %s: use up to 128 letters, digits, dots, dashes and underscores", quote.Of(r.ContainerID))
	}
	if !isName(r.Interface, longestInterface) {
		return fmt.Errorf("interface name %s: use up to 15 letters, digits, dots, dashes and underscores", quote.Of(r.Interface))
	}
	if max(len(r.Namespace), len(r.Pod), len(r.UID)) > longestPodName {
		return fmt.Errorf("pod %s in namespace %s: names have up to %d bytes", quote.Of(r.Pod), quote.Of(r.Namespace), longestPodName)
	}
	return nil
}

// Attachment is what r asks for, without addresses.
func (r Request) Attachment() world.Attachment {
	return world.Attachment{
		Namespace: r.Namespace, Pod: r.Pod, ContainerID: r.ContainerID, Interface: r.Interface,
		Netns: r.Netns, HostPorts: r.HostPorts, Bandwidth: r.Bandwidth,
	}
}

// An Answer is what the agent did for an ADD.
type Answer struct {
	Link      string       `json:"link"` // the node's end of the wire
	LinkMAC   string       `json:"linkMAC"`
	MAC       string       `json:"mac"` // of the interface in the pod
	MTU       int          `json:"mtu"`
	Addresses []netip.Addr `json:"addresses"`
	Gateways  []netip.Addr `json:"gateways"` // one for each address
}

// tombstones is the folder, inside the state directory, of DELs that came while
// the agent was away.
func tombstones(stateDir string) string { return filepath.Join(stateDir, "tombstones") }

// bury leaves a tombstone for an attachment.
func bury(stateDir string, r Request) error {
	dir := tombstones(stateDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	a := r.Attachment()
	f, err := os.Create(filepath.Join(dir, a.Key()))
	if err != nil {
		return err
	}
	return f.Close()
}
