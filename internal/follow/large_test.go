package follow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// files is a Fetcher of one file.
type files struct {
	content []byte
	err     error
	lost    atomic.Bool // not to be had now
	asked   atomic.Int64
}

func (f *files) Fetch(_ context.Context, ref snapshot.Ref, dir string, _ func(done, total int64)) (string, error) {
	f.asked.Add(1)
	if f.lost.Load() {
		return "", errors.New("nobody has it now")
	}
	path := filepath.Join(dir, ref.ID.String())
	return path, errors.Join(f.err, os.WriteFile(path, f.content, 0o644))
}

// A large delta that the manifest names as a file is fetched, and the store's parts are not read;
// where the file is not to be had, or is another, they are. What is not the signed delta is refused
// by name, and never taken.
func TestLargeDeltaFiles(t *testing.T) {
	lost := errors.New("nobody has it")
	for _, test := range []struct {
		name    string
		fetch   *files
		parts   bool // are in the store
		reached bool
		kinds   []follow.Kind
	}{
		{name: "the file alone", fetch: &files{}, reached: true},
		{name: "no file", fetch: &files{err: lost}, parts: true, reached: true},
		{name: "another file", fetch: &files{content: []byte("not a delta")}, parts: true, reached: true, kinds: []follow.Kind{follow.KindDelta}},
		{name: "another file, and no parts", fetch: &files{content: []byte("not a delta")}, kinds: []follow.Kind{follow.KindDelta, follow.KindUnreachable}},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := newOrigin(t)
			h := newHost(t, o.public())
			h.run(o, test.fetch)
			o.publish()
			o.sign()
			h.reaches(o)
			var put []record.RRset
			for i := range 2500 {
				put = append(put, rrset(t, fmt.Sprintf("n%d.example.net", i), byte(i)))
			}
			o.publish(put...)
			encoded := o.logs[2]
			if test.fetch.content == nil {
				test.fetch.content = bytes.Clone(encoded)
			}
			if !test.parts {
				for i := range (len(encoded) + store.MaxValue - 1) / store.MaxValue {
					o.commit(store.Op{Path: tree.PartPath(dataset, 2, i), Delete: true})
				}
			}
			m := o.manifest()
			m.Deltas = []snapshot.DeltaRef{{Version: 2, Chain: o.d.Chain(), Size: int64(len(encoded)), URLs: []string{"http://192.0.2.1/x"}}}
			o.commit(store.Op{Path: tree.ManifestPath(dataset), Value: o.signed(m, o.key)})
			if test.reached {
				h.reaches(o)
			}
			eventually(t, "what is refused", func() bool {
				return !slices.ContainsFunc(test.kinds, func(k follow.Kind) bool { return !slices.Contains(h.kinds(), k) })
			})
			for _, r := range h.told() {
				if r.Kind == follow.KindDelta && !bytes.Equal(r.Evidence, test.fetch.content) {
					t.Errorf("kept for inspection is %.40q, what came is %.40q", r.Evidence, test.fetch.content)
				}
			}
			if test.kinds == nil && len(h.told()) > 0 {
				t.Errorf("refused %v, expected nothing", h.told())
			}
			if !test.reached && h.version() != 1 {
				t.Errorf("version %d is taken, expected 1", h.version())
			}
			if test.fetch.asked.Load() == 0 {
				t.Error("the file was not asked for")
			}
		})
	}
}

// TestLargeDeltaComesLater: a file that could not be fetched is asked for again; what was fetched
// is not kept once it is applied.
func TestLargeDeltaComesLater(t *testing.T) {
	o, f := newOrigin(t), &files{}
	f.lost.Store(true)
	h := newHost(t, o.public())
	cfg := follow.Config{
		Dataset: dataset, Store: o.st, Keys: journal.Fixed(o.public()...), Fetcher: f, Dir: t.TempDir(), RetryMin: 5 * time.Millisecond, RetryMax: 20 * time.Millisecond,
	}
	follower, err := follow.New(cfg, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = follower.Run(ctx) }()
	defer func() { cancel(); <-done }()
	var put []record.RRset
	for i := range 2500 {
		put = append(put, rrset(t, fmt.Sprintf("n%d.example.net", i), byte(i)))
	}
	o.publish(put...)
	f.content = o.logs[1]
	for i := range (len(f.content) + store.MaxValue - 1) / store.MaxValue {
		o.commit(store.Op{Path: tree.PartPath(dataset, 1, i), Delete: true})
	}
	m := o.manifest()
	m.Deltas = []snapshot.DeltaRef{{Version: 1, Chain: o.d.Chain(), Size: int64(len(f.content)), URLs: []string{"http://192.0.2.1/x"}}}
	o.putManifest(o.signed(m, o.key))
	eventually(t, "three tries", func() bool { return f.asked.Load() >= 3 })
	f.lost.Store(false)
	h.reaches(o)
	cancel()
	<-done
	if n := follower.LargeHeld(); n != 0 {
		t.Errorf("%d octets of deltas are kept that are applied", n)
	}
}

// Of files that contradict their manifest nothing is signed or believed.
func TestManifestOfDeltaFiles(t *testing.T) {
	o := newOrigin(t)
	o.publish()
	o.publish()
	d := snapshot.DeltaRef{Version: 2, Chain: o.d.Chain(), Size: 1 << 20}
	with := func(change func(*snapshot.DeltaRef)) []snapshot.DeltaRef {
		e := d
		change(&e)
		return []snapshot.DeltaRef{e}
	}
	for what, deltas := range map[string][]snapshot.DeltaRef{
		"beyond the manifest": with(func(d *snapshot.DeltaRef) { d.Version = 3 }),
		"version 0":           with(func(d *snapshot.DeltaRef) { d.Version = 0 }),
		"too large":           with(func(d *snapshot.DeltaRef) { d.Size = snapshot.MaxDelta + 1 }),
		"empty":               with(func(d *snapshot.DeltaRef) { d.Size = 0 }),
		"no torrent":          with(func(d *snapshot.DeltaRef) { d.Torrent = "x" }),
		"twice":               {d, d},
		"too many":            {d, d, d, d, d},
	} {
		m := o.manifest()
		m.Deltas = deltas
		if _, err := m.Sign(o.key); err == nil {
			t.Errorf("%s: signed, expected an error", what)
		}
	}
}
