// Package cni is both ends of the container network interface (CNI spec 1.0.0):
// the plugin, which a container runtime runs once for every pod, and the
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
	"regexp"

	"fairlead.dev/fairlead/internal/world"
)

// A Request is what the plugin asks of the agent.
type Request struct {
	ContainerID string `json:"containerID"`
	Interface   string `json:"interface"`
	Netns       string `json:"netns"`
	Namespace   string `json:"namespace"` // of the pod, where the runtime says
	Pod         string `json:"pod"`
}

// Names that become file names and interface names; CNI spec, "Parameters", and
// Linux dev_valid_name.
var (
	containerIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
	interfaceForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)
)

// Validate says what is wrong with r, if anything.
func (r Request) Validate() error {
	if !containerIDForm.MatchString(r.ContainerID) {
		return fmt.Errorf("container id %q: use up to 128 letters, digits, dots, dashes and underscores", r.ContainerID)
	}
	if !interfaceForm.MatchString(r.Interface) {
		return fmt.Errorf("interface name %q: use up to 15 letters, digits, dots, dashes and underscores", r.Interface)
	}
	return nil
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
	f, err := os.Create(filepath.Join(dir, r.key()))
	if err != nil {
		return err
	}
	return f.Close()
}

// key names the attachment in files. Neither part may hold the separator.
func (r Request) key() string { return key(r.ContainerID, r.Interface) }

func key(containerID, ifname string) string { return containerID + "@" + ifname }

func keyOf(a *world.Attachment) string { return key(a.ContainerID, a.Interface) }
