package sysctl_test

import (
	"errors"
	"os"
	"testing"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netnstest"
)

func TestSettingsAreThoseOfTheNamespace(t *testing.T) {
	t.Parallel()
	const key = "net/ipv4/ip_forward"
	one, other := netnstest.New(t), netnstest.New(t)
	one.Do(func() error { return sysctl.Apply(sysctl.Setting{Key: key, Value: "1"}) })
	other.Do(func() error { return sysctl.Apply(sysctl.Setting{Key: key, Value: "0"}) })
	for h, want := range map[*netnstest.Host]string{one: "1", other: "0"} {
		h.Do(func() error {
			got, err := sysctl.Read(key)
			if got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
			return err
		})
	}
}

func TestAMissingSettingIsEmptyAndCannotBeSet(t *testing.T) {
	const key = "net/ipv4/no_such_setting"
	if got, err := sysctl.Read(key); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := sysctl.Apply(sysctl.Setting{Key: key, Value: "1"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
