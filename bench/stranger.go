package main

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fairlead.dev/fairlead/bench/internal/traffic"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// Somebody else's load: wrk in each of two pods asks nginx outside, and every
// request has a connection of its own, which nginx closes.
const (
	strangerName        = "a stranger's load"
	strangerPods        = 2
	strangerConnections = 50 // of each
	strangerEach        = 2 * time.Second
	strangerPort        = 8080
	strangerToFlannel   = 3
	strangerPatience    = 30 * time.Second
)

var strangerBeds = []bedKind{untranslated, newInstall, likeFlannel,
	{Ports: portsPlain, Timestamps: timestampsRandom}, plainBed,
	best, forgetting(best)}

// A strangerResult is what came out of one bed.
type strangerResult struct {
	bedKind
	Rates       []float64 `json:"rates"`     // requests a second of both pods, round by round
	P99         []float64 `json:"p99Millis"` // of the pod that waited longer
	ToFirst     estimate  `json:"toNoNAT"`
	ToFlannel   *estimate `json:"toFlannel,omitempty"`
	P99ToFirst  estimate  `json:"p99ToNoNAT"`
	P99Flannel  *estimate `json:"p99ToFlannel,omitempty"`
	Retransmits int       `json:"synRetransmits"`
	PAWS        int       `json:"pawsRefusals"`
	Dropped     int       `json:"droppedByNAT"`
}

func (b *bench) measureStranger() []strangerResult {
	if !b.chosen(strangerName) {
		return nil
	}
	b = b.apart()
	defer b.clean()
	for _, program := range []string{"wrk", "nginx"} {
		if _, err := exec.LookPath(program); err != nil {
			b.Fatalf("%s needs %s: run make deps (it is Debian's package of that name)", strangerName, program)
		}
	}
	out, beds := make([]strangerResult, len(strangerBeds)), make([]*closingBed, len(strangerBeds))
	for i, k := range strangerBeds {
		beds[i] = newClosingBed(b, k, strangerPods)
		beds[i].reno()
		beds[i].nginx()
		beds[i].wrk(time.Second) // so that ports come back in the first round as in the last
		out[i] = strangerResult{bedKind: beds[i].kind, Retransmits: -tcpCounter("TCPSynRetrans", beds[i].pods...),
			PAWS: -tcpCounter("PAWSTimewait", beds[i].server), Dropped: -dropped(beds[i].node)}
	}
	for round := range b.rounds {
		b.progress("%s: round %d of %d", strangerName, round+1, b.rounds)
		for turn := range beds {
			i := (round + turn) % len(beds)
			rate, p99 := beds[i].wrk(strangerEach)
			out[i].Rates, out[i].P99 = append(out[i].Rates, rate), append(out[i].P99, p99)
		}
	}
	for i, bed := range beds {
		out[i].Retransmits += tcpCounter("TCPSynRetrans", bed.pods...)
		out[i].PAWS += tcpCounter("PAWSTimewait", bed.server)
		out[i].Dropped += dropped(bed.node)
	}
	for i := range out {
		out[i].ToFirst, out[i].P99ToFirst = estimateOf(ratios(out[i].Rates, out[0].Rates)), estimateOf(ratios(out[i].P99, out[0].P99))
		if flannel := out[2]; out[i].Ports != flannel.Ports {
			rate, p99 := estimateOf(ratios(out[i].Rates, flannel.Rates)), estimateOf(ratios(out[i].P99, flannel.P99))
			out[i].ToFlannel, out[i].P99Flannel = &rate, &p99
		}
	}
	return out
}

// reno is the congestion control of programs of others: the only one that every
// kernel lets a network namespace choose. An answer fits into the first window,
// in which cubic does the same.
func (c *closingBed) reno() {
	for _, h := range append(slices.Clip(c.pods), c.server) {
		h.Sysctl("net/ipv4/tcp_congestion_control", "reno")
	}
}

// nginx runs nginx on the bed's server, out of a folder of its own.
func (c *closingBed) nginx() {
	at := netip.AddrPortFrom(closingAddresses[0], strangerPort)
	dir := c.b.dir("nginx")
	conf := fmt.Sprintf(`daemon off; user root; worker_processes 2; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	server { listen %[2]s backlog=4096; location / { return 200 "ok\n"; } }
}
`, dir, at)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		c.b.Fatalf("%v", err)
	}
	server := exec.Command("nginx", "-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log"))
	var said bytes.Buffer
	server.Stdout, server.Stderr = &said, &said
	if err := netns.Start(c.server.Path, server); err != nil {
		c.b.Fatalf("%v", err)
	}
	c.b.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		_ = server.Wait()
	})
	for end := time.Now().Add(strangerPatience); ; time.Sleep(10 * time.Millisecond) {
		if c.answers(at) {
			return
		}
		if time.Now().After(end) {
			c.b.Fatalf("nginx does not answer: %s", said.String())
		}
	}
}

// answers reports whether there is a listener, which the last pod asks.
func (c *closingBed) answers(at netip.AddrPort) bool {
	return netns.Do(c.pods[len(c.pods)-1].Path, func() error {
		fd, err := traffic.Connect(at, 0)
		if err != nil {
			return err
		}
		return syscall.Close(fd)
	}) == nil
}

// wrk asks from all pods at once, and returns the sum of their rates and the
// longest of their 99th percentiles in ms.
func (c *closingBed) wrk(d time.Duration) (rate, p99 float64) {
	type answer struct {
		rate, p99 float64
		err       error
	}
	answers := make(chan answer)
	for _, p := range c.pods {
		go func() {
			var a answer
			var text string
			if text, a.err = wrkIn(p, d); a.err == nil {
				a.rate, a.p99, a.err = parseWrk(text)
			}
			answers <- a
		}()
	}
	for range c.pods {
		a := <-answers
		if a.err != nil {
			c.b.Fatalf("%s: %v", c.kind, a.err)
		}
		rate, p99 = rate+a.rate, max(p99, a.p99)
	}
	return rate, p99
}

func wrkIn(p *netnstest.Host, d time.Duration) (string, error) {
	var out []byte
	cmd := exec.Command("wrk", "-t1", "-c"+strconv.Itoa(strangerConnections), fmt.Sprintf("-d%.0fs", d.Seconds()), "--latency",
		"-H", "Connection: close", fmt.Sprintf("http://%s/", netip.AddrPortFrom(closingAddresses[0], strangerPort)))
	if err := netns.Do(p.Path, func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return string(out), nil
}

// parseWrk reads what wrk prints: requests a second, and the 99th percentile of
// their latency in ms.
func parseWrk(text string) (rate, p99 float64, err error) {
	rate, p99 = -1, -1
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) != 2:
		case f[0] == "Requests/sec:":
			rate, err = strconv.ParseFloat(f[1], 64)
		case f[0] == "99%":
			var d time.Duration
			d, err = time.ParseDuration(f[1])
			p99 = millisOf(d)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("wrk said %q: %w", strings.TrimSpace(line), err)
		}
	}
	if rate < 0 || p99 < 0 {
		return 0, 0, fmt.Errorf("wrk said nothing of its rate or latency:\n%s", text)
	}
	return rate, p99, nil
}

func printStranger(w io.Writer, results []strangerResult) error {
	fmt.Fprintf(w, "\nA stranger's load: wrk in %d pods, %d connections each, Connection: close; nginx; TCP reno; %d rounds of %s\n",
		strangerPods, strangerConnections, len(results[0].Rates), strangerEach)
	t := newTable(w)
	t.line("ports", "timestamps", "requests", "to no NAT", "95 %", fmt.Sprintf("goal %.2f", closingToNoNAT), "to Flannel's", "95 %",
		fmt.Sprintf("goal %d", strangerToFlannel), "p99", "to no NAT", "95 %", "to Flannel's", "SYNs sent again", "PAWS refusals", "dropped")
	for _, r := range results {
		var goals [2]string
		cells := []string{r.ports(), r.Timestamps, perSecond(estimateOf(r.Rates).Median), ratio(r.ToFirst.Median), interval(r.ToFirst), "", "", "", "",
			fmt.Sprintf("%.1f ms", estimateOf(r.P99).Median), ratio(r.P99ToFirst.Median), interval(r.P99ToFirst), "",
			fmt.Sprint(r.Retransmits), fmt.Sprint(r.PAWS), fmt.Sprint(r.Dropped)}
		if r.Ports == portsOfNewInstall {
			goals[0] = verdict(r.ToFirst.Median >= closingToNoNAT || r.ToFirst.High >= closingToNoNAT)
			goals[1] = verdict(r.ToFlannel.Median >= strangerToFlannel || r.ToFlannel.High >= strangerToFlannel)
		}
		cells[5] = goals[0]
		if r.ToFlannel != nil {
			cells[6], cells[7], cells[8], cells[12] = ratio(r.ToFlannel.Median), interval(*r.ToFlannel), goals[1], ratio(r.P99Flannel.Median)
		}
		t.line(cells...)
	}
	return t.Flush()
}
