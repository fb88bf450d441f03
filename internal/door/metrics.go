package door

import (
	"bytes"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// fresh is how old the metrics are that somebody gets, at most: for who asks all the
// time nothing is computed.
const fresh = time.Second

var format = expfmt.NewFormat(expfmt.TypeTextPlain)

// Metrics serves what from gathers, in the text format. What fails is left out, and
// the rest is served.
func Metrics(from prometheus.Gatherer) http.Handler { return &scrapes{from: from, now: time.Now} }

// scrapes are the last metrics that were gathered, as text that all share who ask.
type scrapes struct {
	from prometheus.Gatherer
	now  func() time.Time

	mu   sync.Mutex // one gathers at a time, and the others wait for what he gets
	at   time.Time
	text []byte
	err  error
}

func (s *scrapes) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	text, err := s.get()
	if err != nil {
		http.Error(w, "gathering metrics failed: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(format))
	_, _ = w.Write(text) // who asked is gone if this fails
}

func (s *scrapes) get() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := s.now().Sub(s.at); s.at.IsZero() || age < 0 || age >= fresh {
		s.text, s.err = s.gather()
		s.at = s.now()
	}
	return s.text, s.err
}

func (s *scrapes) gather() ([]byte, error) {
	families, err := s.from.Gather()
	if len(families) == 0 && err != nil {
		return nil, err
	}
	var out bytes.Buffer
	to := expfmt.NewEncoder(&out, format)
	for _, f := range families {
		if err := to.Encode(f); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
