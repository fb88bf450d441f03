package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fairlead.dev/fairlead/internal/lab/process"
	"fairlead.dev/fairlead/internal/netns"
)

// downPatience bounds how long processes may take to die once they were killed.
const downPatience = 30 * time.Second

// endPatience bounds how long the daemon may take to end by itself.
const endPatience = 3 * time.Second

// Down ends every process of the lab and removes its namespaces and files,
// whatever state it is in. A lab that there is not is no error.
func (l Lab) Down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, downPatience)
	defer cancel()
	l.endDaemon(ctx)
	if err := process.Kill(ctx, l.marker(), l.records()); err != nil {
		return fmt.Errorf("lab down: %w", err)
	}
	names, err := os.ReadDir(netns.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab down: %w", err)
	}
	var errs []error
	for _, n := range names {
		if strings.HasPrefix(n.Name(), l.prefix()) {
			errs = append(errs, netns.Delete(netns.Path(n.Name())))
		}
	}
	errs = append(errs, os.RemoveAll(l.Dir()))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab down: %w", err)
	}
	removeEmpty(l.Base)
	if l.Base == DefaultDir {
		removeEmpty(filepath.Dir(l.Base))
	}
	return nil
}

// endDaemon lets the daemon end and collect its children. One that is gone, or
// does not get to it, is made up for by killing everything.
func (l Lab) endDaemon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	_ = call(ctx, l.socket(), exchange{http.MethodPost, "/v1/end", nil, nil})
}

// removeEmpty removes a directory unless something is in it.
func removeEmpty(dir string) { _ = os.Remove(dir) }
