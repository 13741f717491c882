package authority

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// A trial is a change that some hosts answer before it is a version: on top of the dataset and
// below what operators put on top. Version and digest stay those of the dataset. It goes when
// the agent takes its file away or confirms it no longer, and what it hid is answered again.

const (
	// tallyEvery is how often answers are counted, tallies how many counts are kept: of the last
	// five minutes before a trial.
	tallyEvery = time.Second
	tallies    = 300
)

// tried is what is tried.
type tried struct {
	offer *trial.Offer // nil: nothing
	delta *snapshot.Delta
	// under has what of the dataset is hidden, as it is claimed; nil Data is nothing. nil: the
	// trial is not on the view.
	under map[record.Key]record.RRset
	// zones: with it there are other zones, so that a name can be in another one.
	zones   bool
	refused string // why it is not
	since   time.Time
	begun   tree.Tally // counters at since; Milliseconds is of the process's life
	before  tree.Tally
}

// followTrial keeps on top what the file beside the journal has, until ctx ends.
func (f *follower) followTrial(ctx context.Context) {
	path := trial.Path(f.server.config.Journal)
	t := time.NewTicker(directLook)
	defer t.Stop()
	began := time.Now()
	var seen os.FileInfo    // of the file when it was last confirmed
	var confirmed time.Time // when that was; zero: it lay there when this life began
	var counted time.Time
	var past []tree.Tally
	trouble := ""
	first := true
	for {
		st, err := os.Stat(path)
		if err != nil {
			st = nil
		}
		now := time.Now()
		switch {
		case st == nil:
			if seen != nil {
				f.putTrial(nil, nil, past)
			}
			seen, confirmed, trouble = nil, time.Time{}, ""
		case first:
			seen = st
		case seen == nil || !st.ModTime().Equal(seen.ModTime()) || st.Size() != seen.Size() || !os.SameFile(st, seen):
			anew := seen == nil || confirmed.IsZero() || !os.SameFile(st, seen) || st.Size() != seen.Size()
			seen, confirmed = st, now
			if !anew {
				break
			}
			o, d, err := f.readTrial(path, now)
			if err != nil {
				if confirmed = (time.Time{}); err.Error() != trouble {
					trouble = err.Error()
					f.server.log.Error("trial cannot be taken", "error", err)
				}
				f.putTrial(nil, nil, past)
				break
			}
			f.putTrial(o, d, past)
		case !confirmed.IsZero() && now.Sub(confirmed) > cmp.Or(f.server.config.trialLease, trial.Lease):
			f.server.log.Warn("trial is no longer confirmed: answering without it", "dataset", f.server.config.Dataset)
			f.putTrial(nil, nil, past)
			confirmed = time.Time{}
		}
		first = false
		if now.Sub(counted) >= tallyEvery {
			counted = now
			past = f.count(past, f.server.tally(began))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// count adds what was answered up to now to the counts of the minutes before a trial. While one is
// tried there are none, and after it they begin anew: what was answered with it is not before the next.
func (f *follower) count(past []tree.Tally, now tree.Tally) []tree.Tally {
	if f.retell() {
		return nil
	}
	if len(past) == tallies {
		past = past[1:]
	}
	return append(past, now)
}

// readTrial reads the file and checks it as the agent has.
func (f *follower) readTrial(path string, now time.Time) (*trial.Offer, *snapshot.Delta, error) {
	signed, encoded, err := trial.Read(path)
	if err != nil {
		return nil, nil, err
	}
	o, err := trial.Verify(signed, f.server.ring.Keys().Believed, f.server.config.Dataset)
	if err != nil {
		return nil, nil, err
	}
	if err := o.InTime(now); err != nil {
		return nil, nil, err
	}
	d, err := o.Open(encoded)
	return o, d, err
}

// putTrial goes over to another trial, or to none. past are the counts of the minutes before.
func (f *follower) putTrial(o *trial.Offer, d *snapshot.Delta, past []tree.Tally) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.trial
	switch {
	case o == nil && old.offer == nil:
		return
	case o != nil && old.offer != nil && o.ID == old.offer.ID && o.Number == old.offer.Number:
		f.trial.offer = o // for more rings
		return
	}
	err := f.takeDown()
	f.trial = tried{offer: o, delta: d}
	switch {
	case o == nil:
	case old.offer != nil && old.offer.ID == o.ID:
		f.trial.since, f.trial.begun, f.trial.before = old.since, old.begun, old.before
	case len(past) > 1:
		f.trial.before = since(past[len(past)-1], past[0])
	}
	if err != nil { // with the view that is made anew this one comes on
		f.report(err)
		f.lose()
		return
	}
	id := ""
	if o != nil {
		id = o.ID
	}
	f.server.log.Info("trial changed", "dataset", f.server.config.Dataset, "id", id)
	if f.view == nil || f.resuming || f.ledger == nil {
		return // it comes on with the view
	}
	if err := f.serve(nil); err != nil {
		f.report(err)
		f.again()
	}
}

// beneath is an RRset of the dataset, as it is claimed, whatever lies on top. ok is false when
// the image is damaged there; nil Data: there is none.
func (f *follower) beneath(k record.Key) (r record.RRset, ok bool) {
	if r, hidden := f.trial.under[k]; hidden {
		return r, true
	}
	if r, hidden := f.over.under[k]; hidden {
		return r, true
	}
	r, ok = f.view.RRset(k)
	if k.Type == record.TypeSOA && len(r.Data) == 1 {
		// What is answered has the serial that was stamped into it.
		r.Data[0] = snapshot.SOAWithSerial(r.Data[0], f.ledger.Claimed(k.Owner, k.Location))
	}
	return r, ok
}

// takeDown takes off all that is on top.
func (f *follower) takeDown() error {
	if err := f.takeOff(); err != nil {
		return err
	}
	put, remove := hidden(f.trial.under)
	f.trial.under = nil
	if f.view == nil || len(put)+len(remove) == 0 {
		return nil
	}
	return f.change(put, remove)
}

// hidden is what brings back what lies under something.
func hidden(under map[record.Key]record.RRset) (put []record.Set, remove []record.Key) {
	for k, r := range under {
		if len(r.Data) > 0 {
			put = append(put, record.Set{RRset: r})
		} else {
			remove = append(remove, k)
		}
	}
	return put, remove
}

// moves tells whether a delta changes what a trial hides, or zones would be told its names
// as theirs that are not the dataset's.
func (t *tried) moves(d *snapshot.Delta) bool {
	if t.zones {
		return true
	}
	for _, r := range d.Put {
		if _, is := t.under[r.Key]; is {
			return true
		}
	}
	for _, k := range d.Remove {
		if _, is := t.under[k]; is {
			return true
		}
	}
	return false
}

// layTrial puts the trial on the view, if it fits what the dataset has there now.
func (f *follower) layTrial() error {
	t := &f.trial
	if t.offer == nil || t.under != nil {
		return nil
	}
	if v := f.ledger.Version(); v < t.offer.Base {
		t.refused = fmt.Sprintf("it stands on version %d, and this host has %d", t.offer.Base, v)
		return nil
	}
	under := make(map[record.Key]record.RRset, len(t.delta.Put)+len(t.delta.Remove))
	var before snapshot.Digest
	look := func(k record.Key) error {
		r, ok := f.beneath(k)
		if !ok {
			return fmt.Errorf("image is damaged at %s: reading the journal anew", k.Owner)
		}
		if r.Key = k; len(r.Data) > 0 {
			before = before.Add(snapshot.HashRRset(r))
		}
		under[k] = r
		return nil
	}
	for _, r := range t.delta.Put {
		if err := look(r.Key); err != nil {
			return err
		}
	}
	for _, k := range t.delta.Remove {
		if err := look(k); err != nil {
			return err
		}
	}
	if before != t.delta.BaseDigest {
		t.refused = fmt.Sprintf("what it changes has digest %.12s… in version %d, expected %.12s… as in version %d: it is to be composed anew", before, f.ledger.Version(), t.delta.BaseDigest, t.offer.Base)
		return nil
	}
	if err := f.takeOff(); err != nil {
		return err
	}
	var put []record.Set
	for _, r := range t.delta.Put {
		put = append(put, record.Set{RRset: r})
	}
	t.under, t.refused = under, ""
	apexes := func(k record.Key, there bool) bool {
		return k.Type == record.TypeSOA && there != (len(under[k].Data) > 0)
	}
	t.zones = slices.ContainsFunc(t.delta.Put, func(r record.RRset) bool { return apexes(r.Key, true) }) ||
		slices.ContainsFunc(t.delta.Remove, func(k record.Key) bool { return apexes(k, false) })
	if t.since.IsZero() {
		t.since, t.begun = time.Now(), f.server.tally(time.Now())
	}
	if len(put)+len(t.delta.Remove) == 0 {
		return nil
	}
	return f.change(put, t.delta.Remove)
}

// state is the trial as people and the canary stage are told of it.
func (t *tried) state(s *Server) *tree.TrialState {
	if t.offer == nil {
		return nil
	}
	out := &tree.TrialState{ID: t.offer.ID, Number: t.offer.Number, Refused: t.refused, Before: t.before}
	if !t.since.IsZero() {
		out.Since, out.After = t.since.UnixMilli(), since(s.tally(t.since), t.begun)
	}
	return out
}

// retell says what was answered since a trial began; false: there is none.
func (f *follower) retell() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trial.offer == nil {
		return false
	}
	now := *f.server.current.Load()
	if now.view == nil {
		return true
	}
	now.Trial = f.trial.state(f.server)
	f.server.show(&now)
	f.tell(now.HostDataset)
	return true
}

// tally counts what was answered in this life, and the time since began.
func (s *Server) tally(began time.Time) (t tree.Tally) {
	t.Milliseconds = time.Since(began).Milliseconds()
	if s.front != nil {
		s = s.front // counts are of all datasets of the host
	}
	s.workers.each(func(k *worker) {
		n := &k.protocol.Counters
		for i := range n.Responses {
			t.Answers += n.Responses[i].Load()
		}
		t.Servfail += n.Responses[protocol.ServFail].Load()
		t.NXDomain += n.Responses[protocol.NXDomain].Load()
	})
	lost := s.panics.Load() // to clients as bad as SERVFAIL, and in no other counter
	t.Answers, t.Servfail = t.Answers+lost, t.Servfail+lost
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err == nil {
		t.CPU = (used.Utime.Nano() + used.Stime.Nano()) / int64(time.Microsecond)
	}
	return t
}

// since is what happened from one count to a later one.
func since(now, then tree.Tally) tree.Tally {
	return tree.Tally{
		Milliseconds: now.Milliseconds - then.Milliseconds, Answers: now.Answers - then.Answers, Servfail: now.Servfail - then.Servfail,
		NXDomain: now.NXDomain - then.NXDomain, CPU: now.CPU - then.CPU,
	}
}
