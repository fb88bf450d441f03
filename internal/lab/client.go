package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// daemonPatience bounds a question to the daemon, beyond what it is asked to wait.
const daemonPatience = 5 * answerPatience

// verbPatience is how long a daemon may take with a node: processes may have a
// while to end.
const verbPatience = time.Minute

// call asks the daemon, who may wait for so long before it answers.
func (l Lab) call(ctx context.Context, wait time.Duration, x exchange) error {
	ctx, cancel := context.WithTimeout(ctx, wait+daemonPatience)
	defer cancel()
	err := call(ctx, l.socket(), x)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the daemon of lab %s did not answer within %s; see %s", l.Name, wait+daemonPatience, l.daemonLog())
	}
	nobody := func(e error) bool { return errors.Is(err, e) } // there, or there any more
	if slices.ContainsFunc([]error{os.ErrNotExist, syscall.ECONNREFUSED, syscall.ECONNRESET, io.EOF}, nobody) {
		if _, statErr := os.Stat(l.Dir()); statErr == nil {
			return fmt.Errorf("the daemon of lab %s is not running; see %s, then %s", l.Name, l.daemonLog(), l.Command("down"))
		}
		return l.missing()
	}
	return err
}

// missing says that there is no such lab.
func (l Lab) missing() error {
	return fmt.Errorf("there is no lab called %s in %s; begin with %s", l.Name, l.Base, l.Command("up"))
}

// A Change says how manifests are applied or deleted: how long to wait until
// what runs has followed, or not at all.
type Change struct {
	Files []Manifest
	Wait  time.Duration
}

// Apply stores the objects in the manifests.
func (l Lab) Apply(ctx context.Context, c Change) (Result, error) {
	var out Result
	err := l.call(ctx, c.Wait, exchange{http.MethodPost, "/v1/apply", request(c), &out})
	return out, err
}

// Delete removes the objects that the manifests name.
func (l Lab) Delete(ctx context.Context, c Change) (Result, error) {
	var out Result
	err := l.call(ctx, c.Wait, exchange{http.MethodPost, "/v1/delete", request(c), &out})
	return out, err
}

// Wait waits, as long as ctx allows, until everything written so far is
// applied; the result says who lags.
func (l Lab) Wait(ctx context.Context) (Result, error) {
	wait := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		wait = time.Until(deadline)
	}
	// The daemon ends first, so that its answer is heard.
	var out Result
	err := l.call(context.WithoutCancel(ctx), wait, exchange{http.MethodPost, "/v1/wait", request{Wait: max(wait, time.Millisecond)}, &out})
	return out, err
}

// Status is the state of the whole lab.
func (l Lab) Status(ctx context.Context) (Status, error) {
	var out Status
	err := l.call(ctx, 0, exchange{http.MethodGet, "/v1/status", nil, &out})
	return out, err
}

// UnknownKindError says that a lab stores no such kind, and which it does.
type UnknownKindError struct{ error }

// Get returns an object, or a List of all where name is empty, as JSON.
func (l Lab) Get(ctx context.Context, kindWord, namespace, name string) (json.RawMessage, error) {
	k, err := findKind(kindWord)
	if err != nil {
		return nil, UnknownKindError{err}
	}
	if k.namespaced && name != "" && namespace == "" {
		namespace = "default"
	}
	query := url.Values{"namespace": {namespace}, "name": {name}}.Encode()
	var out json.RawMessage
	err = l.call(ctx, 0, exchange{http.MethodGet, "/v1/objects/" + k.name + "?" + query, nil, &out})
	return out, err
}

// Do does something to a node: agent-start, agent-stop, agent-kill, freeze,
// thaw, reboot, or up and down, which are about its link.
func (l Lab) Do(ctx context.Context, node, verb string) error {
	return l.call(ctx, verbPatience, exchange{http.MethodPost, "/v1/nodes/" + url.PathEscape(node) + "/" + verb, nil, nil})
}

// ReadManifests reads a file, or the manifests in a directory.
func ReadManifests(path string) ([]Manifest, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		files = nil
		for _, e := range entries {
			if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s holds no .yaml, .yml or .json", path)
		}
	}
	var out []Manifest
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		out = append(out, Manifest{Source: f, Content: content})
	}
	return out, nil
}

// A Target is where a command runs or whose log is read.
type Target struct{ Kind, Namespace, Name string }

// ParseTarget reads node/NAME, host/NAME, firewall/NAME and pod/NS/NAME.
func ParseTarget(s string) (Target, error) {
	parts := strings.Split(s, "/")
	t := Target{Kind: parts[0]}
	switch {
	case len(parts) == 2 && slices.Contains([]string{"node", "host", "firewall"}, t.Kind):
		t.Name = parts[1]
	case len(parts) == 3 && t.Kind == "pod":
		t.Namespace, t.Name = parts[1], parts[2]
	case len(parts) == 2 && t.Kind == "pod":
		t.Namespace, t.Name = "default", parts[1]
	default:
		return t, fmt.Errorf("%q is no target: use node/NAME, host/NAME, firewall/NAME or pod/NS/NAME", s)
	}
	if !isFileName(t.Name) || t.Namespace != "" && !isFileName(t.Namespace) {
		return t, fmt.Errorf("%q is no target: %s", s, nameHint)
	}
	return t, nil
}
