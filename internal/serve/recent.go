package serve

import "container/list"

// recent is a map of bounded size: the entry that was used the longest ago makes room for another.
type recent[K comparable, V any] struct {
	most    int
	entries map[K]*list.Element
	order   *list.List // of entry, the one used last first
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](most int) *recent[K, V] {
	return &recent[K, V]{most: most, entries: map[K]*list.Element{}, order: list.New()}
}

func (r *recent[K, V]) get(key K) (value V, found bool) {
	at, found := r.entries[key]
	if !found {
		return value, false
	}
	r.order.MoveToFront(at)
	held, _ := at.Value.(entry[K, V]) // put makes no other
	return held.value, true
}

func (r *recent[K, V]) put(key K, value V) {
	if at, found := r.entries[key]; found {
		at.Value = entry[K, V]{key, value}
		r.order.MoveToFront(at)
		return
	}
	if len(r.entries) >= r.most {
		if last, ok := r.order.Back().Value.(entry[K, V]); ok {
			r.remove(last.key)
		}
	}
	r.entries[key] = r.order.PushFront(entry[K, V]{key, value})
}

func (r *recent[K, V]) remove(key K) {
	if at, found := r.entries[key]; found {
		r.order.Remove(at)
		delete(r.entries, key)
	}
}
