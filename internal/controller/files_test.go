package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source/dir"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A site is the two directories of a cluster of n1 and n2.
type site struct {
	t                *testing.T
	objects, reports string
}

func newSite(t *testing.T) *site {
	s := &site{t, t.TempDir(), t.TempDir()}
	for _, n := range []string{"n1", "n2"} {
		write(t, filepath.Join(s.objects, n+".yaml"), "apiVersion: v1\nkind: Node\nmetadata: {name: "+n+"}\n")
	}
	return s
}

func (s *site) configure(name string) {
	write(s.t, filepath.Join(s.objects, "config-"+name+".yaml"), fmt.Sprintf("apiVersion: %s\nkind: AgentConfig\nmetadata: {name: %s}\n", v1alpha1.APIVersion, name))
}

func (s *site) report(r *v1alpha1.FairleadNode) {
	r.Kind = "FairleadNode"
	for i := range r.Status.ObjectReports {
		r.Status.ObjectReports[i].ObservedGeneration = 0 // files have none
	}
	content, err := json.Marshal(r)
	if err != nil {
		s.t.Fatal(err)
	}
	write(s.t, filepath.Join(s.reports, r.Name+".json"), string(content))
}

// start runs a controller until stop is called.
func (s *site) start() (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error)
	go func() {
		ended <- Run(ctx, Config{Objects: s.objects, Reports: s.reports, Log: slog.New(slog.DiscardHandler)})
	}()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	}
}

// await waits until the AgentConfig's condition has the reason.
func (s *site) await(name, reason string) metav1.Condition {
	s.t.Helper()
	var has metav1.Condition
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		status, err := ReadStatus(s.reports)
		if err != nil {
			s.t.Fatal(err)
		}
		if c := status[name].Conditions; len(c) == 1 {
			if has = c[0]; has.Reason == reason {
				return has
			}
		}
	}
	s.t.Fatalf("AgentConfig %s: %v, want %s", name, has, reason)
	return has
}

func TestConditionsOfADirectory(t *testing.T) {
	s := newSite(t)
	s.configure("default")
	s.configure("n9")
	stop := s.start()
	s.await("n9", reasonNoNode)
	s.report(reportOf("n1", 0))
	s.report(reportOf("n2", 0))
	write(t, filepath.Join(s.reports, "n1.events.json"), `{"kind": "List", "items": []}`)
	write(t, filepath.Join(s.reports, "n3.json"), `half a rep`)
	good := s.await("default", "Accepted")
	stop()

	stop = s.start() // another goes on from there
	s.report(reportOf("n2", 0, problem("AgentConfig default", "a", "is wrong")))
	bad := s.await("default", "Problems")
	if bad.Message != "spec.a: is wrong (write another) on 1 of 2 nodes (n2)" || bad.LastTransitionTime.Before(&good.LastTransitionTime) {
		t.Errorf("%v", bad)
	}
	if err := os.Remove(filepath.Join(s.objects, "config-n9.yaml")); err != nil {
		t.Fatal(err)
	}
	s.configure("n2")
	s.await("n2", "Accepted")
	stop()
	if status, err := ReadStatus(s.reports); err != nil || len(status) != 2 {
		t.Errorf("%v %v", status, err)
	}
}

func TestOneControllerOfADirectoryLeads(t *testing.T) {
	s := newSite(t)
	lead := make(chan int, 2)
	ctx, cancel := context.WithCancel(t.Context())
	stops := []context.CancelFunc{}
	for i := range 2 {
		ctx, stop := context.WithCancel(ctx)
		stops = append(stops, stop)
		f := newFiles(s.objects, s.reports)
		go func() {
			_ = f.run(ctx, func(ctx context.Context) error {
				lead <- i
				<-ctx.Done()
				return nil
			})
		}()
	}
	defer cancel()
	first := <-lead
	stops[first]()
	if second := <-lead; second == first {
		t.Errorf("%d leads twice", first)
	}
}

// An Egress of a directory has a number and a node, and the next controller goes on from
// there. Who reads both directories sees it with the manifest.
func TestEgressesOfADirectory(t *testing.T) {
	s := newSite(t)
	node := "apiVersion: v1\nkind: Node\nmetadata: {name: n%d}\nspec: {unschedulable: %t}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.%d}]}\n"
	write(t, filepath.Join(s.objects, "n1.yaml"), fmt.Sprintf(node, 1, false, 1))
	write(t, filepath.Join(s.objects, "n2.yaml"), fmt.Sprintf(node, 2, true, 2))
	put := func(ips string) {
		write(t, filepath.Join(s.objects, "x.yaml"), "apiVersion: fairlead.dev/v1alpha1\nkind: Egress\nmetadata: {name: x}\nspec: {appliedTo: {podSelector: {}}, egressIPs: ["+ips+"]}\n"+
			"status: {addresses: [{ip: 198.51.100.7, number: 1, node: n2}]}\n")
	}
	reader := dir.New(s.objects).WithReports(s.reports)
	await := func(want string) (last []v1alpha1.EgressAddress) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			objects, err := reader.Read()
			if err != nil {
				t.Fatal(err)
			}
			var has []string
			for _, e := range objects.Egresses {
				for last = e.Status.Addresses; len(has) < len(last); {
					has = append(has, last[len(has)].IP+"@"+last[len(has)].Node)
				}
			}
			if strings.Join(has, " ") == want {
				return last
			}
		}
		t.Fatalf("%v, want %s", last, want)
		return nil
	}
	put("198.51.100.7")
	stop := s.start()
	first := await("198.51.100.7@n1")[0]
	stop()
	write(t, filepath.Join(s.objects, "n2.yaml"), fmt.Sprintf(node, 2, false, 2))
	stop = s.start()
	put("198.51.100.7, 198.51.100.8")
	if again := await("198.51.100.7@n1 198.51.100.8@n2")[0]; again.Number != first.Number || !again.Since.Equal(first.Since) {
		t.Errorf("%v after %v", again, first)
	}
	stop()
}
