package door

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const (
	hello = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	half  = "GET / HTTP/1.1\r\nHo"
	few   = 8
)

// open serves at an address until the test ends.
func open(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }), Limits{Connections: few})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// A caller is one connection.
type caller struct {
	net.Conn
	in *bufio.Reader
}

func call(t *testing.T, from, to string) *caller {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &caller{c, bufio.NewReader(c)}
}

// ask reports whether a request on the connection is answered.
func (c *caller) ask() error {
	if _, err := io.WriteString(c, hello); err != nil {
		return err
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if string(body) != "ok" {
		err = errors.Join(err, fmt.Errorf("%s: %q", r.Status, body))
	}
	return err
}

// closed waits for the other side to close the connection.
func (c *caller) closed() error {
	if _, err := c.in.ReadByte(); err == nil {
		return errors.New("there is an answer")
	}
	return nil // it waits for as long as the test may take where nobody closes it
}

// What a stranger holds is his own: he makes room with it, and nobody else does.
func TestAStrangerLosesHisOwn(t *testing.T) {
	for name, text := range map[string]string{"idle": hello, "slow": half, "silent": ""} {
		t.Run(name, func(t *testing.T) {
			at := open(t)
			scraper := call(t, "127.0.0.3", at)
			if err := scraper.ask(); err != nil {
				t.Fatal(err)
			}
			var held []*caller
			for range 5 * few {
				c := call(t, "127.0.0.2", at)
				if _, err := io.WriteString(c, text); err != nil {
					t.Fatal(err)
				}
				if text == hello {
					if _, err := http.ReadResponse(c.in, nil); err != nil {
						t.Fatal(err)
					}
				}
				held = append(held, c)
			}
			if err := call(t, "127.0.0.4", at).ask(); err != nil {
				t.Errorf("a probe: %v", err)
			}
			if err := scraper.ask(); err != nil {
				t.Errorf("one that was there before: %v", err)
			}
			for _, c := range held[:len(held)-few] {
				if text == hello {
					_, _ = io.CopyN(io.Discard, c.in, 2)
				}
				if err := c.closed(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Where nobody has more than one the oldest idle makes room, and who asks is served.
func TestManySourcesMakeRoomInTurn(t *testing.T) {
	at := open(t)
	for i := range 6 * few {
		if err := call(t, fmt.Sprintf("127.0.1.%d", i+1), at).ask(); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestSources(t *testing.T) {
	for _, tt := range []struct{ address, want string }{
		{"192.0.2.1:5", "192.0.2.1"}, {"[::ffff:192.0.2.1]:5", "192.0.2.1"},
		{"[2001:db8::1]:5", "2001:db8::/64"}, {"[2001:db8::2]:6", "2001:db8::/64"}, {"[fe80::1%eth0]:7", "fe80::/64"},
	} {
		a, err := net.ResolveTCPAddr("tcp", strings.ReplaceAll(tt.address, "%eth0", "%lo"))
		if err != nil {
			t.Fatal(err)
		}
		if got := source(a); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.address, got, tt.want)
		}
	}
}

// gatherer counts how often it is asked.
type gatherer struct {
	mu sync.Mutex
	n  int
}

func (g *gatherer) Gather() ([]*dto.MetricFamily, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	registry := prometheus.NewRegistry()
	c := prometheus.NewGauge(prometheus.GaugeOpts{Name: "asked", Help: "How often."})
	c.Set(float64(g.n))
	registry.MustRegister(c)
	families, _ := registry.Gather()
	return families, errors.New("and something else failed")
}

// However many ask for metrics, they are gathered once in a while.
func TestMetricsAreGatheredOnceForMany(t *testing.T) {
	g := &gatherer{}
	now := time.Now()
	s := &scrapes{from: g, now: func() time.Time { return now }}
	ask := func(want string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if !strings.Contains(w.Body.String(), want) || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
			t.Errorf("%v %s, want %s", w.Header(), w.Body, want)
		}
	}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { ask("\nasked 1\n") })
	}
	all.Wait()
	now = now.Add(fresh)
	ask("\nasked 2\n")
	now = now.Add(-time.Hour) // the clock is set
	ask("\nasked 3\n")
}
