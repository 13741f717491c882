package authority

import (
	"context"
	"runtime"
	"time"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
)

// What changed since an image was built lies beside it in memory, in a form that costs
// a query a little more. A fold writes image and changes as a new image while changes
// go on, and goes over to it: a pointer is swapped.
const (
	foldLook = 250 * time.Millisecond
	// foldNames and foldShare: a fold is due when more names changed than either says.
	// A fold costs about as much as the image has names.
	foldNames = 4096
	foldShare = 16 // of all names: an nth
	// foldQuiet is how long after a change of zones or cuts a fold is due: until then
	// no name's node is believed to be settled.
	foldQuiet = 2 * time.Second
	// foldWork and foldRest: a fold rests after some work, for who answers on the same
	// processor.
	foldWork = 500 * time.Microsecond
	foldRest = 1500 * time.Microsecond
	// foldAge is how long changes stay beside the image at most, so that a start need
	// not read more of the journal.
	foldAge = 30 * time.Minute
)

// keep folds when it is due, and looks after damage, until ctx ends.
func (f *follower) keep(ctx context.Context) {
	t := time.NewTicker(foldLook)
	defer t.Stop()
	var reshaped time.Time // since when; zero: it is not
	folded := time.Now()
	var scrubbed *image.Image
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		f.mend()
		f.mu.Lock()
		v := f.view
		if f.resuming || f.topped() {
			v = nil
		}
		f.mu.Unlock()
		if v == nil {
			continue
		}
		// One of an earlier life: until it was looked at, each query has to.
		if im := v.Image(); im != scrubbed && !im.Scrubbed() {
			_ = im.Scrub(ctx.Err) // what it finds is mend's
			scrubbed = im
		}
		if !v.Reshaped() {
			reshaped = time.Time{}
		} else if reshaped.IsZero() {
			reshaped = time.Now()
		}
		names, _, _, _ := v.Image().Counts()
		old := v.Changed() > 0 && time.Since(folded) > foldAge
		if old || v.Changed() > max(foldNames, names/foldShare) || !reshaped.IsZero() && time.Since(reshaped) > foldQuiet {
			if err := f.fold(ctx); err != nil && ctx.Err() == nil {
				f.server.log.Warn("changes not folded into a new image; they stay in memory", "error", err)
			}
			reshaped, folded = time.Time{}, time.Now()
			// The mapping of the image before is given back by the collector, which
			// has little else to do.
			v = nil
			runtime.GC()
		}
	}
}

// fold writes the view as an image and goes over to it.
func (f *follower) fold(ctx context.Context) error {
	f.mu.Lock()
	base := f.view
	if base == nil || f.topped() { // an image is of the dataset alone
		f.mu.Unlock()
		return nil
	}
	label, note := f.label(), f.ledger.Append(nil)
	f.since, f.folding = nil, true
	f.mu.Unlock()

	im, err := f.server.images.fold(base, label, note, rest(ctx))

	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.folding { // the view was given up meanwhile
		return err
	}
	since := f.since
	f.since, f.folding = nil, false
	if err != nil {
		return err
	}
	v, err := f.view.Rebase(im, since)
	if err != nil {
		return err
	}
	f.swap(v)
	return nil
}

// topped tells whether anything lies on top of the dataset.
func (f *follower) topped() bool { return f.over.some() || f.trial.under != nil }

// rest gives what a fold calls between pieces of work, which take less than foldWork.
func rest(ctx context.Context) func() error {
	began := time.Now()
	return func() error {
		if time.Since(began) > foldWork {
			time.Sleep(foldRest)
			began = time.Now()
		}
		return ctx.Err()
	}
}

// swap goes over to a view that answers as the one before.
func (f *follower) swap(v *data.View) {
	s := f.server
	if now := s.current.Load(); now.view == f.view {
		s.show(&state{view: v, HostDataset: now.HostDataset})
	}
	f.view = v
	s.folds.Add(1)
}

// mend has the journal read anew when the image that is served turns out to be damaged.
// What lies elsewhere in it is answered meanwhile.
func (f *follower) mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.server
	now := s.current.Load()
	if now.view == nil || f.mending == now.view.Image() || now.view.Image().Damaged() == nil {
		return
	}
	s.log.Error("image is damaged; building it anew", "error", now.view.Image().Damaged(), "version", now.Version)
	s.damaged.Add(1)
	f.mending = now.view.Image()
	f.forget()
	f.again()
}
