// Package kube connects to a Kubernetes API server.
//
// The clients are plain REST clients that know the few kinds Fairlead speaks of.
// client-go's own clientset knows every kind there is, which costs each start of
// the binary, the plugin's too, milliseconds and memory.
package kube

import (
	"errors"
	"fmt"
	"sync"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// A Connection says where the API server is, and who we are to it.
type Connection struct {
	Kubeconfig string // file; "": the service account of the pod that this process is in
	Server     string // URL, in the place of the one found there; "": that one
	UserAgent  string // "fairlead-agent/v0.1.0"
}

// InPod reports whether this process is in a pod that may speak to the API
// server.
func InPod() bool {
	_, err := rest.InClusterConfig()
	return !errors.Is(err, rest.ErrNotInCluster)
}

// Config returns how to connect. Rates are bounded by what the callers do, and by
// the API server's priority and fairness, not here.
func (c Connection) Config() (*rest.Config, error) {
	var config *rest.Config
	var err error
	if c.Kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags(c.Server, c.Kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	if c.Server != "" {
		config.Host = c.Server
	}
	config.UserAgent = c.UserAgent
	config.QPS = -1
	return config, nil
}

// Scheme knows the kinds that Fairlead reads and writes.
var Scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		utilruntime.Must(add(s)) // fails only where two Go types claim one kind
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	return s
})

// Client returns a client for the kinds of one group and version: protobuf for
// Kubernetes' own, JSON for ours.
func Client(config *rest.Config, gv schema.GroupVersion) (rest.Interface, error) {
	c := rest.CopyConfig(config)
	c.GroupVersion = &gv
	c.APIPath = "/apis"
	if gv.Group == "" {
		c.APIPath = "/api"
	}
	c.NegotiatedSerializer = serializer.NewCodecFactory(Scheme()).WithoutConversion()
	if gv.Group != v1alpha1.Group {
		c.ContentType = runtime.ContentTypeProtobuf
		c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	}
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", gv, err)
	}
	return client, nil
}
