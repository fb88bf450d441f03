// Package promtool holds no code: it pins Prometheus's own tool, and its tests ask
// Prometheus's parser about deploy/observability. It is a module of its own, so
// that nobody who uses Fairlead downloads Prometheus.
package promtool

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v2"
)

const dir = "../../deploy/observability/"

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(dir + name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Of every alert it is shown when it fires and when it never does; scripts/alerts
// has promtool judge that.
func TestEveryAlertIsShownBothWays(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert string `yaml:"alert"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(read(t, "alerts.yaml"), &rules); err != nil {
		t.Fatal(err)
	}
	var tests struct {
		Tests []struct {
			Name string `yaml:"name"`
		} `yaml:"tests"`
	}
	if err := yaml.Unmarshal(read(t, "alerts_test.yaml"), &tests); err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, test := range tests.Tests {
		named[test.Name] = true
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if !named[r.Alert+" fires"] || !named[r.Alert+" never fires"] {
				t.Errorf("alerts_test.yaml does not show both when %s fires and when not", r.Alert)
			}
		}
	}
}

// variables stand for what Grafana puts in their place.
var variables = strings.NewReplacer("$node", ".*", "$__rate_interval", "5m")

// Prometheus can parse what the dashboard asks.
func TestDashboard(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(read(t, "dashboard.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			asked++
			if _, err := parser.NewParser(parser.Options{}).ParseExpr(variables.Replace(target.Expr)); err != nil {
				t.Errorf("%s: %q: %v", p.Title, target.Expr, err)
			}
		}
	}
	if asked == 0 {
		t.Error("the dashboard asks nothing")
	}
}
