package build

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
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
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir, cmd.Env = filepath.Join(b.src, dir), append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list -m %s: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
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

// progressEvery is how often a long build says that it goes on.
const progressEvery = 30 * time.Second

func (b *Builder) compile(ctx context.Context, p Program, env, args []string) error {
	ldflags, err := b.ldflags(p)
	if err != nil {
		return err
	}
	command := []string{"build"}
	if p.test {
		command = []string{"test", "-c"}
	}
	command = append(command, "-v", "-trimpath", "-tags", p.tags, "-ldflags", ldflags)
	cmd := exec.CommandContext(ctx, "go", append(command, args...)...)
	cmd.Dir, cmd.Env = filepath.Join(b.src, p.module), env
	said, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var packages atomic.Int64
	stop := b.every(p.Name, &packages)
	var last []string // what go says of packages that do not compile comes among their names
	for lines := bufio.NewScanner(said); lines.Scan(); packages.Add(1) {
		if last = append(last, lines.Text()); len(last) > 20 {
			last = last[1:]
		}
	}
	stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, strings.Join(last, "\n"))
	}
	return nil
}

// every reports until the function it returns is called.
func (b *Builder) every(name string, packages *atomic.Int64) (stop func()) {
	done, begin := make(chan struct{}), time.Now()
	go func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(b.Log, "        %s: %d packages compiled after %s\n", name, packages.Load(), time.Since(begin).Round(time.Second))
			}
		}
	}()
	return func() { close(done) }
}
