package lab_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

// objectAttacks are those of who may write the objects of one namespace.
var objectAttacks = []attack{
	{"a host port that is the overlay's", denied, func(t *testing.T, c *crime) string {
		defer c.without("Pod", "thief")
		return c.refused(t, hostPort("UDP", 4789, ""), "4789/udp", "overlay")
	}},
	{"a host port that is the agent's own", denied, func(t *testing.T, c *crime) string {
		return c.hostPortOfTheAgent(t)
	}},
	{"a host port that another pod has", denied, func(t *testing.T, c *crime) string {
		defer c.without("Pod", "thief")
		return c.refused(t, hostPort("TCP", 5432, ""), "5432/tcp", "is taken by pod evil/evil")
	}},
	{"a host port of an address outside", denied, func(t *testing.T, c *crime) string {
		c.runWith(hostPort("TCP", 6432, "198.51.100.10"), "apply", "-f", "-", "--timeout", "5s")
		defer c.without("Pod", "thief")
		c.mustWith(service("outside", "true", "{app: thief}", "[{port: 80, targetPort: 9999}]"), "apply", "-f", "-")
		defer c.without("Service", "outside")
		c.must("wait")
		if told := c.getPodOf("evil", "thief").Annotations[world.NodePortLocalPorts]; strings.Contains(told, "198.51.100.10") {
			t.Errorf("the cluster is told %s", told)
		}
		return "not told as the node's"
	}},
	{"an annotation that chooses a port beforehand", denied, func(t *testing.T, c *crime) string {
		const wish = `[{"podPort":9999,"nodeIP":"%s","nodePort":61777,"protocol":"tcp","ipFamily":"IPv4"}]`
		thief := strings.Replace(hostPort("TCP", 0, ""), "labels:", fmt.Sprintf("annotations: {nodeportlocal.antrea.io: '"+wish+"'}, labels:", c.ip["n1"]), 1)
		c.mustWith(thief, "apply", "-f", "-")
		defer c.without("Pod", "thief")
		c.mustWith(service("wish", "true", "{app: thief}", "[{port: 80, targetPort: 9999}]"), "apply", "-f", "-")
		defer c.without("Service", "wish")
		told := ""
		eventually(t, "the pod is told of a port", func() bool {
			told = c.getPodOf("evil", "thief").Annotations[world.NodePortLocalPorts]
			return told != ""
		})
		eventually(t, "the port is not the one that was asked for", func() bool {
			told = c.getPodOf("evil", "thief").Annotations[world.NodePortLocalPorts]
			return told != "" && !strings.Contains(told, "61777")
		})
		return "another port is given"
	}},
	{"an annotation of 250 kB on a Service", bounded, func(t *testing.T, c *crime) string {
		long := strings.Repeat("x", 250_000)
		c.runWith(service("long", long, "{app: evil}", "[{port: 80, targetPort: "+long[:200]+"}]"), "apply", "-f", "-", "--timeout", "10s")
		defer c.without("Service", "long")
		c.must("wait")
		return fmt.Sprintf("%d bytes of problems", len(c.problems("n1")))
	}},
	{"2,000 Services that are wrong, twice", bounded, func(t *testing.T, c *crime) string {
		for range 2 {
			c.runWith(services(2000, "neither", "{app: evil}", "[{port: 80, targetPort: nowhere}]"), "apply", "-f", "-", "--timeout", "30s")
			c.must("wait")
			c.without("Service", names(2000)...)
		}
		return "told within bounds"
	}},
	{"six Services of 10,000 ports on each of 20 pods", bounded, func(t *testing.T, c *crime) string {
		c.mustWith(pods(20), "apply", "-f", "-")
		defer c.without("Pod", names(20)...)
		var ports strings.Builder
		for p := range 10_000 {
			fmt.Fprintf(&ports, "{name: p%d, port: %d, targetPort: %d}, ", p, p+1, p+1)
		}
		all := "[" + strings.TrimSuffix(ports.String(), ", ") + "]"
		c.runWith(services(6, "true", "{crowd: crowd}", all), "apply", "-f", "-", "--timeout", "60s")
		defer c.without("Service", names(6)...)
		c.must("wait")
		return fmt.Sprintf("%d ports are given", strings.Count(c.must("exec", "node/n1", "--", "fairlead", "get", "nodeportlocal"), "\n"))
	}},
	{"rewrites its annotation a hundred times", bounded, func(t *testing.T, c *crime) string {
		const pod = `{apiVersion: v1, kind: Pod, metadata: {name: thief, namespace: evil, labels: {app: thief}, annotations: {nodeportlocal.antrea.io: 'mine %d'}},
  spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 9999}]}]}}`
		c.mustWith(service("fight", "true", "{app: thief}", "[{port: 80, targetPort: 9999}]"), "apply", "-f", "-")
		defer c.without("Service", "fight")
		for i := range 100 {
			c.mustWith(fmt.Sprintf(pod, i), "apply", "-f", "-", "--no-wait")
		}
		defer c.without("Pod", "thief")
		eventually(t, "the pod has what the agent says", func() bool {
			told := c.getPodOf("evil", "thief").Annotations[world.NodePortLocalPorts]
			return strings.HasPrefix(told, "[")
		})
		return "the agent's word stays"
	}},
	{"bandwidths that are none", denied, func(t *testing.T, c *crime) string {
		for _, rate := range []string{"-1", "1E999", "NaN", "0", strings.Repeat("9", 1000)} {
			thief := strings.Replace(hostPort("TCP", 0, ""), "labels:", "annotations: {kubernetes.io/ingress-bandwidth: '"+rate+"'}, labels:", 1)
			r := c.runWith(thief, "apply", "-f", "-", "--timeout", "3s")
			if r.code == 0 {
				t.Errorf("%.20s is taken", rate)
			}
			c.without("Pod", "thief")
		}
		return "the pod waits, and says why"
	}},
	{"pods that come and go", bounded, func(t *testing.T, c *crime) string {
		for range 3 {
			c.mustWith(pods(20), "apply", "-f", "-")
			c.without("Pod", names(20)...)
		}
		if left := strings.Count(c.on(t, "n1", "ip -o link show type veth | grep fl- || true"), "\n"); left != 2 {
			t.Errorf("%d wires are left, and two pods", left)
		}
		return "nothing is left"
	}},
	{"1,000 idle connections to the metrics, by a pod of the node's network", bounded, func(t *testing.T, c *crime) string {
		var open []net.Conn
		if err := netns.Do(c.netns["n1"], func() error {
			for range 1000 {
				if s, err := net.DialTimeout("tcp", "127.0.0.1:9468", time.Second); err == nil {
					open = append(open, s)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		defer func() {
			for _, s := range open {
				s.Close()
			}
		}()
		if c.metric(t, "fairlead_ready") != 1 {
			t.Error("the agent is not ready")
		}
		return "others are answered"
	}},
}

// hostPort is a pod of the tenant with a port of the node; 0: none.
func hostPort(protocol string, port int, address string) string {
	host := ""
	if port != 0 {
		host = fmt.Sprintf(", hostPort: %d", port)
	}
	if address != "" {
		host += fmt.Sprintf(", hostIP: %q", address)
	}
	return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: thief, namespace: evil, labels: {app: thief}},
  spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 9999, protocol: %s%s}]}]}}`, protocol, host)
}

// hostPortOfTheAgent asks for the port of the agent's metrics, which listens on the
// node's loopback only: the agent goes on being asked there.
func (c *crime) hostPortOfTheAgent(t *testing.T) string {
	t.Helper()
	c.runWith(hostPort("TCP", 9468, ""), "apply", "-f", "-", "--timeout", "5s")
	defer c.without("Pod", "thief")
	if c.metric(t, "fairlead_ready") != 1 {
		t.Error("the agent is not ready")
	}
	return "the agent answers"
}

func service(name, asked, selector, ports string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: evil, annotations: {nodeportlocal.antrea.io/enabled: %q}},
  spec: {selector: %s, ports: %s}}`, name, asked, selector, ports)
}

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("m%d", i)
	}
	return out
}

func services(n int, asked, selector, ports string) string {
	var out bytes.Buffer
	for _, name := range names(n) {
		fmt.Fprintf(&out, "---\n%s\n", service(name, asked, selector, ports))
	}
	return out.String()
}

func pods(n int) string {
	var out bytes.Buffer
	for _, name := range names(n) {
		fmt.Fprintf(&out, "---\n{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: evil, labels: {crowd: crowd}}, spec: {nodeName: n1, containers: [{name: c}]}}\n", name)
	}
	return out.String()
}

// without deletes objects of the tenant.
func (c *crime) without(kind string, names ...string) {
	c.t.Helper()
	var out bytes.Buffer
	for _, name := range names {
		fmt.Fprintf(&out, "---\n{apiVersion: v1, kind: %s, metadata: {name: %s, namespace: evil}}\n", kind, name)
	}
	c.mustWith(out.String(), "delete", "-f", "-")
}
