package presenter

import (
	"slices"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// compose makes one change of several, one after the other. All are in canonical order, so
// that neighbours are merged, and then what came of them.
func compose(all []reconcile.Change) reconcile.Change {
	all = slices.DeleteFunc(slices.Clone(all), reconcile.Change.Empty)
	for len(all) > 1 {
		for i := 0; i < len(all); i += 2 {
			if i+1 < len(all) {
				all[i/2] = merge(&all[i], &all[i+1])
			} else {
				all[i/2] = all[i]
			}
		}
		all = all[:(len(all)+1)/2]
	}
	if len(all) == 0 {
		return reconcile.Change{}
	}
	return all[0]
}

// merge makes one change of two, the first before the second.
func merge(a, b *reconcile.Change) (out reconcile.Change) {
	out.Put = make([]record.RRset, 0, len(a.Put)+len(b.Put))
	add := func(key record.Key, was, is *record.RRset) {
		if was != nil && is != nil && was.Equal(*is) || was == nil && is == nil {
			return
		}
		if was != nil {
			out.Old = append(out.Old, *was)
		}
		if is != nil {
			out.Put = append(out.Put, *is)
		} else {
			out.Remove = append(out.Remove, key)
		}
	}
	first, second := walk{Change: a}, walk{Change: b}
	more, others := first.next(), second.next()
	for more && others {
		switch order := first.key.Compare(*second.key); {
		case order < 0:
			add(*first.key, first.was, first.is)
			more = first.next()
		case order > 0:
			add(*second.key, second.was, second.is)
			others = second.next()
		default:
			add(*first.key, first.was, second.is)
			more, others = first.next(), second.next()
		}
	}
	for ; more; more = first.next() {
		add(*first.key, first.was, first.is)
	}
	for ; others; others = second.next() {
		add(*second.key, second.was, second.is)
	}
	return out
}

// walk goes through the RRsets of a change in canonical order.
type walk struct {
	*reconcile.Change
	put, remove, old int
	key              *record.Key
	was, is          *record.RRset // nil: there is none
}

func (w *walk) next() bool {
	puts, removes := w.put < len(w.Put), w.remove < len(w.Remove)
	switch {
	case puts && (!removes || w.Put[w.put].Key.Compare(w.Remove[w.remove]) < 0):
		w.is = &w.Put[w.put]
		w.key = &w.is.Key
		w.put++
	case removes:
		w.is, w.key = nil, &w.Remove[w.remove]
		w.remove++
	default:
		return false
	}
	w.was = nil
	if w.old < len(w.Old) && w.Old[w.old].Key == *w.key {
		w.was = &w.Old[w.old]
		w.old++
	}
	return true
}
