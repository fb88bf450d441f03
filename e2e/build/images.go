package build

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fairlead.dev/fairlead/e2e/image"
)

// agnhostTags are the versions of agnhost that suites ask for, besides the one of
// this Kubernetes: 2.43 cyclonus, 2.45 the conformance suite of network-policy-api.
var agnhostTags = []string{"2.43", "2.45"}

// Images writes every image that the cluster and the suites need into one
// archive, unless that was done, and returns its file. There is no registry.
func (b *Builder) Images(ctx context.Context) (string, error) {
	layers, err := b.layers(ctx)
	if err != nil {
		return "", fmt.Errorf("images: %w", err)
	}
	images, err := b.images(ctx)
	if err != nil {
		return "", fmt.Errorf("images: %w", err)
	}
	parts := []string{fmt.Sprintf("%+v", images)}
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		parts = append(parts, name, layers[name].Stamp())
	}
	dir, err := b.Once(ctx, "images", Key(parts...), func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "images.tar"))
		if err != nil {
			return err
		}
		defer f.Close()
		return image.Write(f, layers, images)
	})
	return filepath.Join(dir, "images.tar"), err
}

func (b *Builder) layers(ctx context.Context) (map[string]image.Layer, error) {
	layers := map[string]image.Layer{}
	for _, p := range []Program{Pause, CoreDNS, Agnhost} {
		dir, err := b.Program(ctx, p)
		if err != nil {
			return nil, err
		}
		layers[p.Name] = image.Layer{p.Name: {From: filepath.Join(dir, p.Name)}}
	}
	src, err := b.agnhostSource(ctx)
	if err != nil {
		return nil, err
	}
	maps.Copy(layers[Agnhost.Name], image.Layer{ // as upstream's Dockerfile has it
		"agnhost-2":     {Link: "agnhost"},
		"uploads":       {Dir: 0o755},
		"localhost.crt": {From: filepath.Join(src, "porter/localhost.crt")},
		"localhost.key": {From: filepath.Join(src, "porter/localhost.key")},
	})
	// Upstream's image has these beside agnhost; the suites execute them. The
	// shell is bash, because busybox's prefers its applets to the PATH.
	layers["tools"], err = image.Tools(ctx, map[string]string{
		"bash": "bash", "curl": "curl", "nc": "nc.openbsd", "dig": "dig", "nslookup": "nslookup",
		"host": "host", "iperf": "iperf", "ip": "ip", "ss": "ss", "getent": "getent",
	})
	if err != nil {
		return nil, err
	}
	layers["busybox"], err = image.Busybox(ctx, map[string]string{
		"sh": "/usr/bin/bash", "bash": "/usr/bin/bash", "nc": "/usr/bin/nc", "nslookup": "/usr/bin/nslookup", "ip": "/usr/bin/ip",
	})
	return layers, err
}

func (b *Builder) images(ctx context.Context) ([]image.Image, error) {
	coredns, err := b.Version("coredns", "github.com/coredns/coredns")
	if err != nil {
		return nil, err
	}
	first, err := b.AgnhostImage(ctx)
	if err != nil {
		return nil, err
	}
	agnhost := []string{first}
	for _, t := range agnhostTags {
		agnhost = append(agnhost, agnhostName+t)
	}
	return []image.Image{
		{Names: []string{"registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10.1", "registry.k8s.io/pause:3.10.2"},
			Entrypoint: []string{"/pause"}, Layers: []string{"pause"}},
		{Names: []string{"registry.k8s.io/e2e-test-images/busybox:1.37.0-1"}, Cmd: []string{"sh"}, Layers: []string{"busybox", "tools"}},
		{Names: []string{"registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0"}, Cmd: []string{"sleep", "infinity"}, Layers: []string{"busybox", "tools"}},
		{Names: agnhost, Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, Layers: []string{"busybox", "tools", "coredns", "agnhost"}},
		{Names: []string{"registry.k8s.io/coredns/coredns:" + coredns}, Entrypoint: []string{"/coredns"}, Layers: []string{"coredns"}},
	}, nil
}

const agnhostName = "registry.k8s.io/e2e-test-images/agnhost:"

// AgnhostImage is the name of agnhost's image, of the version that this
// Kubernetes asks for.
func (b *Builder) AgnhostImage(ctx context.Context) (string, error) {
	src, err := b.agnhostSource(ctx)
	if err != nil {
		return "", err
	}
	tag, err := os.ReadFile(filepath.Join(src, "VERSION"))
	return agnhostName + strings.TrimSpace(string(tag)), err
}

func (b *Builder) agnhostSource(ctx context.Context) (string, error) {
	dir, err := b.ModuleDir(ctx, "kubernetes", "k8s.io/kubernetes")
	return filepath.Join(dir, "test/images/agnhost"), err
}
