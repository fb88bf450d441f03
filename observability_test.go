package fairlead

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// alertPage is where docs/alerts.md is read by those who are alerted.
const alertPage = "https://github.com/fairlead/fairlead/blob/main/docs/alerts.md#"

// Every alert says what is wrong and what to do, and leads to its section of the
// page; and the page has no other. tools/promtool shows when they fire.
func TestEveryAlertIsExplained(t *testing.T) {
	content, err := os.ReadFile("deploy/observability/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(content, &rules); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	var sections, alerts []string
	for line := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "### "); ok {
			sections = append(sections, name)
		}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			alerts = append(alerts, r.Alert)
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s has no summary or no description", r.Alert)
			}
			if want := alertPage + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
				t.Errorf("%s leads to %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
			}
			if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
				t.Errorf("%s has severity %q", r.Alert, r.Labels["severity"])
			}
		}
	}
	if len(alerts) == 0 || !slices.Equal(sections, alerts) {
		t.Errorf("docs/alerts.md explains\n%v, and the alerts are\n%v", sections, alerts)
	}
}

// The dashboard asks the Prometheus that its reader chooses, and nobody else.
func TestDashboardAsksTheChosenPrometheus(t *testing.T) {
	content, err := os.ReadFile("deploy/observability/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	type source struct{ Type, UID string }
	type asker struct {
		Type, Name, Expr string
		Datasource       *source
	}
	var dashboard struct {
		Templating struct{ List []asker }
		Panels     []struct {
			ID          int
			Title, Type string
			Targets     []asker
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	chosen := source{"prometheus", "${datasource}"}
	declared := false
	for _, v := range dashboard.Templating.List {
		declared = declared || v.Type == "datasource" && v.Name == "datasource"
		if v.Type == "query" && (v.Datasource == nil || *v.Datasource != chosen) {
			t.Errorf("variable %s asks %v", v.Name, v.Datasource)
		}
	}
	if !declared {
		t.Error("there is no variable named datasource")
	}
	ids := map[int]string{}
	for _, p := range dashboard.Panels {
		if other, taken := ids[p.ID]; taken {
			t.Errorf("%q and %q have one id", p.Title, other)
		}
		ids[p.ID] = p.Title
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource == nil || *target.Datasource != chosen || target.Expr == "" {
				t.Errorf("%q asks %v for %q", p.Title, target.Datasource, target.Expr)
			}
		}
	}
}
