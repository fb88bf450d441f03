package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/settings"
)

// settings reads every setting of the host's network, but for what counts by
// itself.
func sysctls(h *netnstest.Host) map[string]string {
	out := map[string]string{}
	h.Do(func() error {
		return filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			key := strings.TrimPrefix(path, "/proc/sys/")
			if v, err := sysctl.Read(key); err == nil && !d.IsDir() { // some are written only
				out[key] = v
			}
			return nil
		})
	})
	return out
}

// setBack sets the settings back as uninstall does, and returns the commands.
func (n *node) setBack(t *testing.T) string {
	t.Helper()
	var said strings.Builder
	n.host.Do(func() error {
		back, _, err := settings.Before(n.config.StateDir)
		for _, s := range back {
			said.WriteString(s.String() + "\n")
			if err := sysctl.Apply(s); err != nil {
				return err
			}
		}
		return err
	})
	return said.String()
}

func same(t *testing.T, before, after map[string]string) {
	t.Helper()
	for key := range after {
		if _, there := before[key]; !there {
			delete(after, key) // of a link that came
		}
	}
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("settings before and after:\n%s", d)
	}
}

// Forwarding of the node is that of each interface, and no interface may be left
// otherwise than it was found.
func TestSettingsBecomeWhatTheyWereBeforeTheFirstAgent(t *testing.T) {
	n := newNode(t, nodes)
	netnstest.Wire(n.host, "eth1", netnstest.New(t), "eth0")
	n.host.Sysctl("net/ipv4/ip_forward", "0", "net/ipv4/conf/eth1/forwarding", "1", "net/ipv6/conf/all/forwarding", "0")
	n.host.Run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0", "proto", "ra")
	before := sysctls(n.host)
	n.mustTurn(t)
	n.restart(t)
	n.host.Sysctl("net/ipv4/ip_forward", "0") // no agent may take this for what was before
	n.host.Sysctl("net/ipv4/ip_forward", "1", "net/ipv4/ip_forward", "0")
	n.mustTurn(t)
	netnstest.Wire(n.host, "later", netnstest.New(t), "eth0")

	back := n.setBack(t)
	forwards, takes := strings.Index(back, "net/ipv6/conf/all/forwarding=0"), strings.Index(back, "/accept_ra=")
	if forwards < 0 || takes < forwards {
		t.Errorf("set back is, in this order,\n%sbut a node that forwards takes no routes from advertisements", back)
	}
	same(t, before, sysctls(n.host))
	if again := n.setBack(t); again != "" {
		t.Errorf("the second time there is to do:\n%s", again)
	}
}

func TestWhatSomebodySetSinceStays(t *testing.T) {
	n := newNode(t, nodes)
	n.host.Sysctl("net/ipv4/ip_forward", "0", "net/ipv6/conf/all/forwarding", "0")
	before := sysctls(n.host)
	n.mustTurn(t)
	n.host.Sysctl("net/ipv4/conf/all/accept_redirects", "1", "net/ipv6/conf/all/forwarding", "0", "net/ipv6/conf/eth0/forwarding", "1")
	before["net/ipv6/conf/eth0/forwarding"] = "1"
	n.setBack(t)
	same(t, before, sysctls(n.host))
}

// A boot begins with other settings, and so does another network namespace: what
// was before is not for them.
func TestTheRecordIsOfItsBootAndNamespace(t *testing.T) {
	n := newNode(t, nodes)
	n.host.Sysctl("net/ipv4/ip_forward", "0")
	n.mustTurn(t)
	other := netnstest.New(t)
	other.Sysctl("net/ipv4/ip_forward", "1")
	here := n.host
	n.host = other
	if back := n.setBack(t); back != "" {
		t.Errorf("another namespace: %s", back)
	}
	n.host = here
	for _, content := range []string{strings.Replace(n.record(t), "boot ", "boot x", 1), "", "{"} {
		if err := os.WriteFile(settings.Files(n.config.StateDir)[0], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if back := n.setBack(t); back != "" {
			t.Errorf("from a record that says %q: %s", content, back)
		}
	}
	n.host.Sysctl("net/ipv4/ip_forward", "0")
	n.looks(t)
	if !strings.Contains(n.record(t), `"key": "net/ipv4/ip_forward"`) {
		t.Errorf("nothing is written down any more:\n%s", n.record(t))
	}
}

func (n *node) record(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(settings.Files(n.config.StateDir)[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestSettingsAreSetEvenIfTheyCannotBeWrittenDown(t *testing.T) {
	n := newNode(t, nodes)
	n.host.Sysctl("net/ipv4/ip_forward", "0")
	if err := os.Mkdir(settings.Files(n.config.StateDir)[0], 0o700); err != nil {
		t.Fatal(err)
	}
	n.mustTurn(t)
	if v := strings.TrimSpace(n.host.Run("cat", "/proc/sys/net/ipv4/ip_forward")); v != "1" {
		t.Errorf("ip_forward is %s: nothing is forwarded", v)
	}
	if !strings.Contains(n.log.String(), "settings will stay after uninstall") {
		t.Errorf("nobody is told:\n%s", n.log)
	}
}
