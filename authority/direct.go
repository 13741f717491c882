package authority

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// When there is no store, operators hand overrides to hosts directly. The authority puts
// them on top of the dataset: version and digest stay those of the dataset, which goes on
// below. What they hide is kept, and deltas change it there. While there is one no image is
// written, because an image is of the dataset alone.

// directLook is how often the file is looked at; an end is noticed as soon.
const directLook = 50 * time.Millisecond

// laid is an override and what it answers.
type laid struct {
	tree.Direct
	set     record.RRset
	refused string // why it is not on top; "" when it is
}

// top is what lies on top of the dataset.
type overlaid struct {
	all []laid
	// under has what of the dataset is hidden, or would be if it were there: nil Data is
	// nothing. nil: the overrides were not laid on the view.
	under map[record.Key]record.RRset
}

// some tells whether anything is on top.
func (o *overlaid) some() bool { return len(o.under) > 0 }

// covers tells whether a key of the dataset is hidden.
func (o *overlaid) covers(k record.Key) bool {
	return slices.ContainsFunc(o.all, func(l laid) bool { return l.refused == "" && direct.Covers(l.set, l.Whole, k) })
}

// followDirect keeps on top what the file beside the journal has, until ctx ends.
func (f *follower) followDirect(ctx context.Context) {
	path := direct.Path(f.server.config.Journal)
	t := time.NewTicker(directLook)
	defer t.Stop()
	var known []tree.Direct
	var seen os.FileInfo
	trouble := ""
	for {
		st, err := os.Stat(path)
		if err != nil {
			st = nil
		}
		if (st == nil) != (seen == nil) || st != nil && (!st.ModTime().Equal(seen.ModTime()) || st.Size() != seen.Size() || !os.SameFile(st, seen)) {
			kept, err := direct.Read(path)
			switch {
			case err == nil:
				known, seen, trouble = kept.Overrides, st, ""
			case err.Error() != trouble:
				trouble = err.Error()
				f.server.log.Error("direct overrides cannot be read; those that are known stay", "error", err)
			}
		}
		now := time.Now().UnixMilli()
		var on []tree.Direct
		for _, d := range known {
			if now < d.Until && d.Cleared == "" {
				on = append(on, d)
			}
		}
		f.putOn(on)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// putOn goes over to these overrides on top.
func (f *follower) putOn(on []tree.Direct) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.EqualFunc(on, f.over.all, func(d tree.Direct, l laid) bool { return d.ID == l.ID }) {
		return
	}
	err := f.takeOff()
	f.over.all = nil
	for _, d := range on {
		l := laid{Direct: d}
		set, err := direct.RRset(d)
		if err != nil {
			l.refused = err.Error()
		}
		l.set = set
		f.over.all = append(f.over.all, l)
	}
	if err != nil { // these come on with the view that is made anew
		f.report(err)
		f.lose()
		return
	}
	f.server.log.Warn("direct overrides changed", "dataset", f.server.config.Dataset, "overrides", len(on))
	if f.view == nil || f.resuming || f.ledger == nil {
		return // they come on with the view
	}
	if err := f.serve(nil); err != nil {
		f.report(err)
		f.again()
	}
}

// lose gives the view up after an error that must not happen: it is made anew.
func (f *follower) lose() {
	f.forget()
	f.again()
}

// takeOff brings back what is hidden.
func (f *follower) takeOff() error {
	if f.over.under == nil || f.view == nil {
		f.over.under = nil
		return nil
	}
	put, remove := hidden(f.over.under)
	f.over.under = nil
	return f.change(put, remove)
}

// change applies a change of what is on top to the view.
func (f *follower) change(put []record.Set, remove []record.Key) error {
	v, err := f.view.Apply(put, remove, f.serial)
	if err != nil {
		return err
	}
	f.view = v
	if f.folding {
		f.since = append(f.since, v.Last()...)
	}
	return nil
}

// judge tells of each override whether it is answered on the view, which has none on top.
func (f *follower) judge() {
	for i := range f.over.all {
		l := &f.over.all[i]
		if l.set.Owner == "" {
			continue // cannot be read
		}
		if l.refused = f.notAnswered(l.set.Key); l.refused != "" {
			continue
		}
		for k := range f.over.all[:i] { // the newer is on top of the older
			if older := &f.over.all[k]; older.refused == "" && direct.Covers(l.set, l.Whole, older.set.Key) {
				older.refused = "hidden by the newer override " + l.ID
			}
		}
	}
}

// lay puts the trial and the overrides on a view.
func (f *follower) lay() error {
	if err := f.layTrial(); err != nil {
		return err
	}
	if len(f.over.all) == 0 || f.over.under != nil {
		return nil
	}
	f.judge()
	under := map[record.Key]record.RRset{}
	var put []record.Set
	for i := range f.over.all {
		l := &f.over.all[i]
		if l.refused != "" {
			continue
		}
		under[l.set.Key] = record.RRset{Key: l.set.Key}
		if n := f.view.Get([]byte(l.set.Owner)); n != nil {
			for i := range n.Len() {
				t, s := n.At(i)
				k := record.Key{Owner: l.set.Owner, Type: t, Location: record.Location(string(s.View().Location))}
				if !direct.Covers(l.set, l.Whole, k) {
					continue
				}
				r, ok := f.view.RRset(k)
				if !ok {
					return fmt.Errorf("image is damaged at %s: reading the journal anew", l.set.Owner)
				}
				under[k] = r
			}
		}
		put = append(put, record.Set{RRset: l.set})
	}
	var remove []record.Key
	for k := range under {
		if !slices.ContainsFunc(put, func(s record.Set) bool { return s.Key == k }) {
			remove = append(remove, k)
		}
	}
	f.over.under = under
	if len(put) == 0 {
		return nil
	}
	return f.change(put, remove)
}

// notAnswered tells why an RRset would not be answered from here, or "": it is in no zone,
// or at or below a cut.
func (f *follower) notAnswered(k record.Key) string {
	for at := k.Owner; at != ""; at = at.Parent() {
		n := f.view.Get([]byte(at))
		switch {
		case n == nil:
		case n.Find(record.TypeSOA) != nil:
			if at == k.Owner && k.Type == record.TypeCNAME {
				return fmt.Sprintf("%s is the apex of a zone, where no CNAME can be", at)
			}
			return ""
		case n.Find(record.TypeNS) != nil:
			return fmt.Sprintf("%s lies at or below the zone cut %s", k.Owner, at)
		}
	}
	return fmt.Sprintf("%s is in no zone of dataset %s", k.Owner, f.server.config.Dataset)
}

// lift takes off what is on top when a delta changes zones or cuts, so that it is judged
// anew what of it is answered.
func (f *follower) lift(d *snapshot.Delta) error {
	of := func(k record.Key) bool { return k.Type == record.TypeSOA || k.Type == record.TypeNS }
	if slices.ContainsFunc(d.Put, func(r record.RRset) bool { return of(r.Key) }) || slices.ContainsFunc(d.Remove, of) {
		return f.takeOff()
	}
	return nil
}

// below parts a delta into what changes the view and what changes what is hidden. The
// latter leaves the view as it is, but touches its zone, whose serial is another then.
func (f *follower) below(put []record.RRset, remove []record.Key) (sets []record.Set, keys []record.Key) {
	touch := func(k record.Key) {
		if i := slices.IndexFunc(f.over.all, func(l laid) bool { return l.refused == "" && l.set.Key == k }); i >= 0 {
			sets = append(sets, record.Set{RRset: f.over.all[i].set})
		} else {
			keys = append(keys, k)
		}
	}
	for _, r := range put {
		if f.over.under != nil && f.over.covers(r.Key) {
			f.over.under[r.Key] = r
			touch(r.Key)
		} else {
			sets = append(sets, record.Set{RRset: r})
		}
	}
	for _, k := range remove {
		if f.over.under != nil && f.over.covers(k) {
			f.over.under[k] = record.RRset{Key: k}
			touch(k)
		} else {
			keys = append(keys, k)
		}
	}
	return sets, keys
}

// states are the overrides as people are told of them.
func (o *overlaid) states() []tree.DirectState {
	var out []tree.DirectState
	for _, l := range o.all {
		out = append(out, tree.DirectState{ID: l.ID, Owner: l.Owner, Type: l.Type, Operator: l.Operator, Until: l.Until, Refused: l.refused})
	}
	return out
}
