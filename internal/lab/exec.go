package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/internal/lab/process"
	"fairlead.dev/fairlead/internal/netns"
)

// place is a namespace and the environment of processes in it.
type place struct {
	netns string
	env   []string
}

// find finds the target without the daemon's help.
func (l Lab) find(t Target) (place, error) {
	net := l.net(nil)
	var p place
	switch t.Kind {
	case "node":
		p = place{net.Node(t.Name), l.environment(append(l.nodePaths(t.Name), l.nodeMarker(t.Name))...)}
	case "host":
		p = place{net.Host(t.Name), l.environment()}
	case "firewall":
		p = place{net.Firewall(t.Name), l.environment()}
	default:
		spec, err := l.podSpec(t)
		if err != nil {
			return p, err
		}
		p = place{l.namespaceOf(spec), l.environment(l.nodeMarker(spec.Spec.NodeName), l.podMarker(t.Namespace, t.Name))}
	}
	if !netns.Alive(p.netns) {
		if _, err := os.Stat(l.Dir()); err != nil {
			return p, l.missing()
		}
		return p, fmt.Errorf("there is no %s in lab %s, or it is not running", t, l.Name)
	}
	return p, nil
}

// nodePaths say where a node has what a machine has in one place, so that no
// command in a lab takes hold of the machine's.
func (l Lab) nodePaths(node string) []string {
	dir := l.nodeDir(node)
	return []string{
		"FAIRLEAD_SOCKET=" + l.AgentSocket(node), "FAIRLEAD_STATE_DIR=" + filepath.Join(dir, "state"),
		"FAIRLEAD_CNI_CONF_DIR=" + filepath.Join(dir, "cni", "net.d"), "FAIRLEAD_CNI_BIN_DIR=" + filepath.Join(dir, "cni", "bin"),
	}
}

// String is the target as ParseTarget reads it.
func (t Target) String() string {
	if t.Kind == "pod" {
		return "pod/" + t.Namespace + "/" + t.Name
	}
	return t.Kind + "/" + t.Name
}

func (l Lab) podSpec(t Target) (*corev1.Pod, error) {
	b, err := os.ReadFile(l.objectFile(ref{"Pod", t.Namespace, t.Name}.file()))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s in lab %s", t, l.Name)
	}
	if err != nil {
		return nil, err
	}
	spec := &corev1.Pod{}
	return spec, yaml.Unmarshal(b, spec)
}

// Exec turns the calling process into the command, inside the target. It
// returns only when it cannot.
func (l Lab) Exec(t Target, command []string) error {
	p, err := l.find(t)
	if err != nil {
		return err
	}
	path, err := process.Look(command[0], p.env)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the thread that enters is the one that goes on
	if err := netns.Enter(p.netns); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", path, syscall.Exec(path, command, p.env))
}

// Logs copies what the target has written: a node's agent, a host's server, or
// a pod's containers, each line with the container's name where there are
// several.
func (l Lab) Logs(t Target, to io.Writer) error {
	switch t.Kind {
	case "node":
		return l.copyLog(l.agentLog(t.Name), "", to)
	case "host":
		return l.copyLog(l.hostLog(t.Name), "", to)
	case "pod":
	default:
		return fmt.Errorf("%s has no log", t)
	}
	spec, err := l.podSpec(t)
	if err != nil {
		return err
	}
	for _, c := range spec.Spec.Containers {
		before := ""
		if len(spec.Spec.Containers) > 1 {
			before = "[" + c.Name + "] "
		}
		err := l.copyLog(l.containerLog(t.Namespace, t.Name, c.Name), before, to)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (l Lab) copyLog(path, before string, to io.Writer) error {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if _, err := io.WriteString(to, before+line); err != nil {
			return err
		}
	}
	return nil
}
