package follow_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// What a signed manifest says of files lies beside it. With another list there, or none, a host
// follows by deltas as before, takes no file, and somebody is told; with the right one it goes on.
func TestListOfFiles(t *testing.T) {
	for name, list := range map[string]func(o *origin) []byte{
		"none":    func(*origin) []byte { return nil },
		"garbage": func(*origin) []byte { return []byte("garbage") },
		"an older one": func(o *origin) []byte {
			m := o.manifest()
			m.Snapshot.URLs = []string{"http://192.0.2.1/"}
			_, list := snapshot.Detach(o.signed(m, o.key))
			return list
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, f := newOrigin(t), &fetcher{}
			near, far := newHost(t, o.public()), newHost(t, o.public())
			near.run(o, f)
			o.publish()
			o.publish()
			o.snapshot()
			f.offer(o)
			o.sign()
			near.reaches(o)
			right, err := o.st.Get(t.Context(), tree.FilesPath(dataset))
			if err != nil {
				t.Fatal(err)
			}
			bad := list(o)
			o.commit(store.Op{Path: tree.FilesPath(dataset), Value: bad, Delete: bad == nil})
			o.publish()
			signed, _ := snapshot.Detach(o.signed(o.manifest(), o.key))
			o.commit(store.Op{Path: tree.ManifestPath(dataset), Value: signed})
			near.reaches(o)
			near.refuses(follow.KindManifest)
			if _, err := follow.ReadManifest(t.Context(), o.st, dataset); err == nil || !strings.Contains(err.Error(), "list of files") {
				t.Errorf("ReadManifest: error is %v", err)
			}
			o.trim(3) // who begins now needs the snapshot
			far.run(o, f)
			far.refuses(follow.KindUnreachable)
			if far.version() != 0 || f.asked != 0 {
				t.Errorf("version %d, %d files fetched", far.version(), f.asked)
			}
			o.commit(store.Op{Path: tree.FilesPath(dataset), Value: right.Value})
			far.reaches(o)
		})
	}
}

// seen is a store that notes which paths watches are sent.
type seen struct {
	store.Store
	mu    sync.Mutex // guards below
	paths map[string]int
}

func (s *seen) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for b := range s.Store.Watch(ctx, prefix, from) {
			s.mu.Lock()
			for _, n := range b.Puts {
				s.paths[n.Path]++
			}
			s.mu.Unlock()
			select {
			case out <- b:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// A host is sent delta and manifest of a version, and nothing else; what it needs seldom, once.
func TestHostsAreSentLittle(t *testing.T) {
	o, f := newOrigin(t), &fetcher{}
	s := &seen{paths: map[string]int{}}
	h := newHost(t, o.public())
	h.run(o, f, func(c *follow.Config) { s.Store, c.Store = c.Store, s })
	o.publish()
	o.snapshot()
	f.offer(o)
	o.sign()
	h.reaches(o)
	for range 20 {
		o.publish()
		m := o.manifest()
		signed, _ := snapshot.Detach(o.signed(m, o.key))
		o.commit(store.Op{Path: tree.ManifestPath(dataset), Value: signed})
		h.reaches(o)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for path, n := range s.paths {
		if _, isLog := tree.LogVersion(dataset, path); !isLog && path != tree.ManifestPath(dataset) && (path != tree.FilesPath(dataset) || n > 1) {
			t.Errorf("a host was sent %s %d times", path, n)
		}
	}
	if len(s.paths) < 20 {
		t.Errorf("a host was sent %v", s.paths)
	}
	if _, err := follow.ReadManifest(t.Context(), o.st, "other"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("ReadManifest of what is not there: error is %v", err)
	}
}
