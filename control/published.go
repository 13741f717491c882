package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// published is the dataset as hosts are given it.
type published struct {
	mu      sync.Mutex // guards below
	dataset *snapshot.Dataset
	keys    map[record.Name][]record.Key // of the dataset's RRsets, by owner
	below   map[record.Name]int          // owners below a name; without those of which there are none
	export  export
	guide   *geo.Guide // of its maps and PoPs
}

// export is one version in canonical order, kept until an export of another version
// begins. Without freshness records only content counts as a version, so exports
// that run side by side share it.
type export struct {
	version uint64
	digest  string
	rrsets  []record.RRset
}

// reset takes over a dataset that nobody else changes.
func (p *published) reset(d *snapshot.Dataset) {
	keys := make(map[record.Name][]record.Key, d.Len())
	below := map[record.Name]int{}
	var own []record.RRset
	for r := range d.All() {
		if r.Type.IsOwn() {
			own = append(own, r)
		}
		if keys[r.Owner] == nil {
			count(below, r.Owner, 1)
		}
		keys[r.Owner] = append(keys[r.Owner], r.Key)
	}
	guide, _ := (*geo.Guide)(nil).Apply(own, nil) // what is malformed hosts say
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dataset, p.keys, p.below, p.guide = d, keys, below, guide
}

// count adds an owner that came, or went, to the names above it.
func count(below map[record.Name]int, owner record.Name, n int) {
	for name := owner.Parent(); name != ""; name = name.Parent() {
		if below[name] += n; below[name] == 0 {
			delete(below, name)
		}
	}
}

func (p *published) apply(delta *snapshot.Delta) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.dataset.Apply(delta); err != nil {
		return err
	}
	if delta.Full {
		clear(p.keys)
		clear(p.below)
		p.guide = nil
	}
	p.guide, _ = p.guide.Apply(delta.Put, delta.Remove)
	for _, k := range delta.Remove {
		rest := slices.DeleteFunc(p.keys[k.Owner], func(l record.Key) bool { return l == k })
		if len(rest) == 0 {
			if p.keys[k.Owner] != nil {
				count(p.below, k.Owner, -1)
			}
			delete(p.keys, k.Owner)
			continue
		}
		p.keys[k.Owner] = rest
	}
	for _, r := range delta.Put {
		if p.keys[r.Owner] == nil {
			count(p.below, r.Owner, 1)
		}
		if !slices.Contains(p.keys[r.Owner], r.Key) {
			p.keys[r.Owner] = append(p.keys[r.Owner], r.Key)
		}
	}
	return nil
}

// apex gives the zone that a name is in, "" when it is in none; known is false while
// nothing was read yet.
func (p *published) apex(name record.Name) (apex record.Name, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ; name != ""; name = name.Parent() {
		if slices.ContainsFunc(p.keys[name], func(k record.Key) bool { return k.Type == record.TypeSOA }) {
			return name, true
		}
	}
	return "", p.dataset != nil
}

func (p *published) len() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dataset == nil {
		return 0, false
	}
	return p.dataset.Len(), true
}

func (p *published) version() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dataset == nil {
		return 0
	}
	return p.dataset.Version()
}

// has tells whether a claim's data is answered, among others when it may be united.
func (p *published) has(c record.Claim, united bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dataset == nil {
		return false
	}
	r, ok := p.dataset.Get(c.Key)
	return ok && (united || len(r.Data) == len(c.Data)) && !slices.ContainsFunc(c.Data, func(d record.Rdata) bool { return !slices.Contains(r.Data, d) })
}

// GetRecords implements controlapi.Control.
func (c *Control) GetRecords(ctx context.Context, name, typ string) (*controlapi.Records, error) {
	defer c.observe("get_records")()
	owner, t, err := nameAndType(name, typ)
	if err != nil {
		return nil, err
	}
	p := &c.published
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dataset == nil {
		return nil, starting()
	}
	out := &controlapi.Records{Version: int64(p.dataset.Version())}
	keys := slices.Clone(p.keys[owner])
	slices.SortFunc(keys, record.Key.Compare)
	for _, k := range keys {
		if t != 0 && k.Type != t {
			continue
		}
		r, _ := p.dataset.Get(k)
		out.Records = append(out.Records, recordSet(r))
	}
	return out, nil
}

func recordSet(r record.RRset) *controlapi.RecordSet {
	return &controlapi.RecordSet{Owner: r.Owner.String(), Type: r.Type.String(), TTL: int64(r.TTL), Location: string(r.Location), Rdata: rdataTexts(r)}
}

// ExportRecords implements controlapi.Control. Freshness records are left out:
// they belong to a moment and not to the data. The cursor is "version/index".
func (c *Control) ExportRecords(ctx context.Context, dataset, after string, limit int32) (*controlapi.ExportPage, error) {
	defer c.observe("export_records")()
	if err := c.known(dataset); err != nil {
		return nil, err
	}
	p := &c.published
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dataset == nil {
		return nil, starting()
	}
	var version uint64
	var from int
	if after == "" {
		if p.export.version != p.dataset.Content() {
			p.export = exportOf(p.dataset)
		}
		version = p.export.version
	} else if _, err := fmt.Sscanf(after, "%d/%d", &version, &from); err != nil || from < 0 || strings.Count(after, "/") != 1 {
		return nil, api.Refuse(api.Invalid, "pass next_after of the page before", "cursor is %q", after)
	}
	if version != p.export.version || from > len(p.export.rrsets) {
		return nil, api.Refuse(api.NotFound, "start the export again", "version %d is no longer being exported", version)
	}
	to := min(from+pageSize(limit), len(p.export.rrsets))
	page := &controlapi.ExportPage{Version: int64(version), Digest: p.export.digest}
	for _, r := range p.export.rrsets[from:to] {
		page.Records = append(page.Records, recordSet(r))
	}
	if to < len(p.export.rrsets) {
		page.NextAfter = fmt.Sprintf("%d/%d", version, to)
	}
	return page, nil
}

func exportOf(d *snapshot.Dataset) export {
	e := export{version: d.Content(), digest: d.Digest().String(), rrsets: make([]record.RRset, 0, d.Len())}
	for r := range d.All() {
		if !snapshot.IsFreshness(r.Key) {
			e.rrsets = append(e.rrsets, r)
		}
	}
	return e
}

func (c *Control) followPublished(ctx context.Context) error {
	f, err := follow.New(follow.Config{Dataset: c.cfg.Dataset, Store: c.deps.Store, Fetcher: c.deps.Fetcher, Log: c.deps.Log}, nil, sink{c})
	if err != nil {
		return err
	}
	return f.Run(ctx)
}

// sink takes what the follower verified into published.
type sink struct{ *Control }

// Reset implements follow.Sink.
func (s sink) Reset(_ context.Context, r follow.Reset) error {
	s.published.reset(r.Dataset.Clone())
	return nil
}

// Apply implements follow.Sink. Without a Reset before it, the history begins here.
func (s sink) Apply(_ context.Context, g follow.Group) error {
	if s.published.version() == 0 {
		s.published.reset(g.Dataset.Clone())
		return nil
	}
	for _, d := range g.Deltas {
		if err := s.published.apply(d); err != nil {
			s.published.reset(g.Dataset.Clone())
			return nil
		}
	}
	return nil
}

// Refused implements follow.Sink.
func (s sink) Refused(r follow.Refusal) {
	s.deps.Log.Warn("published data not read", "dataset", s.cfg.Dataset, "kind", string(r.Kind), "version", r.Version, "error", r.Err)
}
