//go:build acceptance

package e2e

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/configapi"
	"github.com/zonecast/zonecast/configurator/fromzone"
)

// streams are two users who propose, approve each other's and land.
type streams struct {
	up   *Up
	z    *ZoneDir
	turn sync.Mutex // held by whoever takes the next change: they come in order
	mu   sync.Mutex // guards below
	free *sync.Cond
	busy map[string]bool // files that somebody has a proposal for
	left []Change

	texts map[string]string // of programs, by path, as they were proposed last

	silent, landed, files int
	land, whole           Figures
}

// programs are zone files as programs, as far as these change.
func (p *streams) programs(files []FileEdit) ([]*configapi.Edit, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*configapi.Edit
	for _, f := range files {
		path := "zones/" + f.Name + ".star"
		if f.Content == nil {
			delete(p.texts, path)
			out = append(out, &configapi.Edit{Path: path, Remove: true})
			continue
		}
		w, err := fromzone.Write(fstest.MapFS{f.Name: {Data: f.Content}}, f.Name)
		if err != nil {
			return nil, err
		}
		if p.texts[path] == w.Text { // the order of lines, or the like
			continue
		}
		p.texts[path] = w.Text
		out = append(out, &configapi.Edit{Path: path, Content: []byte(w.Text)})
	}
	return out, nil
}

// next takes the next change in order, once nobody is at its files.
func (p *streams) next() (*Change, *Edit, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.left) > 0 {
		c := p.left[0]
		p.left = p.left[1:]
		e, err := p.z.Prepare(c)
		if err == nil {
			err = p.z.Write(e, func() {})
		}
		if err != nil {
			return nil, nil, err
		}
		if len(e.Files) == 0 {
			p.silent++
			continue
		}
		for slices.ContainsFunc(e.Files, func(f FileEdit) bool { return p.busy[f.Name] }) {
			p.free.Wait()
		}
		for _, f := range e.Files {
			p.busy[f.Name] = true
		}
		return &c, e, nil
	}
	return nil, nil, nil
}

func (p *streams) done(e *Edit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range e.Files {
		delete(p.busy, f.Name)
	}
	p.free.Broadcast()
}

// propose brings edits from the proposal to every host's answers.
func (p *streams) propose(ctx context.Context, c *api.Client, who, other, title string, edits []*configapi.Edit) error {
	act := func(who string) *configapi.Act {
		return &configapi.Act{Who: who, Why: "a change of the year", Signature: []byte{}}
	}
	began := time.Now()
	r, err := c.Configuration.Repository(ctx)
	if err != nil {
		return err
	}
	prop, err := c.Configuration.Propose(ctx, act(who), title, r.Tip, edits, "")
	if err != nil {
		return fmt.Errorf("propose: %w", err)
	}
	look, err := c.Configuration.Review(ctx, prop.Number)
	if err != nil {
		return fmt.Errorf("review: %w", err)
	}
	if _, err := c.Configuration.Approve(ctx, prop.Number, act(other), look.Plan.Digest); err != nil {
		return fmt.Errorf("approve: %w", err)
	}
	asked := time.Now()
	l, err := c.Configuration.Land(ctx, prop.Number, act(who))
	if err != nil {
		return fmt.Errorf("land: %w", err)
	}
	rev, err := c.Configuration.Landed(ctx, l.Commit, 60_000)
	if err != nil {
		return fmt.Errorf("landed: %w", err)
	}
	if _, err := AwaitClaims(ctx, c, rev); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.landed++
	p.files += len(edits)
	p.land, p.whole = append(p.land, time.Since(asked)), append(p.whole, time.Since(began))
	if p.landed%100 == 0 {
		p.up.t.Logf("%d landed, %s", p.landed, p.land)
	}
	return nil
}

// TestYearOfProposals moves a real fleet's zones into programs, and lands a year of its
// changes as proposals of two people who work at the same time: none is refused, and what is
// answered in the end is what a fresh import of the final zone files gives. ZONECAST_YEAR_CHANGES
// are how many of the changes.
func TestYearOfProposals(t *testing.T) {
	data := NeedData(t)
	fleet := filepath.Join(data, "fleet.jsonl")
	z, err := CopyZones(filepath.Join(data, "zones"), filepath.Join(t.TempDir(), "zones"))
	if err != nil {
		t.Fatal(err)
	}
	churn, err := ReadChurn(filepath.Join(data, "churn.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	churn = churn[:min(len(churn), int(setting(t, "ZONECAST_YEAR_CHANGES", 772)))]
	up := StartUp(t, UpOptions{Fleet: fleet})
	p := &streams{up: up, z: z, busy: map[string]bool{}, texts: map[string]string{}, left: churn}
	p.free = sync.NewCond(&p.mu)
	var first []FileEdit
	for _, name := range slices.Sorted(maps.Keys(z.zones)) {
		first = append(first, FileEdit{Name: name, Content: z.content(name)})
	}
	edits, err := p.programs(first)
	if err != nil {
		t.Fatal(err)
	}
	c := up.Client()
	if err := p.propose(t.Context(), c, "alice", "bob", "All zones", edits); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d zones as programs: from `land` to all hosts' answers %v, with proposal and review %v; %s", len(edits), p.land[0], p.whole[0], Machine())
	p.land, p.whole, p.landed, p.files = nil, nil, 0, 0

	began := time.Now()
	g, ctx := errgroup.WithContext(t.Context())
	for _, pair := range [][2]string{{"alice", "bob"}, {"bob", "alice"}} {
		c := up.Client()
		g.Go(func() error {
			for {
				change, e, err := p.next()
				if err != nil || change == nil {
					return err
				}
				edits, err := p.programs(e.Files)
				if err == nil && len(edits) > 0 {
					err = p.propose(ctx, c, pair[0], pair[1], "Change "+change.ID, edits)
				}
				p.done(e)
				if err != nil {
					return fmt.Errorf("change %s of %s: %w", change.ID, pair[0], err)
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d proposals of %d files landed by two people in %v, %d changes without a record in a zone file; %s", p.landed, p.files, time.Since(began).Round(time.Second), p.silent, Machine())
	t.Logf("from `land` to all hosts' answers: %s", p.land)
	t.Logf("with proposal, review and approval: %s", p.whole)
	if p99 := p.land.At(99); p99 > time.Second {
		t.Errorf("p99 from landing to answered is %v, the aim is under 1s", p99)
	}
	digest, err := OneDigest(t.Context(), c, len(up.Hosts))
	if err != nil {
		t.Fatal(err)
	}
	sameAsFresh(t, up, z.Dir, fleet, digest)
}
