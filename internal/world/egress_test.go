package world

import "testing"

func labels(pairs ...string) Labels {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return NewLabels(m)
}

func TestAnEgressSelects(t *testing.T) {
	shop, db := labels("team", "shop"), labels("app", "db")
	in := func(op SelectorOp, values ...string) *LabelSelector {
		return &LabelSelector{Requirements: []Requirement{{"app", op, values}}}
	}
	for name, tt := range map[string]struct {
		of   Egress
		want bool
	}{
		"nothing is written":            {Egress{}, false},
		"all pods":                      {Egress{Pods: &LabelSelector{}}, true},
		"all namespaces":                {Egress{Namespaces: &LabelSelector{}}, true},
		"the namespace":                 {Egress{Namespaces: &LabelSelector{Labels: shop}}, true},
		"another namespace":             {Egress{Namespaces: &LabelSelector{Labels: db}}, false},
		"the pod":                       {Egress{Pods: &LabelSelector{Labels: db}}, true},
		"pod and namespace":             {Egress{Namespaces: &LabelSelector{Labels: shop}, Pods: &LabelSelector{Labels: db}}, true},
		"pod of another namespace":      {Egress{Namespaces: &LabelSelector{Labels: db}, Pods: &LabelSelector{Labels: db}}, false},
		"In":                            {Egress{Pods: in(OpIn, "web", "db")}, true},
		"In others":                     {Egress{Pods: in(OpIn, "web")}, false},
		"NotIn":                         {Egress{Pods: in(OpNotIn, "web")}, true},
		"NotIn it":                      {Egress{Pods: in(OpNotIn, "db")}, false},
		"Exists":                        {Egress{Pods: in(OpExists)}, true},
		"DoesNotExist":                  {Egress{Pods: in(OpDoesNotExist)}, false},
		"an operator that nobody knows": {Egress{Pods: in("Like", "db")}, false},
		"NotIn of a label that is not there": {
			Egress{Pods: &LabelSelector{Requirements: []Requirement{{"tier", OpNotIn, []string{"back"}}}}}, true},
	} {
		if got := tt.of.Selects(shop, db); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTheOlderEgressComesFirst(t *testing.T) {
	old, young := &Egress{Key: Key{Name: "b"}, Created: 1}, &Egress{Key: Key{Name: "a"}, Created: 2}
	if !old.Older(young) || young.Older(old) {
		t.Error("the younger one comes first")
	}
	young.Created = 1
	if !young.Older(old) || old.Older(young) {
		t.Error("of two of one age the first by name does not")
	}
}
