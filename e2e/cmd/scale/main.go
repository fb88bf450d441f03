// Command scale measures an agent against a real API server with many Nodes and
// Pods, every pod of the cluster watched: memory, how soon it is ready, and how
// soon a pod that changes is in the kernel.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/e2e/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) == 5 && os.Args[1] == "agent" {
		return profiled(os.Args[4], func() error { return runAgent(ctx, os.Args[2], os.Args[3]) })
	}
	sizes := flag.String("pods", "1000,10000,100000", "how many `PODS` there are, one run each")
	lasting := flag.Duration("for", 30*time.Second, "how long pods change in each run")
	results := flag.String("results", "", "`FILE` that the table is written to; empty: none is")
	profile := flag.String("profile", "", "`FILE` that says afterwards where the agent's time went; of many runs, the last one's")
	flag.Parse()
	var pods []int
	for s := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < podsPerNode || len(pods) > 0 && n <= pods[len(pods)-1] {
			return fmt.Errorf("-pods %q: write numbers of at least %d that grow", *sizes, podsPerNode)
		}
		pods = append(pods, n)
	}
	c, err := cluster.Up(ctx, cluster.Config{Name: "scale", Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { _ = c.Down(context.WithoutCancel(ctx)) }() // the next one removes what is left
	b := bench{cluster: c, lasting: *lasting, profile: *profile, lives: 1}
	table, err := b.run(ctx, pods)
	if err != nil {
		return err
	}
	fmt.Print(table)
	if *results != "" {
		return os.WriteFile(*results, []byte(table), 0o644)
	}
	return nil
}

// A bench measures agents at one control plane.
type bench struct {
	cluster *cluster.Cluster
	lasting time.Duration
	profile string     // file for one of the agent; "": none
	lives   int        // how many addresses a pod has had
	own     netip.Addr // of the node that the agent is for
	etcd    *http.Client
}

func (b *bench) run(ctx context.Context, sizes []int) (string, error) {
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		// They would take the nodes for dead, and the pods with them.
		if err := b.cluster.Stop(ctx, name); err != nil {
			return "", err
		}
	}
	for _, file := range []string{"agentconfigs", "egresses", "fairleadnodes"} {
		crd, err := os.ReadFile("../deploy/crds/fairlead.dev_" + file + ".yaml")
		if err != nil {
			return "", fmt.Errorf("%w: run this in e2e/", err)
		}
		if err := b.cluster.Apply(ctx, string(crd)); err != nil {
			return "", err
		}
	}
	rest, err := b.cluster.REST()
	if err != nil {
		return "", err
	}
	server, err := url.Parse(rest.Host)
	if err != nil {
		return "", err
	}
	if b.own, err = netip.ParseAddr(server.Hostname()); err != nil {
		return "", err
	}
	b.etcd = &http.Client{Transport: &http.Transport{DialContext: b.dial}}
	var rows []row
	had := 0
	for _, pods := range sizes {
		began := time.Now()
		revision, err := b.seed(ctx, had, pods)
		if err != nil {
			return "", err
		}
		if err := b.caughtUp(ctx, revision); err != nil {
			return "", err
		}
		had = pods
		if err := idle(ctx); err != nil {
			return "", err
		}
		fmt.Fprintf(os.Stderr, "%d pods on %d nodes in the API server in %s\n", pods, pods/podsPerNode, time.Since(began).Round(time.Second))
		r, err := b.measure(ctx, pods)
		if err != nil {
			return "", fmt.Errorf("%d pods: %w", pods, err)
		}
		fmt.Fprintf(os.Stderr, "%+v\n", r)
		rows = append(rows, r)
	}
	return table(rows), nil
}

// idle waits until the machine has little to do: what came into etcd by another
// door still keeps the API server busy.
func idle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for began := cpuIdle(); ctx.Err() == nil; {
		time.Sleep(time.Second)
		now := cpuIdle()
		if now-began > time.Duration(runtime.NumCPU())*850*time.Millisecond {
			return nil
		}
		began = now
	}
	return errors.New("this machine has been busy for a minute: measure when it is not")
}

// dial connects where the control plane is, whose etcd is for itself only.
func (b *bench) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := b.cluster.Control().Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// caughtUp waits until the API server knows what is in etcd.
func (b *bench) caughtUp(ctx context.Context, revision string) error {
	client, err := b.cluster.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for {
		_, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: 1, ResourceVersion: revision})
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Second)
	}
}
