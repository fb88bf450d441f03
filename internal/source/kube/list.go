package kube

import (
	"slices"

	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// A list is the objects of one kind, by key. What was handed out never changes.
type list[T any] struct {
	key   func(*T) world.Key
	equal func(a, b *T) bool
	all   sorted.List[*T]
	whole []*T // all in one, once somebody asked for that
}

func (l *list[T]) compare(a, b *T) int { return l.key(a).Compare(l.key(b)) }

// slice hands out the objects, the same slice until one changes.
func (l *list[T]) slice() []*T {
	if l.whole == nil {
		l.whole = l.all.Slice()
	}
	return l.whole
}

// get returns the object with the given key, or nil.
func (l *list[T]) get(k world.Key) *T {
	v, _ := l.all.Find(func(v *T) int { return l.key(v).Compare(k) })
	return v
}

// put makes v the object with the given key, nil: none. It reports whether that is
// news.
func (l *list[T]) put(k world.Key, v *T) bool {
	var gone, come []*T
	if was := l.get(k); was != nil {
		if v != nil && l.equal(was, v) {
			return false
		}
		gone = []*T{was}
	}
	if v != nil {
		come = []*T{v}
	}
	if len(gone)+len(come) == 0 {
		return false
	}
	l.all, l.whole = l.all.With(gone, come, l.compare), nil
	return true
}

// replace makes the list consist of all, which it sorts and keeps. An object that
// is there already stays as it is. It returns the keys of what changed.
func (l *list[T]) replace(all []*T) []world.Key {
	slices.SortFunc(all, l.compare)
	var changed []world.Key
	was := l.all.Slice()
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
		l.all, l.whole = sorted.Of(all, l.compare), nil
	}
	return changed
}
