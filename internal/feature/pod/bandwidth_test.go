package pod_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

const (
	rate  = 16_000_000 // bits a second
	bytes = rate / 8   // what passes in a second
	// least is how long that takes at least: less the burst of a tenth, and what
	// buffers round.
	least = 800 * time.Millisecond
)

// A bounded pod receives and sends no faster than it may, whatever else the
// machine does: slower than that proves nothing, and is no failure.
func TestPodsKeepToTheirBandwidth(t *testing.T) {
	n := cluster.NewNode(t, 1)
	n.Wire(netnstest.New(t), "eth0")
	in, out, free := n.NewPod(), n.NewPod(), n.NewPod()
	in.Bandwidth = world.Bandwidth{IngressRate: rate, IngressBurst: 1<<32 - 1}
	out.Bandwidth = world.Bandwidth{EgressRate: rate}
	n.Apply(v1alpha1.AgentConfigSpec{})
	for name, way := range map[string]struct {
		from, to *cluster.Pod
		bound    bool
	}{
		"to a pod that receives slowly":   {free, in, true},
		"to a pod that sends slowly":      {free, out, false},
		"from a pod that receives slowly": {in, free, false},
		"from a pod that sends slowly":    {out, free, true},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range way.to.Addresses {
				took := transfer(t, way.from, way.to, i)
				t.Logf("%d bytes took %s", bytes, took)
				if way.bound && took < least {
					t.Errorf("%d bytes took %s: faster than %d bits a second", bytes, took, rate)
				}
			}
		})
	}
}

// transfer sends the bytes to the i-th address of a pod and returns how long they came
// in.
func transfer(t *testing.T, from, to *cluster.Pod, i int) time.Duration {
	t.Helper()
	var l net.Listener
	to.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf("[%s]:80", to.Addresses[i]))
		return err
	})
	defer l.Close()
	from.Do(func() error {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = c.Write(make([]byte, bytes)) // the receiver counts
		}()
		return nil
	})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	if err := c.SetDeadline(began.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); err != nil || int(n) != bytes {
		t.Fatalf("%d of %d bytes came, %v", n, bytes, err)
	}
	return time.Since(began)
}
