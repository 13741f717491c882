package configurator

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

const (
	// claimOps and claimOctets are what claims may take of the transaction that makes a
	// landing visible; more is staged.
	claimOps    = 70
	claimOctets = 512 << 10
	// maxBlame is how many commits back it is looked who brought a change.
	maxBlame = 100
	maxText  = 500 // octets of texts from the repository that are kept in the store
)

// errStore is what ends a term: it is not known what is in the store.
var errStore = errors.New("configuration not landed")

// land puts what a commit compiles to into the store. began is when the commit was seen.
func (t *term) land(ctx context.Context, commit repo.Hash, began time.Time) error {
	if was := t.writer.Head().Revision; t.inForce == nil && was != "" {
		if err := t.follows(ctx, was, commit); err != nil {
			return err
		}
	}
	files, err := t.repo.Tree(ctx, commit)
	if err != nil {
		return err
	}
	c, err := t.compile(ctx, files)
	if err != nil {
		return err
	}
	if len(c.configs) == 0 && t.writer.Head().Version == 0 { // nobody wrote anything yet
		t.inForce = c
		return nil
	}
	if err := t.groupsOwned(ctx, c); err != nil {
		return err
	}
	newest, by, err := t.blame(ctx, commit)
	if err != nil {
		return err
	}
	l := configtree.Landing{Revision: commit.String(), All: t.inForce == nil}
	var wants []claimtree.Want
	claims := map[record.Source][]record.Claim{}
	var before []compile.Config
	if t.inForce != nil {
		before = t.inForce.configs
	}
	for old, now := range pairs(before, c.configs) {
		switch {
		case now == nil:
			l.Delete = append(l.Delete, old.Path)
			wants = append(wants, claimtree.Want{Source: compile.SourceOf(old.Path)})
			continue
		case old != nil && equal(old, now):
			continue
		}
		p := by(now.Sources)
		l.Put = append(l.Put, configtree.Config{Path: now.Path, Type: now.Type, Revision: p.Revision, Sources: now.Sources, Value: now.JSON})
		source := compile.SourceOf(now.Path)
		if len(now.Claims) == 0 && len(t.claims[source]) == 0 {
			continue
		}
		fresh := slices.Clone(now.Claims)
		for i := range fresh {
			fresh[i].Provenance = p
		}
		claims[source] = zonefile.Inherit(fresh, t.claims[source])
		wants = append(wants, claimtree.Want{Source: source, Claims: claims[source]})
	}
	if t.inForce == nil { // what an earlier term made of files that are gone
		for _, s := range t.joint.Sources() {
			if _, there := claims[s]; !there {
				wants = append(wants, claimtree.Want{Source: s})
			}
		}
	}
	changed, err := t.put(ctx, l, wants, c, newest.Time)
	if err != nil {
		return err
	}
	if err := t.landGroups(ctx, c, by); err != nil { // which the next term does again
		return err
	}
	for _, w := range wants {
		if len(w.Claims) == 0 {
			delete(t.claims, w.Source)
		} else {
			t.claims[w.Source] = w.Claims
		}
	}
	t.inForce = c
	if changed {
		t.metrics.landings.Inc()
		t.metrics.land.Observe(time.Since(began).Seconds())
		t.deps.Log.Info("configuration landed", "commit", commit, "by", newest.Author, "configurations", len(l.Put)+len(l.Delete), "sources", len(wants),
			"took", time.Since(began).Round(time.Microsecond))
	}
	return nil
}

// put makes a landing visible in one commit. changed tells whether there was anything to do.
func (t *term) put(ctx context.Context, l configtree.Landing, wants []claimtree.Want, c *compiled, at time.Time) (changed bool, err error) {
	together, err := t.joint.Prepare(ctx, wants, claimOps, claimOctets)
	if err != nil {
		return false, unknown(err)
	}
	state := t.state
	state.Where, state.Revision, state.Records, state.Time, state.Error = t.where(), l.Revision[:12], c.records, at.UnixMilli(), ""
	do := append(slices.Clone(together.Do), store.Op{Path: tree.SourcePath(Source), Value: tree.Encode(state)})
	room := configtree.Room{Ops: len(do)}
	for _, o := range do {
		room.Bytes += len(o.Path) + len(o.Value)
	}
	p, err := t.writer.Prepare(ctx, l, room)
	if err != nil {
		return false, unknown(err)
	}
	if len(p.Changed)+len(together.Do) == 0 && t.writer.Head().Revision == l.Revision && state == t.state {
		return false, nil
	}
	p.Txn.Do = append(p.Txn.Do, do...)
	rev, err := t.deps.Store.Commit(ctx, p.Txn)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errStore, err)
	}
	t.state = state
	if len(together.Changed) > 0 {
		t.revised(rev)
	}
	if err := errors.Join(t.joint.Finish(ctx), t.writer.Finish(ctx, rev)); err != nil {
		return true, fmt.Errorf("%w: %w", errStore, err)
	}
	return true, nil
}

// unknown marks errors after which the writers are of no more use.
func unknown(err error) error {
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrClosed) {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	return err
}

func equal(a, b *compile.Config) bool {
	return a.Type == b.Type && bytes.Equal(a.JSON, b.JSON) && slices.Equal(a.Sources, b.Sources) &&
		(len(a.Claims) == len(b.Claims) && (len(a.Claims) == 0 || &a.Claims[0] == &b.Claims[0]) || claimtree.Same(a.Claims, b.Claims))
}

// pairs goes through two lists of configurations by path; one of a pair may be nil.
func pairs(a, b []compile.Config) func(yield func(a, b *compile.Config) bool) {
	return func(yield func(a, b *compile.Config) bool) {
		for len(a)+len(b) > 0 {
			order := 0
			switch {
			case len(a) == 0:
				order = 1
			case len(b) == 0:
				order = -1
			default:
				order = cmp.Compare(a[0].Path, b[0].Path)
			}
			var x, y *compile.Config
			if order <= 0 {
				x, a = &a[0], a[1:]
			}
			if order >= 0 {
				y, b = &b[0], b[1:]
			}
			if !yield(x, y) {
				return
			}
		}
	}
}

// blame gives who brought commit, and who brought what was made from some files, of all that
// commit has and what is in force has not.
func (t *term) blame(ctx context.Context, commit repo.Hash) (newest record.Provenance, by func(files []string) record.Provenance, err error) {
	var known repo.Hash
	if was, err := repo.ParseHash(t.writer.Head().Revision); err == nil {
		known = was
	}
	log, _, err := t.repo.Log(ctx, commit, "", maxBlame)
	if err != nil {
		return newest, nil, err
	}
	if len(log) == 0 {
		return newest, nil, fmt.Errorf("commit %s has no log", commit)
	}
	type step struct {
		record.Provenance
		files []string // nil: all
	}
	var steps []step
	if i := slices.IndexFunc(log, func(c *repo.Commit) bool { return c.Hash == known }); i >= 0 {
		log = log[:max(i, 1)] // at least commit itself, which may be in force already
	}
	for _, c := range log {
		s := step{Provenance: provenance(c)}
		if len(log) > 1 && !c.Parent().IsZero() { // with one commit it is that for all
			if s.files, err = t.repo.Changed(ctx, c.Parent(), c.Hash); err != nil {
				return newest, nil, err
			}
		}
		steps = append(steps, s)
	}
	newest = steps[0].Provenance
	return newest, func(files []string) record.Provenance {
		for _, s := range steps {
			if s.files == nil || slices.ContainsFunc(files, func(f string) bool {
				_, found := slices.BinarySearch(s.files, f)
				return found
			}) {
				return s.Provenance
			}
		}
		return newest
	}, nil
}

func provenance(c *repo.Commit) record.Provenance {
	title, _, _ := strings.Cut(c.Message, "\n")
	return record.Provenance{Author: clip(c.Author), Reason: clip(title), Time: c.When.UTC().Truncate(time.Millisecond), Revision: c.Hash.String()[:12]}
}

// clip makes text from elsewhere short and printable.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s), "\ufffd")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}
