package cli_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/cli"
)

// A dump is whole or not there, and only its owner's; what is no file is not replaced by one.
func TestADumpIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket, whole := filepath.Join(dir, "agent.sock"), true
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"version": 1}`)
		if !whole {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})}
	go func() { _ = server.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	write := func(to string) (int, string, string) {
		var out, errs bytes.Buffer
		code := cli.Main([]string{"dump", "--socket", socket, "-o", to}, &out, &errs)
		return code, out.String(), errs.String()
	}
	path, device := filepath.Join(dir, "node.json"), filepath.Join(dir, "device")
	if err := os.WriteFile(path, []byte("another's"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", device); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{"-": `{"version": 1}`, path: "", device: ""} {
		if code, out, errs := write(to); code != 0 || out != want || errs != "" {
			t.Errorf("-o %s: %d %q %q", to, code, out, errs)
		}
	}
	text, err := os.ReadFile(path)
	info, more := os.Stat(path)
	if err != nil || more != nil || string(text) != `{"version": 1}` || info.Mode().Perm() != 0o600 {
		t.Errorf("%s %v %v %v", text, info, err, more)
	}
	if to, err := os.Readlink(device); err != nil || to != "/dev/null" {
		t.Errorf("the device is replaced: %s %v", to, err)
	}
	whole = false
	other := filepath.Join(dir, "other.json")
	if code, _, errs := write(other); code != 1 || !strings.Contains(errs, "the dump is not whole") {
		t.Errorf("half a dump: %d %s", code, errs)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*other*")); err != nil || len(left) > 0 {
		t.Errorf("half a dump is left: %v %v", left, err)
	}
}
