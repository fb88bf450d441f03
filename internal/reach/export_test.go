package reach

import (
	"context"
	"time"
)

// FoundAfter is foundAfter.
const FoundAfter = foundAfter

// AskBy changes how paths are asked.
func (w *Watch) AskBy(ask func(context.Context, Path, int) error) { w.ask = ask }

// AskAll asks every path now, whenever it was asked last.
func (w *Watch) AskAll(ctx context.Context, now time.Time) {
	for _, e := range w.list {
		e.asked = now
		w.try(ctx, e, w.size)
	}
}
