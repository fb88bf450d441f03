package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/report"
)

const (
	// mostWatchers are served at a time, at most.
	mostWatchers = 16
	// waitAtMost is for how long nothing may change until a watcher is told so: shorter
	// than the command line's patience.
	waitAtMost = 25 * time.Second
	// readWithin is how long a watcher may take to read an answer, of which there is a
	// copy until then.
	readWithin = 30 * time.Second
	// watchRest is for how long a list is not made again for a watcher, in terms of how
	// long making it took.
	watchRest = 20
)

// watches serve lists to those who ask once, and to those who wait for a change: these say
// so with Prefer: wait=SECONDS (RFC 7240), and by the ETag which answer they have (RFC 9110). While one waits,
// nothing is kept for him but his request. So he may lose what a list was in between, and
// never what it is in the end.
type watches struct {
	places     chan struct{} // one for each watcher
	readWithin time.Duration

	mu   sync.Mutex
	rung chan struct{} // closed when something changes
	// changes counts from the time on, so that no count of an earlier agent comes again.
	changes int64
}

func newWatches() *watches {
	return &watches{places: make(chan struct{}, mostWatchers), readWithin: readWithin, rung: make(chan struct{}), changes: time.Now().UnixNano()}
}

// ring says that something that is shown may have changed.
func (l *watches) ring() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.rung)
	l.rung, l.changes = make(chan struct{}), l.changes+1
}

// heard is the number of changes, and what is closed by the next.
func (l *watches) heard() (changes string, next <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.changes), l.rung
}

// A shower makes the answer to a question.
type shower func(*http.Request) (any, error)

// list serves a list.
func (l *watches) list(mux *http.ServeMux, name string, show shower) {
	mux.HandleFunc("GET /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Prefer"), "wait=") {
			l.serve(w, r, show)
		} else if v, err := show(r); err != nil {
			unanswered(w, err)
		} else {
			answer(w, v)
		}
	})
}

func (l *watches) serve(w http.ResponseWriter, r *http.Request, show shower) {
	select {
	case l.places <- struct{}{}:
		defer func() { <-l.places }()
	default:
		http.Error(w, fmt.Sprintf("%d others watch already: end one of them, or ask without --watch", mostWatchers), http.StatusServiceUnavailable)
		return
	}
	text, tag, err := l.another(r, show)
	if err != nil {
		unanswered(w, err)
		return
	}
	w.Header().Set("Connection", "close") // the deadline is not for another request
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(l.readWithin)); err != nil {
		return // the connection is gone
	}
	w.Header().Set("ETag", tag)
	if text == nil {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// All of it goes out while the watcher has his place. He is gone if this fails.
	if _, err := w.Write(text); err == nil {
		_ = http.NewResponseController(w).Flush()
	}
}

// another waits for an answer that is not the one with the request's tag, and returns it
// with its own tag; no text: there is none yet. A tag says how many changes there had been
// before the answer was made, and what was in it: nothing is made until there is another
// change, and what is the same in the end is no other answer.
func (l *watches) another(r *http.Request, show shower) (text []byte, tag string, err error) {
	ctx, stop := context.WithTimeout(r.Context(), waitAtMost)
	defer stop()
	tag = r.Header.Get("If-None-Match")
	known, sum, _ := strings.Cut(strings.Trim(tag, `"`), "-")
	for {
		changes, next := l.heard()
		began := time.Now()
		if changes != known {
			v, err := show(r)
			if err != nil {
				return nil, "", err
			}
			text, err := json.Marshal(v)
			if err != nil {
				return nil, "", err
			}
			if is := fmt.Sprintf("%x", sha256.Sum256(text)); is != sum {
				return append(text, '\n'), `"` + changes + "-" + is + `"`, nil
			}
			known = changes
		}
		if !comes(ctx, time.After(watchRest*time.Since(began))) || !comes(ctx, next) {
			return nil, tag, nil
		}
	}
}

// comes reports whether something comes before ctx is done.
func comes[T any](ctx context.Context, something <-chan T) bool {
	select {
	case <-ctx.Done():
		return false
	case <-something:
		return true
	}
}

// unanswered says why a list is not shown.
func unanswered(w http.ResponseWriter, err error) {
	if why := (feature.Unanswered{}); errors.As(err, &why) {
		http.Error(w, quote.Text(why.Reason, report.Longest), why.Status)
		return
	}
	http.Error(w, err.Error(), http.StatusInternalServerError)
}
