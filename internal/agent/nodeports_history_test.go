package agent

import (
	"encoding/json"
	"fairlead.dev/fairlead/internal/allocations"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/world"
)

// npl is a cluster whose Services and pods come and go, on a node where others take
// ports and do away with ours.
type npl struct {
	*node
	t        *testing.T
	random   *rand.Rand
	pods     map[string]string // by name: the app
	services map[string]nplService
	others   map[string]net.Listener // programs of the node, by port
}

type nplService struct {
	app, protocol string
	port          int
	ipv6          bool
}

// model is what should be mapped: for every Service, each pod of its app.
func (c *npl) model() []string {
	var out []string
	for pod, app := range c.pods {
		for _, s := range c.services {
			if s.app == app {
				out = append(out, fmt.Sprintf("%s %d/%s", pod, s.port, s.protocol))
				if s.ipv6 {
					out = append(out, fmt.Sprintf("%s %d/%s6", pod, s.port, s.protocol))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func addressesOf(pod string) (ipv4, ipv6 string) {
	return "10.244.1.9" + pod, "fd00:10:244:1::9" + pod
}

// step changes one thing, or a few.
func (c *npl) step() {
	pod, service := fmt.Sprint(c.random.IntN(4)), fmt.Sprint(c.random.IntN(4))
	switch c.random.IntN(12) {
	case 0:
		delete(c.pods, pod)
	case 1, 2:
		c.pods[pod] = []string{"one", "two"}[c.random.IntN(2)]
	case 3:
		delete(c.services, service)
	case 4, 5, 6:
		c.services[service] = nplService{[]string{"one", "two"}[c.random.IntN(2)], []string{"tcp", "udp"}[c.random.IntN(2)], 80 + c.random.IntN(2), c.random.IntN(2) == 0}
	case 7:
		c.restart(c.t)
	case 8: // and its state is lost: the annotations are left
		must(c.t, os.RemoveAll(allocations.File(c.config.StateDir)))
		c.restart(c.t)
	case 9, 10:
		vandalism := []string{
			"nft flush ruleset", "nft flush map inet fairlead-nodeportlocal ports4", "nft delete table inet fairlead-nodeportlocal",
			"nft add element inet fairlead-nodeportlocal ports6 '{ tcp . 61003 : [fd00::1] . 1 }'", "nft flush chain inet fairlead-nodeportlocal ports",
		}
		c.host.Run("sh", "-c", vandalism[c.random.IntN(len(vandalism))]+" 2>/dev/null || true")
		c.loop.setDrift(true)
	case 11:
		c.other()
	}
}

// other begins or ends a program that listens on a port of the range, if that can be
// had.
func (c *npl) other() {
	at := fmt.Sprintf("%d/tcp", 61000+c.random.IntN(8))
	if l := c.others[at]; l != nil {
		must(c.t, l.Close())
		delete(c.others, at)
		return
	}
	c.host.Do(func() error {
		port, _, _ := strings.Cut(at, "/")
		if l, err := net.Listen("tcp4", ":"+port); err == nil {
			c.others[at] = l
		}
		return nil
	})
}

// write tells the cluster's objects. Pods have the annotations that the agent gave
// them.
func (c *npl) write() {
	documents := []string{portRange("61000-61031")}
	for pod, app := range c.pods {
		four, six := addressesOf(pod)
		annotations, err := json.Marshal(map[string]string{world.NodePortLocalPorts: c.toldOf(c.t, pod)})
		must(c.t, err)
		documents = append(documents, fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: "%s", namespace: default, uid: u%s%s, labels: {app: %s}, annotations: %s},
  spec: {nodeName: n1}, status: {podIPs: [{ip: %s}, {ip: "%s"}]}}
`, pod, pod, app, app, annotations, four, six))
	}
	for name, s := range c.services {
		families := map[bool]string{false: "IPv4", true: "IPv4, IPv6"}[s.ipv6]
		documents = append(documents, fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: "%s", namespace: default, annotations: {nodeportlocal.antrea.io/enabled: "true"}},
  spec: {selector: {app: %s}, ipFamilies: [%s], ports: [{port: 1, targetPort: %d, protocol: %s}]}}
`, name, s.app, families, s.port, strings.ToUpper(s.protocol)))
	}
	c.node.write(c.t, "npl.yaml", strings.Join(documents, "---\n"))
}

// told is what the pods are told, as POD PORT/PROTOCOL with the node's port before
// it.
func (c *npl) told() []string {
	var out []string
	for pod := range c.pods {
		var list []struct {
			PodPort, NodePort  int
			Protocol, IPFamily string
		}
		if text := c.toldOf(c.t, pod); text != "" {
			must(c.t, json.Unmarshal([]byte(text), &list))
		}
		for _, e := range list {
			out = append(out, fmt.Sprintf("%d %s %d/%s%s", e.NodePort, pod, e.PodPort, e.Protocol, strings.TrimPrefix(strings.TrimPrefix(e.IPFamily, "IPv4"), "IPv")))
		}
	}
	slices.Sort(out)
	return out
}

var mappedElement = regexp.MustCompile(`(\d+) \. (\d+) : (\S+) \. (\d+)`)

// leads is the same as the kernel's maps say it.
func (c *npl) leads() []string {
	var out []string
	for _, family := range []string{"", "6"} {
		name := "ports4"
		if family == "6" {
			name = "ports6"
		}
		table := c.host.Run("sh", "-c", "nft -n list map inet fairlead-nodeportlocal "+name+" 2>/dev/null || true")
		for _, m := range mappedElement.FindAllStringSubmatch(table, -1) {
			pod := "?"
			for p := range c.pods {
				four, six := addressesOf(p)
				if a := netip.MustParseAddr(m[3]).String(); a == four || a == six {
					pod = p
				}
			}
			protocol := map[string]string{"6": "tcp", "17": "udp"}[m[1]]
			out = append(out, fmt.Sprintf("%s %s %s/%s%s", m[2], pod, m[4], protocol, family))
		}
	}
	slices.Sort(out)
	return out
}

// holds are the ports that sockets of the agent hold.
func (c *npl) holds() []string {
	var out []string
	c.host.Do(func() error {
		for port := 61000; port < 61032; port++ {
			for _, network := range []string{"tcp4", "tcp6", "udp4", "udp6"} {
				what := strings.TrimSuffix(fmt.Sprintf("%d/%s", port, network), "4")
				if c.others[what] == nil && !free(network, port) {
					out = append(out, what)
				}
			}
		}
		return nil
	})
	slices.Sort(out)
	return out
}

// histories is how many steps of a random history are taken at a real kernel. One
// takes 50 ms.
var histories = flag.Int("histories", 150, "steps of a random history of NodePortLocal")

// Whatever happens, after the next turn the kernel leads what the model says, the
// pods are told the same, and sockets hold those ports and no others. Antrea:
// testNPLMultiplePodsAgentRestart, with the rule that somebody deletes; TestRestoreRules,
// TestAddRule and TestDeleteRule in both families.
func TestRulesSocketsAndAnnotationsAgree(t *testing.T) {
	c := &npl{newNode(t, nodesOfBoth), t, rand.New(rand.NewPCG(5, 6)), map[string]string{}, map[string]nplService{}, map[string]net.Listener{}}
	for i := range *histories {
		for range 1 + c.random.IntN(3) {
			c.step()
		}
		c.write()
		c.mustTurn(t)
		told, leads, holds := c.told(), c.leads(), c.holds()
		var mapped, ports []string
		for _, m := range told {
			port, what, _ := strings.Cut(m, " ")
			_, protocol, _ := strings.Cut(what, "/")
			mapped, ports = append(mapped, what), append(ports, port+"/"+protocol)
		}
		slices.Sort(mapped)
		slices.Sort(ports)
		if want := c.model(); !slices.Equal(mapped, want) {
			t.Fatalf("step %d: told is %q, want %q", i, mapped, want)
		}
		if !slices.Equal(leads, told) || !slices.Equal(holds, ports) {
			t.Fatalf("step %d: told is\n%q, the kernel leads\n%q, and held are\n%q", i, told, leads, holds)
		}
	}
}

const nodesOfBoth = `
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.100.1}, {type: InternalIP, address: "fd00:100::1"}]}
`
