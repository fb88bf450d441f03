package agent

import (
	"fmt"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/netnstest"
)

// Antrea's NPLTestMultiplePods: of the pods of one Service each is reached by a port
// of its own, and when one goes its rule and socket go, and nothing else.
func TestPortsOfSeveralPods(t *testing.T) {
	n := newNode(t, nodes)
	n.far.Address("eth0", "192.168.100.7/24")
	var objects, elements, held []string
	for i, name := range []string{"a", "b", "c"} {
		pod := netnstest.New(t)
		address := n.attach(t, name, pod).Addresses[0].String()
		objects = append(objects, strings.Replace(podObject(name, address, ""), "app: "+name, "app: web", 1))
		elements = append(elements, fmt.Sprintf("6 . %d : %s . 9090", 61000+i, address))
		held = append(held, fmt.Sprintf("%d/tcp", 61000+i))
		echo(t, pod, 9090)
	}
	web := service("s", "web", "9090", "TCP")
	n.write(t, "npl.yaml", documents(objects[0], objects[1], objects[2], web))
	n.mustTurn(t)
	n.expect(t, state{"b", "61001>9090/tcp", strings.Join(elements, ", "), strings.Join(held, " ")})
	for i := range held {
		answered(t, dial(t, n.far, fmt.Sprintf("192.168.100.1:%d", 61000+i)))
	}
	n.write(t, "npl.yaml", documents(objects[0], objects[2], web))
	n.mustTurn(t)
	n.expect(t, state{"c", "61002>9090/tcp", elements[0] + ", " + elements[2], held[0] + " " + held[2]})
	answered(t, dial(t, n.far, "192.168.100.1:61002"))
}

// Antrea's testNPLChangePortRangeAgentRestart: of the old range neither a rule nor a
// socket is left, whether the agent restarts or not.
func TestAnotherRangeMovesThePorts(t *testing.T) {
	n := newNode(t, nodes)
	objects := documents(podObject("a", "10.244.1.9", ""), podObject("b", "10.244.1.8", ""), service("a", "a", "80", "TCP"), service("b", "b", "80", "UDP"))
	n.write(t, "npl.yaml", objects)
	n.mustTurn(t)
	n.expect(t, state{"a", "61000>80/tcp", "17 . 61000 : 10.244.1.8 . 80, 6 . 61000 : 10.244.1.9 . 80", "61000/tcp 61000/udp"})
	n.write(t, "npl.yaml", documents(objects, portRange("61010-61012")))
	n.restart(t)
	n.mustTurn(t)
	n.expect(t, state{"a", "61010>80/tcp", "17 . 61010 : 10.244.1.8 . 80, 6 . 61010 : 10.244.1.9 . 80", "61010/tcp 61010/udp"})
	n.write(t, "npl.yaml", documents(objects, portRange("61015-61016")))
	n.mustTurn(t)
	n.expect(t, state{"b", "61015>80/udp", "17 . 61015 : 10.244.1.8 . 80, 6 . 61015 : 10.244.1.9 . 80", "61015/tcp 61015/udp"})
}
