package control

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

const (
	// effectFor is how long it is said of a hold what was found once: `status` shows it, too.
	effectFor = 10 * time.Second
)

// effects are those of holds, by id.
type effects struct {
	mu   sync.Mutex // guards below; held while one is made
	made map[string]madeEffect
}

type madeEffect struct {
	effect *controlapi.Effect
	at     time.Time
}

// live joins the samples of hosts.
func (c *Control) live(ctx context.Context) (replay.Traffic, error) {
	var hosts []string
	c.marks.mu.Lock()
	for name := range c.marks.hosts {
		hosts = append(hosts, name)
	}
	c.marks.mu.Unlock()
	t, err := replay.Gather(ctx, c.deps.Store, c.cfg.Dataset, hosts, c.deps.Now(), c.deps.Log)
	if err != nil {
		return t, unavailable(err)
	}
	return t, nil
}

// Why nothing is known of the live traffic.
const (
	nobodySaid    = "no host has said lately what it is asked (--authority-sample, --agent-sample-every)"
	nobodyAnswers = "nothing answers questions here"
)

// effect asks the traffic in two states that are r with some RRsets otherwise.
func (c *Control) effect(t replay.Traffic, r replay.Reader, before, after replay.Otherwise) *controlapi.Effect {
	if t.Drawn == 0 {
		return unknown(nobodySaid)
	}
	if c.deps.Answers == nil {
		return unknown(nobodyAnswers)
	}
	e, err := replay.Of(t, r, before, after, c.deps.Answers)
	if err != nil {
		c.deps.Log.Error("change cannot be tried on the live traffic", "error", err)
		return unknown("the questions could not be asked: " + err.Error())
	}
	out := &controlapi.Effect{
		Sampled: e.Drawn, Hosts: int32(e.Hosts), SinceMs: e.From.UnixMilli(), UntilMs: e.To.UnixMilli(), Queries: e.Queries,
		Share: e.Share, Low: e.Low, High: e.High, More: int64(e.More), NoName: e.NoName,
	}
	for _, k := range e.Kinds {
		out.Kinds = append(out.Kinds, &controlapi.KindShare{Kind: string(k.Kind), Share: k.Share})
	}
	for _, x := range e.Examples {
		out.Examples = append(out.Examples, &controlapi.Example{
			Name: x.Name.String(), Type: x.Type.String(), Share: x.Share, Kind: string(x.Kind), Before: x.Before, After: x.After,
		})
	}
	return out
}

func unknown(why string) *controlapi.Effect { return &controlapi.Effect{Unknown: why} }

// held adds to holds what they would do to the live traffic.
func (c *Control) held(ctx context.Context, holds []*controlapi.Hold) {
	c.effects.mu.Lock()
	defer c.effects.mu.Unlock()
	now := c.deps.Now()
	made := map[string]madeEffect{}
	var traffic *replay.Traffic
	for _, h := range holds {
		m, known := c.effects.made[h.ID]
		if !known || now.Sub(m.at) >= effectFor {
			if traffic == nil {
				t, err := c.live(ctx)
				if err != nil { // what is held is shown all the same
					h.Effect = unknown("samples cannot be read: " + err.Error())
					continue
				}
				traffic = &t
			}
			m = madeEffect{c.ifAdmitted(record.Source(h.Source), *traffic), now}
		}
		made[h.ID], h.Effect = m, m.effect
	}
	c.effects.made = made
}

// ifAdmitted is what it does to the traffic when what waits of a source is let through. It is
// let through for the time of the question, and not seen by anybody else.
func (c *Control) ifAdmitted(s record.Source, t replay.Traffic) *controlapi.Effect {
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	state := c.claims.state
	if c.claims.shards[s] == 0 {
		return unknown("it is not read yet here what " + string(s) + " claims")
	}
	if t.Drawn == 0 {
		return c.effect(t, nil, nil, nil)
	}
	old := map[string][]record.Claim{}
	for k, claims := range c.claims.waiting {
		if k.source == s {
			old[k.name] = state.Shard(s, k.name)
			state.Replace(s, k.name, claims)
		}
	}
	change := state.Reconcile()
	defer func() {
		for name, claims := range old {
			state.Replace(s, name, claims)
		}
		state.Reconcile()
	}()
	return c.effect(t, state, undone(change), nil)
}

// undone is what was before a change.
func undone(change reconcile.Change) replay.Otherwise {
	before := make(replay.Otherwise, len(change.Put)+len(change.Remove))
	for _, k := range change.Remove {
		before[k] = nil
	}
	for _, r := range change.Put {
		before[r.Key] = nil
	}
	for i := range change.Old {
		before[change.Old[i].Key] = &change.Old[i]
	}
	return before
}

// reader is a replay.Reader of what is published, while both its and the claims' mutex are
// held.
type reader struct{ *Control }

func (r reader) At(name record.Name) (sets []record.RRset) {
	for _, k := range r.published.keys[name] {
		if s, ok := r.published.dataset.Get(k); ok {
			sets = append(sets, s)
		}
	}
	return sets
}

// Below looks for names in the order that what is in force has; those that are published
// and not in force, as in a pinned dataset, are looked for among all.
func (r reader) Below(name record.Name) iter.Seq[record.Name] {
	return func(yield func(record.Name) bool) {
		left := r.published.below[name]
		if left == 0 {
			return
		}
		known := map[record.Name]bool{}
		for n := range r.claims.state.Below(name) {
			if r.published.keys[n] == nil {
				continue
			}
			known[n] = true
			if left--; !yield(n) || left == 0 {
				return
			}
		}
		for n := range r.published.keys {
			if n != name && n.IsSubdomainOf(name) && !known[n] && !yield(n) {
				return
			}
		}
	}
}

// between is what it does to the traffic to go from one past to another. The caller holds
// c.claims.mu and c.published.mu.
func (c *Control) between(a, b history.Past, t replay.Traffic) *controlapi.Effect {
	return c.effect(t, reader{c}, a, b)
}
