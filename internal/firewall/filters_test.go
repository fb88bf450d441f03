package firewall_test

import "strings"

// iptables are rules of the FORWARD chain, for both families and the given program.
func iptables(program, rules string) string {
	out := ""
	for _, family := range []string{"iptables", "ip6tables"} {
		for line := range strings.Lines(rules) {
			if line = strings.TrimSpace(line); line != "" {
				out += family + "-" + program + " " + line + "\n"
			}
		}
	}
	return out
}

func both(format string, by ...any) []string {
	return append(all("IPv4 WAY: "+strings.Replace(format, "FAMILY", "ip", 1), by...), all("IPv6 WAY: "+strings.Replace(format, "FAMILY", "ip6", 1), by...)...)
}

// docker is what Docker 20 to 27 leaves in the filter table.
const docker = `-P FORWARD DROP
	-N DOCKER
	-N DOCKER-ISOLATION-STAGE-1
	-N DOCKER-ISOLATION-STAGE-2
	-N DOCKER-USER
	-A FORWARD -j DOCKER-USER
	-A FORWARD -j DOCKER-ISOLATION-STAGE-1
	-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	-A FORWARD -o docker0 -j DOCKER
	-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
	-A FORWARD -i docker0 -o docker0 -j ACCEPT
	-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
	-A DOCKER-ISOLATION-STAGE-1 -j RETURN
	-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
	-A DOCKER-ISOLATION-STAGE-2 -j RETURN
	-A DOCKER-USER -j RETURN
	`

// kubeProxy is what kube-proxy in iptables mode has in the filter table.
const kubeProxy = `-N KUBE-FORWARD
	-N KUBE-SERVICES
	-N KUBE-EXTERNAL-SERVICES
	-N KUBE-PROXY-FIREWALL
	-A FORWARD -m conntrack --ctstate NEW -m comment --comment lb -j KUBE-PROXY-FIREWALL
	-A FORWARD -m comment --comment forwarding -j KUBE-FORWARD
	-A FORWARD -m conntrack --ctstate NEW -m comment --comment portals -j KUBE-SERVICES
	-A FORWARD -m conntrack --ctstate NEW -m comment --comment external -j KUBE-EXTERNAL-SERVICES
	-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
	-A KUBE-FORWARD -m comment --comment rules -m mark --mark 0x4000/0x4000 -j ACCEPT
	-A KUBE-FORWARD -m comment --comment rule -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	-A KUBE-SERVICES -p tcp -m comment --comment none -m addrtype --dst-type LOCAL -m tcp --dport 8080 -j REJECT
	`

// ufw is ufw's with its default forward policy.
const ufw = `-P FORWARD DROP
	-N ufw-before-logging-forward
	-N ufw-before-forward
	-N ufw-user-forward
	-N ufw-after-forward
	-N ufw-after-logging-forward
	-N ufw-reject-forward
	-N ufw-track-forward
	-A FORWARD -j ufw-before-logging-forward
	-A FORWARD -j ufw-before-forward
	-A FORWARD -j ufw-after-forward
	-A FORWARD -j ufw-after-logging-forward
	-A FORWARD -j ufw-reject-forward
	-A FORWARD -j ufw-track-forward
	-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	-A ufw-before-forward -p udp --dport 9 -j ACCEPT
	-A ufw-before-forward -j ufw-user-forward
	-A ufw-after-logging-forward -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix ufw
	`

// firewalld is the shape of firewalld's table with nothing in its zones.
const firewalld = `nft -f - <<'END'
table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 addr-unreachable
		jump filter_FORWARD_POLICIES
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD_POLICIES {
		iifname "ens9" oifname "ens9" jump filter_FWD_public
		iifname "ens9" jump filter_FWD_public
		iifname "ens9" reject with icmpx admin-prohibited
		jump filter_FWD_public
		reject with icmpx admin-prohibited
	}
	chain filter_FWD_public {
		jump filter_FWD_public_log
		meta l4proto { icmp, ipv6-icmp } accept
	}
	chain filter_FWD_public_log {
	}
}
END
`

var filters = []filter{
	{name: "nothing"},
	{name: "chains that accept", rules: iptables("nft", "-P FORWARD ACCEPT") + iptables("legacy", "-P FORWARD ACCEPT")},
	{name: "policy of iptables-nft", rules: iptables("nft", "-P FORWARD DROP"), want: both("FAMILY filter FORWARD: %s", policy)},
	{name: "policy of iptables-legacy", rules: iptables("legacy", "-P FORWARD DROP"), want: both("legacy FAMILY filter FORWARD: %s", policy)},
	{name: "policy of one family", rules: "ip6tables-nft -P FORWARD DROP", want: all("IPv6 WAY: ip6 filter FORWARD: %s", policy)},
	{name: "docker", rules: iptables("nft", docker), want: both("FAMILY filter FORWARD: %s", policy)},
	{name: "docker, legacy", rules: iptables("legacy", docker), want: both("legacy FAMILY filter FORWARD: %s", policy)},
	{name: "docker, accepted", rules: iptables("nft", docker+"-I FORWARD -i fl-+ -j ACCEPT\n-I FORWARD -o fl-+ -j ACCEPT")},
	{name: "docker, legacy, accepted", rules: iptables("legacy", docker+"-I DOCKER-USER -i fl-+ -j ACCEPT\n-I FORWARD -o fl-+ -j ACCEPT")},
	{name: "docker, half accepted", rules: iptables("nft", docker+"-I FORWARD 2 -i fl-+ -j ACCEPT"), want: []string{
		"IPv4 from the outside to pods: ip filter FORWARD: " + policy, "IPv6 from the outside to pods: ip6 filter FORWARD: " + policy}},
	{name: "kube-proxy", rules: iptables("nft", kubeProxy)},
	{name: "kube-proxy, legacy", rules: iptables("legacy", kubeProxy)},
	{name: "kube-proxy and docker", rules: iptables("nft", kubeProxy+docker), want: both("FAMILY filter FORWARD: %s", policy)},
	{name: "kube-proxy and docker, legacy", rules: iptables("legacy", kubeProxy+docker), want: both("legacy FAMILY filter FORWARD: %s", policy)},
	{name: "ufw", rules: iptables("nft", ufw), want: both("FAMILY filter FORWARD: %s", policy)},
	{name: "ufw, legacy", rules: iptables("legacy", ufw), want: both("legacy FAMILY filter FORWARD: %s", policy)},
	{name: "ufw, routed traffic allowed", rules: iptables("nft", ufw+"-A ufw-user-forward -i fl-+ -j ACCEPT\n-A ufw-user-forward -o fl-+ -j ACCEPT")},
	{name: "firewalld", rules: firewalld, want: append(
		all("IPv4 WAY: inet firewalld filter_FORWARD: rule 5 of chain filter_FORWARD_POLICIES, which rejects"),
		all("IPv6 WAY: inet firewalld filter_FORWARD: rule 5 of chain filter_FORWARD_POLICIES, which rejects")...)},
	{name: "firewalld, wires trusted", rules: firewalld + `nft insert rule inet firewalld filter_FORWARD_POLICIES iifname "fl-*" accept
		nft insert rule inet firewalld filter_FORWARD_POLICIES oifname "fl-*" accept`},
	{name: "a rule that rejects everything", rules: iptables("legacy", "-A FORWARD -j REJECT"),
		want: both("legacy FAMILY filter FORWARD: rule 1 of chain FORWARD, which rejects")},
	{name: "a rule that drops what pods send", rules: iptables("nft", "-A FORWARD -i fl-+ -j DROP"), want: []string{
		"IPv4 between pods: ip filter FORWARD: rule 1 of chain FORWARD, which drops", "IPv4 from pods to the outside: ip filter FORWARD: rule 1 of chain FORWARD, which drops",
		"IPv6 between pods: ip6 filter FORWARD: rule 1 of chain FORWARD, which drops", "IPv6 from pods to the outside: ip6 filter FORWARD: rule 1 of chain FORWARD, which drops"}},
	{name: "a rule that drops what comes from outside", rules: iptables("legacy", "-A FORWARD -i eth0 -m conntrack --ctstate NEW -j DROP"), want: []string{
		"IPv4 from the outside to pods: legacy ip filter FORWARD: rule 1 of chain FORWARD, which drops",
		"IPv6 from the outside to pods: legacy ip6 filter FORWARD: rule 1 of chain FORWARD, which drops"}},
	{name: "everything but what is no pod's", rules: iptables("nft", "-A FORWARD ! -i fl-+ -j RETURN\n-A FORWARD ! -o eth0 -j RETURN\n-A FORWARD -j DROP"), want: []string{
		"IPv4 from pods to the outside: ip filter FORWARD: rule 3 of chain FORWARD, which drops",
		"IPv6 from pods to the outside: ip6 filter FORWARD: rule 3 of chain FORWARD, which drops"}},
	{name: "goto does not come back", rules: iptables("legacy", "-P FORWARD DROP\n-N X\n-A X -i nobody -j DROP\n-A FORWARD -g X\n-A FORWARD -j ACCEPT"),
		want: both("legacy FAMILY filter FORWARD: %s", policy)},
	{name: "goto does not come back, nft", rules: iptables("nft", "-P FORWARD DROP\n-N X\n-A X -i nobody -j DROP\n-A FORWARD -g X\n-A FORWARD -j ACCEPT"),
		want: both("FAMILY filter FORWARD: %s", policy)},
	{name: "jump comes back", rules: iptables("legacy", "-P FORWARD DROP\n-N X\n-A X -i nobody -j DROP\n-A FORWARD -j X\n-A FORWARD -j ACCEPT")},
	{name: "what other protocols have", rules: iptables("legacy", "-P FORWARD DROP\n-A FORWARD -p udp -j ACCEPT\n-A FORWARD ! -p tcp -j ACCEPT"),
		want: both("legacy FAMILY filter FORWARD: %s", policy)},
	{name: "a map of verdicts", rules: `nft -f - <<'END'
table ip t {
	chain c {
		type filter hook forward priority 5; policy accept;
		ct state vmap { established : accept, related : accept, new : jump strangers }
	}
	chain strangers {
		iifname vmap { "lo" : accept, "eth0" : drop }
	}
}
END
`, want: []string{"IPv4 from the outside to pods: ip t c: rule 1 of chain strangers, which drops"}},
	{name: "by numbers of interfaces", rules: `nft add table inet t
		nft add chain inet t c '{ type filter hook forward priority 0; policy drop; }'
		nft add rule inet t c iif eth0 accept
		nft add rule inet t c iifname fl-* oif != eth0 accept`, want: []string{
		"IPv4 from pods to the outside: inet t c: " + policy, "IPv6 from pods to the outside: inet t c: " + policy}},
	{name: "a table that sleeps", rules: `nft add table inet t '{ flags dormant; }'
		nft add chain inet t c '{ type filter hook forward priority 0; policy drop; }'`},
	{name: "another hook", rules: `nft add table inet t
		nft add chain inet t c '{ type filter hook input priority 0; policy accept; }'
		nft add rule inet t c udp dport 53 drop`},
	{name: "one wire", rules: iptables("nft", "-A FORWARD -i fl-cccccccccccc -j DROP")},
	{name: "addresses of somebody else", rules: iptables("nft", "-A FORWARD -p tcp --dport 25 -j DROP") + "iptables-nft -A FORWARD -s 172.17.0.0/16 -j DROP"},
	{name: "what may accept", rules: iptables("nft", "-P FORWARD DROP") + "iptables-nft -A FORWARD -s 10.0.0.0/8 -j ACCEPT\niptables-nft -A FORWARD -d 10.0.0.0/8 -j ACCEPT",
		want: all("IPv6 WAY: ip6 filter FORWARD: %s", policy)},
	{name: "what cannot be told", rules: iptables("legacy", "-P FORWARD DROP\n-A FORWARD -m statistic --mode nth --every 1000000 --packet 999999 -j ACCEPT"),
		silent: []string{"IPv4 between pods", "IPv4 from pods to the outside", "IPv4 from the outside to pods",
			"IPv6 between pods", "IPv6 from pods to the outside", "IPv6 from the outside to pods"}},
	{name: "a mark of somebody's", rules: iptables("nft", "-t mangle -A PREROUTING -j MARK --set-mark 0x10000\n-P FORWARD DROP\n-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT")},
	{name: "more rules than are read", rules: `{ echo 'table inet t { chain c { type filter hook forward priority 0; policy drop; }; }'
		i=0; while [ $i -lt 4100 ]; do i=$((i+1)); echo 'add rule inet t c iifname "docker0" accept'; done; } | nft -f -`,
		silent: []string{"IPv4 between pods", "IPv4 from pods to the outside", "IPv4 from the outside to pods",
			"IPv6 between pods", "IPv6 from pods to the outside", "IPv6 from the outside to pods"}},
	{name: "a named set", rules: `nft -f - <<'END'
table inet t {
	set wires {
		type ifname
		elements = { "fl-0123456789ab", "fl-ba9876543210" }
	}
	chain c {
		type filter hook forward priority 0; policy drop;
		iifname @wires accept
		oifname @wires accept
	}
}
END
`},
}
