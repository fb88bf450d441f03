package flows

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Strays forgets strays. A stray is a connection that began while rules were not there: conntrack knows it
// as one that nobody translates, and asks no rule again. So after rules were made,
// or repaired, strays are forgotten, and the next packet of theirs is translated.
//
// The connection table may be long, so that it is looked through beside the turns.
type Strays struct {
	log    *slog.Logger
	astray []feature.Feature

	mu    sync.Mutex
	in    *world.World // in which to look, nil: nowhere
	works bool         // somebody looks
}

// NewStrays returns one that knows the strays of features.
func NewStrays(log *slog.Logger, features []feature.Feature) *Strays {
	return &Strays{log: log, astray: features}
}

// onTheWay is how long a packet may take from where it missed a rule to where
// conntrack has it.
const onTheWay = 20 * time.Millisecond

// Look has strays forgotten, now that the rules for w are in the kernel, and reports
// whether somebody looks. The calling thread is in the node's namespace.
func (s *Strays) Look(w *world.World) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.works {
		table, err := conntrack.Open()
		if err != nil {
			s.failed(err)
			return false
		}
		s.works = true
		go s.work(table) // once the lock is free
	}
	s.in = w
	return true
}

func (s *Strays) work(table *conntrack.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.in != nil {
		w := s.in
		s.in = nil
		s.mu.Unlock()
		time.Sleep(onTheWay)
		forgotten, err := table.Forget(conntrack.Filter{}, s.among(w))
		s.mu.Lock()
		if err != nil {
			s.failed(err)
		}
		if forgotten > 0 {
			s.log.Info("connections that began while rules were missing were deleted from conntrack, and begin anew", "connections", forgotten)
		}
	}
	s.works = false
	_ = table.Close() // nothing was written
}

func (s *Strays) failed(err error) {
	s.log.Warn("connections that began while rules were missing may stay untranslated", "error", fmt.Errorf("conntrack: %w", err))
}

// among tells strays. What somebody answered works as it is.
func (s *Strays) among(w *world.World) func(*conntrack.Entry) bool {
	var astray []func(*conntrack.Entry) bool
	for _, f := range s.astray {
		if f.Astray != nil && f.On(w.Config) {
			astray = append(astray, f.Astray(w))
		}
	}
	return func(e *conntrack.Entry) bool {
		switch e.Protocol {
		case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP: // what can be forgotten
		default:
			return false
		}
		if e.Status&conntrack.SeenReply != 0 {
			return false
		}
		for _, is := range astray {
			if is(e) {
				return true
			}
		}
		return false
	}
}
