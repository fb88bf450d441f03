package feature

import (
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// A Renderer renders a list of features, world after world. Where a feature's result
// stays, its part of the state does, pointer and all.
type Renderer struct {
	features []Feature
	last     []rendered
}

// rendered is what one feature rendered last.
type rendered struct {
	render Render  // nil: it is switched off
	result *Result // as it was returned
	told   *Result
}

// NewRenderer returns a renderer of the given features, in that order.
func NewRenderer(features []Feature) *Renderer {
	return &Renderer{features: features, last: make([]rendered, len(features))}
}

// Render returns what the enabled features make of w.
func (r *Renderer) Render(w *world.World) Rendered {
	out := Rendered{Allocations: w.Allocations, Results: map[string]*Result{}}
	for i, f := range r.features {
		if !f.On(w.Config) {
			r.last[i] = rendered{}
			if f.Off != nil {
				out.note(f.Off(w))
			}
			continue
		}
		result := r.last[i].of(f, w)
		out.Allocations = out.Allocations.With(result.Allocations)
		out.State = append(out.State, &result.Part)
		out.Results[f.Name] = result
		out.Reports = append(out.Reports, result.Reports...)
		out.Problems = append(out.Problems, result.Problems...)
		out.Events = append(out.Events, result.Events...)
		out.note(result.Notes)
	}
	return out
}

// note adds what a feature notes.
func (r *Rendered) note(notes sorted.List[world.Note]) {
	if r.Notes.Len() == 0 {
		r.Notes = notes // who has seen them knows them again
		return
	}
	r.Notes = r.Notes.With(nil, notes.Slice(), world.CompareNotes)
}

// of returns what f makes of w.
func (l *rendered) of(f Feature, w *world.World) *Result {
	if l.render == nil {
		l.render = f.Render()
	}
	if now := l.render(w); now != l.result {
		l.result, l.told = now, told(*now)
	}
	return l.told
}

// told is r with what it says to people in few words, whatever it quotes.
func told(r Result) *Result {
	r.Problems, r.Reports, r.Events = slices.Clone(r.Problems), slices.Clone(r.Reports), slices.Clone(r.Events)
	for i, p := range r.Problems {
		r.Problems[i] = p.Told()
	}
	for i := range r.Reports {
		r.Reports[i].Message = quote.Text(r.Reports[i].Message, quote.Sentence)
	}
	for i := range r.Events {
		r.Events[i].Message = quote.Text(r.Events[i].Message, quote.Sentence)
	}
	return &r
}

// Rendered is what all features make of the world together.
type Rendered struct {
	State       datapath.State
	Reports     []world.Report
	Problems    []world.Problem
	Allocations *world.Parts // the world's, and what was given out
	Notes       sorted.List[world.Note]
	Events      []world.Event
	Results     map[string]*Result // by feature; a feature that is switched off has none
}
