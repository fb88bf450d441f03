package lab_test

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/netns"
)

// attacks are in this order because one that is done with a pod's interface leaves
// the tenant a new pod.
var attacks = append(append([]attack{
	{"a datagram to its node's overlay port, as nobody", denied, func(t *testing.T, c *crime) string {
		return c.injects(t, func(text string) { c.says(t, "evil", net.JoinHostPort(c.ip["n1"], "4789"), text) }, "a", c.ip["b"])
	}},
	{"a datagram to another node's overlay port, as nobody", denied, func(t *testing.T, c *crime) string {
		return c.injects(t, func(text string) { c.says(t, "evil", net.JoinHostPort(c.ip["n2"], "4789"), text) }, "b", c.ip["a"])
	}},
	{"a datagram to the overlay port that says it is from its own node", denied, func(t *testing.T, c *crime) string {
		return c.injects(t, func(text string) {
			throw(t, c.netns["evil"], datagram(header{from: c.ip["n2"], to: c.ip["n1"]}, 4789, []byte(text)))
		}, "a", c.ip["n1"])
	}},
	{"a Service that leads to another node's overlay port", denied, func(t *testing.T, c *crime) string {
		// As kube-proxy has it where it masquerades.
		c.on(t, "n1", `nft -f - <<'END'
table ip service {
	chain pre { type nat hook prerouting priority dstnat; ip daddr 10.96.0.9 udp dport 53 dnat to `+c.ip["n2"]+`:4789; }
	chain post { type nat hook postrouting priority srcnat - 10; ip daddr `+c.ip["n2"]+` udp dport 4789 ct status dnat masquerade; }
}
END`)
		defer c.on(t, "n1", "nft delete table ip service")
		return c.injects(t, func(text string) { c.says(t, "evil", "10.96.0.9:53", text) }, "b", c.ip["a"])
	}},
	{"a stranger outside sends to the overlay port", denied, func(t *testing.T, c *crime) string {
		return c.injects(t, func(text string) { c.says(t, "web", net.JoinHostPort(c.ip["n1"], "4789"), text) }, "a", c.ip["b"])
	}},
	{"IPv4 in the name of another pod of its node", denied, func(t *testing.T, c *crime) string { return c.forges(t, "b", c.ip["a"]) }},
	{"IPv4 in the name of a pod of another node", denied, func(t *testing.T, c *crime) string { return c.forges(t, "a", c.ip["b"]) }},
	{"IPv4 in the name of its node", denied, func(t *testing.T, c *crime) string { return c.forges(t, "b", c.ip["n1"]) }},
	{"IPv4 in the name of a host outside", denied, func(t *testing.T, c *crime) string { return c.forges(t, "a", "198.51.100.10") }},
	{"IPv6 in the name of another pod of its node", denied, func(t *testing.T, c *crime) string { return c.forges(t, "b", c.ip["a6"]) }},
	{"IPv6 in the name of a pod of another node", denied, func(t *testing.T, c *crime) string { return c.forges(t, "a", c.ip["b6"]) }},
	{"IPv6 in the name of its node", denied, func(t *testing.T, c *crime) string { return c.forges(t, "b", c.ip["n16"]) }},
	{"IPv6 in the name of a host outside", denied, func(t *testing.T, c *crime) string { return c.forges(t, "a", "2001:db8:100::10") }},
	{"a foreign source in fragments", denied, func(t *testing.T, c *crime) string {
		return c.hears(t, c.ofPod("b"), func(port uint16) {
			p := datagram(header{from: c.ip["a"], to: c.ip["b"]}, port, []byte("forged, and sent in two pieces"))
			throw(t, c.netns["evil"], fragments(p, 16)...)
		}).silence(t)
	}},
	{"a source route past its node", denied, func(t *testing.T, c *crime) string {
		return c.hears(t, c.ofPod("b"), func(port uint16) {
			b := netip.MustParseAddr(c.ip["b"]).As4()
			lsrr := append([]byte{131, 7, 4}, append(b[:], 0)...) // RFC 791: loose, one address
			throw(t, c.netns["evil"], datagram(header{from: c.ip["evil"], to: c.ip["n1"], options: lsrr}, port, []byte("routed by the sender")))
		}).silence(t)
	}},
	{"the loopback of its node", denied, func(t *testing.T, c *crime) string {
		return c.hears(t, ear{"n1", "127.0.0.1", "n1"}, func(port uint16) {
			throw(t, c.netns["evil"], datagram(header{from: c.ip["evil"], to: "127.0.0.1"}, port, []byte("at home")),
				datagram(header{from: "127.0.0.1", to: "127.0.0.1"}, port, []byte("from home")))
		}).silence(t)
	}},
	{"a router advertisement", denied, func(t *testing.T, c *crime) string {
		return c.unchanged(t, "n1", "ip -6 route show; ip -6 address show | grep -v valid_lft", func() {
			for _, from := range []string{"fe80::bad", "fe80::1", c.ip["evil6"]} {
				throw(t, c.netns["evil"], advertisement(from), advertisement(from))
			}
		})
	}},
	{"redirects, in the name of the node's routers", denied, func(t *testing.T, c *crime) string {
		return c.unchanged(t, "n1", "ip route show cache; ip -6 route show cache; ip route get 198.51.100.10; ip -6 route get 2001:db8:100::10", func() {
			throw(t, c.netns["evil"], redirect("192.168.100.254", c.ip["n1"], c.ip["evil"], "198.51.100.10"),
				redirect("fe80::1", c.ip["n16"], c.ip["evil6"], "2001:db8:100::10"),
				redirect(c.ip["evil"], c.ip["n1"], c.ip["evil"], "198.51.100.10"))
		})
	}},
	{"ARP and neighbour advertisements for everybody's addresses", denied, func(t *testing.T, c *crime) string {
		return c.unchanged(t, "n1", "ip neigh show nud permanent | sort; ip -d neigh show proxy", func() {
			for _, who := range []string{"a", "a6", "b", "b6", "n1", "n16", "n2", "n26"} {
				throw(t, c.netns["evil"], claim(c.ip[who], net.HardwareAddr{2, 0, 0, 0, 0, 0x66}))
			}
		})
	}},
	{"ARP asks the node for other pods' addresses", denied, func(t *testing.T, c *crime) string {
		for _, who := range []string{"a", "b"} {
			c.on(t, "evil", "ip route add "+c.ip[who]+"/32 dev eth0 scope link")
		}
		if heard := c.on(t, "evil", "ip neigh flush dev eth0 to "+c.ip["b"]+"; ping -c1 -W1 "+c.ip["b"]+" >/dev/null 2>&1 || true; ip neigh show to "+c.ip["b"]); strings.Contains(heard, "lladdr") {
			t.Errorf("the node answers for pod b: %s", heard)
		}
		c.again(t)
		return "the node answers for nobody"
	}},
	{"connections to the agent's metrics", denied, func(t *testing.T, c *crime) string {
		for _, at := range []string{c.ip["n1"], "169.254.1.1", "127.0.0.1", "10.244.0.1"} {
			err := netns.Do(c.netns["evil"], func() error {
				s, err := net.DialTimeout("tcp", net.JoinHostPort(at, "9468"), 200*time.Millisecond)
				if err == nil {
					s.Close()
				}
				return err
			})
			if err == nil {
				t.Errorf("%s answers", at)
			}
		}
		return "nobody answers"
	}},
}, interfaceAttacks...), objectAttacks...)

// interfaceAttacks are those of a pod with CAP_NET_ADMIN, on what is its own.
var interfaceAttacks = []attack{
	{"takes another pod's addresses", denied, func(t *testing.T, c *crime) string {
		c.on(t, "evil", fmt.Sprintf("ip address add %s/32 dev eth0; ip address add %s/128 dev eth0 nodad", c.ip["a"], c.ip["a6"]))
		defer c.again(t)
		c.hears(t, c.ofPod("b"), func(port uint16) {
			err := netns.Do(c.netns["evil"], func() error {
				s, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(c.ip["a"])}}).Dial("udp", net.JoinHostPort(c.ip["b"], strconv.Itoa(int(port))))
				if err != nil {
					return err
				}
				defer s.Close()
				_, err = s.Write([]byte("I am pod a"))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}).silence(t)
		return c.hears(t, c.ofPod("a"), func(uint16) {}).silence(t)
	}},
	{"deletes eth0", harmless, func(t *testing.T, c *crime) string { return c.spoils(t, "ip link del eth0") }},
	{"replaces eth0 by a pair of its own", harmless, func(t *testing.T, c *crime) string {
		return c.spoils(t, // The agent may be faster with a new wire.
			"n=0; until ip link del eth0; ip link add eth0 type veth peer name eth1; do n=$((n+1)); [ $n -lt 100 ]; done; ip link set eth0 up; ip address add 10.66.0.1/24 dev eth0")
	}},
	{"renames eth0 and makes another", harmless, func(t *testing.T, c *crime) string {
		return c.spoils(t, "ip link set eth0 down; ip link set eth0 name mine; ip link add eth0 type bridge; ip link set eth0 up")
	}},
	{"puts eth0 away in another namespace", harmless, func(t *testing.T, c *crime) string {
		return c.spoils(t, "unshare --net sleep 3 & n=0; until [ \"$(readlink /proc/$!/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do n=$((n+1)); [ $n -lt 5000 ]; done; ip link set eth0 netns $!; kill $!")
	}},
	{"another hardware address, and an MTU of 65535", harmless, func(t *testing.T, c *crime) string {
		return c.spoils(t, "ip link set eth0 address 02:00:00:00:00:66; ip link set eth0 mtu 65535; ping -c2 -i0.2 -W1 -s 60000 "+c.ip["a"]+" >/dev/null 2>&1 || true")
	}},
}

// injects sends an overlay packet that holds one for a pod, and listens there.
func (c *crime) injects(t *testing.T, send func(string), victim, source string) string {
	t.Helper()
	node := map[string]string{"a": "n1", "b": "n2"}[victim]
	return c.hears(t, c.ofPod(victim), func(port uint16) {
		for _, from := range []string{source, "198.51.100.10", c.ip["evil"]} {
			send(string(wrapped(node, datagram(header{from: from, to: c.ip[victim]}, port, []byte("injected")))))
		}
	}).silence(t)
}

// forges sends in the name of another.
func (c *crime) forges(t *testing.T, victim, source string) string {
	t.Helper()
	if strings.Contains(source, ":") {
		victim += "6"
	}
	return c.hears(t, c.ofPod(victim), func(port uint16) {
		throw(t, c.netns["evil"], datagram(header{from: source, to: c.ip[victim]}, port, []byte("forged")))
	}).silence(t)
}

// spoils does something to the tenant's own interface. Others get pods and keep
// theirs, and the tenant gets a new one.
func (c *crime) spoils(t *testing.T, script string) string {
	t.Helper()
	c.on(t, "evil", script)
	defer c.again(t)
	const other = `{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: default}, spec: {nodeName: n1, containers: [{name: c}]}}`
	c.runWith(other, "apply", "-f", "-", "--timeout", "10s") // says Problems of others, too
	defer c.runWith(other, "delete", "-f", "-")
	if p := c.pod("other"); len(p.PodIPs) != 2 {
		t.Errorf("another pod has the addresses %v", p.PodIPs)
	}
	if n := c.node("n1"); !n.Agent.Ready {
		t.Errorf("the agent is not ready: %s", n.Agent.Reason)
	}
	return "other pods come and go"
}
