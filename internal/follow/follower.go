package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// Follower follows one dataset for one Sink.
type Follower struct {
	cfg  Config
	dir  string // where snapshots are fetched to
	sink Sink
	view *view

	// at is the dataset at the version reached; pending are the last steps to it that
	// the sink has not been given, because no manifest covers them yet.
	at      *snapshot.Dataset
	pending []step
	// aside is a snapshot that was fetched because its history leads on, though at is
	// newer: nothing is told of it before a way from it leads beyond at.
	aside *snapshot.Dataset
	// broken is the chain value of a delta that is genuine and yet does not lead to
	// the digest it says: no way leads over it.
	broken snapshot.Chain
	// deadEnd is a point of another history, below which nothing to begin at was found:
	// it is not looked for again for each version, but at the retry.
	deadEnd position
	// contradicts is a target whose digest is not that of its own last delta.
	contradicts position

	target  target
	offered snapshot.Ref // by the manifest, without keys
	// believed is the set of keys that was judged by last; nil without keys.
	believed *journal.KeySet
	// under is the manifest by whose word the sink has what it has, signers are the ids of the
	// keys that signed it, until says until when it is valid, unix milliseconds; nil and 0: not
	// known.
	under   []byte
	signers []string
	until   int64
	// whole: what the sink has is void, and the next it is given is a Reset.
	whole       bool
	judged      store.Revision // of the manifest last looked at
	judgedFiles store.Revision // of the list of files
	judgedHead  store.Revision

	told    map[refused]bool // refusals since the last progress, at most maxTold
	tells   map[Kind]tells
	fetch   *fetch // under way; nil when none is
	fetched chan *fetch
	large   large
	heard   time.Time // when the watch brought something last
	unsure  bool      // whether Revoked is to be asked
	// failed is the snapshot that could not be fetched; it is not tried again before
	// the retry.
	failed snapshot.ID
	retry  *time.Timer
	armed  bool          // retry will fire
	pause  time.Duration // before the last retry; 0 after progress
}

// maxTold bounds what is remembered of refusals: beyond, one may be told again.
const maxTold = 64

// A store that stays behind for hours is another refusal with each version: of a kind
// no more than maxTells are told in tellsIn.
const (
	maxTells = 8
	tellsIn  = time.Minute
)

// tells counts what was told of a kind.
type tells struct {
	since time.Time
	n     int
}

// refused tells refusals apart.
type refused struct {
	kind Kind
	text string
}

// New makes a follower that goes on from have, which becomes the follower's. Nil
// means that there is nothing yet.
func New(cfg Config, have *snapshot.Dataset, sink Sink) (*Follower, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if have == nil {
		have = snapshot.NewDataset(cfg.Dataset)
	}
	if have.Name() != cfg.Dataset {
		return nil, fmt.Errorf("follow %s: the state to go on from is of dataset %s", cfg.Dataset, have.Name())
	}
	f := &Follower{cfg: cfg, sink: sink, at: have, view: newView(cfg.Dataset), told: make(map[refused]bool), tells: make(map[Kind]tells), large: large{have: map[snapshot.Chain][]byte{}, failed: map[snapshot.Chain]bool{}}, fetched: make(chan *fetch, 1), retry: stopped()}
	f.signed(cfg.Manifest)
	return f, nil
}

// signed notes the manifest under which the sink has what it has.
func (f *Follower) signed(manifest []byte) {
	f.under, f.signers, f.until = manifest, f.signersOf(manifest), 0
	if m, err := snapshot.DecodeManifest(manifest); err == nil {
		f.until = m.ValidUntil
	}
}

// signersOf are the ids of the keys that signed a manifest: of those that are known, since a
// manifest can claim any. Without keys there are none.
func (f *Follower) signersOf(manifest []byte) []string {
	if f.cfg.Keys == nil {
		return nil
	}
	return f.cfg.Keys().SignedBy(manifest)
}

// believes tells whether what a manifest covers may be given to the sink.
func (f *Follower) believes(manifest []byte) bool {
	if f.cfg.Keys == nil {
		return true
	}
	_, err := snapshot.VerifyManifest(manifest, f.cfg.Keys().Believed)
	return err == nil
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// Run follows until ctx ends, and then returns its error. It ends by itself only
// when the store is closed or the sink says ErrStop.
func (f *Follower) Run(ctx context.Context) error {
	dir, clean, err := f.cfg.workDir()
	if err != nil {
		return err
	}
	f.dir = dir
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		f.retry.Stop()
		f.abandon()
		clean()
	}()
	watch := f.cfg.Store.Watch(ctx, f.cfg.prefix(), 0)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b, open := <-watch:
			if !open {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("follow %s: %w", f.cfg.Dataset, store.ErrClosed)
			}
			if f.cfg.LogTouched != nil {
				f.view.touched(b, f.cfg.LogTouched)
			}
			f.view.take(b, f.at.Version())
			f.unsure = f.unsure || time.Since(f.heard) >= silence
			f.heard = time.Now()
		case <-f.cfg.KeysChanged:
		case <-f.retry.C:
			f.armed, f.failed = false, snapshot.ID{}
			clear(f.large.failed)
			f.refresh(ctx)
		case done := <-f.fetched:
			f.fetch = nil
			if err := f.finish(ctx, done); err != nil {
				return err
			}
		}
		if !f.sure(ctx) {
			continue // the retry comes
		}
		if err := f.advance(ctx); err != nil {
			return err
		}
	}
}

// sure tells whether it is known which keys are revoked, as far as the store tells. Of a key that
// was not believed before it may be that what revokes it was passed over.
func (f *Follower) sure(ctx context.Context) bool {
	if f.cfg.Revoked == nil || !f.unsure && !f.cfg.Keys().Adds(f.believed) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := f.cfg.Revoked(ctx); err != nil {
		f.again(fmt.Errorf("read revocations: %w", err))
		return false
	}
	f.unsure = false
	return true
}

// refresh asks the store for everything anew: what did not work may have been the
// watch's fault.
func (f *Follower) refresh(ctx context.Context) {
	nodes, rev, err := f.cfg.Store.List(ctx, f.cfg.prefix())
	if err != nil {
		f.again(err) // what we know is looked at once more all the same
		return
	}
	before := f.view.manifest.Modified
	f.view.list(nodes, rev, f.at.Version())
	if f.view.manifest.Modified != before {
		f.unsure, f.heard = true, time.Now() // not by the watch: what watches revocations may be at fault, too
	}
	f.judged, f.judgedHead, f.deadEnd = 0, 0, position{}
}

// again lets something be tried again after a pause.
func (f *Follower) again(err error) {
	if f.armed {
		return
	}
	f.armed = true
	f.pause = min(max(2*f.pause, f.cfg.RetryMin), f.cfg.RetryMax)
	f.retry.Reset(jitter(f.pause))
	if err != nil {
		f.cfg.Log.Debug("trying again", "dataset", f.cfg.Dataset, "pause", f.pause, "error", err)
	}
}

// jitter spreads retries of many hosts: half of d to d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// refuse is refuseWith when there is nothing to show.
func (f *Follower) refuse(kind Kind, version uint64, err error) {
	f.refuseWith(kind, version, err, nil)
}

// refuseWith tells the sink, once and not too often, and lets what is there be looked at again later.
func (f *Follower) refuseWith(kind Kind, version uint64, err error, evidence []byte) {
	f.again(nil)
	what := refused{kind, err.Error()}
	if f.told[what] {
		return
	}
	if len(f.told) >= maxTold {
		clear(f.told)
	}
	f.told[what] = true
	now := time.Now()
	n := f.tells[kind]
	if now.Sub(n.since) >= tellsIn {
		n = tells{since: now}
	}
	n.n++
	f.tells[kind] = n
	if n.n > maxTells {
		return
	}
	f.sink.Refused(Refusal{Kind: kind, Version: version, Err: err, Time: now, Evidence: evidence[:min(len(evidence), MaxEvidence)]})
}

// progress notes that the sink took something.
func (f *Follower) progress() {
	clear(f.told)
	f.large.clear() // they are applied, or of a target that is none any more
	f.retry.Stop()
	f.pause, f.armed, f.aside, f.failed, f.deadEnd = 0, false, nil, snapshot.ID{}, position{}
	f.view.drop(f.at.Version())
}

// advance gets as far towards the newest target as it can now.
func (f *Follower) advance(ctx context.Context) error {
	f.aim()
	t := f.target
	if t.position == positionOf(f.at) && len(f.pending) > 0 && t.digest == f.at.Digest() {
		return f.give(ctx, t.manifest)
	}
	if t.position == positionOf(f.at) && t.manifest != nil && f.isRenewed(t.manifest) {
		return f.give(ctx, t.manifest)
	}
	if f.fetch != nil || t.version <= f.at.Version() || t.version < f.cfg.Floor || t.position == f.contradicts {
		return nil
	}
	w, err := f.walk(ctx, t)
	var want *wanted
	switch {
	case errors.As(err, &want):
		f.startLarge(ctx, want.ref)
		return nil
	case err != nil:
		f.again(err)
		return nil
	}
	switch w.from {
	case baseHere:
		if f.whole {
			return f.jump(ctx, t, snapshot.NewDataset(f.cfg.Dataset), w.steps)
		}
		return f.climb(ctx, t, w)
	case baseAside:
		d := f.aside
		f.aside = nil
		return f.jump(ctx, t, d, w.steps)
	case baseFull:
		d := snapshot.NewDataset(f.cfg.Dataset)
		steps := w.steps
		if steps[0].delta.Full {
			if d, err = snapshot.Start(steps[0].delta); err != nil {
				f.broken = steps[0].chain
				f.refuseWith(KindDigest, steps[0].delta.Version, err, steps[0].encoded)
				return nil
			}
			steps = steps[1:]
		}
		return f.jump(ctx, t, d, steps)
	}
	f.aside = nil // it leads nowhere
	if w.snapshot || f.isAhead(t.snapshot) {
		if w.kind != KindUnreachable {
			f.refuseWith(w.kind, w.at, w.blame, w.evidence) // the snapshot heals it, but somebody should know
		}
		if t.snapshot.ID == f.failed {
			return nil // the retry comes
		}
		if f.cfg.Fetcher != nil {
			f.start(ctx, t)
			return nil
		}
		w.blame = errors.Join(w.blame, errors.New("a snapshot is offered, but there is no way here to fetch it"))
	}
	switch {
	case w.kind != KindUnreachable:
		f.refuseWith(w.kind, w.at, w.blame, w.evidence)
	case t.snapshot.ID.IsZero():
		f.refuse(w.kind, w.at, fmt.Errorf("%w, and no snapshot is offered; the next full delta heals it", w.blame))
	default:
		f.refuse(w.kind, w.at, fmt.Errorf("%w, and the snapshot offered is of version %d, here is %d", w.blame, t.snapshot.Version, f.at.Version()))
	}
	return nil
}

// isRenewed tells whether a manifest of the version that is here says more of who signed
// it, or until when, than the one by which it was taken.
func (f *Follower) isRenewed(manifest []byte) bool {
	if !slices.Equal(f.signersOf(manifest), f.signers) {
		return true
	}
	m, err := snapshot.DecodeManifest(manifest)
	return err == nil && m.ValidUntil > f.until
}

// isAhead tells whether a snapshot is newer than all that was ever had.
func (f *Follower) isAhead(ref snapshot.Ref) bool {
	return !ref.ID.IsZero() && ref.Version > f.at.Version() && ref.Version >= f.cfg.Floor
}

// climb applies the steps to what is here and gives them to the sink.
func (f *Follower) climb(ctx context.Context, t target, w way) error {
	for _, s := range w.steps {
		if err := f.at.Apply(s.delta); err != nil {
			f.broken = s.chain
			f.refuseWith(KindDigest, s.delta.Version, err, s.encoded)
			if f.cfg.Keys != nil || len(f.pending) == 0 {
				return nil // no manifest is of the version reached
			}
			return f.give(ctx, nil)
		}
		f.pending = append(f.pending, s)
	}
	if f.at.Digest() != t.digest {
		// The chain is right, so whoever published this published two things that differ.
		f.contradicts = t.position
		f.refuseWith(KindDigest, t.version, fmt.Errorf("digest is %s…, published is %s…", f.at.Digest().String()[:12], t.digest.String()[:12]), t.manifest)
		return nil
	}
	return f.give(ctx, t.manifest)
}

// give hands the pending steps to the sink.
func (f *Follower) give(ctx context.Context, manifest []byte) error {
	manifest, _ = snapshot.Detach(manifest) // with each group of a journal
	g := Group{Manifest: manifest, Dataset: f.at}
	for _, s := range f.pending {
		g.Deltas = append(g.Deltas, s.delta)
		g.Encoded = append(g.Encoded, s.encoded)
	}
	taken, err := f.insist(ctx, manifest, func() error { return f.sink.Apply(ctx, g) })
	if !taken {
		return err
	}
	f.pending = nil
	f.signed(manifest)
	f.progress()
	return nil
}

// jump gives the sink d, brought to the target by steps, in place of what is here.
func (f *Follower) jump(ctx context.Context, t target, d *snapshot.Dataset, steps []step) error {
	for _, s := range steps {
		if err := d.Apply(s.delta); err != nil {
			f.broken = s.chain
			f.refuseWith(KindDigest, s.delta.Version, err, s.encoded)
			return nil
		}
	}
	if d.Digest() != t.digest {
		f.contradicts = t.position
		f.refuseWith(KindDigest, t.version, fmt.Errorf("digest is %s…, published is %s…", d.Digest().String()[:12], t.digest.String()[:12]), t.manifest)
		return nil
	}
	return f.replace(ctx, Reset{Dataset: d, Manifest: t.manifest})
}

// replace hands a whole dataset to the sink.
func (f *Follower) replace(ctx context.Context, r Reset) error {
	taken, err := f.insist(ctx, r.Manifest, func() error { return f.sink.Reset(ctx, r) })
	if !taken {
		return err
	}
	f.at, f.pending, f.whole = r.Dataset, nil, false
	f.signed(r.Manifest)
	f.progress()
	return nil
}

// insist calls the sink until it takes what it is given, for as long as who signed that is
// believed: a disk may be full for hours, and a key be revoked meanwhile. Meanwhile the watch
// is not read: the store merges what happens, so that waiting costs no memory here.
func (f *Follower) insist(ctx context.Context, manifest []byte, call func() error) (taken bool, err error) {
	var pause time.Duration
	for {
		if !f.believes(manifest) {
			f.cfg.Log.Warn("what was to be taken is not believed any more", "dataset", f.cfg.Dataset)
			return false, nil
		}
		err := call()
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, ErrStop), ctx.Err() != nil:
			return false, err
		}
		level := slog.LevelDebug
		if pause == 0 {
			level = slog.LevelWarn // once; the sink keeps the rest for those who ask
		}
		pause = min(max(2*pause, f.cfg.RetryMin), f.cfg.RetryMax)
		f.cfg.Log.Log(ctx, level, "what was published cannot be kept, trying again", "dataset", f.cfg.Dataset, "pause", pause, "error", err)
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(jitter(pause)):
		}
	}
}
