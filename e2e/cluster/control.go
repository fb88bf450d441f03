package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"fairlead.dev/fairlead/e2e/enter"
)

// controlPlane are the components of the control plane, in the order in which
// they start.
var controlPlane = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// patience bounds each wait for the cluster itself.
const patience = 3 * time.Minute

// claim makes the cluster's directory and takes its place on the machine.
func (c *Cluster) claim() error {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(c.dir(), 0o700); err != nil {
		return err
	}
	if err := raiseLimits(); err != nil {
		return fmt.Errorf("raise the machine's limits: %w", err)
	}
	c.state.Cgroups = map[string][]string{}
	if err := c.claimIndex(); err != nil {
		return err
	}
	if err := c.save(); err != nil {
		return err
	}
	for _, d := range []string{"pki", "log", "run", "nodes"} {
		if err := os.Mkdir(c.dir(d), 0o755); err != nil {
			return err
		}
	}
	if err := c.certify(); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	return c.underlay()
}

// server is the address of the API server, from everywhere.
func (c *Cluster) server() string {
	return fmt.Sprintf("https://%s:6443", c.address(controlHost)[0].Addr())
}

// certify issues all certificates of the cluster, and writes kubeconfigs.
func (c *Cluster) certify() error {
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	public, private, err := serviceAccountKey()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"ca.crt": ca.PEM, "sa.pub": public, "sa.key": private} {
		if err := os.WriteFile(c.dir("pki", name), content, 0o600); err != nil {
			return err
		}
	}
	api := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "127.0.0.1", "10.96.0.1", "fd00:10:96::1"}
	for _, p := range c.address(controlHost) {
		api = append(api, p.Addr().String())
	}
	type identity struct {
		file, name, organisation string
		addresses                []string
	}
	all := []identity{
		{"apiserver", "kube-apiserver", "", api}, {"admin", "admin", "system:masters", nil},
		{"kube-controller-manager", "system:kube-controller-manager", "", nil}, {"kube-scheduler", "system:kube-scheduler", "", nil},
		{"kube-proxy", "system:kube-proxy", "", nil}, {"kubelet-client", "kube-apiserver-kubelet-client", "system:masters", nil},
		{"front-proxy", "front-proxy-client", "", nil},
	}
	for _, n := range c.Nodes() {
		all = append(all, identity{n.name, "system:node:" + n.name, "system:nodes", append(n.addresses(), n.name)})
	}
	for _, i := range all {
		p, err := ca.issue(i.name, i.organisation, i.addresses...)
		if err != nil {
			return err
		}
		if err := p.write(c.dir("pki", i.file)); err != nil {
			return err
		}
		config, err := ca.kubeconfig(c.server(), p)
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.dir("pki", i.file+".kubeconfig"), config, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// component is the control plane's component called name.
func (c *Cluster) component(name string) (component, error) {
	pki := func(file string) string { return c.dir("pki", file) }
	var args []string
	switch name {
	case "etcd":
		args = []string{"--data-dir=" + c.dir("etcd"), "--unsafe-no-fsync", "--log-level=warn", "--listen-client-urls=http://127.0.0.1:2379",
			"--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380"}
	case "kube-apiserver":
		args = []string{"--etcd-servers=http://127.0.0.1:2379", "--advertise-address=" + c.address(controlHost)[0].Addr().String(), "--secure-port=6443",
			"--service-cluster-ip-range=" + strings.Join(c.perFamily(serviceCIDRs), ","), "--allow-privileged=true",
			"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"), "--client-ca-file=" + pki("ca.crt"),
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file=" + pki("sa.pub"),
			"--service-account-signing-key-file=" + pki("sa.key"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-client-certificate=" + pki("kubelet-client.crt"),
			"--kubelet-client-key=" + pki("kubelet-client.key"), "--kubelet-preferred-address-types=InternalIP",
			"--requestheader-client-ca-file=" + pki("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--proxy-client-cert-file=" + pki("front-proxy.crt"),
			"--proxy-client-key-file=" + pki("front-proxy.key")}
	case "kube-controller-manager":
		args = []string{"--kubeconfig=" + pki(name+".kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1",
			"--service-account-private-key-file=" + pki("sa.key"), "--root-ca-file=" + pki("ca.crt"), "--use-service-account-credentials=true",
			"--allocate-node-cidrs=true", "--cluster-cidr=" + strings.Join(c.perFamily(podCIDRs), ","),
			"--service-cluster-ip-range=" + strings.Join(c.perFamily(serviceCIDRs), ",")}
	case "kube-scheduler":
		args = []string{"--kubeconfig=" + pki(name+".kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1"}
	default:
		return component{}, fmt.Errorf("the control plane has no component %s, but %s", name, strings.Join(controlPlane, ", "))
	}
	return component{
		place: enter.Place{Netns: c.netns(control), Env: []string{marker(c.config.Name)}},
		args:  append([]string{filepath.Join(c.programs.Kubernetes, name)}, args...), log: c.dir("log", name+".log"), record: c.dir("run", name),
	}, nil
}

func (c *Cluster) startControlPlane(ctx context.Context) error {
	for _, name := range controlPlane {
		if err := c.Start(ctx, name); err != nil {
			return err
		}
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return Eventually(ctx, "default service account", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// Start starts a component of the control plane that was stopped: etcd,
// kube-apiserver, kube-controller-manager or kube-scheduler. It returns when the
// API server is ready.
func (c *Cluster) Start(ctx context.Context, name string) error {
	k, err := c.component(name)
	if err != nil {
		return err
	}
	if err := k.start(); err != nil || name != "kube-apiserver" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return Eventually(ctx, "API server ready, see "+k.log, func(ctx context.Context) error {
		client, err := c.Client()
		if err != nil {
			return err
		}
		if pid, _ := k.running(); pid == 0 {
			return errors.New("it has ended")
		}
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// Stop stops a component of the control plane, and returns when it has ended.
func (c *Cluster) Stop(ctx context.Context, name string) error {
	k, err := c.component(name)
	if err != nil {
		return err
	}
	return k.stop(ctx)
}

// Kubeconfig is the file with which an administrator reaches the API server, from
// this machine and from the nodes.
func (c *Cluster) Kubeconfig() string { return c.dir("pki", "admin.kubeconfig") }

// REST is what Kubeconfig says, for clients, without their limits.
func (c *Cluster) REST() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// Client is an administrator's.
func (c *Cluster) Client() (*kubernetes.Clientset, error) {
	config, err := c.REST()
	if err != nil {
		return nil, err
	}
	config.Timeout = patience // of one request: this client watches nothing
	return kubernetes.NewForConfig(config)
}

// Control is the place where the control plane runs.
func (c *Cluster) Control() enter.Place { return enter.Place{Netns: c.netns(control)} }

// ControlAddresses are the addresses of that place, which is no node of the cluster.
func (c *Cluster) ControlAddresses() []netip.Addr {
	var out []netip.Addr
	for _, p := range c.address(controlHost) {
		out = append(out, p.Addr())
	}
	return out
}

// Programs is the directory of the cluster's Kubernetes, with kubectl.
func (c *Cluster) Programs() string { return c.programs.Kubernetes }

// Kubectl is the kubectl of the cluster's version, as administrator.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.programs.Kubernetes, "kubectl"), append([]string{"--kubeconfig=" + c.Kubeconfig()}, args...)...)
	cmd.WaitDelay = stopPatience // for what it left behind
	return cmd
}

// Apply applies manifests, on the server.
func (c *Cluster) Apply(ctx context.Context, manifests string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it did not end within %s", patience))
	defer cancel()
	cmd := c.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-f", "-")
	cmd.Stdin = strings.NewReader(manifests)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl apply: %w\n%s", errors.Join(err, context.Cause(ctx)), out)
	}
	return nil
}
