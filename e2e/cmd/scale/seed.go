package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"

	"fairlead.dev/fairlead/internal/kube"
)

// How many pods each of the nodes has, and each of the namespaces.
const (
	podsPerNode      = 20
	podsPerNamespace = 500
)

// most is how many operations etcd takes in one transaction.
const most = 128

// seed puts Nodes, Namespaces and Pods into etcd as the API server would have written them,
// those from the number of pods had to the number wanted. Writing them one by one
// through the API server takes half an hour. It returns etcd's revision of the last.
func (b *bench) seed(ctx context.Context, had, wanted int) (revision string, err error) {
	s := protobuf.NewSerializer(kube.Scheme(), kube.Scheme())
	var batch []any
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		body, err := json.Marshal(map[string]any{"success": batch})
		if err != nil {
			return err
		}
		batch = nil
		revision, err = commit(ctx, b.etcd, body)
		return err
	}
	put := func(key string, o runtime.Object) error {
		var value bytes.Buffer
		if err := s.Encode(o, &value); err != nil {
			return err
		}
		batch = append(batch, map[string]any{"requestPut": map[string]any{"key": []byte("/registry/" + key), "value": value.Bytes()}})
		if len(batch) < most {
			return nil
		}
		return flush()
	}
	for i := had / podsPerNode; i < wanted/podsPerNode; i++ {
		n := node(i)
		if i == 0 {
			n.Status.Addresses[0].Address = b.own.String()
		}
		if err := put("minions/"+n.Name, n); err != nil {
			return "", err
		}
	}
	for i := had; i < wanted; i++ {
		p := pod(i)
		if i == had || i%podsPerNamespace == 0 {
			n := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: meta("", p.Namespace, i)}
			n.Spec.Finalizers, n.Status.Phase = []corev1.FinalizerName{corev1.FinalizerKubernetes}, corev1.NamespaceActive
			if err := put("namespaces/"+n.Name, n); err != nil {
				return "", err
			}
		}
		if err := put("pods/"+p.Namespace+"/"+p.Name, p); err != nil {
			return "", err
		}
	}
	err = flush()
	return revision, err
}

// commit sends a transaction to etcd's gateway for HTTP.
func commit(ctx context.Context, etcd *http.Client, body []byte) (revision string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:2379/v3/kv/txn", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	answer, err := etcd.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("etcd: %s: %s, %w", answer.Status, text, err)
	}
	var said struct{ Header struct{ Revision string } }
	err = json.Unmarshal(text, &said)
	return said.Header.Revision, err
}

func nodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

func meta(namespace, name string, i int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)),
		CreationTimestamp: metav1.NewTime(time.Now())}
}

func node(i int) *corev1.Node {
	n := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: meta("", nodeName(i), i)}
	n.Labels = map[string]string{"kubernetes.io/hostname": n.Name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "a"}
	n.Spec.PodCIDRs = []string{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24).String()}
	n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}).String()},
		{Type: corev1.NodeHostName, Address: n.Name},
	}
	n.Status.Images = []corev1.ContainerImage{{Names: []string{strings.Repeat("registry.example/image", 20)}}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
	return n
}

// podAddress is the i-th pod's k-th address in the course of time.
func podAddress(i, k int) netip.Addr {
	node := i / podsPerNode
	return netip.AddrFrom4([4]byte{10, byte(node >> 8), byte(node), byte(2 + i%podsPerNode + k*podsPerNode)})
}

// pod is a pod as a Deployment's are: a tenth of a namespace's pods have the same
// labels.
func pod(i int) *corev1.Pod {
	app := i / 10
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta(fmt.Sprintf("team-%03d", i/podsPerNamespace), fmt.Sprintf("app-%05d-7d4b9c6f5-%05d", app, i), i)}
	p.Labels = map[string]string{"app.kubernetes.io/name": fmt.Sprintf("app-%05d", app), "app.kubernetes.io/part-of": fmt.Sprintf("team-%03d", i/podsPerNamespace),
		"pod-template-hash": "7d4b9c6f5", "version": "v1"}
	p.Annotations = map[string]string{"prometheus.io/scrape": "true", "example.com/config-hash": strings.Repeat("0123456789abcdef", 4)}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: fmt.Sprintf("app-%05d-7d4b9c6f5", app), UID: p.UID}}
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:conditions":{` + strings.Repeat(`"f:reason":{},`, 40) + `"f:x":{}}}}`), Subresource: "status"}}
	grace := int64(30)
	p.Spec = corev1.PodSpec{NodeName: nodeName(i / podsPerNode), ServiceAccountName: "default", RestartPolicy: corev1.RestartPolicyAlways,
		DNSPolicy: corev1.DNSClusterFirst, TerminationGracePeriodSeconds: &grace, SchedulerName: "default-scheduler", SecurityContext: &corev1.PodSecurityContext{}}
	c := corev1.Container{Name: "main", Image: "registry.example/team/app:v1.2.3", ImagePullPolicy: corev1.PullIfNotPresent,
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}, {Name: "metrics", ContainerPort: 9090, Protocol: corev1.ProtocolTCP}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")}}}
	for _, name := range []string{"A", "B", "C", "D", "E"} {
		c.Env = append(c.Env, corev1.EnvVar{Name: "SETTING_" + name, Value: strings.Repeat("value", 8)})
	}
	p.Spec.Containers = []corev1.Container{c}
	a := podAddress(i, 0).String()
	now := metav1.NewTime(time.Now())
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: a, PodIPs: []corev1.PodIP{{IP: a}}, StartTime: &now, QOSClass: corev1.PodQOSBurstable,
		ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true, Image: c.Image, ImageID: "sha256:" + strings.Repeat("0123456789abcdef", 4),
			ContainerID: "containerd://" + strings.Repeat("0123456789abcdef", 4), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}}
	for _, t := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	return p
}
