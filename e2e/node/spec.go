// Package node is the first process of a node: what a machine's firmware, kernel
// and init do before its services start. It is compiled into the command node,
// which the cluster starts in new namespaces.
//
// The node's root is a copy-on-write view of the machine's, so that every default
// path (/etc/cni/net.d, /run, /tmp, ...) is the node's own and every program of the machine
// is there. What a reboot keeps is bound into it from the node's disk, a directory
// of the machine; everything else is in memory and goes with the last process.
package node

import (
	"encoding/json"
	"os"
)

// A Spec is all that a node's first process is told.
type Spec struct {
	Name    string
	Memory  string            // a directory of the machine, over which the node's memory is mounted
	Disk    string            // a directory of the machine: what a reboot keeps
	Kept    []string          // directories of the node that are on its disk
	Binds   map[string]string // directory of the node: of the machine, read only
	Files   map[string]string // file of the node: content
	Links   map[string]string // symbolic link of the node: where it points to
	Plugins []string          // programs of the machine's /usr/lib/cni that the node's /opt/cni/bin has
	Sysctls map[string]string // "net/ipv4/ip_forward": value; where the kernel has them
	Pinned  map[string]string // file below /proc: what the node reads there, whatever the machine has
}

// Environment names the variable that holds the Spec's file.
const Environment = "FAIRLEAD_E2E_NODE"

// Read reads a Spec.
func Read(file string) (Spec, error) {
	var s Spec
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}
