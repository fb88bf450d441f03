package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Version is the version of a module that the nested module dir requires.
func (b *Builder) Version(dir, module string) (string, error) {
	content, err := os.ReadFile(filepath.Join(b.src, dir, "go.mod"))
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(content)
	if m == nil {
		return "", fmt.Errorf("%s/go.mod does not require %s", dir, module)
	}
	return string(m[1]), nil
}

// ModuleDir is where the sources of a module are that the nested module dir requires.
func (b *Builder) ModuleDir(ctx context.Context, dir, module string) (string, error) {
	out, err := golang(ctx, filepath.Join(b.src, dir), "list", "-m", "-f", "{{.Dir}}", module)
	return strings.TrimSpace(string(out)), err
}

// ldflags leave the symbol table out, and stamp the version as upstream does.
func (b *Builder) ldflags(p Program) (string, error) {
	flags := []string{"-s", "-w"}
	if p.version == "" {
		return strings.Join(flags, " "), nil
	}
	v, err := b.Version(p.module, p.version)
	if err != nil {
		return "", err
	}
	minor := strings.Split(v, ".")[1]
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for name, value := range map[string]string{
			"gitVersion": v, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean",
			"gitCommit": strings.Repeat("0", 40), "buildDate": "1970-01-01T00:00:00Z",
		} {
			flags = append(flags, fmt.Sprintf("-X %s.%s=%s", pkg, name, value))
		}
	}
	slices.Sort(flags[2:])
	return strings.Join(flags, " "), nil
}

const (
	progressEvery   = 30 * time.Second // how often a long build says that it goes on
	compilePatience = time.Hour        // bounds the compiling of a program, on the slowest machine
	golangPatience  = 15 * time.Minute // and the go command's other work
	outputPatience  = 5 * time.Second  // for output that is held open by who is left behind
	lockEvery       = 100 * time.Millisecond
)

func (b *Builder) compile(ctx context.Context, p Program, env, args []string) error {
	ldflags, err := b.ldflags(p)
	if err != nil {
		return err
	}
	command := []string{"build"}
	if p.test {
		command = []string{"test", "-c", "-vet=off"} // vet looks at all that the tests depend on
	}
	command = append(command, "-v", "-trimpath", "-tags", p.tags, "-ldflags", ldflags)
	ctx, cancel := context.WithTimeoutCause(ctx, compilePatience, fmt.Errorf("not within %s", compilePatience))
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append(command, args...)...)
	var said lines
	cmd.Dir, cmd.Env, cmd.WaitDelay, cmd.Stderr = filepath.Join(b.src, p.module), env, outputPatience, &said
	begin := time.Now()
	stop := b.every(func() string {
		return fmt.Sprintf("%s: %d packages compiled after %s", p.Name, said.count.Load(), time.Since(begin).Round(time.Second))
	})
	defer stop()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), errors.Join(err, context.Cause(ctx)), said.last)
	}
	return nil
}

// lines counts the lines that go says, the names of packages, and keeps the last,
// because what it says of those that do not compile comes among them.
type lines struct {
	count atomic.Int64
	last  []byte
}

func (l *lines) Write(b []byte) (int, error) {
	l.count.Add(int64(bytes.Count(b, []byte("\n"))))
	l.last = append(l.last, b...)
	l.last = l.last[max(0, len(l.last)-lastKept):]
	return len(b), nil
}

const lastKept = 4 << 10

// every reports what say says until the function it returns is called.
func (b *Builder) every(say func() string) (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(b.Log, "        %s\n", say())
			}
		}
	}()
	return func() { close(done) }
}

// golang runs the go command in a directory and returns what it prints. It may
// download modules, and compile a small program.
func golang(ctx context.Context, dir string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, golangPatience, fmt.Errorf("not within %s", golangPatience))
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	var complaint bytes.Buffer
	cmd.Dir, cmd.Env, cmd.WaitDelay, cmd.Stderr = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off"), outputPatience, &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s in %s: %w\n%s", strings.Join(args, " "), dir, errors.Join(err, context.Cause(ctx)), complaint.Bytes())
	}
	return out, nil
}

// lock locks a part of the cache, and says while it waits.
func (b *Builder) lock(ctx context.Context, file *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, compilePatience, fmt.Errorf("not within %s", compilePatience))
	defer cancel()
	begin := time.Now()
	stop := b.every(func() string {
		return fmt.Sprintf("%s: another process makes it, waiting for %s", filepath.Base(file.Name()), time.Since(begin).Round(time.Second))
	})
	defer stop()
	return Lock(ctx, file)
}

// Lock locks the file, which is unlocked when it is closed, or says why ctx is over.
func Lock(ctx context.Context, file *os.File) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock %s, which another process has: %w", file.Name(), context.Cause(ctx))
		case <-time.After(lockEvery):
		}
	}
}
