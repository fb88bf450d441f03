// Package dump writes what a node was to a file, and reads it back: its world, of which
// everything is rendered, and the state that was rendered.
//
// A file is one JSON object:
//
//	{"version": 1, "writtenBy": "v0.2.0", "writtenAt": "2026-01-02T03:04:05Z", "world": {…}, "problems": […], "state": […]}
//
// Who wrote it and when may be missing, as in files of earlier versions. World or state may be missing; problems are those of the world, and go with it. They have the fields of [world.World] and
// [datapath.State], as encoding/json has them, but for four things: the pods are a plain
// list; the node's own are only named, since they are some of these; elements of sets are
// bytes in base64; and rules are their text and bytecode (package nft says why). A file
// that has a field which this version does not know, or lacks a part of the world that
// this one has, is refused: a world read in part would render something else. The
// version counts what the same names mean.
//
// What is read has the shape of a world, no part missing. What it means was checked where
// it was built, and is not checked again. Texts are UTF-8: of a link's name that is not,
// each odd byte reads back as U+FFFD.
package dump

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

const version = 1

// A Dump is what a file holds: World or State may be nil.
type Dump struct {
	By       string    // the version that wrote it; "": it did not say
	At       time.Time // when; zero: it did not say
	World    *world.World
	Problems []world.Problem // mistakes in the objects, as the node saw them
	State    datapath.State
}

type file struct {
	Version  int             `json:"version"`
	By       string          `json:"writtenBy,omitempty"`
	At       time.Time       `json:"writtenAt,omitzero"`
	World    *worldFile      `json:"world,omitempty"`
	Problems []world.Problem `json:"problems,omitzero"`
	State    datapath.State  `json:"state,omitempty"`
}

// worldFile is a world whose pods JSON can tell: its own fields stand before those of the
// same name inside.
type worldFile struct {
	world.World
	Pods      []*world.Pod
	LocalPods []world.Key
}

// Write writes d. Its world has all its parts, as package source builds it.
func Write(w io.Writer, d Dump) error {
	f := file{Version: version, By: d.By, At: d.At, Problems: d.Problems, State: d.State}
	if d.World != nil {
		if f.Problems == nil {
			f.Problems = []world.Problem{} // there are none, and that is known
		}
		if err := whole(d.World); err != nil {
			return err
		}
		f.World = &worldFile{World: *d.World, Pods: d.World.Pods.List.Slice()}
		for p := range d.World.LocalPods.List.All() {
			f.World.LocalPods = append(f.World.LocalPods, p.Key)
		}
	}
	return json.NewEncoder(w).Encode(f)
}

// Read reads what Write wrote. Its errors are sentences for people.
func Read(from io.Reader) (Dump, error) {
	var f file
	r := newReader(from)
	_, err := r.read(reflect.ValueOf(&f).Elem())
	if f.Version != 0 && f.Version != version {
		return Dump{}, fmt.Errorf("the file is of version %d, and this is for version %d: read it with the fairlead that wrote it", f.Version, version)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("it ends too early: %w", err)
	}
	if err == nil {
		if _, end := r.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err == nil && f.Version == 0 {
		err = errors.New("it has no version")
	}
	if err == nil && f.World != nil && f.Problems == nil {
		err = errors.New("it has a world, and no problems")
	}
	if err == nil {
		err = agrees(f.State)
	}
	out := Dump{By: f.By, At: f.At, Problems: f.Problems, State: f.State}
	if err == nil && f.World != nil {
		out.World, err = f.World.world(r)
	}
	if err != nil {
		return Dump{}, fmt.Errorf("this is no dump of a node: %s", quote.Errors(err))
	}
	return out, nil
}

// optional are the parts that a world need not have.
var optional = []string{"Node", "Underlay", "Taken", "Observed"}

func (f *worldFile) world(r *reader) (*world.World, error) {
	w := f.World
	w.Pods, w.LocalPods = &world.Pods{List: world.SortedPods(f.Pods...)}, &world.Pods{}
	var local []*world.Pod
	for _, key := range f.LocalPods {
		p, ok := w.Pods.List.Find(func(p *world.Pod) int { return p.Compare(key) })
		if !ok {
			return nil, fmt.Errorf("pod %s/%s of LocalPods is not among Pods", key.Namespace, key.Name)
		}
		local = append(local, p)
	}
	w.LocalPods.List = world.SortedPods(local...)
	if w.Services != nil {
		if err := r.selects(w.Pods, w.Services); err != nil {
			return nil, err
		}
		w.Selections = world.NewSelecting().Of(w.Pods, w.Services)
	}
	return &w, whole(&w)
}

// whole says what part w lacks.
func whole(w *world.World) error {
	for part, v := range reflect.ValueOf(w).Elem().Fields() {
		if v.Kind() == reflect.Pointer && v.IsNil() && !slices.Contains(optional, part.Name) {
			return fmt.Errorf("the world has no %s", part.Name)
		}
	}
	return nil
}

// agrees says what s tells in two ways, such as two chains of one name: that differs from
// itself, whatever a kernel has.
func agrees(s datapath.State) error {
	other := make(datapath.State, len(s)) // parts that are not the same in memory are compared
	for i, p := range s {
		copied := *p
		other[i] = &copied
	}
	if lines := datapath.DiffStates(s, other).Lines(); len(lines) > 0 {
		return fmt.Errorf("state: one thing is told in two ways: %s", lines[0])
	}
	return nil
}
