package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/kube"
	watch "fairlead.dev/fairlead/internal/source/kube"
	"fairlead.dev/fairlead/internal/status"
)

// runAgent is the agent that is measured: the usual one, with one feature more, in
// a process of its own.
func runAgent(ctx context.Context, kubeconfig, dir string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	features := append([]feature.Feature{podSet()}, all.Features...)
	rest, err := kube.Connection{Kubeconfig: kubeconfig, UserAgent: "fairlead-scale"}.Config()
	if err != nil {
		return err
	}
	c := agent.Config{Node: nodeName(0), Features: features, StateDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "agent.sock"),
		MetricsAddress: metrics, Version: "scale", Log: log}
	c.Objects, err = watch.New(watch.Config{REST: rest, Node: c.Node, Needs: feature.Needs(features), Memory: agent.ObjectsDir(c.StateDir), Log: log})
	if err != nil {
		return err
	}
	if c.Status, err = status.NewAPIServer(rest, c.Node, log); err != nil {
		return err
	}
	a, err := agent.New(c)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// profiled runs f, and notes in a file where its time goes.
func profiled(path string, f func() error) error {
	if path == "" {
		return f()
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, out.Close())
}

const metrics = "127.0.0.1:9468"
