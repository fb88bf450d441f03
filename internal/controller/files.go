package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/source/dir"
)

// StatusFile is the file beside the agents' reports in which the controller has
// its say of AgentConfigs, as in [dir.EgressStatus] of Egresses. It is no manifest: who
// reads the directory for those passes it by.
const StatusFile = "agentconfigs.status"

// files are the store of a cluster without an API server: manifests, and beside
// them or elsewhere the reports, each with one writer.
type files struct {
	objects *dir.Dir
	reports string
	beat    func(error) // called while waiting to lead

	mu   sync.Mutex
	told *statuses // what is in the status files; nil: not read yet
}

// statuses are those in the status files, by name.
type statuses struct {
	configs  map[string]v1alpha1.AgentConfigStatus
	egresses map[string]v1alpha1.EgressStatus
}

func newFiles(objects, reports string) *files {
	return &files{objects: dir.New(objects), reports: reports, beat: func(error) {}}
}

// ReadStatus returns what the controller wrote into the directory of reports, by
// the name of the AgentConfig; nothing where there is none.
func ReadStatus(reports string) (map[string]v1alpha1.AgentConfigStatus, error) {
	out := map[string]v1alpha1.AgentConfigStatus{}
	content, err := os.ReadFile(filepath.Join(reports, StatusFile))
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &out)
	}
	return out, err
}

// Read returns what is in the directories. What a manifest says of the status of
// its object does not count.
func (f *files) Read() (*Cluster, error) {
	objects, err := f.objects.Read()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told == nil {
		if f.told, err = readStatuses(f.reports); err != nil {
			return nil, err
		}
	}
	c := &Cluster{Nodes: map[string]*corev1.Node{}}
	for _, n := range objects.Nodes {
		c.Nodes[n.Name] = stripNode(n)
	}
	for _, written := range objects.Configs {
		config := ofConfig(written)
		config.Conditions = f.told.configs[written.Name].Conditions
		c.Objects = append(c.Objects, config)
	}
	for _, written := range objects.Egresses {
		egress, told := ofEgress(written), f.told.egresses[written.Name]
		egress.Status = Status{told.Conditions, told.Addresses}
		c.Objects = append(c.Objects, egress)
	}
	c.Reports, err = readReports(f.reports)
	return c, err
}

// readStatuses reads what the last controller wrote. A file that makes no sense is written
// anew; one that cannot be read may have numbers that addresses must keep.
func readStatuses(reports string) (*statuses, error) {
	configs, err := ReadStatus(reports)
	if err != nil {
		configs = map[string]v1alpha1.AgentConfigStatus{}
	}
	egresses, err := dir.ReadEgressStatus(reports)
	if _, unreadable := errors.AsType[*fs.PathError](err); unreadable {
		return nil, err
	}
	if err != nil {
		egresses = map[string]v1alpha1.EgressStatus{}
	}
	return &statuses{configs, egresses}, nil
}

// readReports reads what agents have written. A file that makes no sense is left
// out: its writer will write again.
func readReports(reports string) ([]*v1alpha1.FairleadNode, error) {
	paths, err := filepath.Glob(filepath.Join(reports, "*.json"))
	if err != nil {
		return nil, err
	}
	var out []*v1alpha1.FairleadNode
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		r := &v1alpha1.FairleadNode{}
		if json.Unmarshal(content, r) == nil && r.Kind == "FairleadNode" {
			out = append(out, r)
		}
	}
	return out, nil
}

// Watch watches both directories.
func (f *files) Watch(ctx context.Context, changed func()) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 2)
	for _, d := range []*dir.Dir{f.objects, dir.New(f.reports)} {
		go func() {
			defer stop() // one does not go on without the other
			ended <- d.Watch(ctx, changed)
		}()
	}
	return errors.Join(<-ended, <-ended)
}

// Write writes the file of the object's kind with this status, and the last ones of the
// other objects that are there.
func (f *files) Write(_ context.Context, o Object, s Status) error {
	objects, err := f.objects.Read()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.Resource == egresses {
		next := there(f.told.egresses, objects.Egresses)
		next[o.GetName()] = v1alpha1.EgressStatus{Addresses: s.Addresses, Conditions: s.Conditions}
		if err = f.put(dir.EgressStatus, next); err == nil {
			f.told.egresses = next
		}
		return err
	}
	next := there(f.told.configs, objects.Configs)
	next[o.GetName()] = v1alpha1.AgentConfigStatus{Conditions: s.Conditions}
	if err = f.put(StatusFile, next); err == nil {
		f.told.configs = next
	}
	return err
}

// there are the statuses of objects that are there.
func there[S any, O metav1.Object](told map[string]S, objects []O) map[string]S {
	out := make(map[string]S, len(objects))
	for _, o := range objects {
		if s, known := told[o.GetName()]; known {
			out[o.GetName()] = s
		}
	}
	return out
}

func (f *files) put(file string, content any) error {
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	return replace.File(filepath.Join(f.reports, file), append(text, '\n'), 0o644)
}

// Silent is nobody: a report in a directory is what an agent last made of its node,
// and says no more.
func (f *files) Silent() (all int, news []Silence) { return 0, nil }

// Doubt has nothing to write.
func (f *files) Doubt(context.Context, Silence) error { return nil }

// lockFile is what the controllers of one directory take turns at.
const lockFile = "controller.lock"

// run leads while this process holds the lock of the directory, which the kernel
// takes back from one that dies.
func (f *files) run(ctx context.Context, lead func(context.Context) error) error {
	lock, err := os.OpenFile(filepath.Join(f.reports, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("lock the reports: %w", err)
	}
	defer lock.Close()
	for ctx.Err() == nil {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return lead(ctx)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		f.beat(nil)
		sleep(ctx, retryTime)
	}
	return nil
}
