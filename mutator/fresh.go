package mutator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/freshness"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// freshSource claims the freshness records and their zones.
const freshSource = freshness.Source

// FreshConfig says what is stamped.
type FreshConfig struct {
	// Interval is how often. Each stamp is a version of each dataset, some 200
	// octets to every host. Zero or less: never, and freshness cannot be measured.
	Interval time.Duration `option:"interval" help:"how often the freshness records are stamped; 0 never"`
	// Zone is where the records are: _fresh.<dataset>.<zone>. It is claimed as a
	// Fallback, so that a zone that somebody claims there, or above, takes its place. When
	// there are several datasets, <dataset>.<zone> is a zone as well, so that each has its own.
	Zone record.Name `option:"zone" help:"zone of the freshness records"`
	// Datasets are the datasets that get one.
	Datasets []string `option:"datasets" help:"datasets that have a freshness record"`
}

// DefaultFreshConfig stamps the dataset "internal" once a second below
// zonecast.internal.
func DefaultFreshConfig() FreshConfig {
	return FreshConfig{Interval: time.Second, Zone: "\x08zonecast\x08internal\x00", Datasets: []string{"internal"}}
}

// Validate names the first value that is out of range.
func (c FreshConfig) Validate() error {
	if c.Interval <= 0 {
		return nil
	}
	if c.Interval < 10*time.Millisecond {
		return fmt.Errorf("fresh-interval is %s, expected at least 10ms, or 0", c.Interval)
	}
	if c.Zone == "" {
		return errors.New("fresh-zone is missing, expected a name such as zonecast.internal")
	}
	for _, d := range c.Datasets {
		if err := store.CheckPath(tree.HeadPath(d)); err != nil || strings.Contains(d, "/") {
			return fmt.Errorf("fresh-datasets has %q, expected the name of a dataset", d)
		}
		if _, err := FreshName(d, c.Zone); err != nil {
			return fmt.Errorf("fresh-datasets: %w", err)
		}
	}
	return nil
}

// FreshName is the owner of a dataset's freshness record.
func FreshName(dataset string, zone record.Name) (record.Name, error) {
	return freshness.Name(zone, dataset)
}

// freshText is the record's text: the version and the first 16 hexadecimal digits
// of the digest that were the newest when the stamp was made, and unix time in
// milliseconds. What a host answers is at least the version after that one; the age
// of t is the age of the whole way.
func freshText(h tree.Head, now time.Time) string {
	digest := h.Digest
	if len(digest) > 16 {
		digest = digest[:16]
	}
	return fmt.Sprintf("v=%d t=%d d=%s", h.Version, now.UnixMilli(), digest)
}

// stamp writes the zone's shard once, then a shard for each dataset at every tick. A
// stamp that fails is not repeated: the next is better.
func (m *Mutator) stamp(ctx context.Context, fence store.Cond) error {
	if err := m.stampZone(ctx, fence); err != nil {
		return err
	}
	tick := time.NewTicker(m.cfg.Fresh.Interval)
	defer tick.Stop()
	failing := false
	for {
		err := m.stampOnce(ctx, fence)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrConflict):
			return fmt.Errorf("stamp freshness: %w", err)
		case err != nil:
			m.metrics.errors.Inc()
			if !failing {
				m.deps.Log.Warn("freshness cannot be stamped", "error", err)
			}
		case failing:
			m.deps.Log.Info("freshness is stamped again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// stampZone makes the source what the configuration says: the shards of zones, and no shard of
// a dataset that is stamped no more.
func (m *Mutator) stampZone(ctx context.Context, fence store.Cond) error {
	nodes, _, err := m.deps.Store.List(ctx, tree.ClaimsPrefix(freshSource))
	if err != nil {
		return fmt.Errorf("list claims of %s: %w", freshSource, err)
	}
	there := map[string]string{}
	for _, n := range nodes {
		there[n.Path] = string(n.Value)
	}
	t := store.Txn{If: []store.Cond{fence}}
	keep := map[string]bool{}
	zone := func(shard string, apex record.Name) {
		op := claimtree.Ops(freshSource, shard, m.cfg.Rules.Zone(apex, freshSource, "zone of the freshness records"))
		if keep[op.Path] = true; there[op.Path] != string(op.Value) {
			t.Do = append(t.Do, op)
		}
	}
	zone(freshness.ZoneShard, m.cfg.Fresh.Zone)
	for _, d := range m.cfg.Fresh.Datasets {
		keep[claimtree.Path(freshSource, freshness.Shard(d))] = true
		if len(m.cfg.Fresh.Datasets) > 1 {
			apex, err := m.cfg.Fresh.Zone.Child(d)
			if err != nil {
				return fmt.Errorf("zone of the freshness record of %s: %w", d, err)
			}
			zone(freshness.ZoneShardOf(d), apex)
		}
	}
	for _, n := range nodes {
		if !keep[n.Path] && len(t.Do) < txnOps {
			t.Do = append(t.Do, store.Op{Path: n.Path, Delete: true})
		}
	}
	if len(t.Do) == 0 {
		return nil
	}
	_, err = persist(ctx, m, t)
	return err
}

// stampOnce writes the records with the time of now.
func (m *Mutator) stampOnce(ctx context.Context, fence store.Cond) error {
	// A stamp that takes longer than the next would come is given up.
	ctx, cancel := context.WithTimeout(ctx, max(m.cfg.Fresh.Interval, time.Second))
	defer cancel()
	t := store.Txn{If: []store.Cond{fence}}
	for _, d := range m.cfg.Fresh.Datasets {
		var head tree.Head
		node, err := m.deps.Store.Get(ctx, tree.HeadPath(d))
		if err == nil {
			err = tree.Decode(node, &head)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read head of %s: %w", d, err)
		}
		owner, err := FreshName(d, m.cfg.Fresh.Zone)
		if err != nil {
			return err
		}
		now := m.deps.Now()
		text := freshText(head, now)
		t.Do = append(t.Do, claimtree.Ops(freshSource, freshness.Shard(d), []record.Claim{{
			// The text's length octet stands before it (RFC 1035 §3.3.14). TTL 0: a
			// freshness out of a cache would be a lie.
			RRset:      record.NewRRset(owner, record.TypeTXT, 0, record.Rdata([]byte{byte(len(text))})+record.Rdata(text)),
			Source:     freshSource,
			Provenance: record.Provenance{Time: now.UTC().Truncate(time.Millisecond)},
			Place:      "freshness of dataset " + d,
		}}))
	}
	if len(t.Do) == 0 {
		return nil
	}
	_, err := m.deps.Store.Commit(ctx, t)
	return err
}
