package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// A list that is watched is made when something changed, and not all the time while much
// changes.
func TestAWatchedListIsMadeWhenSomethingChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const cost = 5 * time.Millisecond
		l := newWatches()
		var list, made atomic.Int64
		wait := func(tag string) (text, now string, took time.Duration) {
			t.Helper()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header.Set("If-None-Match", tag)
			began := time.Now()
			b, now, err := l.another(r, func(*http.Request) (any, error) {
				v := list.Load()
				made.Add(1)
				time.Sleep(cost)
				return v, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return string(b), now, time.Since(began)
		}
		text, tag, took := wait("")
		if text != "0\n" || took != cost {
			t.Errorf("the first answer is %q after %s", text, took)
		}
		if text, again, took := wait(tag); text != "" || again != tag || took != waitAtMost || made.Load() != 1 {
			t.Errorf("nothing changed: %q after %s, made %d times", text, took, made.Load())
		}
		time.AfterFunc(time.Second, func() { list.Store(1); l.ring() })
		if text, tag, took = wait(tag); text != "1\n" || took != time.Second+cost {
			t.Errorf("one second later there is another one: %q after %s", text, took)
		}
		// What changed while nobody waited is not lost.
		list.Store(2)
		l.ring()
		if text, tag, took = wait(tag); text != "2\n" || took != cost {
			t.Errorf("what came in between: %q after %s", text, took)
		}
		// Much changes, and nothing of this list, until something does.
		made.Store(0)
		storm := time.NewTicker(time.Millisecond)
		defer storm.Stop()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for i := range 2000 {
				<-storm.C
				if i == 1999 {
					list.Store(3)
				}
				l.ring()
			}
		}()
		text, _, took = wait(tag)
		if text != "3\n" || took < 2*time.Second || took > 2*time.Second+(watchRest+2)*cost {
			t.Errorf("at the end of the storm: %q after %s", text, took)
		}
		if most := 2*time.Second/(watchRest*cost) + 2; made.Load() > int64(most) {
			t.Errorf("made %d times in two seconds, want %d at most", made.Load(), most)
		}
		<-ended
	})
}

// listen serves the agent's socket until the test ends.
func (n *node) listen(t *testing.T) (dial func() net.Conn) {
	t.Helper()
	path := filepath.Join(n.dir, "s")
	l, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- n.serve(t.Context(), listeners{socket: l}) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// watch asks for another list than the one with the tag.
func watchList(t *testing.T, c net.Conn, list, tag string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET /v1/%s HTTP/1.1\r\nHost: agent\r\nPrefer: wait=30\r\nIf-None-Match: %s\r\n\r\n", list, tag); err != nil {
		t.Fatal(err)
	}
}

func watched(t *testing.T, c net.Conn) (status int, tag, body string) {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header.Get("ETag"), string(b)
}

// Whoever waits for a list is answered when it changes, whatever changes it.
func TestWatchersAreAnsweredWhenAListChanges(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	dial := n.listen(t)
	write := func(content string) func() {
		return func() { n.write(t, "more.yaml", content); n.loop.Changed() }
	}
	for list, change := range map[string]func(){
		"nodes":    write("apiVersion: v1\nkind: Node\nmetadata: {name: n3}\nstatus: {addresses: [{type: InternalIP, address: 192.168.100.3}]}"),
		"pods":     func() { n.attach(t, "c1", netnstest.New(t)); n.loop.Wake() },
		"problems": write("apiVersion: v1\nkind: Gadget\nmetadata: {name: g}"),
		"events": func() {
			n.events.Record(world.Event{Object: "Node n1", Type: world.Normal, Reason: "Happened", Message: "it did"})
		},
		"nodeportlocal": write(podObject("p", "10.244.1.9", "") + "\n---\n" + service("s", "p", "80", "TCP")),
	} {
		first := dial()
		watchList(t, first, list, "")
		status, tag, before := watched(t, first)
		if status != http.StatusOK || tag == "" {
			t.Fatalf("%s: %d, tag %s", list, status, tag)
		}
		waits := dial()
		watchList(t, waits, list, tag)
		change()

		if status, now, after := watched(t, waits); status != http.StatusOK || now == tag || after == before {
			t.Errorf("%s: %d, tag %s and before %s:\n%s\n%s", list, status, now, tag, before, after)
		}
	}
}

// Who never reads his answer keeps the agent's memory for a while, and others have no more
// of it than there are places.
func TestAWatcherWhoNeverReadsCostsLittle(t *testing.T) {
	var many strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&many, "---\napiVersion: v1\nkind: Node\nmetadata: {name: a-node-with-a-name-that-is-somewhat-long-%d}\nspec: {podCIDRs: [10.%d.%d.0/26]}\nstatus: {addresses: [{type: InternalIP, address: 172.16.%d.%d}]}\n",
			i, 128+i/250, i%250, i/250, i%250)
	}
	n := newNode(t, nodes, "apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {overlay: {mode: none}}", many.String())
	n.start(t)
	dial := n.listen(t)
	read := dial()
	watchList(t, read, "nodes", "")
	_, _, body := watched(t, read)
	if len(body) < 1<<20 {
		t.Fatalf("the list has %d bytes only, which fit into buffers", len(body))
	}
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	refused := 0
	for range 10 * mostWatchers {
		c := dial()
		watchList(t, c, "nodes", "")
		first := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(c, first); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(string(first), "503") {
			refused++
		}
	}
	if refused != 9*mostWatchers {
		t.Errorf("%d of %d were refused", refused, 10*mostWatchers)
	}
	if more := heap() - before; more > 2*mostWatchers*len(body) {
		t.Errorf("%d bytes more are in memory, of a list of %d", more, len(body))
	}
}

// A place is free again when the time to read is over.
func TestAWatcherWhoNeverReadsLosesHisPlace(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	n.watches.readWithin = 50 * time.Millisecond
	mux := http.NewServeMux()
	n.watches.list(mux, "long", func(*http.Request) (any, error) { return strings.Repeat("x", 16<<20), nil })
	l, err := net.Listen("unix", filepath.Join(n.dir, "l"))
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: mux}
	ended := make(chan error)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	for range mostWatchers {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		watchList(t, c, "long", "")
		if _, err := c.Read(make([]byte, 1)); err != nil { // the answer begins
			t.Fatal(err)
		}
	}
	for range mostWatchers {
		n.watches.places <- struct{}{}
	}
}
