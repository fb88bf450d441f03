package sysctl_test

import (
	"path/filepath"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netnstest"
)

// What a setting drags is all that it changes.
func TestDragsAreAllThatChanges(t *testing.T) {
	t.Parallel()
	for _, s := range []sysctl.Setting{
		{Key: "net/ipv4/ip_forward", Value: "1"}, {Key: "net/ipv4/ip_forward", Value: "0"},
		{Key: "net/ipv6/conf/all/forwarding", Value: "1"}, {Key: "net/ipv6/conf/all/forwarding", Value: "0"},
	} {
		h := netnstest.New(t)
		netnstest.Wire(h, "eth0", netnstest.New(t), "eth0")
		other := map[string]string{"0": "1", "1": "0"}[s.Value]
		h.Do(func() error {
			if err := sysctl.Apply(sysctl.Setting{Key: s.Key, Value: other}); err != nil {
				return err
			}
			want, err := all()
			if err != nil {
				return err
			}
			drags, err := s.Drags()
			if err != nil {
				return err
			}
			for _, d := range append(drags, s) {
				if want[d.Key] == d.Value {
					t.Errorf("%s drags %s, which is so already", s, d)
				}
				want[d.Key] = d.Value
			}
			if err := sysctl.Apply(s); err != nil {
				return err
			}
			got, err := all()
			for key, v := range got {
				if want[key] != v {
					t.Errorf("after %s, %s is %q, want %q", s, key, v, want[key])
				}
			}
			return err
		})
	}
}

// all reads every setting of the interfaces, and what stands beside them.
func all() (map[string]string, error) {
	out := map[string]string{}
	for _, pattern := range []string{"net/ipv4/conf/*/*", "net/ipv6/conf/*/*", "net/ipv4/*", "net/ipv6/*"} {
		files, err := filepath.Glob("/proc/sys/" + pattern)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			key := strings.TrimPrefix(f, "/proc/sys/")
			if v, err := sysctl.Read(key); err == nil { // else a directory, written only, or random until it is set
				out[key] = v
			}
		}
	}
	return out, nil
}
