package firewall_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/firewall"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// foreignRules are as many as kube-proxy makes of some 8,000 Services.
const foreignRules = 50_000

// BenchmarkAmongForeignRules is one look at others' filters, and one at our rules in
// their chains, on a node with many rules of others: elsewhere, or in that chain.
func BenchmarkAmongForeignRules(b *testing.B) {
	for name, chain := range map[string]string{"elsewhere": "USER", "in the chain": "FORWARD"} {
		h := netnstest.New(b)
		var script strings.Builder
		script.WriteString("table ip filter {\nchain FORWARD {\ntype filter hook forward priority 0; policy drop;\n}\nchain USER {\n}\n}\n")
		for i := range foreignRules {
			fmt.Fprintf(&script, "add rule ip filter %s ip daddr 10.%d.%d.%d tcp dport 80 counter accept\n", chain, i>>16, i>>8&255, i&255)
		}
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script.String())
		if err := netns.Do(h.Path, cmd.Run); err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/filters", func(b *testing.B) {
			h.Do(func() error {
				for b.Loop() {
					if _, err := firewall.NFTables(nil); err != nil {
						return err
					}
				}
				return nil
			})
		})
		b.Run(name+"/guests", func(b *testing.B) {
			h.Do(func() error {
				for b.Loop() {
					if _, _, err := datapath.AcceptPlaces[0].Guests(datapath.AcceptMark); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}
