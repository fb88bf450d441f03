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
)

// annotated are pods of this node: name and UID are the same, as is the annotation.
func annotated(names ...string) Report {
	r := report(metav1.ConditionTrue)
	for _, name := range names {
		r.Pods = append(r.Pods, Pod{Namespace: "default", Name: name, UID: types.UID(name), Annotations: map[string]string{"fairlead.dev/test": name}})
	}
	return r
}

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
