package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/zonecast/zonecast/snapshot"
)

// Event is one thing a follower is told: exactly one of Reset, Delta, Resumed
// and Problem is set.
type Event struct {
	// Reset is the whole state; what was known before is void. It belongs to the
	// receiver, who may Apply the deltas that follow to it.
	Reset *snapshot.Dataset
	// Delta leads to the next version. Its chain and, with keys, the signature that
	// covers it are verified; that its digest comes out is found by applying it.
	Delta *snapshot.Delta
	// Resumed tells, once and first, that what FollowFrom was given is on the way of the
	// journal, and that all deltas behind it have been told. With a Reset instead it was
	// not.
	Resumed bool
	// Problem is why the journal cannot be read at the moment. The follower keeps
	// what it has, and Follow goes on when the journal can be read again.
	Problem error
	// Manifest is the newest one that covers Reset or Delta; nil with a Problem,
	// and with the Reset of a journal that never had one.
	Manifest *snapshot.Manifest
	// SignedBy are the ids of the keys that signed Manifest; of those that are known.
	SignedBy []string
	// Void tells that what was told before was signed by keys whose word is void since: the
	// Reset may be older.
	Void bool
}

// Follow reads the journal in dir and tells fn of its state, then of every
// change, until ctx ends (it returns ctx.Err()) or fn returns an error (it returns
// that). It waits for the journal to exist, and outlives restarts of the writer,
// folding, Reset and Quarantine: a Reset event comes only when the journal's state
// cannot be reached by deltas. It never goes back: a journal that is behind what
// was read before is a Problem until it has caught up, unless that was signed by keys
// whose word is void. With keys only what one of them signed is believed. fn is called
// by one goroutine, the caller's.
func Follow(ctx context.Context, dir string, keys Keys, fn func(Event) error) error {
	return FollowIn(ctx, systemFS{}, dir, keys, fn)
}

// FollowAgain is Follow that goes on after an error, which failed is told of, when a pause is over. It
// returns when ctx ends.
func FollowAgain(ctx context.Context, dir string, keys Keys, pause time.Duration, fn func(Event) error, failed func(error)) {
	for ctx.Err() == nil {
		err := Follow(ctx, dir, keys, fn)
		if ctx.Err() != nil {
			return
		}
		failed(err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// FollowIn is Follow in a file system: that in memory of a simulation.
func FollowIn(ctx context.Context, fsys FS, dir string, keys Keys, fn func(Event) error) error {
	return (&follower{fsys: fsys, dir: dir, keys: keys, fn: fn}).run(ctx)
}

// FollowFrom is Follow for who has the state at a Ref of the dataset already, as it was
// verified in an earlier life: it is told the deltas behind it, and the whole state only
// when the journal does not lead on from there. What it reads does not depend on the
// size of the dataset then.
func FollowFrom(ctx context.Context, dir string, keys Keys, dataset string, at snapshot.Ref, fn func(Event) error) error {
	f := &follower{fsys: systemFS{}, dir: dir, keys: keys, fn: fn, name: dataset, have: pointOf(at), known: true, resuming: true}
	return f.run(ctx)
}

func (f *follower) run(ctx context.Context) error {
	w := newWaiter(f.fsys, f.dir)
	defer w.close()
	defer f.closeLog()
	for {
		// The watch is set before the journal is read, so that nothing is missed.
		w.watch()
		waiting, err := f.step()
		if err != nil {
			return err
		}
		if err := w.wait(ctx, waiting); err != nil {
			return err
		}
	}
}

// Load reads the journal's state once, without following and without the lock.
// The error wraps fs.ErrNotExist when there is no journal.
func Load(dir string, keys Keys) (*snapshot.Dataset, *snapshot.Manifest, error) {
	return LoadIn(systemFS{}, dir, keys)
}

// LoadIn is Load in a file system.
func LoadIn(fsys FS, dir string, keys Keys) (*snapshot.Dataset, *snapshot.Manifest, error) {
	s, err := loadCurrent(fsys, dir, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("load journal %s: %w", dir, err)
	}
	return s.dataset, s.manifest, s.log.file.Close()
}

// loadCurrent loads the generation that holds. A writer may fold meanwhile and
// remove what is being read: then the new one is tried.
func loadCurrent(fsys FS, dir string, keys Keys) (*state, error) {
	for {
		now, err := readCurrent(fsys, dir)
		if err != nil {
			return nil, err
		}
		s, err := load(fsys, dir, now, keys, loadLimit)
		if err == nil {
			return s, nil
		}
		if again, readErr := readCurrent(fsys, dir); readErr != nil || again == now {
			return nil, err
		}
	}
}

// waiting says for what a follower waits.
type waiting int

const (
	forMore    waiting = iota // everything that is there has been told
	forJournal                // there is none
	forWhole                  // a group is not whole: an append is under way, or was cut short
	forRepair                 // it cannot be read
)

// follower is what Follow knows.
//
//	            no CURRENT                   CURRENT names another generation
//	(nothing) ─────────────► wait      (following) ─────────────► reopen: walk its log from
//	    │ CURRENT                            ▲                     the start, silently up to
//	    └─► load all, Reset ─────────────────┘◄──── on track ───── what is known; Reset when
//	                                                               that is not on its way
type follower struct {
	fsys FS
	dir  string
	keys Keys
	fn   func(Event) error

	known bool  // have is valid: a Reset was told
	have  point // what was told last
	// resuming: known is only what FollowFrom was given, until the log has been read
	// from there to its end.
	resuming bool
	name     string

	now current
	log *logReader // nil: to be opened
	pos point      // where log is at; behind have while a new log is walked
	// manifests that cover have and pos; nil: not known.
	under, posUnder []byte
	torn            int64 // size of the log when its end was not whole at the last look; else 0

	problem string // told last; "" when all is well since
}

func (f *follower) closeLog() {
	if f.log != nil {
		f.log.file.Close() // opened for reading: nothing to lose
		f.log = nil
	}
}

// step tells everything that is new. The error is fn's.
func (f *follower) step() (waiting, error) {
	now, err := readCurrent(f.fsys, f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		f.closeLog()
		return forJournal, nil
	}
	if err != nil {
		return forRepair, f.trouble(err)
	}
	if f.log != nil && now != f.now {
		f.closeLog()
	}
	if f.log == nil {
		if err := f.open(now); err != nil {
			f.closeLog()
			var told toldError
			if errors.As(err, &told) {
				return 0, told.error
			}
			if again, readErr := readCurrent(f.fsys, f.dir); readErr != nil || again != now {
				return f.step() // folded meanwhile; a fold takes longer than this
			}
			return forRepair, f.trouble(err)
		}
	}
	for {
		size, err := f.log.file.Size()
		if err == nil && size < f.log.at {
			// Its writer cut off a group that was whole but not acknowledged.
			f.closeLog()
			return f.step()
		}
		g, err := f.log.next()
		if f.resuming && (errors.Is(err, io.EOF) || errors.Is(err, errTorn)) {
			f.resuming = false
			if f.pos.version < f.have.version {
				// It is behind: who follows was at another journal.
				f.known = false
				f.closeLog()
				return f.step()
			}
			if err := f.fn(Event{Resumed: true}); err != nil {
				return 0, err
			}
		}
		if errors.Is(err, io.EOF) {
			if f.pos.version < f.have.version && f.isVoid() {
				f.known = false
				f.closeLog()
				return f.step()
			}
			if f.pos.version < f.have.version {
				return forMore, f.trouble(fmt.Errorf("journal %s is at version %d and was at %d before: waiting for it to catch up", f.dir, f.pos.version, f.have.version))
			}
			f.problem = ""
			return forMore, nil
		}
		if errors.Is(err, errTorn) {
			if size == f.torn {
				return forMore, nil // cut short, and nobody goes on
			}
			// Cut off and begun anew since the last look? Then the place is wrong.
			if f.torn != 0 {
				f.closeLog()
			}
			f.torn = size
			return forWhole, nil
		}
		f.torn = 0
		if err == nil {
			err = f.tell(g)
		}
		if err != nil {
			f.closeLog() // at a place that is not known any more: begin anew
			var told toldError
			if errors.As(err, &told) {
				return 0, told.error
			}
			if errors.Is(err, errForked) {
				f.known = false
				return f.step()
			}
			return forRepair, f.trouble(err)
		}
	}
}

// isVoid tells whether what was told is void and what the log has is not.
func (f *follower) isVoid() bool {
	return len(f.posUnder) > 0 && f.keys.isVoid(f.under) && !f.keys.isVoid(f.posUnder)
}

// toldError is an error of fn, which ends Follow.
type toldError struct{ error }

// errForked says that the log leads through another state than the one told.
var errForked = errors.New("history is another one")

// trouble tells a problem once.
func (f *follower) trouble(err error) error {
	if f.problem == err.Error() {
		return nil
	}
	f.problem = err.Error()
	return f.fn(Event{Problem: err})
}

// open opens a generation: at its start when what was told can be on its way,
// else at its end, telling a Reset.
func (f *follower) open(now current) error {
	if f.known {
		l, err := openLog(f.fsys, f.dir, now)
		if err != nil {
			return err
		}
		f.log, f.now = l, now
		raw, _, err := l.checkBase(f.keys)
		if err != nil {
			return err
		}
		f.pos, f.posUnder = pointOf(l.base.State), raw
		if f.pos == f.have {
			f.under = raw
		}
		if l.base.Dataset == f.name && (f.pos.version < f.have.version || f.pos == f.have) {
			return nil
		}
		f.closeLog()
	}
	s, err := load(f.fsys, f.dir, now, f.keys, loadLimit)
	if err != nil {
		return err
	}
	f.log, f.now = s.log, now
	f.pos = pointOf(s.dataset.Ref())
	void := f.pos.version < f.have.version && f.keys.isVoid(f.under)
	f.under = bytes.Clone(s.raw)
	f.posUnder = f.under
	f.have, f.known, f.resuming, f.name = f.pos, true, false, s.dataset.Name()
	f.problem = ""
	if err := f.fn(Event{Reset: s.dataset, Manifest: s.manifest, SignedBy: f.keys.signedBy(s.raw), Void: void}); err != nil {
		return toldError{err}
	}
	return nil
}

// tell checks a group and tells its deltas, but those known already.
func (f *follower) tell(g group) error {
	deltas, points, m, err := f.pos.follow(g, f.keys, f.name)
	if err != nil {
		return &Error{File: f.log.path, Offset: f.log.at, Found: fmt.Sprintf("group %d does not follow", f.log.number-1), Err: err}
	}
	under := bytes.Clone(g.manifest) // without the group's octets
	f.posUnder = under
	if f.pos == f.have {
		f.under = under
	}
	signers := f.keys.signedBy(g.manifest)
	for i, p := range points {
		f.pos = p
		if p.version < f.have.version {
			continue
		}
		if p.version == f.have.version {
			if p != f.have {
				return errForked
			}
			f.under = under
			continue
		}
		f.have, f.under = p, under
		if err := f.fn(Event{Delta: deltas[i], Manifest: m, SignedBy: signers}); err != nil {
			return toldError{err}
		}
	}
	return nil
}
