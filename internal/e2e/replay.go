package e2e

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
)

// Replay applies changes to the zone files of a running zonecast, one after another,
// and checks all hosts after each.
type Replay struct {
	Up    *Up
	Zones *ZoneDir
	World *World
	// Sample is how many keys of a change are asked for at most. Zero means all.
	Sample int

	// What happened.
	Changes, Silent      int // Silent changes touch no zone file
	Added, Removed       int // records
	Skipped              int // records that exist in the source's own server only
	Files, Gone, Refused int // contents of files put, files taken away, contents refused
	Healed               int // good contents that came after a refused one
	Asked                map[ExpectedKind]int
	Unseen               int     // changes to files that change no answer
	Latency              Figures // from the first rename to the last changed file answered by all hosts
	Digest               string
	took                 time.Duration
	broken               map[string]bool
	client               *api.Client
	started              time.Time
}

// changeTime is how long one change may take until all hosts answer it. It is no aim:
// the figures say how long it took.
const changeTime = time.Minute

// Run replays the changes; t fails at the first that does not hold.
func (r *Replay) Run(t *testing.T, changes []Change) {
	t.Helper()
	r.Asked, r.broken = map[ExpectedKind]int{}, map[string]bool{}
	r.client, r.started = r.Up.Client(), time.Now()
	for i, c := range changes {
		if err := r.change(t.Context(), c); err != nil {
			t.Fatalf("change %d of %d, %s: %v", i+1, len(changes), c.ID, err)
		}
		r.Changes++
		if (i+1)%100 == 0 {
			t.Logf("%d changes after %v, %s", i+1, time.Since(r.started).Round(time.Second), r.Latency)
		}
	}
	r.took = time.Since(r.started)
}

// witness is a question whose answer tells that a file's change has arrived.
type witness struct {
	file string
	want Expected
}

func (r *Replay) change(ctx context.Context, c Change) error {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	e, err := r.Zones.Prepare(c)
	if err != nil {
		return err
	}
	goals, witnesses := r.plan(e)
	var renamed time.Time
	if err := r.Zones.Write(e, func() { renamed = time.Now() }); err != nil {
		return err
	}
	if len(witnesses) > 0 {
		for _, host := range r.Up.Hosts {
			for _, w := range witnesses {
				if err := r.arrive(ctx, host, w); err != nil {
					return err
				}
			}
		}
		r.Latency = append(r.Latency, time.Since(renamed))
	} else if len(e.Files) > 0 {
		r.Unseen++
	}
	if len(e.Files) == 0 {
		r.Silent++
	}
	if _, err := AwaitGoals(ctx, r.client, goals); err != nil {
		return err
	}
	if r.Digest, err = OneDigest(ctx, r.client, len(r.Up.Hosts)); err != nil {
		return err
	}
	r.Added, r.Removed, r.Skipped = r.Added+e.Added, r.Removed+e.Removed, r.Skipped+e.Skipped
	return r.ask(ctx, c, e.Keys)
}

// plan makes the world what it must become, and says how that is seen: a key for each
// file whose answer changes.
func (r *Replay) plan(e *Edit) (goals []Goal, witnesses []witness) {
	type candidate struct {
		file string
		was  Expected
	}
	var candidates []candidate
	states := make([]*zonefile.Zone, len(e.Files))
	for i, f := range e.Files {
		old := r.World.zones[f.Name]
		states[i] = f.Zone
		if f.Refused != nil {
			states[i] = old // the last good state stays
		}
		differ := differences(old, states[i])
		const enough = 8 // keys to look for one whose answer changes
		for _, k := range differ[:min(len(differ), enough)] {
			candidates = append(candidates, candidate{f.Name, r.World.Expect(k)})
		}
	}
	for i, f := range e.Files {
		r.World.take(f.Name, states[i])
		g := Goal{File: f.Name, Refused: f.Refused}
		if states[i] != nil {
			g.Revision = states[i].Revision
		}
		goals = append(goals, g)
		r.note(f)
	}
	seen := map[string]bool{}
	for _, c := range candidates {
		now := r.World.Expect(c.was.Key)
		if seen[c.file] || c.was.Kind == Wildcard || now.Kind == Wildcard || c.was.same(now) {
			continue
		}
		seen[c.file] = true
		witnesses = append(witnesses, witness{c.file, now})
	}
	return goals, witnesses
}

// same tells whether both are answered alike; serials are not looked at.
func (e Expected) same(f Expected) bool {
	return (e.Kind == Referred) == (f.Kind == Referred) && slices.EqualFunc(e.Sets, f.Sets, func(a, b record.RRset) bool {
		return a.Equal(b) || a.Type == record.TypeSOA && a.Key == b.Key && a.TTL == b.TTL && sameButSerial(a, b)
	})
}

func (r *Replay) note(f FileEdit) {
	switch {
	case f.Refused != nil:
		r.Refused++
		r.broken[f.Name] = true
		return
	case f.Content == nil:
		r.Gone++
	default:
		r.Files++
	}
	if r.broken[f.Name] {
		r.Healed++
		delete(r.broken, f.Name)
	}
}

// arrive asks a host until it answers as it must.
func (r *Replay) arrive(ctx context.Context, host netip.AddrPort, w witness) error {
	const pause = time.Millisecond
	for {
		err := askOne(ctx, host, w.want)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("file %s did not arrive at %s: %w", w.file, host, err)
		case <-time.After(pause):
		}
	}
}

func askOne(ctx context.Context, host netip.AddrPort, want Expected) error {
	a, err := dnswire.Query(ctx, host, want.Key.Owner, want.Key.Type, false)
	if err != nil {
		return err
	}
	return want.Check(a)
}

// ask asks all hosts for keys of a change, by plain DNS, once.
func (r *Replay) ask(ctx context.Context, c Change, keys []record.Key) error {
	if r.Sample > 0 && len(keys) > r.Sample {
		h := fnv.New64a()
		h.Write([]byte(c.ID))
		random := rand.New(rand.NewPCG(h.Sum64(), 0)) // the same keys in every run
		keys = slices.Clone(keys)
		random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		keys = keys[:r.Sample]
	}
	for _, k := range keys {
		want := r.World.Expect(k)
		r.Asked[want.Kind]++
		for _, host := range r.Up.Hosts {
			if err := askOne(ctx, host, want); err != nil {
				return fmt.Errorf("host %s: %w", host, err)
			}
		}
	}
	return nil
}

// String is the report.
func (r *Replay) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d changes in %.1f s, %d of them without a record in a zone file\n", r.Changes, r.took.Seconds(), r.Silent)
	fmt.Fprintf(&b, "%d records added, %d removed, %d left out (DYNA)\n", r.Added, r.Removed, r.Skipped)
	fmt.Fprintf(&b, "%d file contents taken, %d files gone, %d contents refused, %d healed; %d changes of files that change no answer\n", r.Files, r.Gone, r.Refused, r.Healed, r.Unseen)
	for _, k := range []ExpectedKind{Written, Ruled, Gone, Wildcard, Referred, Foreign} {
		fmt.Fprintf(&b, "asked of each host: %5d %s\n", r.Asked[k], k)
	}
	fmt.Fprintf(&b, "from rename to answered by all hosts: %s\n", r.Latency)
	fmt.Fprintf(&b, "digest %s", r.Digest)
	return b.String()
}
