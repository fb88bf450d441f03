package status

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fighting is a report of pod a, and of pods b0, b1 and on as they should be.
func fighting(shows, b string) Report {
	r := report(metav1.ConditionTrue)
	note := func(value string) map[string]string { return map[string]string{"fairlead.dev/test": value} }
	r.Pods = listed(&Pod{Namespace: "default", Name: "a", UID: "a", Annotations: note("x"), Present: note(shows)}, &Pod{Namespace: "default", Name: "b", UID: "b", Annotations: note(b)})
	return r
}

// Somebody who rewrites an annotation whenever it is written back gets it back ever
// less often, is told of once, and delays no other pod; left alone, it is as before.
func TestAnAnnotationThatIsRewrittenAllTheTime(t *testing.T) {
	log := told(t, func(s *APIServer, srv *server) {
		srv.add("a", "b")
		rewrites := 0
		rewriteFor := func(d time.Duration) {
			for range int(d / time.Second) {
				if n := len(srv.lines("PATCH " + podPath + "a")); n >= rewrites {
					s.Report(fighting("x", "1")) // as it was written
					rewrites = n + 1
				}
				s.Report(fighting(fmt.Sprintf("y%d", rewrites), "1"))
				time.Sleep(time.Second)
			}
		}
		written := func() int { return len(srv.lines("PATCH " + podPath + "a")) }
		rewriteFor(10 * time.Second)
		if n := written(); n < 2 {
			t.Errorf("at first it was written back %d times", n)
		}
		rewriteFor(10 * time.Minute)
		soon := written()
		if soon > 20 {
			t.Errorf("within 10 minutes it was written back %d times", soon)
		}
		rewriteFor(time.Hour)
		if n := written() - soon; n < 3 || n > 15 {
			t.Errorf("within an hour more it was written back %d times", n)
		}
		before := time.Since(epoch)
		s.Report(fighting(fmt.Sprintf("y%d", rewrites), "2")) // another pod's changes
		time.Sleep(time.Second)
		if all := srv.lines("PATCH " + podPath + "b"); all[len(all)-1].at < before {
			t.Errorf("the other pod waits; it was written at %s, and changed at %s", all[len(all)-1].at, before)
		}
		time.Sleep(20 * time.Minute)
		s.Report(fighting("x", "2"))
		time.Sleep(time.Hour)
		was := written()
		s.Report(fighting("z", "2"))
		time.Sleep(time.Second)
		if n := written() - was; n != 1 {
			t.Errorf("long after, it was written back %d times at once", n)
		}
	})
	if n := strings.Count(log, "somebody rewrites"); n != 1 || !strings.Contains(log, "pod=default/a") {
		t.Errorf("said %d times:\n%s", n, log)
	}
}
