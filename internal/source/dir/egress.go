package dir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// EgressStatus is the file among the reports in which the controller says what became
// of Egresses: a JSON object with the status of each by its name. It is no manifest: who
// reads the directory for those passes it by.
const EgressStatus = "egresses.status"

// ReadEgressStatus returns what the controller wrote into the directory of reports, by
// the name of the Egress; nothing where there is none.
func ReadEgressStatus(reports string) (map[string]v1alpha1.EgressStatus, error) {
	out := map[string]v1alpha1.EgressStatus{}
	content, err := os.ReadFile(filepath.Join(reports, EgressStatus))
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &out)
	}
	return out, err
}

// told is what the controller says of Egresses, as it was last read.
type told struct {
	reports string // the directory; "": nothing is read, and manifests say it
	file    os.FileInfo
	said    map[string]v1alpha1.EgressStatus
	whole   map[string]whole // Egresses with their status, by name
}

// whole is an Egress as it is written, and with its status.
type whole struct{ written, told *v1alpha1.Egress }

// refresh reads the file if it is another, and reports whether it was. One that is gone
// or makes no sense is no proof that anything has changed.
func (t *told) refresh() (news bool, err error) {
	if t.reports == "" {
		return false, nil
	}
	file, err := os.Stat(filepath.Join(t.reports, EgressStatus))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read status of Egresses: %w", err)
	}
	if t.file != nil && os.SameFile(file, t.file) && file.ModTime().Equal(t.file.ModTime()) && file.Size() == t.file.Size() {
		return false, nil
	}
	said, err := ReadEgressStatus(t.reports)
	if err != nil {
		return false, nil //nolint:nilerr // its writer will write again
	}
	t.file = file
	news = !reflect.DeepEqual(said, t.said)
	t.said = said
	return news, nil
}

// with returns the Egresses with what the controller says of them. One that did not
// change keeps its pointer.
func (t *told) with(egresses []*v1alpha1.Egress) []*v1alpha1.Egress {
	if t.reports == "" {
		return egresses
	}
	next := make(map[string]whole, len(egresses))
	for i, written := range egresses {
		w := t.whole[written.Name]
		if status := t.said[written.Name]; w.written != written || !reflect.DeepEqual(w.told.Status, status) {
			w = whole{written, &v1alpha1.Egress{TypeMeta: written.TypeMeta, ObjectMeta: written.ObjectMeta, Spec: written.Spec, Status: status}}
		}
		next[written.Name], egresses[i] = w, w.told
	}
	t.whole = next
	return egresses
}
