package cli_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
)

// A listing is all there is to see of a node: by heading, a line each.
type listing map[string][]string

// commands list what the kernel holds, less what counts or runs by itself.
var commands = []string{
	"nft -s list ruleset",
	"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save",
	"ip -d link", "ip address", "ip maddress", "ip rule", "ip -6 rule",
	"ip -4 route show table all", "ip -6 route show table all",
	"ip -4 neigh show nud permanent", "ip -6 neigh show nud permanent", "ip neigh show proxy", "ip -6 neigh show proxy",
	"bridge fdb", "bridge vlan", "tc qdisc", "tc filter", "ip netconf",
}

// running is what they print of counters, clocks, and the names of other
// namespaces, which other tests make and remove.
var running = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]|\w+_timer +\S+ | link-netns\S* \S+|^Error: Peer netns reference is invalid.\n`)

// list lists the node's kernel and the site's files.
func (s *site) list() listing {
	s.t.Helper()
	l := listing{}
	for _, c := range commands {
		words := strings.Fields(c)
		l[c] = strings.Split(running.ReplaceAllString(s.Run(words[0], words[1:]...), ""), "\n")
	}
	l["sysctl"] = s.settings()
	l["files"] = s.files()
	return l
}

func (s *site) settings() []string {
	s.t.Helper()
	var out []string
	s.Do(func() error {
		return filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() == "nf_conntrack_count" {
				return err
			}
			key := strings.TrimPrefix(path, "/proc/sys/")
			if v, err := sysctl.Read(key); err == nil { // some are written only
				out = append(out, key+" = "+v)
			}
			return nil
		})
	})
	return out
}

func (s *site) files() []string {
	s.t.Helper()
	var out []string
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if path == s.path("objects") {
			return fs.SkipDir // the operator's
		}
		if err != nil {
			return err
		}
		line := path + " " + d.Type().String()
		if d.Type().IsRegular() && !strings.HasPrefix(d.Name(), "last_reserved_ip") { // that counts pods
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// theirs is l less what is Fairlead's beside another network: one table, the
// plugin, and what is in the directories of the agent.
func (s *site) theirs(l listing) listing {
	ours := func(line string) bool {
		return slices.ContainsFunc([]string{"state", "run", "bin/fairlead", "bin/.fairlead-"},
			func(own string) bool { return strings.HasPrefix(line, s.path(own)) })
	}
	out := listing{}
	for heading, lines := range l {
		inside := false
		for _, line := range lines {
			inside = inside || strings.HasPrefix(line, "table inet fairlead-")
			if !inside && !ours(line) {
				out[heading] = append(out[heading], line)
			}
			inside = inside && line != "}"
		}
	}
	return out
}

// unchanged fails the test if two listings differ.
func unchanged(t *testing.T, when string, before, after listing) {
	t.Helper()
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("%s, what was there before is not as it was (-before +now):\n%s", when, d)
	}
}
