package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/strvals"
)

var update = flag.Bool("update", false, "rewrite the chart's copies and deploy/fairlead.yaml")

const deploy = "../../deploy"

func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		for dir := range copies {
			if err := copyAll(dir); err != nil {
				panic(err)
			}
		}
		if err := copySchema(); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// set reads values as on Helm's command line.
func set(t *testing.T, text string) map[string]any {
	t.Helper()
	values, err := strvals.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// valueSets are values that the chart must take.
var valueSets = map[string]string{
	"default":    "",
	"api server": "apiServer=https://192.0.2.1:6443",
	"manifests":  "createNamespace=true",
	"k3s":        "cni.confDir=/var/lib/rancher/k3s/agent/etc/cni/net.d,cni.binDir=/var/lib/rancher/k3s/data/cni",
	"monitored":  "metrics.address=::,metrics.podMonitor.enabled=true,metrics.podMonitor.labels.release=prometheus",
	"image":      "image.tag=1.2.3,image.repository=registry.example/fairlead,imagePullSecrets[0]=pull,image.pullPolicy=Always",
	"placement":  "agent.maxUnavailable=10%,agent.nodeSelector.a=b,controller.nodeSelector.a=b,controller.replicas=1,agent.resources.limits.memory=1Gi",
	"mesh":       "cni.exclusive=false",
	"beside":     "config.overlay.mode=none",
	"settings":   "config.nodeSNATRandomizePorts=true,config.nonMasqueradeCIDRs={192.0.2.0/24},config.features.hostport=false,config.overlay.mtu=1400",
	"uninstall":  "uninstall=true",
}

func TestLint(t *testing.T) {
	for name, text := range valueSets {
		for _, m := range lint.RunAll(chartDir, set(t, text), "fairlead-system").Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %s", name, m)
			}
		}
	}
}

// A wrong value is refused by a sentence that names it.
func TestBadValuesAreRefusedByName(t *testing.T) {
	for text, want := range map[string]string{
		"logLevel=loud":                   "at '/logLevel': value must be one of 'debug', 'info', 'warn', 'error'",
		"apiServer=192.0.2.1":             "at '/apiServer'",
		"loglevel=info":                   "additional properties 'loglevel' not allowed",
		"agent.privileged=true":           "at '/agent': additional properties 'privileged' not allowed",
		"agent.maxUnavailable=0":          "at '/agent/maxUnavailable'",
		"agent.maxUnavailable=all":        "at '/agent/maxUnavailable'",
		"controller.replicas=-1":          "at '/controller/replicas': minimum",
		"cni.confDir=etc/cni":             "at '/cni/confDir'",
		"cni.binDir=/opt/../etc":          "at '/cni/binDir'",
		"metrics.address=192.0.2.1":       "at '/metrics/address': value must be one of",
		"metrics.port=0":                  "at '/metrics/port': minimum",
		"config.overlay.mode=nne":         "at '/config/overlay/mode': value must be one of 'vxlan', 'direct', 'hybrid', 'none'",
		"config.nodeSNATRandomisePorts=1": "at '/config': additional properties 'nodeSNATRandomisePorts' not allowed",
		"config.overlay.mtu=70000":        "at '/config/overlay/mtu'",
		"image.tag=a:b":                   "at '/image/tag'",
		"uninstall=yes":                   "at '/uninstall': got string, want boolean",
		"metrics.podMonitor.enabled=true": "a scraper cannot reach metrics.address 127.0.0.1: set metrics.address to 0.0.0.0 or ::",
	} {
		if _, err := render("fairlead-system", set(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is answered %q, want %q", text, err, want)
		}
	}
}

// copies are the directories whose files the chart has copies of: a chart cannot
// reach outside itself, and a link does not survive everywhere.
var copies = map[string]string{
	"crds":     filepath.Join(deploy, "crds"),
	"policies": filepath.Join(deploy, "policies"),
}

func TestTheChartHasCopiesOfWhatIsElsewhere(t *testing.T) {
	for dir, from := range copies {
		want, have := contents(t, from), contents(t, filepath.Join(chartDir, "files", dir))
		for name, content := range want {
			if have[name] != content {
				t.Errorf("the chart's files/%s/%s differs from %s: run make update", dir, name, from)
			}
			delete(have, name)
		}
		for name := range have {
			t.Errorf("the chart's files/%s/%s is not in %s: run make update", dir, name, from)
		}
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = string(content)
	}
	return out
}

func copyAll(dir string) error {
	to := filepath.Join(chartDir, "files", dir)
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(copies[dir], "*.yaml"))
	if err != nil || len(files) == 0 {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(f)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// deploy/fairlead.yaml is for those who have no Helm.
func TestTheRenderedManifestsAreTheChart(t *testing.T) {
	for file, values := range map[string]string{
		"fairlead.yaml":           "createNamespace=true",
		"fairlead-uninstall.yaml": "createNamespace=true,uninstall=true",
	} {
		rendered, err := render("fairlead-system", set(t, values))
		if err != nil {
			t.Fatal(err)
		}
		want := "# The chart in deploy/charts/fairlead with " + values + ", by make update.\n" + string(rendered)
		path := filepath.Join(deploy, file)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != want {
			t.Errorf("deploy/%s is not what the chart renders (%v): run make update", file, err)
		}
	}
}
