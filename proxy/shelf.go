package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/tree"
)

// maxGone is how many removed paths are remembered one by one.
const maxGone = 10_000

// shelf is what is served, and who waits for it.
type shelf struct {
	scope scope

	mu      sync.Mutex // guards below
	items   map[string]*item
	sorted  []string // paths of items; nil: to be made
	size    int64    // octets of all values
	head    tree.ConfigHead
	whole   bool      // what is not here is nowhere: the store, or the cache, said all
	asOf    time.Time // when the store last confirmed that this is the newest; zero: never
	trouble string    // why what the store has is not taken at all
	// lacking has why configurations that the store has are not here at all.
	lacking map[string]string

	// gone has the landings that removed paths. A path of which nothing is known is gone
	// as of floor.
	gone  map[string]uint64
	floor uint64

	waits   map[string]*wait // by path
	waiting int
	stopped bool
}

// wait is what everybody waits on who waits for one path.
type wait struct {
	changed chan struct{} // closed by the next change
	n       int           // who wait
}

// Errors of a reader.
var (
	errLacking  = errors.New("is in the store and not here")
	errUnknown  = errors.New("nothing is known yet: the store was not reached, and the cache has nothing")
	errOutside  = errors.New("is not followed by this proxy")
	errTooMany  = errors.New("too many requests wait already")
	errStopping = errors.New("the proxy stops")
)

// reading is what is known of a path at one moment.
type reading struct {
	item    *item // nil: there is none
	version uint64
	age     time.Duration // -1: not known
	head    tree.ConfigHead
	problem string
}

func newShelf(s scope, found contents) *shelf {
	h := &shelf{scope: s, items: found.items, head: found.mark.Head, whole: found.whole, floor: found.mark.Head.Version, gone: map[string]uint64{}, waits: map[string]*wait{}}
	for _, it := range found.items {
		h.size += int64(len(it.value))
	}
	if found.mark.Confirmed > 0 {
		h.asOf = time.UnixMilli(found.mark.Confirmed)
	}
	return h
}

// age is how long ago something was; -1 if never. A clock that was put back makes it 0.
func age(asOf time.Time) time.Duration {
	if asOf.IsZero() {
		return -1
	}
	return max(0, time.Since(asOf))
}

// read is read now, with mu held.
func (s *shelf) read(path string) reading {
	r := reading{item: s.items[path], age: age(s.asOf), head: s.head, problem: s.trouble}
	if r.item != nil {
		r.version = r.item.version
		if r.item.problem != "" {
			r.age, r.problem = age(r.item.asOf), r.item.problem
		}
		return r
	}
	var ok bool
	if r.version, ok = s.gone[path]; !ok {
		r.version = s.floor
	}
	return r
}

// known tells why nothing can be said of a path, or nil; mu is held.
func (s *shelf) known(path string) error {
	if err := configtree.CheckPath(path); err != nil {
		return err
	}
	if !s.scope.has(path) {
		return errOutside
	}
	if s.items[path] == nil && !s.whole {
		return errUnknown
	}
	if why, ok := s.lacking[path]; ok && s.items[path] == nil {
		return fmt.Errorf("%w: %s", errLacking, why)
	}
	return nil
}

// get is what is known of path now.
func (s *shelf) get(path string) (reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read(path), s.known(path)
}

// next waits until something newer than version after is known of path, or until ctx ends;
// then newer is false.
func (s *shelf) next(ctx context.Context, path string, after uint64, most int) (r reading, newer bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for first := true; ; first = false {
		r, err := s.read(path), s.known(path)
		if err != nil || r.version > after {
			return r, true, err
		}
		if s.stopped {
			return r, false, errStopping
		}
		if ctx.Err() != nil {
			return r, false, nil
		}
		if first {
			if s.waiting >= most {
				return r, false, errTooMany
			}
			s.waiting++
			defer func() { s.waiting-- }()
		}
		w := s.waits[path]
		if w == nil {
			w = &wait{changed: make(chan struct{})}
			s.waits[path] = w
		}
		w.n++
		s.mu.Unlock()
		select {
		case <-w.changed:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if w.n--; w.n == 0 && s.waits[path] == w {
			delete(s.waits, path)
		}
	}
}

// wake tells who waits for path to look again; mu is held.
func (s *shelf) wake(path string) {
	if w := s.waits[path]; w != nil {
		delete(s.waits, path)
		close(w.changed)
	}
}

// land puts a landing into force, all at once; nil items are gone.
func (s *shelf) land(changes map[string]*item, head tree.ConfigHead, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := whole && !s.whole
	s.head, s.whole, s.trouble = head, s.whole || whole, ""
	for path, it := range changes {
		s.replace(path, it)
		if it == nil {
			if len(s.gone) >= maxGone {
				clear(s.gone)
				s.floor = head.Version
			}
			s.gone[path] = head.Version
		} else {
			delete(s.gone, path)
		}
		s.wake(path)
	}
	if first {
		s.floor = max(s.floor, head.Version)
		for path := range s.waits {
			s.wake(path)
		}
	}
}

// replace changes one path; mu is held.
func (s *shelf) replace(path string, it *item) {
	old := s.items[path]
	if old != nil {
		s.size -= int64(len(old.value))
	}
	if (old == nil) != (it == nil) {
		s.sorted = nil
	}
	if it == nil {
		delete(s.items, path)
		return
	}
	s.items[path] = it
	s.size += int64(len(it.value))
}

// hinder notes why what the store has of paths, or has newer, is not taken; problems has all
// of them.
func (s *shelf) hinder(problems map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lacking = problems
	for path, why := range problems {
		if old := s.items[path]; old != nil && old.problem != why {
			it := *old
			if it.problem == "" {
				it.asOf = s.asOf
			}
			it.problem = why
			s.items[path] = &it
		}
	}
}

// refuse notes why nothing of what the store has is taken; "": nothing is wrong.
func (s *shelf) refuse(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = why
}

// confirm notes when the store confirmed that what is here is the newest. It is called with
// times of this process in their order: what an earlier one noted is by a clock that may
// have been put back since.
func (s *shelf) confirm(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asOf = at
}

// stop lets go of everybody who waits, for good.
func (s *shelf) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for path := range s.waits {
		s.wake(path)
	}
}

// listed is one configuration of a list.
type listed struct {
	path string
	reading
}

// list gives at most limit configurations whose paths begin with prefix, from path from on,
// all of one landing; next is the path after them, "" when there is none.
func (s *shelf) list(prefix, from string, limit int) (all []listed, next string, now reading, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now = reading{age: age(s.asOf), head: s.head, problem: s.trouble}
	if !s.whole && len(s.items) == 0 {
		return nil, "", now, errUnknown
	}
	if s.sorted == nil {
		s.sorted = make([]string, 0, len(s.items))
		for path := range s.items {
			s.sorted = append(s.sorted, path)
		}
		slices.Sort(s.sorted)
	}
	i, _ := slices.BinarySearch(s.sorted, max(prefix, from))
	for ; i < len(s.sorted) && strings.HasPrefix(s.sorted[i], prefix); i++ {
		if len(all) == limit {
			return all, s.sorted[i], now, nil
		}
		all = append(all, listed{s.sorted[i], s.read(s.sorted[i])})
	}
	return all, "", now, nil
}
