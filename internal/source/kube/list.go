package kube

import (
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

// A list is the objects of one kind, sorted by key. What was handed out never
// changes: the next change makes a copy, so that many changes cost one.
type list[T any] struct {
	key   func(*T) world.Key
	equal func(a, b *T) bool
	all   []*T
	given bool // all was handed out
}

// give hands out the objects.
func (l *list[T]) give() []*T {
	l.given = true
	return l.all
}

// get returns the object with the given key, or nil.
func (l *list[T]) get(k world.Key) *T {
	if i, there := l.find(k); there {
		return l.all[i]
	}
	return nil
}

func (l *list[T]) find(k world.Key) (int, bool) {
	return slices.BinarySearchFunc(l.all, k, func(v *T, k world.Key) int { return l.key(v).Compare(k) })
}

// own makes the objects ours to change, with room for one more.
func (l *list[T]) own() {
	if l.given {
		l.all = append(make([]*T, 0, len(l.all)+1), l.all...)
		l.given = false
	}
}

// put makes v the object with the given key, nil: none. It reports whether that is
// news.
func (l *list[T]) put(k world.Key, v *T) bool {
	i, there := l.find(k)
	if !there && v == nil || there && v != nil && l.equal(l.all[i], v) {
		return false
	}
	l.own()
	switch {
	case v == nil:
		l.all = slices.Delete(l.all, i, i+1)
	case there:
		l.all[i] = v
	default:
		l.all = slices.Insert(l.all, i, v)
	}
	return true
}

// replace makes the list consist of all, which it sorts and keeps. An object that
// is there already stays as it is. It returns the keys of what changed.
func (l *list[T]) replace(all []*T) []world.Key {
	slices.SortFunc(all, func(a, b *T) int { return l.key(a).Compare(l.key(b)) })
	var changed []world.Key
	was := l.all
	for i, v := range all {
		k := l.key(v)
		for len(was) > 0 && l.key(was[0]).Compare(k) < 0 {
			changed = append(changed, l.key(was[0]))
			was = was[1:]
		}
		if len(was) == 0 || l.key(was[0]) != k {
			changed = append(changed, k)
			continue
		}
		if l.equal(was[0], v) {
			all[i] = was[0]
		} else {
			changed = append(changed, k)
		}
		was = was[1:]
	}
	for _, v := range was {
		changed = append(changed, l.key(v))
	}
	if len(changed) > 0 {
		l.all, l.given = all, false
	}
	return changed
}
