// Package dir reads objects from a directory of manifests: the embedded source,
// for one machine, a lab, or an edge box without an API server.
//
// Every file whose name ends in .yaml, .yml or .json is read. A file called
// revision, if there is one, numbers the directory's states; its writer writes
// objects first and the revision last.
package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/manifest"
	"fairlead.dev/fairlead/internal/world"
)

// A Dir is a directory of manifests, and perhaps one of agents' reports. It
// remembers every file it has read, so that objects in files that did not change
// keep their pointers.
type Dir struct {
	objects folder
	reports *folder // nil: none are read
	told    told
	last    *source.Objects
}

const (
	watchAgain = time.Second // how soon a directory in the place of the watched one is watched
	lookAgain  = time.Minute // how long what was read is believed: not every file system announces changes
)

// New returns the source in the directory, or in the single file, at path.
func New(path string) *Dir { return &Dir{objects: folder{path: path}} }

// WithReports adds the directory in which agents write their reports, if that is
// another. Of those counts what others need to know of a node. The status of an Egress
// is what the controller writes there, and no longer what a manifest says.
func (d *Dir) WithReports(path string) *Dir {
	d.told.reports = path
	if filepath.Clean(path) != filepath.Clean(d.objects.path) {
		d.reports = &folder{path: path, only: "FairleadNode"}
	}
	return d
}

// Read returns what the directory holds now. While nothing changed, that is the
// same value as before.
func (d *Dir) Read() (*source.Objects, error) {
	news, err := d.objects.refresh()
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	if d.reports != nil {
		more, err := d.reports.refresh()
		if err != nil && !errors.Is(err, os.ErrNotExist) { // no agent has written any
			return nil, fmt.Errorf("read reports: %w", err)
		}
		news = news || more
	}
	told, err := d.told.refresh()
	if err != nil {
		return nil, err
	}
	if news || told || d.last == nil {
		d.last = d.collect()
	}
	return d.last, nil
}

// collect puts together what is in the files.
func (d *Dir) collect() *source.Objects {
	out := &source.Objects{Revision: d.objects.revision, Files: map[string]string{}}
	files := d.objects.inOrder()
	if d.reports != nil {
		files = append(files, d.reports.inOrder()...)
	}
	for _, f := range files {
		out.Problems = append(out.Problems, f.problems...)
		for _, o := range f.objects {
			collect(out, o)
		}
	}
	out.Egresses = d.told.with(out.Egresses)
	slices.SortFunc(out.Services, func(a, b *world.Service) int { return a.Compare(b.Key) })
	slices.SortFunc(out.Namespaces, func(a, b *world.Namespace) int { return a.Compare(b.Key) })
	return out
}

// Watch calls changed whenever something in the directory may have changed, or
// a report says something new, until ctx is done.
func (d *Dir) Watch(ctx context.Context, changed func()) error {
	if d.reports == nil {
		return d.objects.watch(ctx, changed)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 2)
	for _, f := range []*folder{&d.objects, d.reports} {
		go func() {
			defer stop() // one does not go on without the other
			ended <- f.watch(ctx, changed)
		}()
	}
	return errors.Join(<-ended, <-ended)
}

// kinds are those that mean something here, or that may stand in a directory
// beside those.
var kinds = map[string]func() any{
	"v1 Node":                             func() any { return &corev1.Node{} },
	"v1 Pod":                              func() any { return &corev1.Pod{} },
	"v1 Namespace":                        func() any { return &corev1.Namespace{} },
	"v1 Service":                          func() any { return &corev1.Service{} },
	v1alpha1.APIVersion + " AgentConfig":  func() any { return &v1alpha1.AgentConfig{} },
	v1alpha1.APIVersion + " FairleadNode": func() any { return &v1alpha1.FairleadNode{} },
	v1alpha1.APIVersion + " Egress":       func() any { return &v1alpha1.Egress{} },
}

// decode returns the object of a document, and what is wrong with it. One
// whose fields have the wrong type is no object.
func decode(doc manifest.Document) (any, []world.Problem) {
	make, ok := kinds[doc.APIVersion+" "+doc.Kind]
	if !ok {
		return nil, []world.Problem{{
			Object: doc.Object(), Source: doc.Source, Field: "kind",
			Reason: fmt.Sprintf("%s %s is not known here", doc.APIVersion, doc.Kind), Hint: "known are " + knownKinds(),
		}}
	}
	if p, wrong := misnamed(doc); wrong {
		return nil, []world.Problem{p}
	}
	value := make()
	problems := doc.Decode(value)
	var more []world.Problem
	switch o := value.(type) {
	case *v1alpha1.FairleadNode:
		return source.ForOthers(o), nil
	case *corev1.Pod:
		value, more = source.Door{}.Pod(o)
	case *corev1.Service:
		value, more = source.Door{}.Service(o)
	case *corev1.Namespace:
		value = source.Door{}.Namespace(o)
	case *v1alpha1.Egress:
		if p, wrong := nobody(doc, problems); wrong {
			o.Spec.AppliedTo, more = v1alpha1.EgressAppliedTo{}, []world.Problem{p}
		}
	}
	for i := range more {
		more[i].Source = doc.Source
	}
	return value, append(problems, more...)
}

// nobody says that an Egress selects nobody, where a part of what it selects could not be
// read: the rest would select more pods.
func nobody(doc manifest.Document, problems []world.Problem) (world.Problem, bool) {
	const field = "spec.appliedTo"
	unread := slices.ContainsFunc(problems, func(p world.Problem) bool {
		return p.Field == "" || p.Field == "spec" || strings.HasPrefix(p.Field, field)
	})
	return world.Problem{Object: doc.Object(), Field: field, Reason: "cannot all be read: the Egress selects nobody",
		Hint: "correct what is wrong in it"}, unread
}

// Names are as long as an API server lets them be: everywhere else that is relied
// on, and that no name holds what is a sign beside names.
const (
	longestName      = 253
	longestNamespace = 63
)

func misnamed(doc manifest.Document) (world.Problem, bool) {
	p := world.Problem{Object: doc.Object(), Source: doc.Source, Field: "metadata.name"}
	switch {
	case doc.Name == "":
		p.Reason, p.Hint = "is missing", "name the object"
	case !isName(doc.Name, longestName):
		p.Reason, p.Hint = quote.Of(doc.Name)+" is no name of an object", fmt.Sprintf("write up to %d letters, digits, dots and dashes", longestName)
	case !isName(doc.Namespace, longestNamespace):
		p.Field = "metadata.namespace"
		p.Reason, p.Hint = quote.Of(doc.Namespace)+" is no name of a namespace", fmt.Sprintf("write up to %d letters, digits and dashes", longestNamespace)
	}
	return p, p.Reason != ""
}

func isName(s string, longest int) bool {
	return len(s) <= longest && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '/' || r == '%' || unicode.IsSpace(r) || r == utf8.RuneError || !strconv.IsPrint(r)
	})
}

func knownKinds() string {
	var names []string
	for k := range kinds {
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// collect adds o to out. The first of two with one name counts.
func collect(out *source.Objects, o object) {
	name := o.document.Object()
	if first, twice := out.Files[name]; twice {
		out.Problems = append(out.Problems, world.Problem{
			Object: name, Source: o.document.Source, Reason: "is defined twice; the one in " + first + " counts", Hint: "remove one of them",
		})
		return
	}
	out.Files[name] = o.document.Source
	switch v := o.value.(type) {
	case *corev1.Node:
		out.Nodes = append(out.Nodes, v)
	case *world.Pod:
		if v != nil {
			out.Pods = out.Pods.With(nil, []*world.Pod{v}, world.ComparePods)
		}
	case *world.Service:
		out.Services = append(out.Services, v)
	case *world.Namespace:
		out.Namespaces = append(out.Namespaces, v)
	case *v1alpha1.AgentConfig:
		out.Configs = append(out.Configs, v)
	case *v1alpha1.Egress:
		out.Egresses = append(out.Egresses, v)
	case *v1alpha1.FairleadNode:
		out.Reports = append(out.Reports, v)
	}
}
