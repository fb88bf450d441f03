package status

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/api/v1alpha1"
)

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where synctest's clock begins

const (
	nodePath   = "/api/v1/nodes/n1"
	reportPath = "/apis/fairlead.dev/v1alpha1/fairleadnodes/n1"
	podPath    = "/api/v1/namespaces/default/pods/"
	eventPath  = "/api/v1/namespaces/default/events"
	none       = -1
)

// told runs test in a bubble of its own, with a writer for node n1 and the API
// server it writes to.
func told(t *testing.T, test func(*APIServer, *server)) string {
	return prepared(t, func(*APIServer, *server) error { return nil }, test)
}

// prepared is told with something done before the writer runs.
func prepared(t *testing.T, prepare func(*APIServer, *server) error, test func(*APIServer, *server)) string {
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		srv := &server{fail: map[string]int{}, objects: map[string]any{
			nodePath: &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1"}},
		}}
		s := newWriter(t, srv, &log)
		if err := prepare(s, srv); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		test(s, srv)
		stop()
		<-ended
	})
	return log.String()
}

func newWriter(t *testing.T, srv *server, log io.Writer) *APIServer {
	s, err := NewAPIServer(&rest.Config{Host: "http://api", QPS: -1, Transport: srv}, "n1", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheFairleadNodeIsMadeOnceAndWrittenWhenItChanges(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		for range 100 {
			s.Report(report(metav1.ConditionTrue))
			time.Sleep(5 * time.Second)
		}
		made, written := srv.lines("PATCH "+reportPath), srv.lines("PATCH "+reportPath+"/status")
		if len(made) != 2 || len(written) != 1 {
			t.Fatalf("%d written, %d of them the status", len(made), len(written))
		}
		owner := made[0].body["metadata"].(map[string]any)["ownerReferences"].([]any)[0].(map[string]any)
		if owner["kind"] != "Node" || owner["name"] != "n1" || owner["uid"] != "u1" {
			t.Errorf("owner %v", owner)
		}
		s.Report(report(metav1.ConditionFalse))
		time.Sleep(2 * unreadyAfter)
		written = srv.lines("PATCH " + reportPath + "/status")
		if len(written) != 2 {
			t.Fatalf("%d written", len(written))
		}
		for _, c := range written[1].body["status"].(map[string]any)["conditions"].([]any) {
			c := c.(map[string]any)
			at, err := time.Parse(time.RFC3339, c["lastTransitionTime"].(string))
			if old := at.Equal(epoch.Add(together)); err != nil || old != (c["type"] == "Other") {
				t.Errorf("%v is as it is since %s, %v", c["type"], at, err)
			}
		}
	})
}

func TestAnAgentThatStartsAnewWritesOnlyWhatIsNew(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		there := report(metav1.ConditionTrue).Node
		there.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "u1"}}
		there.Status = since(v1alpha1.FairleadNodeStatus{}, there.Status)
		srv.set(reportPath, there)
		s.Report(report(metav1.ConditionTrue))
		time.Sleep(3 * lookAgain)
		if n := len(srv.lines("PATCH " + reportPath)); n != 0 {
			t.Errorf("%d written", n)
		}
		if n := len(srv.lines("GET " + reportPath)); n < 2 || n > 4 {
			t.Errorf("looked %d times", n)
		}
	})
}

func TestAnAgentThatReadsItsObjectsSoonIsNotToldToBeUnready(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		s.Report(report(metav1.ConditionFalse))
		time.Sleep(unreadyAfter / 2)
		s.Report(report(metav1.ConditionTrue))
		time.Sleep(time.Minute)
		if n := len(srv.lines("PATCH " + reportPath + "/status")); n != 1 {
			t.Errorf("%d written", n)
		}
	})
}

func TestCountersAloneAreWrittenNowAndThen(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		const hours = 10
		for i := range int64(hours * 3600 / 5) {
			r := report(metav1.ConditionTrue)
			r.Node.Status.Counters.DriftRepairs, r.Node.Status.ObservedRevision = i, i
			s.Report(r)
			time.Sleep(5 * time.Second)
		}
		written := srv.lines("PATCH " + reportPath + "/status")
		if n, most := len(written), int(hours*time.Hour/(countEvery*4/5))+2; n > most || n < most/2 {
			t.Errorf("%d written in %d h, want at most %d", n, hours, most)
		}
		gaps := map[time.Duration]bool{}
		for i := range written[1:] {
			gaps[written[i+1].at-written[i].at] = true
		}
		if len(gaps) < 5 {
			t.Errorf("the times between are %v: all nodes write at the same time", gaps)
		}
	})
}

func TestWhatChangesAllTheTimeIsWrittenNowAndThen(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		for i := range 600 {
			r := report(metav1.ConditionTrue)
			r.Node.Status.Conditions[1].Reason = fmt.Sprint("Test", i)
			s.Report(r)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		written := srv.lines("PATCH " + reportPath + "/status")
		if n := len(written); n > 70 || n < 30 {
			t.Errorf("%d written in ten minutes", n)
		}
		last := written[len(written)-1].body["status"].(map[string]any)["conditions"].([]any)[1].(map[string]any)
		if last["reason"] != "Test599" {
			t.Errorf("the last that is written is %v", last)
		}
	})
}

func TestNodesThatHaveTheSameToTellTakeTurns(t *testing.T) {
	perSecond := map[time.Duration]int{}
	for range 100 {
		told(t, func(s *APIServer, srv *server) {
			r := report(metav1.ConditionTrue)
			r.Node.Status.Counters.Peers = 4999
			s.Report(r)
			time.Sleep(time.Minute)
			written := srv.lines("PATCH " + reportPath + "/status")
			if len(written) != 1 || written[0].at > 12*time.Second {
				t.Fatalf("written: %v", written)
			}
			perSecond[written[0].at.Truncate(time.Second)]++
		})
	}
	for at, n := range perSecond {
		if n > 30 {
			t.Errorf("%d of 100 nodes write in the second after %s", n, at)
		}
	}
}

func TestAFairleadNodeThatIsDeletedIsMadeAgain(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		s.Report(report(metav1.ConditionTrue))
		time.Sleep(2 * together)
		srv.mu.Lock()
		delete(srv.objects, reportPath)
		srv.mu.Unlock()
		s.Report(report(metav1.ConditionFalse))
		time.Sleep(2 * unreadyAfter)
		made := srv.lines("PATCH " + reportPath)
		if last := made[len(made)-1]; len(made) != 5 || last.line != "PATCH "+reportPath+"/status" {
			t.Errorf("%d written, the last %s after %s", len(made), last.line, last.at)
		}
	})
}

func TestANodeSaysThatItsNetworkWorksAndAfterAWhileThatItDoesNot(t *testing.T) {
	told(t, func(s *APIServer, srv *server) {
		r := report(metav1.ConditionTrue)
		condition := func(wait time.Duration, state NetworkState) (string, int) {
			r.Network = Network{State: state, Message: "it rains"}
			s.Report(r)
			time.Sleep(wait)
			written := srv.lines("PATCH " + nodePath + "/status")
			if len(written) == 0 {
				return "", 0
			}
			list := written[len(written)-1].body["status"].(map[string]any)["conditions"].([]any)
			if len(list) == 0 {
				return "none", len(written)
			}
			c := list[0].(map[string]any)
			return fmt.Sprint(c["type"], " ", c["status"], " ", c["reason"]), len(written)
		}
		for _, step := range []struct {
			state NetworkState
			wait  time.Duration
			want  string
			n     int
		}{
			{NetworkUnknown, time.Hour, "", 0},
			{NetworkNotOurs, time.Hour, "", 0},
			{NetworkBroken, brokenAfter / 2, "", 0},
			{NetworkWorks, time.Second, "NetworkUnavailable False FairleadReady", 1},
			{NetworkBroken, brokenAfter / 2, "NetworkUnavailable False FairleadReady", 1},
			{NetworkWorks, time.Second, "NetworkUnavailable False FairleadReady", 1},
			{NetworkBroken, 2 * brokenAfter, "NetworkUnavailable True FairleadNotReady", 2},
			{NetworkUnknown, time.Minute, "NetworkUnavailable True FairleadNotReady", 2},
			{NetworkWorks, time.Minute, "NetworkUnavailable False FairleadReady", 3},
		} {
			if got, n := condition(step.wait, step.state); got != step.want || n != step.n {
				t.Errorf("%d: %q written %d times, want %q %d times", step.state, got, n, step.want, step.n)
			}
		}
	})
}

func TestAConditionThatIsOursIsTakenBackAndAnotherIsLeft(t *testing.T) {
	for reason, taken := range map[string]int{reasonWorks: 1, reasonBroken: 1, "FlannelIsUp": 0} {
		told(t, func(s *APIServer, srv *server) {
			srv.set(nodePath, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1"}, Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: "False", Reason: reason}}}})
			r := report(metav1.ConditionTrue)
			r.Network.State = NetworkNotOurs
			s.Report(r)
			time.Sleep(time.Minute)
			if n := len(srv.lines("PATCH " + nodePath)); n != taken {
				t.Errorf("%s: written %d times, want %d", reason, n, taken)
			}
		})
	}
}

func TestAnAPIServerThatIsAwayIsAskedSeldomAndToldTheLatestThen(t *testing.T) {
	log := told(t, func(s *APIServer, srv *server) {
		srv.failing("/", 0)
		for i := range 3600 {
			r := report(metav1.ConditionTrue)
			r.Node.Status.Conditions[1].Reason = fmt.Sprint("Test", i)
			r.Network.State = NetworkWorks
			s.Report(r)
			s.Events([]corev1.Event{happened("a", int32(i+1)), happened("b", 1)})
			time.Sleep(time.Second)
		}
		if n := len(srv.lines("")); n > 300 || n < 60 {
			t.Errorf("asked %d times in an hour", n)
		}
		srv.failing("/", none)
		time.Sleep(2 * time.Minute)
		written := srv.lines("PATCH " + reportPath + "/status")
		events := srv.lines("POST " + eventPath)
		if len(written) != 1 || len(events) < 2 {
			t.Fatalf("%d written, %d events", len(written), len(events))
		}
		if last := srv.objects[eventPath+"/a"].(map[string]any); last["count"] != 3600.0 {
			t.Errorf("happened %v times", last["count"])
		}
	})
	if n := strings.Count(log, "does not answer"); n != 1 || strings.Count(log, "told again") != 1 {
		t.Errorf("the log:\n%s", log)
	}
}

func TestWhatIsForbiddenIsSaidOnceAndHoldsUpNothingElse(t *testing.T) {
	log := told(t, func(s *APIServer, srv *server) {
		srv.failing("/apis/fairlead.dev", 403)
		r := report(metav1.ConditionTrue)
		r.Network.State = NetworkWorks
		for range 30 {
			s.Report(r)
			time.Sleep(time.Minute)
		}
		if n := len(srv.lines("GET " + reportPath)); n > 12 || n < 5 {
			t.Errorf("asked %d times in half an hour", n)
		}
		if n := len(srv.lines("PATCH " + nodePath + "/status")); n != 1 {
			t.Errorf("the Node is written %d times", n)
		}
		if n := testutil.ToFloat64(s.metrics.failures.WithLabelValues("FairleadNode", forbidden)); n < 5 {
			t.Errorf("%v failures are counted", n)
		}
		srv.failing("/apis/fairlead.dev", none)
		time.Sleep(2 * lateMost)
		if n := len(srv.lines("PATCH " + reportPath + "/status")); n != 1 {
			t.Errorf("written %d times when it is allowed", n)
		}
	})
	if strings.Count(log, "not written") != 1 || !strings.Contains(log, "fairleadnodes/status") || strings.Count(log, "written again") != 1 {
		t.Errorf("the log:\n%s", log)
	}
}

// happened is an event that happened so often.
func happened(name string, count int32) corev1.Event {
	return corev1.Event{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Count: count, LastTimestamp: metav1.NewTime(time.Now())}
}
