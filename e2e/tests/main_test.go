// Package tests are Fairlead's own checks on a real cluster. They share one: that
// which FAIRLEAD_E2E_USE names, or one that is made for them and taken down, with
// kube-proxy in the mode FAIRLEAD_E2E_PROXY and containerd of FAIRLEAD_E2E_CONTAINERD.
package tests

import (
	"context"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"os/signal"
	"runtime/pprof"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/e2e/cluster"
)

// shared is the cluster of the tests. A test that stops or changes something puts
// it back; tests do not run in parallel.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	flag.Parse() // for the time that there is
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	os.Exit(runAll(ctx, m))
}

func runAll(ctx context.Context, m *testing.M) int {
	if use := os.Getenv("FAIRLEAD_E2E_USE"); use != "" {
		var err error
		if shared, err = cluster.Open(use); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}
	config := cluster.Config{Name: name(), Nodes: 3, Network: cluster.Fairlead, Replace: true, Log: os.Stderr,
		Proxy: cluster.Proxy(os.Getenv("FAIRLEAD_E2E_PROXY")), Containerd: cluster.Containerd(os.Getenv("FAIRLEAD_E2E_CONTAINERD"))}
	done := make(chan int, 1)
	go func() {
		var err error
		if shared, err = cluster.Up(ctx, config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			done <- 1
			return
		}
		done <- m.Run()
	}()
	code := 1
	select {
	case code = <-done:
	case <-ctx.Done():
	case <-late():
		fmt.Fprintf(os.Stderr, "the tests have not ended, and the last %s of their time are for taking down; this is what they do:\n", downPatience)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
	}
	if code != 0 {
		cluster.Explain(os.Stderr, config.Name)
	}
	if err := cluster.Down(context.WithoutCancel(ctx), config.Name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// downPatience is what explaining and taking down have of the time of the tests.
const downPatience = 2 * time.Minute

// late tells when it is time to take down: when the time of -timeout is over,
// nobody does.
func late() <-chan time.Time {
	timeout, ok := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration)
	if !ok || timeout == 0 {
		return nil
	}
	return time.After(timeout - downPatience)
}

// name is that of this source tree's tests: what a killed run left is found again,
// and those of another tree are left alone.
func name() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("tests-%x", crc32.ChecksumIEEE([]byte(dir)))
}
