package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/kube"
)

// leases is an API server that has one Lease.
type leases struct {
	mu    sync.Mutex
	lease *coordinationv1.Lease
}

// way is one candidate's way to the API server.
type way struct {
	*leases
	cut bool
}

func (w *way) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if w.cut {
		return nil, errors.New("no route to host")
	}
	if r.Method != http.MethodGet {
		sent := &coordinationv1.Lease{}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, _, err = serializer.NewCodecFactory(kube.Scheme()).UniversalDeserializer().Decode(body, nil, sent)
		}
		switch {
		case err != nil:
			return nil, err
		case r.Method == http.MethodPost && w.lease != nil || r.Method == http.MethodPut && sent.ResourceVersion != w.lease.ResourceVersion:
			return answer(http.StatusConflict, &metav1.Status{Status: "Failure", Reason: metav1.StatusReasonConflict, Code: http.StatusConflict})
		}
		version := 1
		if w.lease != nil {
			last, _ := strconv.Atoi(w.lease.ResourceVersion)
			version = last + 1
		}
		sent.ResourceVersion = strconv.Itoa(version)
		w.lease = sent
	}
	if w.lease == nil {
		return answer(http.StatusNotFound, &metav1.Status{Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound})
	}
	w.lease.TypeMeta = metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}
	return answer(http.StatusOK, w.lease)
}

func answer(code int, o runtime.Object) (*http.Response, error) {
	if s, ok := o.(*metav1.Status); ok {
		s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	}
	body, err := json.Marshal(o)
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body))}, err
}

// election is candidates over one lease, and who leads.
type election struct {
	t       *testing.T
	server  leases
	mu      sync.Mutex
	leading map[string]bool
	ever    []string
}

// stand adds a candidate; stop ends it orderly.
func (e *election) stand(identity string) (w *way, stop func()) {
	w = &way{leases: &e.server}
	client, err := kube.Client(&rest.Config{Host: "http://api", QPS: -1, Transport: w}, coordinationv1.SchemeGroupVersion)
	if err != nil {
		e.t.Fatal(err)
	}
	c := &candidate{client: client, namespace: "fairlead-system", name: Component, identity: identity, log: slog.New(slog.DiscardHandler), beat: func(error) {}}
	ctx, cancel := context.WithCancel(e.t.Context())
	ended := make(chan error)
	go func() { ended <- c.run(ctx, func(ctx context.Context) error { return e.lead(ctx, identity) }) }()
	return w, sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			e.t.Error(err)
		}
	})
}

func (e *election) lead(ctx context.Context, identity string) error {
	e.mu.Lock()
	e.leading[identity] = true
	e.ever = append(e.ever, identity)
	if len(e.leading) > 1 {
		e.t.Errorf("at %s %v lead together", time.Now(), e.leading)
	}
	e.mu.Unlock()
	<-ctx.Done()
	e.mu.Lock()
	delete(e.leading, identity)
	e.mu.Unlock()
	return nil
}

func (e *election) leader() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for who := range e.leading {
		return who
	}
	return ""
}

func elect(t *testing.T, test func(*election)) {
	synctest.Test(t, func(t *testing.T) { test(&election{t: t, leading: map[string]bool{}}) })
}

func TestOneLeadsAndGoesOnLeading(t *testing.T) {
	elect(t, func(e *election) {
		for i := range 3 {
			_, stop := e.stand(fmt.Sprint(i))
			defer stop()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(e.ever) != 1 || e.leader() == "" {
			t.Errorf("%v have led", e.ever)
		}
		if s := e.server.lease.Spec; *s.LeaseTransitions != 1 || holder(s) != e.leader() {
			t.Errorf("lease %v", s)
		}
	})
}

func TestWhoEndsOrderlyIsFollowedAtOnce(t *testing.T) {
	elect(t, func(e *election) {
		_, stop := e.stand("a")
		synctest.Wait()
		_, stopB := e.stand("b")
		defer func() { stopB() }()
		time.Sleep(time.Minute)
		synctest.Wait()
		stop()
		time.Sleep(2 * retryTime)
		synctest.Wait()
		if e.leader() != "b" {
			t.Errorf("%q leads", e.leader())
		}
	})
}

// Who cannot reach the API server steps down before another takes its place.
func TestWhoIsCutOffStepsDownBeforeAnotherLeads(t *testing.T) {
	elect(t, func(e *election) {
		way, stop := e.stand("a")
		defer stop()
		synctest.Wait()
		_, stopB := e.stand("b")
		defer func() { stopB() }()
		for range 5 {
			time.Sleep(time.Minute)
			synctest.Wait()
			if e.leader() != "a" {
				t.Fatalf("%q leads", e.leader())
			}
			e.server.mu.Lock()
			way.cut = true
			e.server.mu.Unlock()
			time.Sleep(leaseTime + 3*retryTime)
			synctest.Wait()
			if e.leader() != "b" {
				t.Fatalf("%q leads", e.leader())
			}
			e.server.mu.Lock()
			way.cut = false
			e.server.mu.Unlock()
			stopB()
			time.Sleep(2 * retryTime)
			synctest.Wait()
			_, stopB = e.stand("b")
		}
	})
}

// A leader whose clock is wrong by years holds the lease all the same.
func TestClocksOfOthersDoNotCount(t *testing.T) {
	elect(t, func(e *election) {
		who, seconds, transitions := "far", int32(15), int32(1)
		past := metav1.NewMicroTime(time.Now().AddDate(-5, 0, 0))
		e.server.lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: Component, ResourceVersion: "1"},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &who, LeaseDurationSeconds: &seconds, LeaseTransitions: &transitions, RenewTime: &past, AcquireTime: &past}}
		_, stop := e.stand("a")
		defer stop()
		for i := range 10 {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			e.server.mu.Lock()
			renewed := metav1.NewMicroTime(past.Add(time.Duration(i) * time.Second))
			e.server.lease.Spec.RenewTime = &renewed
			e.server.lease.ResourceVersion += "1"
			e.server.mu.Unlock()
			if e.leader() != "" {
				t.Fatal("taken from who renews it")
			}
		}
		time.Sleep(leaseTime + 3*retryTime)
		synctest.Wait()
		if e.leader() != "a" {
			t.Error("not taken from who does not")
		}
	})
}
