package status

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/sorted"
)

// annotated are pods of this node: name and UID are the same, as is the annotation.
func annotated(names ...string) Report {
	r := report(metav1.ConditionTrue)
	var pods []*Pod
	for _, name := range names {
		pods = append(pods, &Pod{Namespace: "default", Name: name, UID: types.UID(name), Annotations: map[string]string{"fairlead.dev/test": name}})
	}
	r.Pods = listed(pods...)
	return r
}

func listed(pods ...*Pod) sorted.List[*Pod] { return sorted.Of(pods, ComparePods) }

func (s *server) add(names ...string) {
	for _, name := range names {
		s.set(podPath+name, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}})
	}
}

func TestAnnotationsAreWrittenWhenTheyChangeAndTakenBack(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		srv.add("a", "b")
		for range 60 {
			s.Report(annotated("a", "b"))
			time.Sleep(time.Second)
		}
		written := srv.lines("PATCH " + podPath)
		if len(written) != 2 {
			t.Fatalf("%d written", len(written))
		}
		meta := written[0].body["metadata"].(map[string]any)
		if meta["uid"] != meta["name"] || meta["annotations"].(map[string]any)["fairlead.dev/test"] != meta["name"] {
			t.Errorf("written: %v", meta)
		}
		for range 60 {
			s.Report(annotated("a"))
			time.Sleep(time.Second)
		}
		written = srv.lines("PATCH " + podPath)
		if last := written[len(written)-1]; len(written) != 3 || last.line != "PATCH "+podPath+"b" || last.body["metadata"].(map[string]any)["annotations"] != nil {
			t.Errorf("%d written, the last %v", len(written), last)
		}
		if len(s.pods) != 1 {
			t.Errorf("%d pods are remembered", len(s.pods))
		}
	})
}

func TestAPodThatFailsHoldsUpNoOther(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprint("p", i))
		}
		srv.add(names...)
		for _, name := range names[:10] {
			srv.failing(podPath+name, 503)
		}
		s.Report(annotated(names...))
		time.Sleep(time.Second / 2)
		if n := len(srv.lines("PATCH " + podPath)); n != 20 {
			t.Errorf("%d pods were tried", n)
		}
		time.Sleep(time.Hour)
		if n := len(srv.lines("PATCH " + podPath + names[3])); n < 50 || n > 200 {
			t.Errorf("one that fails was tried %d times in an hour", n)
		}
	})
}

func TestAPodThatIsGoneOrAnotherIsNoFailure(t *testing.T) {
	log := told(t, func(s *APIServer, srv *server) {
		srv.set(podPath+"another", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "another", Namespace: "default", UID: "2"}})
		srv.failing(podPath+"another", 422)
		s.Report(annotated("gone", "another"))
		time.Sleep(time.Second)
		srv.failing(podPath+"another", none) // so that it can be looked at
		time.Sleep(time.Minute)
		for _, reason := range reasons {
			if n := testutil.ToFloat64(s.metrics.failures.WithLabelValues("Pod", reason)); n > 1 {
				t.Errorf("%v failures: %s", n, reason)
			}
		}
		if n := len(srv.lines("PATCH " + podPath + "gone")); n != 1 {
			t.Errorf("what is gone was tried %d times", n)
		}
	})
	if strings.Contains(log, "Pod not written") && strings.Contains(log, "gone") {
		t.Errorf("the log:\n%s", log)
	}
}

func TestAnEventThatHappensAgainIsCounted(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		for i := range 600 {
			s.Events([]corev1.Event{happened("a", int32(i+1))})
			time.Sleep(time.Second)
		}
		time.Sleep(2 * eventAgain)
		if n := len(srv.lines("POST " + eventPath)); n != 1 {
			t.Errorf("made %d times", n)
		}
		counted := srv.lines("PATCH " + eventPath + "/a")
		if n := len(counted); n < 7 || n > 14 || counted[n-1].body["count"] != 600.0 {
			t.Errorf("counted %d times: %v", n, counted[n-1].body)
		}
	})
}

func TestAnEventIsCountedOnFromWhatAnEarlierAgentTold(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		srv.set(eventPath+"/a", happened("a", 40))
		s.Events([]corev1.Event{happened("a", 2)})
		time.Sleep(time.Second)
		s.Events([]corev1.Event{happened("a", 3)})
		time.Sleep(2 * eventAgain)
		counted := srv.lines("PATCH " + eventPath + "/a")
		if len(counted) != 3 || len(counted[0].body) > 0 || counted[1].body["count"] != 42.0 || counted[2].body["count"] != 43.0 {
			t.Errorf("counted: %v", counted)
		}
		srv.mu.Lock()
		delete(srv.objects, eventPath+"/a") // after an hour
		srv.mu.Unlock()
		s.Events([]corev1.Event{happened("a", 4)})
		time.Sleep(2 * eventAgain)
		made := srv.lines("POST " + eventPath)
		if last := made[len(made)-1]; last.body["count"] != 44.0 {
			t.Errorf("made again: %v", last)
		}
	})
}

func TestEventsComeInAMeasuredFlowAndTheOldestAreDropped(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		const most = 256
		var list []corev1.Event
		for i := range 2 * most {
			list = append(list, happened(fmt.Sprint("e", i), 1))
			s.Events(list[max(0, len(list)-most):])
		}
		time.Sleep(10 * time.Minute)
		if n := len(srv.lines("POST " + eventPath)); n < 25+55 || n > 25+65 {
			t.Errorf("%d told in ten minutes", n)
		}
		time.Sleep(time.Hour)
		sent, dropped := len(srv.lines("POST "+eventPath)), testutil.ToFloat64(s.metrics.dropped)
		if sent < most || dropped == 0 || float64(sent)+dropped != 2*most {
			t.Errorf("%d told, %v dropped", sent, dropped)
		}
	})
}

func TestEventsOfANamespaceThatGoesAreForNobody(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		srv.failing(eventPath, 404)
		s.Events([]corev1.Event{happened("a", 1)})
		time.Sleep(time.Hour)
		if n := len(srv.lines("")); n != 1 {
			t.Errorf("tried %d times", n)
		}
	})
}

// What the API server will never take is not sent to it for ever.
func TestAnEventThatIsRefusedForGoodIsDropped(t *testing.T) {
	for _, code := range []int{400, 413, 422} {
		told(t, func(s *APIServer, srv *server) {
			srv.failing(eventPath, code)
			s.Events([]corev1.Event{happened("a", 1), happened("b", 1)})
			time.Sleep(time.Hour)
			if n := len(srv.lines("")); n != 2 {
				t.Errorf("%d: tried %d times", code, n)
			}
			if n := testutil.ToFloat64(s.metrics.dropped); n != 2 {
				t.Errorf("%d: %v counted as dropped", code, n)
			}
			srv.failing(eventPath, none)
			s.Events([]corev1.Event{happened("a", 2), happened("b", 1)})
			time.Sleep(2 * eventAgain)
			if n := len(srv.lines("POST " + eventPath)); n != 3 {
				t.Errorf("%d: tried %d times, although it happened again", code, n)
			}
		})
	}
}

const leasePath = "/apis/coordination.k8s.io/v1/namespaces/fairlead-system/leases"

// beating is a writer that says that its agent is there, which reports while the
// test says so.
func beating(t *testing.T, test func(s *APIServer, srv *server, reports func(long time.Duration))) {
	prepared(t, func(s *APIServer, srv *server) error {
		return s.Beat(&rest.Config{Host: "http://api", QPS: -1, Transport: srv}, "fairlead-system")
	}, func(s *APIServer, srv *server) {
		test(s, srv, func(long time.Duration) {
			for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(5 * time.Second) {
				s.Report(realReportOf(s.node))
			}
		})
	})
}

func realReportOf(node string) Report {
	r := report(metav1.ConditionTrue)
	r.Node.Name, r.Network = node, Network{State: NetworkWorks, Message: "works"}
	return r
}

func TestAnAgentSaysThatItIsThereWhileItTurns(t *testing.T) {
	beating(t, func(_ *APIServer, srv *server, reports func(time.Duration)) {
		reports(10 * time.Minute)
		made, renewed := srv.lines("POST "+leasePath), srv.lines("PATCH "+leasePath+"/agent-n1")
		if len(made) != 1 || len(renewed) < 50 || len(renewed) > 65 {
			t.Fatalf("made %d times and renewed %d times in ten minutes", len(made), len(renewed))
		}
		spec := renewed[len(renewed)-1].body["spec"].(map[string]any)
		if spec["leaseDurationSeconds"] != 40.0 || spec["renewTime"] == nil || spec["holderIdentity"] != "n1" {
			t.Errorf("%v", spec)
		}
		owner := made[0].body["metadata"].(map[string]any)["ownerReferences"].([]any)[0].(map[string]any)
		if owner["kind"] != "Node" || owner["uid"] != "u1" {
			t.Errorf("its owner is %v", owner)
		}
		time.Sleep(10 * time.Minute) // it hangs
		if n := len(srv.lines("PATCH "+leasePath)) - len(renewed); n > 7 {
			t.Errorf("an agent that hangs renewed %d times", n)
		}
	})
}

// All agents together write no more than a hundred times a second, and say how long
// that may take.
func TestHeartbeatsOfManyNodesAreFew(t *testing.T) {
	for peers, want := range map[int64]time.Duration{0: 10 * time.Second, 999: 10 * time.Second, 4999: 49990 * time.Millisecond} {
		if pace := beatPace(peers); pace != want || float64(peers+1)/pace.Seconds() > 101 {
			t.Errorf("%d peers: every %s", peers, pace)
		}
	}
}

// An agent that could not be heard of may find that it was said to be gone: it looks
// at once, and not after minutes.
func TestAnAgentThatIsHeardOfAgainSaysHowItIs(t *testing.T) {
	beating(t, func(_ *APIServer, srv *server, reports func(time.Duration)) {
		reports(time.Minute)
		srv.failing("/", 0)
		reports(2 * time.Minute)
		node := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1"}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionUnknown, Reason: "FairleadSilent"}}
		srv.set(nodePath, node)
		before := len(srv.lines("PATCH " + nodePath + "/status"))
		srv.failing("/", none)
		reports(time.Minute)
		written := srv.lines("PATCH " + nodePath + "/status")[before:]
		if len(written) != 1 {
			t.Errorf("written %d times: %v", len(written), written)
		}
		if n := len(srv.lines("GET /apis/fairlead.dev/v1alpha1/fairleadnodes/n1")); n != 2 {
			t.Errorf("the FairleadNode was looked at %d times", n)
		}
	})
}
