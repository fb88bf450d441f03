package kube

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// A form says how the objects of one kind are asked for, and what is kept of
// them.
type form[T any] struct {
	kind     string // "Node"
	group    schema.GroupVersion
	resource string // "nodes"
	fields   string // a field selector; "": all
	// parse takes what counts out of an object, and lets the rest go; nil: nothing
	// does.
	parse func(runtime.Object) *T
	// fresh makes an object that comes as protobuf; nil: they come as JSON.
	fresh func() message
	keeps keep // what counts of one in a list; nil: all
	key   func(*T) world.Key
	equal func(a, b *T) bool
	into  func(*source.Objects, *list[T])
	// required: without these objects nothing can be made of the others.
	required bool
	// guides: they decide what becomes of the others. Where they may not be read, and
	// nothing is remembered of them, it is not guessed.
	guides bool
}

// A watched kind is kept up to date by a reflector, whose store it is. The
// source's lock guards it.
type watched[T any] struct {
	form[T]
	source *Source
	client rest.Interface
	list   list[T]
	memory memory[T]
	health
}

// parsed marks what went through parse. It takes no memory of its own. Lists of
// objects have no other place for it than that of an object.
type parsed[T any] struct{ value *T }

// GetObjectKind says nothing: it was known before.
func (parsed[T]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject is what every object has; nobody changes one.
func (p parsed[T]) DeepCopyObject() runtime.Object { return p }

func (w *watched[T]) take(o any) *T {
	if p, ok := o.(parsed[T]); ok {
		return p.value
	}
	return w.parse(o.(runtime.Object))
}

// How soon a request that failed is made again. With the jitter at most 30 s pass,
// and not all nodes come back to a server that returns at one time.
var backoff = wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Cap: 20 * time.Second, Steps: 100}

// run keeps w up to date until ctx is done.
func (w *watched[T]) run(ctx context.Context) {
	var quiet klog.Logger // what the reflector has to say is in the errors of requests
	again := backoff
	r := cache.NewReflectorWithOptions(w, nil, w, cache.ReflectorOptions{
		Logger: &quiet, Name: w.kind, TypeDescription: w.kind, Backoff: &again,
	})
	r.RunWithContext(klog.NewContext(ctx, quiet))
}

func (w *watched[T]) request(options metav1.ListOptions) *rest.Request {
	options.FieldSelector = w.fields
	return w.client.Get().Resource(w.resource).VersionedParams(&options, metav1.ParameterCodec)
}

// IsWatchListSemanticsUnSupported has the reflector ask for a list, where that can
// be streamed, rather than for all objects as events of a watch.
func (w *watched[T]) IsWatchListSemanticsUnSupported() bool { return w.fresh != nil }

// ListWithContext asks for all objects at once.
func (w *watched[T]) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	if w.fresh != nil {
		return w.stream(ctx, options)
	}
	all, err := w.request(options).Do(ctx).Get()
	w.answer(ctx, err)
	return all, err
}

// WatchWithContext asks for changes, and first for all objects, as the options
// say.
func (w *watched[T]) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	stream, err := w.request(options).Watch(ctx)
	w.answer(ctx, err)
	return stream, err
}

// List and Watch are what reflectors called once.
func (w *watched[T]) List(options metav1.ListOptions) (runtime.Object, error) {
	return w.ListWithContext(context.Background(), options)
}

// Watch is WatchWithContext without a context.
func (w *watched[T]) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return w.WatchWithContext(context.Background(), options)
}

// answer notes how a request went. That a version is gone, or a list cannot be
// streamed, is a matter between the reflector and the server.
func (w *watched[T]) answer(ctx context.Context, err error) {
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.IsInvalid(err) {
		return
	}
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	was := w.absent()
	w.err, w.answered = err, w.answered || err == nil
	if is := w.absent(); is != was {
		if apierrors.IsForbidden(err) {
			w.recall()
		}
		w.source.announce()
	}
	w.source.outage()
}

// Add takes in an object that is new, or was there when the watch began.
func (w *watched[T]) Add(o any) error { return w.Update(o) }

// Update takes in an object.
func (w *watched[T]) Update(o any) error { return w.put(o, w.take(o)) }

// Delete takes out an object.
func (w *watched[T]) Delete(o any) error { return w.put(o, nil) }

func (w *watched[T]) put(o any, v *T) error {
	m, ok := o.(metav1.Object)
	if !ok {
		return fmt.Errorf("%T has no name", o)
	}
	k := world.Key{Namespace: m.GetNamespace(), Name: m.GetName()}
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	if w.list.put(k, v) {
		w.memory.note(k)
		w.source.announce()
	}
	return nil
}

// Replace takes in all objects that there are.
func (w *watched[T]) Replace(all []any, _ string) error {
	values := make([]*T, 0, len(all))
	for _, o := range all {
		if v := w.take(o); v != nil {
			values = append(values, v)
		}
	}
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	changed := w.list.replace(values)
	if len(changed) > 0 || !w.known || !w.live || w.absent() {
		w.source.announce()
	}
	w.memory.note(changed...)
	w.known, w.live, w.answered, w.err = true, true, true, nil
	w.source.outage()
	return nil
}

// Resync has nothing to do: what was handed out is looked at again in any case.
func (*watched[T]) Resync() error { return nil }

// Transformer lets the reflector drop what does not count while objects come in.
func (w *watched[T]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) { return parsed[T]{w.take(o)}, nil }
}

// recall makes what was kept on disk the value of a kind that has none. The caller
// holds the lock.
func (w *watched[T]) recall() {
	if w.known || apierrors.IsNotFound(w.err) { // then there are none
		return
	}
	all, err := w.memory.recall(w.key)
	if err != nil {
		w.source.config.Log.Info("nothing is remembered of a kind of objects", "kind", w.kind, "reason", err)
		return
	}
	w.list.replace(all)
	w.known = true
	w.source.config.Log.Info("going on with what is remembered of a kind of objects", "kind", w.kind, "objects", len(all))
	w.source.announce()
}

// remember puts on disk what the API server told.
func (w *watched[T]) remember() error {
	if !w.live {
		return nil
	}
	return w.memory.keep(&w.list)
}
