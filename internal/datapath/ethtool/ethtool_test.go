package ethtool_test

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/ethtool"
	"fairlead.dev/fairlead/internal/netnstest"
)

func vxlan(t *testing.T) *netnstest.Host {
	t.Helper()
	h := netnstest.New(t)
	h.Do(func() error {
		return netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "v"}, VxlanId: 1, Port: 4789})
	})
	return h
}

func TestOffloadIsSetAndRead(t *testing.T) {
	t.Parallel()
	vxlan(t).Do(func() error {
		for _, want := range []ethtool.State{ethtool.On, ethtool.Off, ethtool.Off, ethtool.On} {
			if err := ethtool.Apply(ethtool.Setting{Link: "v", State: want}); err != nil {
				return err
			}
			got, err := ethtool.Read("v")
			if err != nil {
				return err
			}
			if got != want {
				t.Errorf("it is %s, want %s", got, want)
			}
		}
		return nil
	})
}

func TestADeviceThatIsNotThere(t *testing.T) {
	t.Parallel()
	netnstest.New(t).Do(func() error {
		for _, link := range []string{"gone", "a-name-that-is-too-long", ""} {
			if _, err := ethtool.Read(link); !errors.Is(err, unix.ENODEV) {
				t.Errorf("read %q: %v", link, err)
			}
			if err := ethtool.Apply(ethtool.Setting{Link: link, State: ethtool.Off}); !errors.Is(err, unix.ENODEV) {
				t.Errorf("set %q: %v", link, err)
			}
		}
		return nil
	})
}

// Loopback does all checksums, always.
func TestADeviceThatCannot(t *testing.T) {
	t.Parallel()
	netnstest.New(t).Do(func() error {
		if err := ethtool.Apply(ethtool.Setting{Link: "lo", State: ethtool.Off}); err == nil {
			t.Error("nothing is told")
		}
		return nil
	})
}
