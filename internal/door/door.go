// Package door serves HTTP to whoever reaches a port, strangers among them: whatever
// they do there, it costs little, and others are served.
//
// Nobody is turned away. When there are too many connections one of them makes room,
// of the source that has most of them: who holds many loses his own, and a probe or
// a scrape that comes meanwhile is answered.
package door

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits are what a port bears.
type Limits struct {
	Connections int           // at a time
	Request     time.Duration // from reading it to having written the answer; 0: as long as it takes
}

// Public are those of a port that anybody reaches. Kubelet and Prometheus have a
// connection or two each.
var Public = Limits{Connections: 64, Request: 15 * time.Second}

// Serve answers connections until ctx is done.
func Serve(ctx context.Context, l net.Listener, handler http.Handler, limits Limits) error {
	keeper := &keeper{most: limits.Connections, open: map[net.Conn]*guest{}}
	server := &http.Server{
		Handler: handler, ConnState: keeper.state, MaxHeaderBytes: 8 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: limits.Request, WriteTimeout: limits.Request,
		IdleTimeout: 2 * time.Minute, // Prometheus comes once a minute
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// A keeper knows all open connections.
type keeper struct {
	most int

	mu   sync.Mutex
	open map[net.Conn]*guest
	came int64 // how many there were
}

// A guest is who has a connection.
type guest struct {
	from  string
	since int64 // which one of all that came
	asks  bool  // a request is under way
}

func (k *keeper) state(c net.Conn, state http.ConnState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch g := k.open[c]; {
	case state == http.StateNew:
		k.came++
		k.open[c] = &guest{from: source(c.RemoteAddr()), since: k.came}
		if len(k.open) > k.most {
			k.makeRoom(c)
		}
	case g == nil: // it made room
	case state == http.StateClosed || state == http.StateHijacked:
		delete(k.open, c)
	default:
		g.asks = state == http.StateActive
	}
}

// makeRoom closes a connection of the source that has most of them: one that asks for
// nothing before one that does, and the oldest first. The one that just came is none
// of them, unless it is alone.
func (k *keeper) makeRoom(newest net.Conn) {
	of := map[string]int{}
	for _, g := range k.open {
		of[g.from]++
	}
	var leaves net.Conn
	for c, g := range k.open {
		if c != newest && (leaves == nil || before(g, k.open[leaves], of)) {
			leaves = c
		}
	}
	if leaves == nil {
		return
	}
	delete(k.open, leaves)
	leaves.Close() // its goroutine ends by that
}

// before reports whether g makes room rather than h.
func before(g, h *guest, of map[string]int) bool {
	switch {
	case of[g.from] != of[h.from]:
		return of[g.from] > of[h.from]
	case g.asks != h.asks:
		return h.asks
	}
	return g.since < h.since
}

// source is what of an address belongs to one: of IPv6 anybody has a network.
func source(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip := t.AddrPort().Addr().Unmap()
	if ip.Is6() {
		return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
	}
	return ip.String()
}
