package lab

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/internal/world"
)

// tell stores, for the agents, what a kubelet would tell of a pod: its phase and its
// addresses. A pod that was deleted has nobody to tell of.
func (c *cluster) tell(p *pod, status corev1.PodStatus) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	stored := c.store.objects[p.ref]
	if stored == nil || c.pods[p.ref] != p {
		return nil
	}
	b, err := json.Marshal(corev1.PodStatus{Phase: status.Phase, PodIP: status.PodIP, PodIPs: status.PodIPs})
	if err != nil {
		return err
	}
	now := &object{ref: stored.ref, fields: maps.Clone(stored.fields)}
	now.fields["metadata"] = maps.Clone(stored.metadata())
	told := map[string]any{}
	if err := json.Unmarshal(b, &told); err != nil {
		return err
	}
	if now.fields["status"] = told; now.equal(stored) {
		return nil
	}
	return c.store.write([]*object{now}, nil)
}

// annotated is the metadata of a pod with the annotations that its node's agent
// gives it.
func (c *cluster) annotated(o *object) map[string]any {
	f, err := os.Open(filepath.Join(c.lab.reports(), o.nodeName()+".pods.jsonl"))
	if err != nil {
		return o.metadata()
	}
	defer f.Close()
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return o.metadata()
		}
		var given struct {
			Metadata struct {
				UID         string
				Annotations map[string]string
			}
		}
		if json.Unmarshal(line, &given) != nil || given.Metadata.UID != o.metadata()["uid"] {
			continue
		}
		meta := maps.Clone(o.metadata())
		annotations := map[string]any{}
		if own, ok := meta["annotations"].(map[string]any); ok {
			maps.Copy(annotations, own)
		}
		delete(annotations, world.NodePortLocalPorts)
		for name, value := range given.Metadata.Annotations {
			annotations[name] = value
		}
		meta["annotations"] = annotations
		return meta
	}
}
