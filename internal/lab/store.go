package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/internal/replace"
)

// store keeps the objects, in memory and as files that agents read: one for
// each object, and one called revision, which is written last.
type store struct {
	dir      string
	revision int64
	objects  map[ref]*object
}

func newStore(dir string) *store { return &store{dir: dir, objects: map[ref]*object{}} }

// list returns the objects of a kind, sorted by namespace and name.
func (s *store) list(kind string) []*object {
	var out []*object
	for _, o := range s.objects {
		if o.kind == kind {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b *object) int {
		if c := strings.Compare(a.namespace, b.namespace); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	return out
}

// admit completes o as an API server would, from the stored one if there is
// one, and reports whether anything changed.
func (s *store) admit(o *object) (changed bool) {
	meta := o.metadata()
	old := s.objects[o.ref]
	if old == nil {
		meta["uid"] = uid()
		meta["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	} else {
		for _, key := range []string{"uid", "creationTimestamp", "resourceVersion"} {
			meta[key] = old.metadata()[key]
		}
		if status, ok := old.fields["status"]; ok {
			o.fields["status"] = status
		}
	}
	if o.kind == agentConfig || o.kind == egress {
		meta["generation"] = generation(o, old)
	}
	if o.kind == "Namespace" {
		child(meta, "labels")["kubernetes.io/metadata.name"] = o.name
	}
	return old == nil || !old.equal(o)
}

// generation counts what o's spec has been, when it takes the place of old; nil:
// of none.
func generation(o, old *object) int64 {
	if old == nil {
		return 1
	}
	last, ok := old.metadata()["generation"].(int64)
	if !ok {
		return 1
	}
	if reflect.DeepEqual(o.fields["spec"], old.fields["spec"]) {
		return last
	}
	return last + 1
}

// write stores what changed, and gives the whole a new revision.
func (s *store) write(put []*object, remove []ref) error {
	if len(put) == 0 && len(remove) == 0 {
		return nil
	}
	next := s.revision + 1
	for _, o := range put {
		o.metadata()["resourceVersion"] = strconv.FormatInt(next, 10)
		b, err := yaml.JSONToYAML(o.json())
		if err == nil {
			err = replace.File(filepath.Join(s.dir, o.file()+".yaml"), b, 0o644)
		}
		if err != nil {
			return fmt.Errorf("store %s: %w", o.ref, err)
		}
		s.objects[o.ref] = o
	}
	for _, r := range remove {
		err := os.Remove(filepath.Join(s.dir, r.file()+".yaml"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", r, err)
		}
		delete(s.objects, r)
	}
	if err := replace.File(filepath.Join(s.dir, "revision"), fmt.Appendf(nil, "%d\n", next), 0o644); err != nil {
		return fmt.Errorf("store revision: %w", err)
	}
	s.revision = next
	return nil
}

// uid is a random UUID, RFC 9562 section 5.4.
func uid() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
