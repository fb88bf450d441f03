package feature

import (
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// A Renderer renders a list of features, world after world. What a feature does
// not read may change without cost: its last result stays, pointer and all.
type Renderer struct {
	features []Feature
	last     []memo
}

type memo struct {
	read   any
	result *Result
}

// NewRenderer returns a renderer of the given features, in that order.
func NewRenderer(features []Feature) *Renderer {
	return &Renderer{features: features, last: make([]memo, len(features))}
}

// Render returns what the enabled features make of w.
func (r *Renderer) Render(w *world.World) Rendered {
	out := Rendered{Allocations: w.Allocations, Results: map[string]*Result{}}
	for i, f := range r.features {
		if !w.Config.Enabled(f.Name) {
			r.last[i] = memo{}
			if f.Off != nil {
				out.Notes = slices.Concat(out.Notes, f.Off(w))
			}
			continue
		}
		if read := f.Reads(w); r.last[i].result == nil || r.last[i].read != read {
			result := told(f.Render(w))
			r.last[i] = memo{readAgain(f, w, &result), &result}
		}
		result := r.last[i].result
		out.Allocations = out.Allocations.With(result.Allocations)
		out.State = append(out.State, &result.Part)
		out.Results[f.Name] = result
		out.Reports = append(out.Reports, result.Reports...)
		out.Problems = append(out.Problems, result.Problems...)
		out.Events = append(out.Events, result.Events...)
		if out.Notes == nil {
			out.Notes = result.Notes // not copied: there may be many, and who has seen them knows them again
		} else {
			out.Notes = slices.Concat(out.Notes, result.Notes)
		}
	}
	return out
}

// told is r with what it says to people in few words, whatever it quotes.
func told(r Result) Result {
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
	return r
}

// readAgain is what f reads once its own allocations are the world's: a turn that
// follows for nothing else has nothing to render.
func readAgain(f Feature, w *world.World, r *Result) any {
	next := *w
	next.Allocations = w.Allocations.With(r.Allocations)
	return f.Reads(&next)
}

// Rendered is what all features make of the world together.
type Rendered struct {
	State       datapath.State
	Reports     []world.Report
	Problems    []world.Problem
	Allocations *world.Allocations // the world's, and what was given out
	Notes       []world.Note
	Events      []world.Event
	Results     map[string]*Result // by feature; a feature that is switched off has none
}
