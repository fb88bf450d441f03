package kube

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://192.0.2.1:6443"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`

func TestAServerThatIsNamedTakesThePlaceOfTheOneInTheFile(t *testing.T) {
	var path string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path + " " + r.UserAgent()
		http.NotFound(w, r)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := Connection{Kubeconfig: file, Server: server.URL, UserAgent: "test"}.Config()
	if err != nil {
		t.Fatal(err)
	}
	client, err := Client(config, corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Get().Resource("nodes").Name("n1").VersionedParams(&metav1.GetOptions{}, metav1.ParameterCodec).Do(t.Context()).Error()
	if want := "/api/v1/nodes/n1 test"; path != want {
		t.Errorf("asked for %q, want %q", path, want)
	}
}

func TestWhereNothingLeadsToAServerTheErrorSaysWhatIsMissing(t *testing.T) {
	_, err := Connection{}.Config()
	if err == nil || !strings.Contains(err.Error(), "KUBERNETES_SERVICE_HOST") {
		t.Errorf("error %v", err)
	}
	_, err = Connection{Kubeconfig: "/nowhere/kubeconfig"}.Config()
	if err == nil || !strings.Contains(err.Error(), "/nowhere/kubeconfig") {
		t.Errorf("error %v", err)
	}
}
