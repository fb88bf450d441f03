// Package nodeportlocal gives ports of pods a port of their node, so that a load
// balancer that knows pods reaches each of them directly.
//
// A Service with the annotation nodeportlocal.antrea.io/enabled selects its pods;
// each of its target ports gets a port of the pod's node, one for every protocol
// and family, and the pod's annotation nodeportlocal.antrea.io says which. Names
// and form are Antrea's, which controllers in the field read.
//
// It stands in prerouting and output, just behind kube-proxy and host ports, and
// looks at connections to the node's own addresses only, and not at those that are
// Services': the destination becomes the pod's, the client's address stays. Only a pod that reaches itself gets an
// address of the node, since it could not answer itself. The node's loopback leads
// nowhere: its addresses must not leave the node.
//
// A mapping is an element of a map, never a rule. The agent holds the ports with
// sockets, so that nobody else takes them for theirs. What is sent to a held UDP
// port and finds no mapping (on the loopback, or because somebody took the element
// away) is refused: that socket would swallow it.
package nodeportlocal

import (
	"fmt"
	"golang.org/x/sys/unix"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is NodePortLocal.
var Feature = feature.Feature{
	Name:     "nodeportlocal",
	Render:   newRenderer,
	Astray:   astray,
	Start:    start,
	Off:      func(w *world.World) sorted.List[world.Note] { return (&Decision{}).notes(w) },
	Views:    []view.View{{Name: "nodeportlocal", New: newView}},
	Recorded: map[string]func(feature.Seen) any{"nodeportlocal": recorded},
	Needs:    world.Needs{Pods: world.NodePods, Services: true},
	Keeps:    []journal.Kind{keptPorts},
}

// reads is all that a render looks at.
type reads struct {
	node      *world.Node
	addresses string
	own       string
	settings  world.NodePortLocal
	others    [2]world.PortRange
	pods      *world.Pods
	services  *world.Sorted[world.Service]
	last      *NodePorts
	taken     *world.Taken
}

func readsOf(w *world.World) reads {
	return reads{w.Node, addresses(w), fmt.Sprint(w.OwnPorts()), w.Config.NodePortLocal, others(w), w.LocalPods, w.Services, Allocated.Of(w.Allocations), w.Taken}
}

// addresses are those of the node's interfaces, which hostIPs are compared with; those
// for Services are told apart.
func addresses(w *world.World) string {
	var b []byte
	for _, i := range w.Kernel.Interfaces {
		if i.ForServices() {
			b = append(b, " Services:"...)
		}
		for _, p := range i.Addresses {
			b = p.Addr().AppendTo(append(b, ' '))
		}
		b = append(b, ';')
	}
	for _, e := range w.Kernel.Exits {
		b = e.Address.AppendTo(append(b, ' '))
	}
	return string(b)
}

// leads are those of the ports that are for UDP.
func leads(w *world.World, list sorted.List[NodePort]) (out []feature.Lead) {
	for n := range list.All() {
		if n.Protocol != unix.IPPROTO_UDP {
			continue
		}
		p, found := w.LocalPods.List.Find(func(p *world.Pod) int { return p.Compare(n.Pod) })
		if !found {
			continue
		}
		for _, addr := range p.Addresses {
			if addr.Is6() == n.IPv6 {
				out = append(out, feature.Lead{Port: world.HostPort{Port: n.Number, Protocol: n.Protocol, PodPort: n.PodPort}, To: netip.AddrPortFrom(addr, n.PodPort)})
				break
			}
		}
	}
	return out
}

// nodePorts is what kube-apiserver hands out for Services of type NodePort
// unless told otherwise (--service-node-port-range).
var nodePorts = world.PortRange{Low: 30000, High: 32767}

// Who hands out parts of the range too.
const (
	ofKernel   = iota // to connections of the node
	ofServices        // to Services of type NodePort
)

// others are the parts of the range that are handed out by others too. Zero: none.
func others(w *world.World) (out [2]world.PortRange) {
	ours := w.Config.NodePortLocal.Ports
	for _, left := range w.Kernel.LocalPorts.Without(w.Kernel.ReservedPorts...) {
		if common := overlap(ours, left); common != (world.PortRange{}) {
			out[ofKernel] = common
			break
		}
	}
	out[ofServices] = overlap(ours, nodePorts)
	return out
}

func overlap(a, b world.PortRange) world.PortRange {
	out := world.PortRange{Low: max(a.Low, b.Low), High: min(a.High, b.High)}
	if out.Low > out.High {
		return world.PortRange{}
	}
	return out
}

// problems is what users should mend.
func (d *Decision) problems(w *world.World, mapped int) []world.Problem {
	if !w.Config.NodePortLocal.Enabled {
		return nil
	}
	out := slices.Clip(d.mistakes)
	if mapped > 0 {
		ours := w.Config.NodePortLocal.Ports
		for i, common := range others(w) {
			if common == (world.PortRange{}) {
				continue
			}
			who, more := "net.ipv4.ip_local_port_range, from which the kernel allocates ports to the node's own connections", ", or add it to net.ipv4.ip_local_reserved_ports"
			if i == ofServices {
				who, more = nodePorts.String()+", which Services of type NodePort get", ""
			}
			out = append(out, world.Problem{Object: "Node " + w.Node.Name, Field: "nodePortLocal.portRange",
				Reason: fmt.Sprintf("%s shares ports %s with %s", ours, common, who), Hint: "write a range of its own, such as 61000-62000" + more})
		}
	}
	for _, family := range d.lacking {
		out = append(out, world.Problem{Object: "Node " + w.Node.Name, Field: "status.addresses",
			Reason: fmt.Sprintf("there is no %s address, so no %s port of a pod gets a port of the node", family, family),
			Hint:   "give the node one, or let the Services have the other family only"})
	}
	for _, m := range d.waiting {
		out = append(out, world.Problem{Object: "Pod " + m.Pod.Namespace + "/" + m.Pod.Name, Field: "metadata.annotations[" + world.NodePortLocalPorts + "]",
			Reason: d.why(m), Hint: "write a wider nodePortLocal.portRange, or select fewer ports"})
	}
	for _, e := range d.over {
		out = append(out, world.Problem{Object: "Pod " + e.pod.Namespace + "/" + e.pod.Name, Field: "metadata.annotations[" + world.NodePortLocalPorts + "]",
			Reason: e.String(), Hint: "select fewer ports, or write a higher bound"})
	}
	return out
}

// mostTold bounds what is told: of many that wait, or are left out, some are enough,
// and the report counts them.
const mostTold = 50

// why says that a mapping has no port.
func (d *Decision) why(m Mapping) string {
	if d.closed {
		return fmt.Sprintf("port %d/%s waits for a port of the node: many of %s are in use, and the rest is being searched", m.PodPort, m.kind(), d.settings.Ports)
	}
	return fmt.Sprintf("port %d/%s has no port of the node: all of %s are in use", m.PodPort, m.kind(), d.settings.Ports)
}

// Why a mapping is not there, in the words of conditions and events.
const (
	reasonComplete  = "AllMapped"
	reasonExhausted = "PortsExhausted"
)

// report tells the cluster whether every mapping has a port.
func (d *Decision) report(w *world.World) world.Report {
	r := world.Report{Object: "FairleadNode " + w.Node.Name, Type: "NodePortLocal"}
	if waiting := d.Waiting; waiting > 0 {
		r.Reason = reasonExhausted
		r.Message = fmt.Sprintf("ports of pods that have no port of the node: %d; all of %s are in use", waiting, d.settings.Ports)
		return r
	}
	r.Status, r.Reason = true, reasonComplete
	r.Message = fmt.Sprintf("every port of a pod that a Service selects has a port of the node, of %s", d.settings.Ports)
	if d.Left > 0 { // of a tenant, and no trouble of the node
		r.Message += fmt.Sprintf("; except %d, which exceed the limits of their pods or namespaces", d.Left)
	}
	return r
}

// events tell pods and Services of mappings that wait for a port.
func (d *Decision) events() []world.Event {
	var out []world.Event
	for _, m := range d.waiting {
		objects := []string{"Pod " + m.Pod.Namespace + "/" + m.Pod.Name}
		for _, s := range m.Services {
			objects = append(objects, "Service "+s.Namespace+"/"+s.Name)
		}
		for _, o := range objects {
			out = append(out, world.Event{Object: o, Type: world.Warning, Reason: "NodePortLocalExhausted",
				Message: fmt.Sprintf("pod %s: %s; write a wider nodePortLocal.portRange", m.Pod.Name, d.why(m)),
				Subject: fmt.Sprintf("%s %d/%s", m.Pod.Name, m.PodPort, m.kind())})
		}
	}
	for _, e := range d.over {
		out = append(out, world.Event{Object: "Pod " + e.pod.Namespace + "/" + e.pod.Name, Type: world.Warning, Reason: "NodePortLocalLimited",
			Message: e.String() + "; select fewer ports, or write a higher bound", Subject: e.bound})
	}
	return out
}

// notes say what the annotation of each of the node's pods should be: of those
// that have mappings, and of those that have an annotation although they should
// not.
func (d *Decision) notes(w *world.World) sorted.List[world.Note] {
	var out []world.Note
	left := d.Mappings
	for p := range w.LocalPods.List.All() {
		n := 0
		for n < len(left) && left[n].Pod == p {
			n++
		}
		note, says := noteOf(p, left[:n])
		left = left[n:]
		if !says {
			continue
		}
		if out == nil {
			out = make([]world.Note, 0, w.LocalPods.List.Len())
		}
		out = append(out, note)
	}
	return sorted.Of(out, world.CompareNotes)
}

// noteOf is what the annotation of a pod with the given mappings should be.
func noteOf(p *world.Pod, mappings []Mapping) (n world.Note, says bool) {
	var room [256]byte
	value := appendAnnotation(room[:0], mappings)
	text, there := p.Local.Annotations.Get(world.NodePortLocalPorts)
	if !there && len(value) == 0 {
		return n, false
	}
	if text != string(value) { // where it is as it should be, it is not held twice
		text = string(value)
	}
	return world.Note{Pod: p, Name: world.NodePortLocalPorts, Value: text}, true
}
