package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// library is a path in the output of ldd(1).
var library = regexp.MustCompile(`/\S+`)

// Tools is a layer of programs of this machine, in /usr/bin under the names that
// the map gives them, with the libraries they need.
func Tools(ctx context.Context, programs map[string]string) (Layer, error) {
	l := Layer{}
	for name, program := range programs {
		file, err := exec.LookPath(program)
		if err != nil {
			return nil, fmt.Errorf("%w: scripts/e2e-deps installs it", err)
		}
		if file, err = filepath.EvalSymlinks(file); err != nil {
			return nil, err
		}
		l["usr/bin/"+name] = Entry{From: file}
		libraries, err := ask(ctx, "ldd", file)
		if err != nil {
			return nil, err
		}
		for _, so := range library.FindAllString(string(libraries), -1) {
			l[strings.TrimPrefix(so, "/")] = Entry{From: so}
		}
	}
	// What the C library loads by name when a name is to be resolved.
	for _, so := range []string{"libnss_dns.so.2", "libnss_files.so.2"} {
		found, _ := filepath.Glob("/lib/*-linux-gnu/" + so)
		for _, f := range found {
			l[strings.TrimPrefix(f, "/")] = Entry{From: f}
		}
	}
	return l, nil
}

// Busybox is a layer of busybox with its applets' names, as a root of a small
// system. Names in instead lead to other programs.
func Busybox(ctx context.Context, instead map[string]string) (Layer, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w: scripts/e2e-deps installs it", err)
	}
	applets, err := ask(ctx, busybox, "--list")
	if err != nil {
		return nil, err
	}
	l := Layer{
		"bin/busybox":       {From: busybox},
		"tmp":               {Dir: 0o1777},
		"root":              {Dir: 0o755},
		"var":               {Dir: 0o755},
		"etc/passwd":        {Content: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		"etc/group":         {Content: "root:x:0:\nnogroup:x:65534:\n"},
		"etc/nsswitch.conf": {Content: "hosts: files dns\n"},
		"etc/services":      {Content: "http 80/tcp\nhttps 443/tcp\ndomain 53/udp\n"},
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			l["bin/"+applet] = Entry{Link: "busybox"}
		}
	}
	for name, to := range instead {
		l["bin/"+name] = Entry{Link: to}
	}
	return l, nil
}

// askPatience bounds a question to a program of this machine.
const askPatience = time.Minute

// ask runs a program and returns what it prints.
func ask(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askPatience, fmt.Errorf("not within %s", askPatience))
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second // for what it left behind
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(args, " "), errors.Join(err, context.Cause(ctx)))
	}
	return out, nil
}

// Stamp tells whether a layer is the same as before without reading it all: the
// files it copies have the same size and time.
func (l Layer) Stamp() string {
	var files []string
	for name, e := range l {
		stamp := fmt.Sprintf("%s %+v", name, e)
		if e.From != "" {
			if info, err := os.Stat(e.From); err == nil {
				stamp += fmt.Sprint(info.Size(), info.ModTime().UnixNano())
			}
		}
		files = append(files, stamp)
	}
	slices.Sort(files)
	return strings.Join(files, "\n")
}
