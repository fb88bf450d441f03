// Package lab is a whole cluster on one machine, made of network namespaces:
// nodes that run the real agent, pods that are added through the real CNI
// plugin, hosts outside and firewalls between. It needs root and the kernel,
// and no other program.
//
// One detached daemon per lab stands in for the API server's storage and for
// the kubelets: it keeps the objects, starts the agents and runs the pods. The
// command line talks to it through a socket in the lab's directory; exec, logs
// and down do without it. Nothing of a lab is outside its directory, its
// namespaces and its processes, all of which can be recognised, so a lab can be
// taken down whatever became of its daemon.
package lab

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/lab/wire"
	"fairlead.dev/fairlead/internal/netns"
)

// DefaultDir is where labs live unless FAIRLEAD_LAB_DIR says otherwise.
const DefaultDir = "/run/fairlead/lab"

// DefaultName is the lab that is meant where none is named.
const DefaultName = "lab"

// DirVariable is the environment variable that moves them.
const DirVariable = "FAIRLEAD_LAB_DIR"

// A Lab is one lab of this machine, whether it is up or not.
type Lab struct {
	Name string
	Base string // the directory of all labs
}

// New is the lab called name in the directory base.
func New(name, base string) (Lab, error) {
	if !plan.IsLabel(name) {
		return Lab{}, fmt.Errorf("%q is no name for a lab: %s", name, plan.LabelHint)
	}
	abs, err := filepath.Abs(base)
	if err != nil {
		return Lab{}, fmt.Errorf("directory of labs: %w", err)
	}
	return Lab{Name: name, Base: abs}, nil
}

// Command is what to type to do something with this lab.
func (l Lab) Command(do string) string {
	if l.Name == DefaultName {
		return "fairlead lab " + do
	}
	return "fairlead lab " + do + " --name " + l.Name
}

// Dir holds everything of the lab that is in files.
func (l Lab) Dir() string { return filepath.Join(l.Base, l.Name) }

func (l Lab) path(parts ...string) string {
	return filepath.Join(append([]string{l.Dir()}, parts...)...)
}

func (l Lab) socket() string                { return l.path("lab.sock") }
func (l Lab) configFile() string            { return l.path("lab.yaml") }
func (l Lab) objects() string               { return l.path("objects") }
func (l Lab) reports() string               { return l.path("reports") }
func (l Lab) statuses() string              { return l.path("status") }
func (l Lab) records() string               { return l.path("processes") }
func (l Lab) bin() string                   { return l.path("bin") }
func (l Lab) daemonLog() string             { return l.path("daemon.log") }
func (l Lab) nodeDir(node string) string    { return l.path("nodes", node) }
func (l Lab) agentLog(node string) string   { return l.path("nodes", node, "agent.log") }
func (l Lab) hostLog(host string) string    { return l.path("hosts", host+".log") }
func (l Lab) podDir(ns, name string) string { return l.path("pods", ns+"."+name) }
func (l Lab) statusFile(pod ref) string     { return l.path("status", pod.file()+".json") }
func (l Lab) objectFile(name string) string { return l.path("objects", name+".yaml") }
func (l Lab) stateDir(node string) string   { return filepath.Join(l.nodeDir(node), "state") }

// AgentSocket is where a node's agent answers.
func (l Lab) AgentSocket(node string) string { return filepath.Join(l.nodeDir(node), "agent.sock") }

// containerLog is the file that gets both outputs of a container.
func (l Lab) containerLog(ns, pod, container string) string {
	return filepath.Join(l.podDir(ns, pod), container+".log")
}

// prefix begins the names of the lab's namespaces. Names of labs have no dot
// and no @, so no lab's prefix begins another's. Labs of one name in different
// directories are told apart by the directory.
func (l Lab) prefix() string {
	if l.Base == DefaultDir {
		return "fairlead-" + l.Name + "."
	}
	sum := sha256.Sum256([]byte(l.Base))
	return fmt.Sprintf("fairlead-%s@%x.", l.Name, sum[:3])
}

// podNetns is the path of a pod's namespace.
func (l Lab) podNetns(ns, name string) string {
	sum := sha256.Sum256([]byte(ns + "/" + name))
	return netns.Path(fmt.Sprintf("%spod-%x", l.prefix(), sum[:4]))
}

// net is the lab's network. Without a plan it knows only paths.
func (l Lab) net(p *plan.Plan) *wire.Net { return &wire.Net{Plan: p, Prefix: l.prefix()} }

// Variables in the environment of every process of a lab: of which lab, of
// which node, of which pod.
const (
	labVariable  = "FAIRLEAD_LAB"
	nodeVariable = "FAIRLEAD_LAB_NODE"
	podVariable  = "FAIRLEAD_LAB_POD"
)

// marker is what all of the lab's processes carry.
func (l Lab) marker() string { return labVariable + "=" + l.Dir() }

func (l Lab) nodeMarker(node string) string { return nodeVariable + "=" + l.Dir() + ":" + node }

func (l Lab) podMarker(ns, name string) string {
	return podVariable + "=" + l.Dir() + ":" + ns + "/" + name
}

// environment is that of the lab's processes: the caller's, with fairlead on
// the PATH, and the given variables.
func (l Lab) environment(more ...string) []string {
	env := append(os.Environ(), "PATH="+l.bin()+":"+os.Getenv("PATH"), l.marker(), DirVariable+"="+l.Base)
	return append(env, more...)
}

// maxSocketPath is what a unix socket address has room for (unix(7)).
const maxSocketPath = 107

// fits says what keeps the lab from working in its directory.
func (l Lab) fits(p *plan.Plan) error {
	for _, n := range p.Nodes {
		if s := l.AgentSocket(n.Name); len(s) > maxSocketPath {
			return fmt.Errorf("the path of a socket, %s, has %d bytes of at most %d: set %s to a shorter path",
				s, len(s), maxSocketPath, DirVariable)
		}
	}
	return nil
}
