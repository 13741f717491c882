package canary

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// maxExamples is how many questions are told of with their answers.
const maxExamples = 5

// withoutSamples is how long a ring is kept from going on because there are no samples: hosts
// give the first some minutes after they start to be asked.
const withoutSamples = 2 * time.Minute

// replay asks what hosts were asked lately of the data before and after the trial. Nil without
// an error: there is nothing to ask yet, or the trial is composed anew just now.
func (b *bench) replay(ctx context.Context, t *trial.Trial) (*replayed, error) {
	if b.deps.Answers == nil {
		return &replayed{none: "nothing is replayed here: nothing answers questions"}, nil
	}
	traffic, err := replay.Gather(ctx, b.deps.Store, b.cfg.Dataset, slices.Collect(maps.Keys(b.hosts)), time.Now(), b.deps.Log)
	if err != nil {
		return nil, err
	}
	if traffic.Drawn == 0 {
		if !b.soaking.IsZero() && time.Since(b.soaking) >= min(withoutSamples, t.Policy.Rings[b.ring.ring].Soak) {
			return &replayed{none: noSamples}, nil
		}
		return nil, nil
	}
	parts, _, err := b.deps.Store.List(ctx, tree.TrialPartsPrefix(b.cfg.Dataset, t.Number))
	if err != nil {
		return nil, fmt.Errorf("read trial %s: %w", t.ID, err)
	}
	o := trial.Offer{Dataset: t.Dataset, ID: t.ID, Base: t.Base, Size: t.Size, SHA256: t.SHA256}
	d, err := o.Open(trial.Parts(parts))
	if err != nil {
		return nil, err
	}
	published, err := follow.Load(ctx, follow.Config{Dataset: b.cfg.Dataset, Store: b.deps.Store, Fetcher: b.deps.Fetcher, Log: b.deps.Log})
	if err != nil {
		return nil, err
	}
	r := newReader(published)
	after := replay.Otherwise{}
	var before snapshot.Digest
	touch := func(k record.Key, is *record.RRset) {
		after[k] = is
		if was, ok := published.Get(k); ok {
			before = before.Add(snapshot.HashRRset(was))
		}
	}
	for i := range d.Put {
		touch(d.Put[i].Key, &d.Put[i])
	}
	for _, k := range d.Remove {
		touch(k, nil)
	}
	if before != d.BaseDigest {
		return nil, nil
	}
	out := &replayed{drawn: traffic.Drawn, hosts: traffic.Hosts, zones: map[string]*zoneShare{}}
	e, err := replay.Each(traffic, r, nil, after, b.deps.Answers, func(x replay.Example) {
		switch x.Kind {
		case replay.Failure:
			out.failing += x.Share
		case replay.NXDomain, replay.NoData, replay.Refused:
		default:
			return
		}
		out.lost += x.Share
		zone := r.zone(x.Name)
		z := out.zones[zone]
		if z == nil {
			z = &zoneShare{kinds: map[string]float64{}}
			out.zones[zone] = z
		}
		z.share += x.Share
		z.kinds[string(x.Kind)] += x.Share
		if len(out.examples) < maxExamples {
			out.examples = append(out.examples, fmt.Sprintf("%s %s (%s of queries): %s, before %s", x.Name, x.Type, percent(x.Share), x.After, x.Before))
		}
	})
	if err != nil {
		return nil, err
	}
	out.share = e.Share
	b.replays.Inc()
	return out, nil
}

// reader is a replay.Reader of a dataset.
type reader struct {
	*snapshot.Dataset
	keys []record.Key // in canonical order
}

func newReader(d *snapshot.Dataset) *reader {
	r := &reader{Dataset: d, keys: make([]record.Key, 0, d.Len())}
	for s := range d.All() {
		r.keys = append(r.keys, s.Key)
	}
	return r
}

// from is where the keys of a name are, or would be.
func (r *reader) from(name record.Name) int {
	i, _ := slices.BinarySearchFunc(r.keys, name, func(k record.Key, name record.Name) int { return k.Owner.Compare(name) })
	return i
}

func (r *reader) At(name record.Name) (sets []record.RRset) {
	for _, k := range r.keys[r.from(name):] {
		if k.Owner != name {
			break
		}
		if s, ok := r.Get(k); ok {
			sets = append(sets, s)
		}
	}
	return sets
}

// Below: the names below one are its neighbours.
func (r *reader) Below(name record.Name) iter.Seq[record.Name] {
	return func(yield func(record.Name) bool) {
		last := name
		for _, k := range r.keys[r.from(name):] {
			if !k.Owner.IsSubdomainOf(name) {
				return
			}
			if k.Owner != last {
				if last = k.Owner; !yield(last) {
					return
				}
			}
		}
	}
}

// zone is the zone that a name was in.
func (r *reader) zone(name record.Name) string {
	for at := name; at != ""; at = at.Parent() {
		for _, s := range r.At(at) {
			if s.Type == record.TypeSOA {
				return at.String()
			}
		}
	}
	return "none"
}
