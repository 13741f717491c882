package recursor

import (
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// What the authority answers on top of the dataset - overrides that operators handed to
// the host, and a trial - comes and goes without a version. The authority says in its
// file what there is, and the names are flushed when that changes.

// onTop is what lies on top, as far as it was seen.
type onTop struct {
	mark []string // what the authority says of it
	keys []record.Key
}

// marks is what the authority says it answers on top.
func marks(h tree.HostDataset) (all []string) {
	for _, d := range h.Direct {
		if d.Refused == "" {
			all = append(all, fmt.Sprintf("direct %s %s %s %d", d.ID, d.Owner, d.Type, d.Until))
		}
	}
	if t := h.Trial; t != nil && t.Refused == "" {
		all = append(all, fmt.Sprintf("trial %s %d", t.ID, t.Since))
	}
	return all
}

// keysOnTop are the RRsets that lie on top. A trial that cannot be read is an error: it
// may have gone at this moment.
func (c *carried) keysOnTop(h tree.HostDataset) ([]record.Key, error) {
	var keys []record.Key
	for _, d := range h.Direct {
		owner, err := record.ParseName(d.Owner)
		if err != nil {
			return nil, err
		}
		t, err := record.ParseType(d.Type)
		if err != nil {
			return nil, err
		}
		keys = append(keys, record.Key{Owner: owner, Type: t})
	}
	if h.Trial == nil || h.Trial.Refused != "" {
		return keys, nil
	}
	_, encoded, err := trial.Read(trial.Path(c.dir))
	if err != nil {
		return keys, err
	}
	d, err := snapshot.DecodeDelta(encoded)
	if err != nil {
		return keys, err
	}
	for _, s := range d.Put {
		keys = append(keys, s.Key)
	}
	return append(keys, d.Remove...), nil
}

// lookOnTop gives a plan when what lies on top is not what it was; nil: it is.
func (c *carried) lookOnTop(h tree.HostDataset) *plan {
	now := marks(h)
	if slices.Equal(now, c.top.mark) {
		return nil
	}
	keys, err := c.keysOnTop(h)
	if err != nil {
		c.log.Debug("what lies on top of the dataset cannot be read", "error", err)
	}
	before := c.top.keys
	c.top = onTop{now, keys}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.index == nil {
		return nil // all is flushed when it is there
	}
	return c.index.over(append(slices.Clone(before), keys...))
}

// over plans for RRsets that are answered otherwise than the dataset has them. Zones that
// a trial makes are not asked for.
func (x *index) over(keys []record.Key) *plan {
	p := newPlan(x.Version(), x.Time())
	for _, k := range keys {
		x.touch(p, k)
		x.far(p, k)
		if x.covered(k.Owner) {
			p.subtree(k.Owner)
		}
	}
	return p
}
