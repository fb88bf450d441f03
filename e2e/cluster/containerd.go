package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"fairlead.dev/fairlead/e2e/node"
)

// baseSpec is the file of a node from which containerd makes every container's
// configuration.
const baseSpec = "/etc/containerd/base.json"

// containerdConfig is of version 2, which containerd 1.6 and 2 understand. What
// is switched off either needs what a node in a namespace has not (raising an OOM
// score needs CAP_SYS_RESOURCE of the machine) or would change the machine
// (loading profiles of AppArmor).
const containerdConfig = `version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.native", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[metrics]
  address = "127.0.0.1:1338"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = "` + baseSpec + `"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

// writeBaseSpec has containers see the boot id of their node: their /proc is not
// the node's, and the runtime mounts nothing into it but by a hook, which it runs
// in the container's root when that is mounted (createContainer, OCI runtime specification).
func (n *Node) writeBaseSpec(ctx context.Context) error {
	out, err := n.Command(ctx, "ctr", "oci", "spec").Output()
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal([]byte(out), &spec); err != nil {
		return fmt.Errorf("ctr oci spec: %w", err)
	}
	spec["hooks"] = map[string]any{"createContainer": []any{map[string]any{
		"path": "/usr/bin/mount",
		"args": []string{"mount", "--no-mtab", "--bind", node.PinnedFile(bootIDFile), bootIDFile[1:]},
	}}}
	b, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return n.writeFile(baseSpec, b)
}

// writeFile writes a file of the node, which is on.
func (n *Node) writeFile(path string, content []byte) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/root%s", n.place().PID, path), content, 0o644)
}
