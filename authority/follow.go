package authority

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// follower makes states out of the events of the journal, in one goroutine (run), and
// folds what changed into new images, in another (keep).
type follower struct {
	server  *Server
	problem string // last one logged; "" after a version was taken
	status  string // last problem with the status file that was logged

	mu      sync.Mutex         // guards below
	ledger  *snapshot.Ledger   // of what the journal has; nil: it is not ours, or not known
	view    *data.View         // of that version; nil: it is not known
	mending *image.Image       // that was found damaged last; another is being built
	again   context.CancelFunc // has the journal read whole once more
	// last is the image of an earlier life, until it was tried; nil: none. It is behind
	// the journal by what was not folded. While resuming it is brought to the journal's
	// end and not served: clients would see time run backwards.
	last     *image.Image
	resuming bool
	// since has the names that changed while an image is being folded.
	folding bool
	since   []record.Name
	trial   tried    // what is tried, on top of the dataset
	over    overlaid // what operators put on top of both
	// signers are the ids of the keys that signed what the journal has.
	signers []string
	// void: what is served was signed by keys whose word is void, and goes for what is older.
	void bool

	heap []byte // heapFloor octets that are never touched
}

// heapFloor is how many octets more than there are the collector takes for used. What
// lives is little - a few changes, without pointers - and so it would come twice a second
// when thousands of names change, and each time stop all threads that answer. It costs
// address space, and memory for as much garbage; with the 32 MiB it comes every few
// seconds at 10,000 changes a second.
const heapFloor = 32 << 20

// retryFollow is how long after the end of Follow, which has its reasons in the
// journal, it is started again. What is served stays.
const retryFollow = time.Second

func (f *follower) run(ctx context.Context) {
	last := f.server.images.last(f.server.log)
	f.mu.Lock()
	f.last, f.heap = last, make([]byte, heapFloor)
	f.mu.Unlock()
	for {
		reading, again := context.WithCancel(ctx)
		f.mu.Lock()
		f.again = again
		f.mu.Unlock()
		err := f.follow(reading)
		again()
		if ctx.Err() != nil {
			return
		}
		if reading.Err() != nil {
			continue // mend has said why
		}
		f.report(err)
		t := time.NewTimer(retryFollow)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// follow follows the journal from the image of an earlier life on, or from the start.
func (f *follower) follow(ctx context.Context) error {
	c := &f.server.config
	f.mu.Lock()
	last := f.last
	f.last = nil
	f.resuming = last != nil && f.resume(last)
	var at snapshot.Ref
	if f.resuming {
		at = f.ledger.Ref()
	}
	f.mu.Unlock()
	if at.Version > 0 {
		return journal.FollowFrom(ctx, c.Journal, f.server.ring.Keys, c.Dataset, at, f.event)
	}
	return journal.Follow(ctx, c.Journal, f.server.ring.Keys, f.event)
}

// resume takes the image of an earlier life as what the journal goes on from, and tells
// whether it could.
func (f *follower) resume(im *image.Image) bool {
	note, err := im.Note()
	if err == nil {
		f.ledger, err = snapshot.DecodeLedger(note)
	}
	if err != nil || f.label() != im.Label() || f.ledger.Name() != f.server.config.Dataset || f.ledger.Version() == 0 {
		f.server.log.Info("image of an earlier life not used; it is built anew", "image", im.Path(), "error", err)
		f.ledger = nil
		return false
	}
	f.view = data.NewDataset(im)
	f.unfit()
	return true
}

// unfit says what of maps was not taken into the newest view; what was there stays.
func (f *follower) unfit() {
	if err := f.view.Problem(); err != nil {
		f.server.unfit.Add(1)
		f.server.log.Error("maps or PoPs are malformed; going on with what was there before", "error", err, "version", f.ledger.Version())
	}
}

// event takes one event. An error makes Follow start again from a whole state.
func (f *follower) event(e journal.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Problem == nil && len(e.SignedBy) > 0 {
		f.signers = e.SignedBy
	}
	f.void = f.void || e.Void
	switch {
	case e.Problem != nil:
		f.report(e.Problem)
		return nil
	case e.Resumed:
		f.resuming = false
		return f.serve(nil)
	case e.Reset != nil:
		f.forget()
		f.ledger, f.resuming = nil, false
		if e.Reset.Name() != f.server.config.Dataset {
			f.report(fmt.Errorf("journal %s has the dataset %q, expected %q: check --journal and --dataset",
				f.server.config.Journal, e.Reset.Name(), f.server.config.Dataset))
			return nil
		}
		ledger := e.Reset.Ledger
		f.ledger = &ledger
		return f.serve(e.Reset.All())
	case e.Delta != nil:
		if f.ledger == nil {
			return nil // of a dataset that is not ours
		}
		whole := e.Delta.Full || f.ledger.Version() == 0 // what it puts is all there is
		if f.view == nil && !whole {
			return errors.New("image was lost: reading the journal anew")
		}
		var err error
		if !whole && f.trial.moves(e.Delta) {
			err = f.takeDown() // it is laid on anew, if it fits
		}
		if err == nil {
			err = f.apply(e.Delta)
		}
		if err == nil && !whole {
			err = f.lift(e.Delta)
		}
		if err != nil {
			f.forget()
			f.ledger = nil
			return err
		}
		if whole {
			f.forget()
			return f.serve(slices.Values(e.Delta.Put))
		}
	}
	return f.serve(nil)
}

// forget gives the view up. What is served stays; a fold that is under way is of no use
// any more.
func (f *follower) forget() {
	f.view, f.since, f.folding, f.over.under, f.trial.under = nil, nil, false, nil, nil
}

// apply brings ledger and view to where a delta leads.
func (f *follower) apply(d *snapshot.Delta) error {
	sound := true
	err := f.ledger.Apply(d, func(k record.Key) (record.RRset, bool) {
		if f.view == nil {
			return record.RRset{}, false
		}
		r, ok := f.beneath(k)
		sound = sound && ok
		return r, len(r.Data) > 0
	})
	if !sound {
		return fmt.Errorf("image is damaged where version %d changes it: reading the journal anew", d.Version)
	}
	if err != nil || d.Full || f.view == nil {
		return err
	}
	put, remove := f.below(d.Put, d.Remove)
	v, err := f.view.Apply(put, remove, f.serial)
	if err != nil {
		return err
	}
	f.view = v
	f.unfit()
	if f.folding {
		f.since = append(f.since, v.Last()...)
	}
	return nil
}

// serve swaps the state that queries see for the one of the ledger. When there is no
// view yet, one is made of all RRsets.
func (f *follower) serve(all iter.Seq[record.RRset]) error {
	s := f.server
	old := s.current.Load()
	d := f.ledger
	if d.Version() == 0 || f.resuming {
		return nil // a journal without data, or one whose end is not known yet
	}
	if f.view == nil {
		if err := f.make(all); err != nil {
			f.report(err)
			f.ledger = nil
			return err
		}
	}
	if err := f.lay(); err != nil {
		f.forget()
		f.ledger = nil
		return err
	}
	if f.void && d.Version() < old.Version {
		s.log.Warn("what was served is void: going back to what a believed key signed", "dataset", d.Name(), "version", d.Version(), "base", old.Version, "signer", f.signers)
		old = &state{view: old.view}
	}
	if d.Version() < old.Version {
		// Clients must not see time run backwards. Whoever means it restarts the server.
		f.report(fmt.Errorf("journal has version %d, older than version %d that is served: going on with the newer", d.Version(), old.Version))
		return nil
	}
	if d.Version() == old.Version && d.Digest().String() != old.Digest {
		f.report(fmt.Errorf("journal has another version %d (digest %s) than the one that is served (digest %s): going on with the latter until a newer version comes", d.Version(), d.Digest(), old.Digest))
		return nil
	}
	now := &state{view: f.view, HostDataset: tree.HostDataset{
		Version: d.Version(), Digest: d.Digest().String(), Time: d.Time(), Since: time.Now().UnixMilli(), Direct: f.over.states(), Trial: f.trial.state(s),
		SignedBy: f.signers,
	}}
	if d.Version() == old.Version {
		now.Since = old.Since
	}
	s.show(now)
	f.problem, f.void = "", false
	if old.view == nil {
		s.log.Info("first version served", "dataset", d.Name(), "version", d.Version(), "digest", now.Digest,
			"zones", f.view.Zones(), "rrsets", f.view.Sets())
	}
	f.tell(now.HostDataset)
	return nil
}

// make builds the view of all RRsets.
func (f *follower) make(all iter.Seq[record.RRset]) error {
	im, err := f.server.images.build(image.Options{Label: f.label(), Note: f.ledger.Append(nil), Serial: f.serial, NoSync: true, Own: true}, func(b *image.Builder) error {
		for r := range all {
			if err := b.Add(&record.Set{RRset: r}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.view = data.NewDataset(im)
	f.unfit()
	return nil
}

func (f *follower) label() image.Label {
	d := f.ledger
	return image.Label{Dataset: d.Name(), Version: d.Version(), Content: d.Content(), Time: d.Time(), Digest: d.Digest(), Chain: d.Chain()}
}

func (f *follower) serial(apex record.Name) (uint32, bool) {
	if _, ok := f.ledger.Stamp(apex); !ok {
		return 0, false
	}
	return f.ledger.Serial(apex), true
}

// report logs a problem once, however often it comes again.
func (f *follower) report(err error) {
	f.server.problems.Add(1)
	if text := err.Error(); text != f.problem {
		f.problem = text
		f.server.log.Warn("journal not followed; what was served stays", "error", err, "version", f.server.current.Load().Version)
	}
}

// tell writes the status file. When it cannot, the agent goes on reporting an older
// version than is served: safe.
func (f *follower) tell(h tree.HostDataset) {
	err := serving.Write(f.server.config.StatusDir, h)
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != f.status {
		f.server.log.Warn("status file not written; the fleet will believe this host is behind", "error", err)
	}
	f.status = text
}
