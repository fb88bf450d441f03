package kube

import (
	"errors"
	"fmt"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// health is how a kind's objects came, and how they come.
type health struct {
	known    bool  // there is a value: the API server's, or a remembered one
	live     bool  // the API server has told all of it since the start
	answered bool  // it has answered a request
	err      error // of the last request; nil: it was answered, or there was none
}

// absent reports whether the API server said that we may not, or cannot, have
// these objects: it answers, and others need not wait.
func (h *health) absent() bool { return apierrors.IsForbidden(h.err) || apierrors.IsNotFound(h.err) }

// lacks says why there is no value; "" where there is one, or needs none.
func (w *watched[T]) lacks() string {
	switch {
	case w.known || w.absent() && !w.required && (!w.guides || apierrors.IsNotFound(w.err)):
		return ""
	case w.err != nil:
		return plain(w.err).Error()
	case w.answered:
		return "not all of them have come yet"
	}
	return "no answer yet"
}

// plain is what went wrong without the request, whose parameters change.
func plain(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		return request.Err
	}
	return err
}

func (w *watched[T]) name() string   { return w.kind }
func (w *watched[T]) state() *health { return &w.health }
func (w *watched[T]) len() int       { return w.list.all.Len() }

func (w *watched[T]) collect(o *source.Objects) {
	w.into(o, &w.list)
	if p, ok := w.problem(); ok {
		o.Problems = append(o.Problems, p)
	}
}

// problem says why there is nothing new of this kind although the API server
// answers.
func (w *watched[T]) problem() (world.Problem, bool) {
	p := world.Problem{Object: "Kind " + w.kind}
	counts := "none count"
	if w.known {
		counts = "those known before still count"
	}
	what := w.resource
	if w.group.Group != "" {
		what += "." + w.group.Group
	}
	switch {
	case apierrors.IsForbidden(w.err):
		p.Reason = fmt.Sprintf("may not be watched, %s: %s", counts, w.err)
		p.Hint = fmt.Sprintf("allow the agent to list and watch %s in its ClusterRole", what)
	case apierrors.IsNotFound(w.err):
		p.Reason = fmt.Sprintf("is not known to the API server, %s", counts)
		p.Hint = "install the CustomResourceDefinition " + what
	default:
		return p, false
	}
	return p, true
}
