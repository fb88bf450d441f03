package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/dump"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/view"
)

// dump is what s knows of its node. The world has what was allocated for it, so that
// who renders it comes to the same.
func (s *Snapshot) dump() dump.Dump {
	w := *s.World
	if s.Rendered.Allocations != nil {
		w.Allocations = s.Rendered.Allocations
	}
	return dump.Dump{World: &w, Problems: s.Problems, State: s.Rendered.State}
}

func (a *Agent) serveDump(w http.ResponseWriter, _ *http.Request) {
	s := a.snapshot.Load()
	if s.World == nil {
		http.Error(w, "there is nothing to write yet: "+s.Reason, http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	d := s.dump()
	d.By, d.At = a.config.Version, time.Now().UTC().Truncate(time.Second)
	if err := dump.Write(w, d); err != nil { // all of it is encoded before any is written
		http.Error(w, quote.Errors(err), http.StatusInternalServerError)
	}
}

// A Recorded is a node that an agent wrote to a file. It answers what the agent would,
// from what is in the file: nothing of the machine that reads it is looked at.
type Recorded struct {
	features []feature.Feature
	snapshot *Snapshot
	helpers  helpers        // which never run
	state    datapath.State // as it was written
}

// Recall returns the node in d, with what the features make of it today.
func Recall(d dump.Dump, features []feature.Feature) (r *Recorded, err error) {
	if d.World == nil {
		return nil, errors.New("it has no world: write one with fairlead dump")
	}
	defer senseless(&err)
	s := &Snapshot{World: d.World, Problems: d.Problems, since: func(string, string) time.Time { return time.Time{} }}
	r = &Recorded{features: features, snapshot: s, state: d.State}
	if s.known() {
		s.Rendered = feature.NewRenderer(features).Render(s.World)
	}
	host := feature.Host{Log: slog.New(slog.DiscardHandler)}
	for _, f := range features {
		if f.Start != nil {
			r.helpers = append(r.helpers, helper{f.Name, f.Start(host)})
		}
	}
	return r, nil
}

// senseless makes an error of a panic. A file has the shape of a world, and who renders
// counts on what its builder checked: a file that somebody changed may not be so.
func senseless(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("no node can be so: %s", quote.Text(fmt.Sprint(p), quote.Sentence))
	}
}

// Answer answers a question to an agent, by the path that it has there.
func (r *Recorded) Answer(path string) (answer any, err error) {
	defer senseless(&err)
	asked, err := url.Parse(path)
	if err != nil {
		return nil, err
	}
	s := r.snapshot
	switch name := strings.TrimPrefix(asked.Path, "/v1/"); name {
	case "problems":
		return s.problems(), nil
	case "pods":
		return pods(s.World.Attachments), nil
	case "nodes":
		return s.nodes(), nil
	case "render":
		return s.rendered(), nil
	case "diff":
		return r.diff()
	case "doctor":
		return r.examine(), nil
	default:
		return r.view(name)
	}
}

// diff is how what was written differs from what is made of the world today.
func (r *Recorded) diff() (Diff, error) {
	if r.state == nil {
		return Diff{}, errors.New("not answered from this file: it has no state to compare with")
	}
	return Diff{datapath.DiffStates(r.state, r.snapshot.Rendered.State).Lines()}, nil
}

func (r *Recorded) examine() Findings {
	s := r.snapshot
	if !s.known() {
		return Findings{[]doctor.Finding{{ID: "agent", Status: doctor.Fail, Evidence: map[string]any{},
			Message: "the agent knew no Node of its name when it wrote this file", Hint: "fairlead get problems, and whether the Node object exists"}}}
	}
	return Findings{doctor.Read(s.subject(s.World.Attachments), s.checks(r.features, r.helpers))}
}

func (r *Recorded) view(name string) (any, error) {
	for _, f := range r.features {
		if show := f.Recorded[name]; show != nil && r.snapshot.known() {
			return show(r.snapshot.seenBy(f.Name)), nil
		} else if show != nil {
			return view.Of[any](), nil
		}
	}
	return nil, fmt.Errorf("not answered from a file: %s needs the running node", strings.ReplaceAll(name, "/", " --"))
}
