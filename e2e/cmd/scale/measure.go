package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/e2e/enter"
	"fairlead.dev/fairlead/internal/kube"
)

const (
	perSecond = 20   // how many pods change in a second
	stride    = 7919 // a prime
)

// A row is what one run measured.
type row struct {
	Pods, Nodes int
	First       time.Duration // from the agent's start to its first Apply
	RSS, Peak   int           // MiB: the most while pods change, and the most ever
	P50, P99    time.Duration // from asking the API server for a change to the kernel's word of it
	CPU         float64       // of one core, while pods change
	Changes     int
}

// measure runs an agent with the pods that there are.
func (b *bench) measure(ctx context.Context, pods int) (r row, err error) {
	r.Pods, r.Nodes = pods, pods/podsPerNode
	dir, err := os.MkdirTemp("", "fairlead-scale-")
	if err != nil {
		return r, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary one
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return r, err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := b.cluster.Control().Command(ctx, self, "agent", b.cluster.Kubeconfig(), dir, b.profile)
	cmd.Stdout, cmd.Stderr = log, log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM) // the next one finds what it left in the kernel
		select {
		case <-cmd.Ended():
		case <-time.After(endPatience):
			_ = cmd.Process.Kill()
			err = errors.Join(err, fmt.Errorf("the agent did not end within %s of being asked to", endPatience))
		}
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			err = fmt.Errorf("%w; the agent's log:\n%s", err, text[max(0, len(text)-2000):])
		}
	}()
	if err := b.applied(ctx); err != nil {
		return r, err
	}
	r.First = time.Since(began)
	if err := b.all(ctx, pods); err != nil {
		return r, err
	}
	return b.change(ctx, r, cmd)
}

// applied waits until the agent has applied something.
func (b *bench) applied(ctx context.Context) error {
	client := http.Client{Transport: &http.Transport{DialContext: b.dial}}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for ; ; time.Sleep(20 * time.Millisecond) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metrics+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(answer.Status)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the agent is not ready: %w", err)
		}
	}
}

// endPatience is how long an agent may take to end.
const endPatience = 30 * time.Second

// all waits until the kernel's set has the addresses of all pods. A listing of a
// set that has just grown may miss some.
func (b *bench) all(ctx context.Context, pods int) error {
	for try := 0; ; try++ {
		n, err := b.elements(ctx)
		if err != nil || n == pods {
			return err
		}
		if try == 30 {
			return fmt.Errorf("%d addresses in the kernel, want %d", n, pods)
		}
		fmt.Fprintf(os.Stderr, "%d of %d addresses were listed; listing them again\n", n, pods)
		time.Sleep(time.Second)
	}
}

// elements counts the addresses in the kernel's set.
func (b *bench) elements(ctx context.Context) (int, error) {
	out, err := b.cluster.Control().Command(ctx, "nft", "list", "set", "inet", tableName, setName).Output()
	return len(anAddress.FindAllString(out, -1)), err
}

var anAddress = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`)

// change changes pods for a while and listens to the kernel.
func (b *bench) change(ctx context.Context, r row, cmd *enter.Cmd) (row, error) {
	time.Sleep(5 * time.Second) // what the start left to do is not what is measured
	config, err := b.cluster.REST()
	if err != nil {
		return r, err
	}
	client, err := kube.Client(config, corev1.SchemeGroupVersion)
	if err != nil {
		return r, err
	}
	e, err := listen(b.cluster.Control())
	if err != nil {
		return r, err
	}
	defer e.close()
	pid := cmd.Process.Pid
	cpu, began := cpuTime(pid), time.Now()
	failed := make(chan error, 1000)
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for time.Since(began) < b.lasting {
		<-tick.C
		i := r.Changes * stride % r.Pods // no pod twice within a while: of two changes at once the kernel hears of one
		address := podAddress(i, b.lives+r.Changes/r.Pods)
		e.expect(address)
		r.Changes++
		go func() { failed <- move(ctx, client, i, address.String()) }()
		r.RSS = max(r.RSS, memory(pid, "VmRSS:"))
	}
	b.lives += 1 + r.Changes/r.Pods
	for range r.Changes {
		if err := <-failed; err != nil {
			return r, err
		}
	}
	r.CPU = (cpuTime(pid) - cpu).Seconds() / time.Since(began).Seconds()
	took, err := e.took(r.Changes)
	if err != nil {
		return r, err
	}
	slices.Sort(took)
	r.P50, r.P99 = took[len(took)/2], took[len(took)*99/100]
	r.Peak = memory(pid, "VmHWM:")
	return r, nil
}

// move gives a pod another address.
func move(ctx context.Context, client rest.Interface, i int, address string) error {
	p := pod(i)
	patch := fmt.Sprintf(`{"status":{"podIP":%q,"podIPs":[{"ip":%[1]q}]}}`, address)
	return client.Patch(types.MergePatchType).Namespace(p.Namespace).Resource("pods").Name(p.Name).SubResource("status").
		Body([]byte(patch)).Do(ctx).Error()
}

// memory is a line of /proc/PID/status, in MiB.
func memory(pid int, name string) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(text), name)
	if f := strings.Fields(after); len(f) > 0 {
		n, _ := strconv.Atoi(f[0])
		return (n + 1023) / 1024
	}
	return 0
}

// cpuIdle is for how long CPUs had nothing to do, all together: proc_stat(5), the
// fourth field of the first line, in ticks of 10 ms.
func cpuIdle() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	f := strings.Fields(string(text))
	if len(f) < 5 {
		return 0
	}
	n, _ := strconv.Atoi(f[4])
	return time.Duration(n) * 10 * time.Millisecond
}

// cpuTime is what a process has taken of the CPUs: proc_pid_stat(5), fields 14 and
// 15, in ticks of 10 ms.
func cpuTime(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(text[max(0, strings.LastIndexByte(string(text), ')')):]))
	var out time.Duration
	for _, s := range f[min(12, len(f)):min(14, len(f))] {
		n, _ := strconv.Atoi(s)
		out += time.Duration(n) * 10 * time.Millisecond
	}
	return out
}
