package lab

import (
	"fmt"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// A portMapping and a bandwidth are what a runtime tells plugins of a pod; CNI
// conventions, "Well-known Capabilities".
type portMapping struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// capabilities are what the pod asks of the network besides an address, as kubelet
// and containerd pass it on.
func capabilities(pod *corev1.Pod) (map[string]any, error) {
	var ports []portMapping
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				ports = append(ports, portMapping{p.HostPort, p.ContainerPort, strings.ToLower(string(p.Protocol)), p.HostIP})
			}
		}
	}
	out := map[string]any{}
	if ports != nil {
		out["portMappings"] = ports
	}
	var b bandwidth
	var err error
	if b.IngressRate, b.IngressBurst, err = bound(pod, "kubernetes.io/ingress-bandwidth"); err != nil {
		return nil, err
	}
	if b.EgressRate, b.EgressBurst, err = bound(pod, "kubernetes.io/egress-bandwidth"); err != nil {
		return nil, err
	}
	if b != (bandwidth{}) {
		out["bandwidth"] = b
	}
	return out, nil
}

// Bounds of a bandwidth, in bits a second, as Kubernetes has them.
var leastBandwidth, mostBandwidth = resource.MustParse("1k"), resource.MustParse("1P")

// bound is the rate and burst that an annotation asks for. Kubernetes leaves the
// burst open.
func bound(pod *corev1.Pod, annotation string) (rate, burst uint64, err error) {
	text, found := pod.Annotations[annotation]
	if !found {
		return 0, 0, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Cmp(leastBandwidth) < 0 || q.Cmp(mostBandwidth) > 0 {
		return 0, 0, fmt.Errorf("metadata.annotations[%s]: %q is no bandwidth: write bits a second from 1k to 1P, such as 10M", annotation, text)
	}
	return uint64(q.Value()), math.MaxUint32, nil
}
