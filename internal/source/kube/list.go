package kube

import (
	"cmp"
	"slices"
)

// A key names an object of one kind.
type key struct{ namespace, name string }

func (k key) compare(l key) int {
	return cmp.Or(cmp.Compare(k.namespace, l.namespace), cmp.Compare(k.name, l.name))
}

// A list is the objects of one kind, sorted by key. What was handed out never
// changes: the next change makes a copy, so that many changes cost one.
type list[T any] struct {
	key   func(T) key
	equal func(a, b T) bool
	all   []T
	given bool // all was handed out
}

// give hands out the objects.
func (l *list[T]) give() []T {
	l.given = true
	return l.all
}

func (l *list[T]) find(k key) (int, bool) {
	return slices.BinarySearchFunc(l.all, k, func(v T, k key) int { return l.key(v).compare(k) })
}

// own makes the objects ours to change, with room for one more.
func (l *list[T]) own() {
	if l.given {
		l.all = append(make([]T, 0, len(l.all)+1), l.all...)
		l.given = false
	}
}

// put takes v in, and reports whether that is news.
func (l *list[T]) put(v T) bool {
	i, there := l.find(l.key(v))
	if there && l.equal(l.all[i], v) {
		return false
	}
	l.own()
	if there {
		l.all[i] = v
	} else {
		l.all = slices.Insert(l.all, i, v)
	}
	return true
}

// remove takes the object with the given key out, and reports whether there was
// one.
func (l *list[T]) remove(k key) bool {
	i, there := l.find(k)
	if there {
		l.own()
		l.all = slices.Delete(l.all, i, i+1)
	}
	return there
}

// replace makes the list consist of all, which it sorts and keeps. An object that
// is there already stays as it is. It returns the keys of what changed.
func (l *list[T]) replace(all []T) []key {
	slices.SortFunc(all, func(a, b T) int { return l.key(a).compare(l.key(b)) })
	var changed []key
	was := l.all
	for i, v := range all {
		k := l.key(v)
		for len(was) > 0 && l.key(was[0]).compare(k) < 0 {
			changed = append(changed, l.key(was[0]))
			was = was[1:]
		}
		if len(was) > 0 && l.key(was[0]) == k {
			if l.equal(was[0], v) {
				all[i] = was[0]
			} else {
				changed = append(changed, k)
			}
			was = was[1:]
			continue
		}
		changed = append(changed, k)
	}
	for _, v := range was {
		changed = append(changed, l.key(v))
	}
	if len(changed) > 0 {
		l.all, l.given = all, false
	}
	return changed
}
