package settings

import (
	"fmt"
	"os"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netnstest"
)

// What a setting was is known until nobody asks for it any more, and then it is so again.
func TestASettingOfTheNodeGetsBack(t *testing.T) {
	const key = "net/ipv4/ip_forward"
	dir, host := t.TempDir(), netnstest.New(t)
	host.Sysctl(key, "0")
	host.Do(func() error {
		n, err := OpenNode(dir)
		if err != nil {
			return err
		}
		set := sysctl.Setting{Key: key, Value: "1"}
		asks := datapath.State{&datapath.Part{Settings: []sysctl.Setting{set}}}
		if back, err := n.PutBack(asks); err != nil || len(back) > 0 || !n.Asks(key) {
			return fmt.Errorf("at first %v is put back, %w", back, err)
		}
		for range 2 { // the second time it is not what was before
			if err := n.Remember([]sysctl.Setting{set}); err != nil {
				return err
			}
			if err := sysctl.Apply(set); err != nil {
				return err
			}
		}
		if was, changed, err := n.Before(key); was != "0" || !changed || err != nil {
			return fmt.Errorf("before it was %q, %t, %w", was, changed, err)
		}
		if back, pods, err := Before(dir); len(back) == 0 || back[0].Key != key || back[0].Value != "0" || len(pods) > 0 || err != nil {
			return fmt.Errorf("uninstall would set back %v, %v, %w", back, pods, err)
		}
		if back, err := n.PutBack(nil); err != nil || len(back) == 0 || n.Asks(key) {
			return fmt.Errorf("what nothing asks for is put back: %v, %w", back, err)
		}
		if now, err := sysctl.Read(key); now != "0" || err != nil {
			return fmt.Errorf("it is %q, %w", now, err)
		}
		if _, changed, err := n.Before(key); changed || err != nil {
			return fmt.Errorf("it is still written down, or %w", err)
		}
		return nil
	})
}

func TestARecordThatNobodyWroteIsSetAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(nodePath(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := OpenNode(dir); n == nil || err == nil {
		t.Errorf("%v, %v", n, err)
	}
	if n, err := OpenNode(dir); n == nil || err != nil {
		t.Errorf("the next time: %v, %v", n, err)
	}
}
