package datapath

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is ours must be told from everybody else's, and from the rest of ours.
func TestLedgerHasNoOverlaps(t *testing.T) {
	for _, table := range []string{SNATTable, HostPortTable, NodePortLocalTable, GuardTable, UplinkTable, EgressRules, EgressLinkRules} {
		if !strings.HasPrefix(table, TablePrefix) {
			t.Errorf("table %s would not be recognised after a crash", table)
		}
	}
	// A rule of ours in a chain of others is found by its comment, which is short enough
	// to be one (NFTNL_UDATA_COMMENT_MAXLEN is 128), and no table of ours has that name.
	if !strings.HasPrefix(AcceptMark, TablePrefix) || len(AcceptMark) >= 128 || slices.Contains([]string{SNATTable, HostPortTable, NodePortLocalTable}, AcceptMark) {
		t.Errorf("the mark %s would not be recognised", AcceptMark)
	}
	for _, link := range []string{VXLANLink, EgressLink, EgressSinkLink} {
		if !strings.HasPrefix(link, LinkPrefix) || len(link) > 15 {
			t.Errorf("link %s would not be recognised after a crash, or is too long", link)
		}
		if rest := strings.TrimPrefix(link, LinkPrefix); len(rest) == 12 && strings.Trim(rest, "0123456789abcdef") == "" {
			t.Errorf("link %s could be a pod's", link)
		}
	}
	const wire = LinkPrefix + "0123456789ab"
	if ifb := IFBLink(wire); ifb != LinkPrefix+"i0123456789a" || len(ifb) > 15 {
		t.Errorf("the IFB device of %s is %s", wire, ifb)
	}
	if len(LinkPrefix)+12 > 15 { // IFNAMSIZ less the final zero
		t.Errorf("prefix %s leaves no room for a pod's hash", LinkPrefix)
	}
	// Kernel 0-4, and the daemons of iproute2's rt_protos.
	for _, taken := range []int{0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 42, 80, 99, 186, 187, 188, 189, 192} {
		if RouteProtocol == taken {
			t.Errorf("route protocol %d belongs to somebody else", taken)
		}
	}
	// Tables of a byte are people's, those from 10000 on are made of an interface's index;
	// rules up to 100 may stand before the local table, those from 512 on are others' for pods.
	if NodesTable <= 100_000 || NodesPriority <= 100 || NodesPriority >= 512 {
		t.Errorf("table %d and the rule of priority %d that leads there may be somebody else's", NodesTable, NodesPriority)
	}
	tables := []int{NodesTable, EgressTable, EgressGuardTable}
	if slices.Min(tables) <= 100_000 || len(slices.Compact(tables)) != 3 {
		t.Errorf("tables %v may be somebody else's, or are one", tables)
	}
	order := []int{NodesPriority, EgressPriority, EgressPassPriority, EgressGuardPriority, EgressPassedPriority, 512}
	if !slices.IsSorted(order) || len(slices.Compact(order)) != 6 {
		t.Errorf("rules are asked in the order %v", order)
	}
	if WireMAC[0]&0x03 != 0x02 {
		t.Errorf("%x is no locally administered unicast address", WireMAC)
	}
}

// The ledger is the only place where ours is written down: nobody spells a
// table or link name of ours as a literal.
func TestNamesOfOursComeFromTheLedger(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}\n{{end}}", "../feature/...", "./...", "../agent").Output()
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.FieldsSeq(string(out)) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, literal := range []string{`"fl-`, `"fairlead-snat`, `"fairlead-hostport`, `"fairlead-nodeportlocal`, `"fairlead-guard`, `"fairlead-uplink`, `"fairlead-forward`, `"fairlead-"`} {
			if bytes.Contains(content, []byte(literal)) && filepath.Base(file) != "owned.go" {
				t.Errorf("%s spells %s: take it from the ledger", file, literal)
			}
		}
	}
}
