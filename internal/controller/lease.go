package controller

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// The times of a leader election, those of Kubernetes' own components: who has
// not renewed the lease for leaseTime has lost it, and who could not renew it for
// renewTime steps down before.
const (
	leaseTime = 15 * time.Second
	renewTime = 10 * time.Second
	retryTime = 2 * time.Second
)

// A candidate stands for election by holding a Lease.
//
// This is client-go's tools/leaderelection in small. That package imports the
// client of every kind there is, which each start of the binary would pay for.
type candidate struct {
	client    rest.Interface // of coordination.k8s.io/v1
	namespace string
	name      string // of the Lease
	identity  string // which no other process has
	log       *slog.Logger
	beat      func(error) // called after every request

	seen coordinationv1.LeaseSpec // the lease as it was seen last
	when time.Time                // when that was seen first, by our own clock
}

// run leads whenever c holds the lease, until ctx is done; then it lets the lease
// go. The context of lead is done when the lease may be another's soon. An error
// of lead ends it.
func (c *candidate) run(ctx context.Context, lead func(context.Context) error) error {
	for ctx.Err() == nil {
		held, err := c.take(ctx)
		c.beat(err)
		if held {
			if err := c.lead(ctx, lead); err != nil {
				return err
			}
			continue
		}
		sleep(ctx, retryTime+rand.N(retryTime/5))
	}
	return nil
}

// lead renews the lease while f runs, and returns when f has.
func (c *candidate) lead(ctx context.Context, f func(context.Context) error) error {
	c.log.Info("leading", "lease", c.namespace+"/"+c.name, "identity", c.identity)
	leading, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- f(leading)
	}()
	c.renew(leading)
	stop()
	err := <-ended
	c.release()
	c.log.Info("no longer the leader")
	return err
}

// renew returns when ctx is done, or the lease cannot be held any longer.
func (c *candidate) renew(ctx context.Context) {
	renewed := time.Now()
	for {
		sleep(ctx, retryTime)
		if ctx.Err() != nil {
			return
		}
		until, stop := context.WithDeadline(ctx, renewed.Add(renewTime))
		now := time.Now()
		held, err := c.take(until)
		stop()
		c.beat(err)
		switch {
		case held:
			renewed = now
		case err == nil:
			c.log.Warn("another controller took the lease", "holder", holder(c.seen))
			return
		case time.Since(renewed) >= renewTime:
			c.log.Warn("the lease could not be renewed in time", "error", err)
			return
		}
	}
}

// requestTime bounds one request for the lease.
const requestTime = 5 * time.Second

// take makes the lease ours, or renews it, and reports whether it is ours now. It
// is left alone while another holds it.
func (c *candidate) take(ctx context.Context) (bool, error) {
	ctx, stop := context.WithTimeout(ctx, requestTime)
	defer stop()
	lease := &coordinationv1.Lease{}
	err := c.client.Get().Namespace(c.namespace).Resource("leases").Name(c.name).MaxRetries(0).Do(ctx).Into(lease)
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: c.name}}
		lease.Spec = c.ours(lease.Spec)
		return c.sent(c.client.Post().Namespace(c.namespace).Resource("leases").Body(lease).MaxRetries(0).Do(ctx).Error())
	}
	if err != nil {
		return false, fmt.Errorf("read Lease %s/%s: %w", c.namespace, c.name, err)
	}
	if c.isAnothers(lease.Spec) {
		return false, nil
	}
	lease.Spec = c.ours(lease.Spec)
	return c.sent(c.put(ctx, lease))
}

// put writes the lease, unless somebody else did since it was read: it bears the
// resourceVersion that it had then.
func (c *candidate) put(ctx context.Context, lease *coordinationv1.Lease) error {
	return c.client.Put().Namespace(c.namespace).Resource("leases").Name(c.name).Body(lease).MaxRetries(0).Do(ctx).Error()
}

// sent says whether the lease is ours after an attempt: one that came second is no
// error.
func (c *candidate) sent(err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		return false, nil
	}
	return false, fmt.Errorf("write Lease %s/%s: %w", c.namespace, c.name, err)
}

// isAnothers reports whether somebody else holds the lease. Clocks of other
// machines may be wrong: what counts is how long it has not changed before our
// eyes.
func (c *candidate) isAnothers(s coordinationv1.LeaseSpec) bool {
	if seen := c.seen; holder(seen) != holder(s) || !seen.RenewTime.Equal(s.RenewTime) || c.when.IsZero() {
		c.seen, c.when = s, time.Now()
	}
	if h := holder(s); h == "" || h == c.identity {
		return false
	}
	lasts := leaseTime
	if s.LeaseDurationSeconds != nil {
		lasts = time.Duration(*s.LeaseDurationSeconds) * time.Second
	}
	return time.Since(c.when) < lasts
}

// ours is s held by us from now on.
func (c *candidate) ours(s coordinationv1.LeaseSpec) coordinationv1.LeaseSpec {
	now, seconds := metav1.NowMicro(), int32(leaseTime/time.Second)
	if holder(s) != c.identity {
		var before int32
		if s.LeaseTransitions != nil {
			before = *s.LeaseTransitions
		}
		changes := before + 1
		s.LeaseTransitions, s.AcquireTime = &changes, &now
	}
	s.HolderIdentity, s.LeaseDurationSeconds, s.RenewTime = &c.identity, &seconds, &now
	return s
}

// release lets the lease go, so that nobody has to wait until it runs out.
func (c *candidate) release() {
	ctx, stop := context.WithTimeout(context.Background(), requestTime)
	defer stop()
	lease := &coordinationv1.Lease{}
	err := c.client.Get().Namespace(c.namespace).Resource("leases").Name(c.name).MaxRetries(0).Do(ctx).Into(lease)
	if err != nil || holder(lease.Spec) != c.identity {
		return
	}
	nobody, now := "", metav1.NowMicro()
	lease.Spec.HolderIdentity, lease.Spec.RenewTime = &nobody, &now
	if err := c.put(ctx, lease); err != nil {
		c.log.Warn("could not release the lease", "error", err)
	}
}

func holder(s coordinationv1.LeaseSpec) string {
	if s.HolderIdentity == nil {
		return ""
	}
	return *s.HolderIdentity
}
