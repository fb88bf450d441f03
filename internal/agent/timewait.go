package agent

import (
	"slices"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/pressure"
)

// Ports of one destination run short from half of them on: the kernel's search for
// one begins to take long. They are plenty again when as many connections would leave
// half of them free although conntrack kept each for 120 s again, and not for 1.
const (
	portsShort  = 0.5
	portsPlenty = portsShort / 120
)

// runShort reports whether ports run short, given whether they did before.
func runShort(did bool, s pressure.Status) bool {
	fill := s.Ratios[unix.IPPROTO_TCP]
	if did {
		return fill >= portsPlenty
	}
	return fill >= portsShort
}

// lookAtPorts notes whether ports run short, and what the setting was before that.
func (a *Agent) lookAtPorts() error {
	t := &a.timeWait
	t.Short = runShort(t.Short, a.pressure.Status())
	if !a.knowsWait {
		a.knowsWait = true
		r, err := readSettings(a.config.StateDir)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(r.Settings, func(o oldSetting) bool { return o.Key == snat.TimeWaitKey }); i >= 0 {
			t.Before = r.Settings[i].Before // by an agent before this one
		}
	}
	if t.Before != "" || !t.Short {
		return nil
	}
	var err error
	t.Before, err = sysctl.Read(snat.TimeWaitKey)
	return err
}
