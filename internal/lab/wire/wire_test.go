package wire

import (
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/lab/plan"
)

func TestAFirewallReadsAsItIsWritten(t *testing.T) {
	p, problems := plan.Parse("lab.yaml", []byte(`
apiVersion: lab.fairlead.dev/v1alpha1
kind: Lab
firewalls:
- name: fw
  default: drop
  rules:
  - {direction: out, action: accept}
  - {direction: in, protocol: tcp, ports: 32768-65535, tcpFlags: [ack, rst], action: accept}
  - {direction: in, protocol: icmp, action: accept}
  - {direction: in, protocol: sctp, ports: 80, action: drop}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := `table inet lab-firewall {
	chain accepted {
		counter accept
	}
	chain dropped {
		counter drop
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		iifname "eth0" goto accepted
		oifname "eth0" meta l4proto 6 th dport 32768-65535 tcp flags & (rst | ack) != 0x0 goto accepted
		oifname "eth0" meta l4proto 1 goto accepted
		oifname "eth0" meta l4proto 58 goto accepted
		oifname "eth0" meta l4proto 132 th dport 80 goto dropped
		iifname "eth0" goto dropped
		oifname "eth0" goto dropped
	}
}
`
	if got := Table(p.Firewalls[0]).String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLinkNamesFitTheKernel(t *testing.T) {
	for _, name := range []string{underlayBridge(249), segmentBridge(9999), nodePort(249), hostPort(9999), firewallPort(63)} {
		if len(name) > 15 || strings.ContainsAny(name, "/ ") {
			t.Errorf("%s is no name for a link", name)
		}
	}
	seen := map[string]bool{}
	for i := range 250 {
		for _, m := range []machine{nodeMAC, hostMAC, firewallMAC} {
			a := mac(m, i).String()
			if seen[a] {
				t.Errorf("%s is used twice", a)
			}
			seen[a] = true
		}
	}
}
