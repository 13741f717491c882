package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// directorySource is the Source node that has what is wrong with the directory as
// a whole. It claims nothing.
const directorySource record.Source = record.KindZone

// allowEmpty is a file that says: this directory is meant to have no zone file.
const allowEmpty = ".allow-empty"

// directory is what is known of the directory and of what it claims. It belongs to
// the goroutine of follow; scan hands single files to others and waits.
type directory struct {
	im    *Importer
	fence store.Cond

	files   map[string]*file               // by name: what is in the directory
	claimed map[record.Source]*tree.Source // as in the store

	counted counts // after the last scan
}

// counts are what the metrics say, too.
type counts struct{ files, records, broken int }

// file is one directory entry that may be a zone.
type file struct {
	seen map[string]signature // of the file and of those it includes, when last read
	// zone and err are from the reading that seen is of. The claims are dropped
	// once committed.
	zone *zonefile.Zone
	err  error
	apex record.Name // of the last reading that got so far; "" before
	twin string      // the file that has the same zone and is in force; "" when there is none
	// pending: what was read is not in the store yet.
	pending bool
	part    bool      // others include it: no zone of its own
	dirs    []string  // where its files lie
	since   time.Time // when the change was noticed; zero when there is none
}

// newDirectory loads what the store has.
func (im *Importer) newDirectory(ctx context.Context, fence store.Cond) (*directory, error) {
	d := &directory{im: im, fence: fence, files: map[string]*file{}, claimed: map[record.Source]*tree.Source{}}
	nodes, _, err := im.store.List(ctx, tree.Sources)
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	for _, n := range nodes {
		s := record.Source(strings.TrimPrefix(n.Path, tree.Sources))
		if s.Kind() != record.KindZone || zonefile.IsImport(s) {
			continue
		}
		var src tree.Source
		if err := tree.Decode(n, &src); err != nil {
			im.log.Warn("state of a source is damaged, it is imported again", "source", s, "error", err)
			src = tree.Source{}
		}
		src.Source = s
		d.claimed[s] = &src
	}
	nodes, _, err = im.store.List(ctx, tree.Claims+record.KindZone+"/")
	if err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	claims := map[record.Source]bool{}
	for _, n := range nodes {
		if s, _, ok := tree.SplitClaim(n.Path); ok && !zonefile.IsImport(s) {
			claims[s] = true
			if d.claimed[s] == nil {
				d.claimed[s] = &tree.Source{Source: s}
			}
		}
	}
	for s, src := range d.claimed {
		if !claims[s] {
			src.Revision = "" // whatever it says: there is nothing
		}
	}
	return d, nil
}

// scan brings the store in line with the directory as it is now. again is after
// how long to look again even if nothing happens. An error is the store's.
func (d *directory) scan(ctx context.Context, noticed time.Time) (again time.Duration, err error) {
	again = d.im.cfg.Rescan
	root, names, err := d.open()
	if err != nil {
		return retryAfter, d.complain(ctx, err)
	}
	defer root.Close()
	for name := range d.files {
		if !slices.Contains(names, name) {
			delete(d.files, name)
		}
	}
	for _, name := range names {
		// Reading hundreds of files takes seconds, and so long would a stop.
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		f := d.files[name]
		if f == nil {
			f = &file{}
			d.files[name] = f
		}
		if wait := d.read(root, name, f, noticed); wait > 0 {
			again = min(again, wait)
		}
	}
	parts := d.parts()
	holders := d.holders(names, parts)
	reread := false
	var publishes, removals []func() error
	var trouble []error
	want := map[record.Source]bool{}
	for _, name := range names {
		f := d.files[name]
		switch {
		case f.seen == nil:
			// Being written: what it claimed stays until it has been read.
			if s, err := zonefile.SourceOf(name); err == nil {
				want[s] = true
			}
		case parts[name]:
			f.part = true
			f.done()
		case f.part: // no longer: what it is as a zone must be read
			*f = file{}
			again = time.Millisecond
		default:
			s, err := zonefile.SourceOf(name)
			if err != nil {
				trouble = append(trouble, fmt.Errorf("file %q: %w", name, err))
				continue
			}
			want[s] = true
			twin := holders[f.apex]
			if twin == name {
				twin = ""
			}
			if twin != f.twin && !f.pending { // its claims are needed, or to be refused
				*f = file{}
				again, reread = time.Millisecond, true
				continue
			}
			f.twin = twin
			if f.pending {
				publishes = append(publishes, func() error { return d.publish(ctx, name, f) })
			}
		}
	}
	gone, err := d.gone(want, root)
	if err != nil {
		trouble = append(trouble, err)
		again = min(again, retryAfter)
	}
	for _, s := range gone {
		removals = append(removals, func() error { return d.remove(ctx, s) })
	}
	// First what comes, then what goes: a zone whose file got another name is never
	// away.
	results := d.all(publishes)
	if results == nil && !reread {
		results = d.all(removals)
	}
	if err := d.complain(ctx, errors.Join(trouble...)); err != nil {
		results = errors.Join(results, err)
	}
	d.measure(want)
	if results != nil {
		return 0, results
	}
	return again, nil
}

// open reads the directory: the names that may be zone files, in order.
func (d *directory) open() (*os.Root, []string, error) {
	root, err := os.OpenRoot(d.im.cfg.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("zone directory: %w; what its files claimed stays until it is back", err)
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		root.Close()
		return nil, nil, fmt.Errorf("zone directory %s: %w; what its files claimed stays until it can be read", d.im.cfg.Dir, err)
	}
	var names []string
	for _, e := range entries {
		if ignored(e.Name()) || e.IsDir() {
			continue
		}
		if e.Type()&fs.ModeSymlink != 0 { // one that leads nowhere is a zone file that cannot be read
			if info, err := root.Stat(e.Name()); err == nil && info.IsDir() {
				continue
			}
		}
		names = append(names, e.Name())
	}
	return root, names, nil
}

// read reads the file if it changed since the last time. It gives a time to wait
// when the file is being written.
func (d *directory) read(root *os.Root, name string, f *file, noticed time.Time) (wait time.Duration) {
	files := []string{name}
	if f.zone != nil && len(f.zone.Files) > 0 {
		files = f.zone.Files
	}
	now := signatures(root, files)
	if f.seen != nil && maps.Equal(now, f.seen) {
		return 0
	}
	if f.since.IsZero() {
		f.since = noticed
	}
	if age := still(time.Now(), now); age < d.im.cfg.Settle {
		return max(d.im.cfg.Settle-age, time.Millisecond)
	}
	newest := now[name].modified
	for _, s := range now {
		if s.modified.After(newest) {
			newest = s.modified
		}
	}
	who := record.Provenance{Author: d.im.author(now[name]), Time: newest.UTC().Truncate(time.Millisecond)}
	started := time.Now()
	zone, err := zonefile.Parse(root.FS(), name, who)
	after := signatures(root, zone.Files)
	included := map[string]signature{} // looked at only now, so as young as the reading they may have changed in it
	for file, s := range after {
		if before, ok := now[file]; !ok {
			included[file] = s
		} else if before != s {
			return max(d.im.cfg.Settle, time.Millisecond)
		}
	}
	if still(started, included) < d.im.cfg.Settle || still(time.Now(), included) < time.Since(started) {
		return max(d.im.cfg.Settle, time.Millisecond)
	}
	f.dirs = directories(d.im.cfg.Dir, zone.Files)
	if f.zone != nil && f.zone.Revision == zone.Revision && zone.Revision != "" && !f.pending && (f.err == nil) == (err == nil) {
		f.seen, f.since = after, time.Time{} // touched, nothing else
		f.zone.Files = zone.Files
		return 0
	}
	f.seen, f.zone, f.err, f.pending = after, zone, err, true
	if zone.Apex != "" {
		f.apex = zone.Apex
	}
	return 0
}

// holders gives the file in force of each zone. Of several files it is the one that
// the store has already, else the first by name: a copy that somebody leaves beside
// a zone file changes nothing.
func (d *directory) holders(names []string, parts map[string]bool) map[record.Name]string {
	holders := map[record.Name]string{}
	for _, name := range names {
		f := d.files[name]
		if f.apex == "" || parts[name] {
			continue
		}
		if first, ok := holders[f.apex]; ok && (d.has(first) || !d.has(name)) {
			continue
		}
		holders[f.apex] = name
	}
	return holders
}

// has tells whether the store has claims of a file.
func (d *directory) has(name string) bool {
	s, err := zonefile.SourceOf(name)
	return err == nil && d.state(s).Revision != ""
}

// parts finds the files that others include: they are no zones of their own. Two
// that include each other are both zones, so that the error is seen.
func (d *directory) parts() map[string]bool {
	parts := map[string]bool{}
	for name, f := range d.files {
		if f.zone == nil {
			continue
		}
		for _, included := range f.zone.Files {
			other := d.files[included]
			if included != name && other != nil && (other.zone == nil || !slices.Contains(other.zone.Files, name)) {
				parts[included] = true
			}
		}
	}
	return parts
}

// gone lists the sources in the store whose file in this directory is no more;
// zone sources from elsewhere (an import by hand) are not touched. When not one
// zone file is left they stay, with an error: a directory that was emptied at once
// is more often one that is not mounted.
func (d *directory) gone(want map[record.Source]bool, root *os.Root) ([]record.Source, error) {
	var gone []record.Source
	for _, s := range slices.Sorted(maps.Keys(d.claimed)) {
		if !want[s] && s != directorySource && filepath.Dir(d.claimed[s].Where) == d.im.cfg.Dir {
			gone = append(gone, s)
		}
	}
	if len(gone) == 0 || len(want) > 0 {
		return gone, nil
	}
	if _, err := root.Lstat(allowEmpty); err == nil {
		return gone, nil
	}
	return nil, fmt.Errorf("zone directory %s has no zone file any more, is it mounted? What %d files claimed stays; to remove it make a file %s there",
		d.im.cfg.Dir, len(gone), allowEmpty)
}

// all runs jobs, some at a time, and joins their errors.
func (d *directory) all(jobs []func() error) error {
	errs := make([]error, len(jobs))
	slots := make(chan struct{}, committers)
	var wg sync.WaitGroup
	for i, job := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = job()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// state is a copy of what the store has of a source, and where to put the new one.
func (d *directory) state(s record.Source) tree.Source {
	d.im.mu.Lock()
	defer d.im.mu.Unlock()
	if old := d.claimed[s]; old != nil {
		return *old
	}
	return tree.Source{Source: s}
}

func (d *directory) setState(s record.Source, state *tree.Source) {
	d.im.mu.Lock()
	defer d.im.mu.Unlock()
	if state == nil {
		delete(d.claimed, s)
		return
	}
	d.claimed[s] = state
}

// publish puts what was read of a file into the store: its claims, or its error.
func (d *directory) publish(ctx context.Context, name string, f *file) error {
	s := f.zone.Source
	old := d.state(s)
	now := old
	now.Where, now.Error = filepath.Join(d.im.cfg.Dir, name), ""
	if f.err == nil && f.twin != "" {
		f.err = fmt.Errorf("%s:1: zone %s is in the file %s already, which stays in force; one zone is one file: remove one of the two", name, f.apex, f.twin)
	}
	if f.err != nil {
		return d.refuse(ctx, s, old, f)
	}
	if old.Revision == f.zone.Revision && old == now {
		f.done()
		return nil // a restart: nothing is imported twice
	}
	now.Revision, now.Records = f.zone.Revision, f.zone.Records
	if old.Revision != now.Revision {
		now.Time = f.zone.Claims[0].Time.UnixMilli()
	}
	claims, err := d.inherit(ctx, f.zone, old)
	if err != nil {
		return err
	}
	rev, changed, err := claimtree.Replace(ctx, d.im.store, s, claims, d.put(now))
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrClosed) || ctx.Err() != nil {
		return err
	}
	if err != nil { // the claims themselves: too large for the store
		f.err = err
		return d.refuse(ctx, s, old, f)
	}
	d.setState(s, &now)
	if changed {
		d.im.metrics.latency.Observe(time.Since(f.since).Seconds())
		d.im.log.Log(ctx, d.im.level(), "zone file imported", "source", s, "records", now.Records, "content", now.Revision, "revision", rev,
			"took", time.Since(f.since).Round(time.Microsecond))
	} else if old.Error != "" {
		d.im.log.Info("zone file mended", "source", s)
	}
	f.done()
	return nil
}

func (f *file) done() {
	f.pending, f.since = false, time.Time{}
	f.zone.Claims = nil
}

// refuse keeps the claims and puts the error beside them.
func (d *directory) refuse(ctx context.Context, s record.Source, old tree.Source, f *file) error {
	now := old
	now.Where, now.Error = filepath.Join(d.im.cfg.Dir, strings.TrimPrefix(string(s), record.KindZone+"/")), f.err.Error()
	if now != old {
		if _, err := d.im.store.Commit(ctx, d.put(now)); err != nil {
			return err
		}
		d.setState(s, &now)
		d.im.metrics.failures.Inc()
		d.im.log.Warn("zone file refused, what it claimed before stays", "source", s, "error", f.err)
	}
	f.done()
	return nil
}

// put is the transaction that says a source's state, as long as this process leads.
func (d *directory) put(now tree.Source) store.Txn {
	return store.Txn{If: []store.Cond{d.fence}, Do: []store.Op{{Path: tree.SourcePath(now.Source), Value: tree.Encode(now)}}}
}

// inherit gives the zone's claims with the provenance of the earlier revision
// wherever the RRset was the same: who brought a record, and when, is not whoever
// touched the file last. It also keeps the shards that did not change.
func (d *directory) inherit(ctx context.Context, z *zonefile.Zone, old tree.Source) ([]record.Claim, error) {
	if old.Revision == "" {
		return z.Claims, nil
	}
	before, err := claimtree.Load(ctx, d.im.store, z.Source)
	if err != nil {
		if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrClosed) || ctx.Err() != nil {
			return nil, err
		}
		return z.Claims, nil // damaged in the store: written anew
	}
	return zonefile.Inherit(z.Claims, before), nil
}

// remove takes away all that a file claimed.
func (d *directory) remove(ctx context.Context, s record.Source) error {
	txn := store.Txn{If: []store.Cond{d.fence}, Do: []store.Op{{Path: tree.SourcePath(s), Delete: true}}}
	if _, _, err := claimtree.Replace(ctx, d.im.store, s, nil, txn); err != nil {
		return err
	}
	d.setState(s, nil)
	d.im.log.Info("zone file is gone, its claims are removed", "source", s)
	return nil
}

// complain puts what is wrong with the directory as a whole into its own state;
// nil takes it away.
func (d *directory) complain(ctx context.Context, trouble error) error {
	old := d.state(directorySource)
	if trouble == nil {
		if old.Error == "" && old.Where == "" {
			return nil
		}
		txn := store.Txn{If: []store.Cond{d.fence}, Do: []store.Op{{Path: tree.SourcePath(directorySource), Delete: true}}}
		if _, err := d.im.store.Commit(ctx, txn); err != nil {
			return err
		}
		d.setState(directorySource, nil)
		d.im.log.Info("zone directory is well again", "dir", d.im.cfg.Dir)
		return nil
	}
	now := old
	now.Where, now.Error = d.im.cfg.Dir, trouble.Error()
	if now == old {
		return nil
	}
	now.Time = time.Now().UnixMilli()
	if _, err := d.im.store.Commit(ctx, d.put(now)); err != nil {
		return err
	}
	d.setState(directorySource, &now)
	d.im.metrics.failures.Inc()
	d.im.log.Warn("zone directory has a problem", "dir", d.im.cfg.Dir, "error", trouble)
	return nil
}

// watched lists where the files lie that make up zones.
func (d *directory) watched() []string {
	dirs := []string{d.im.cfg.Dir}
	for _, f := range d.files {
		dirs = append(dirs, f.dirs...)
	}
	return dirs
}

func (d *directory) measure(want map[record.Source]bool) {
	broken, records := 0, 0
	for _, s := range d.claimed {
		if s.Error != "" {
			broken++
		}
		records += s.Records
	}
	d.counted = counts{len(want), records, broken}
	d.im.metrics.files.Set(float64(len(want)))
	d.im.metrics.broken.Set(float64(broken))
	d.im.metrics.records.Set(float64(records))
}
