package guard

import (
	"slices"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// effect is what a change does to one RRset, as bounds count it.
type effect uint8

const (
	removed effect = iota
	replaced
	repointed // a reviewed source's CNAME that leads to another name
	created
	lowered // the TTL; counted beside replaced and repointed
	effects
)

func (e effect) kind() Kind {
	return [effects]Kind{Removed, Replaced, Repointed, Created, Lowered}[e]
}

// counts are RRsets by effect.
type counts [effects]int

func (c *counts) add(d *counts) {
	for e := range c {
		c[e] += d[e]
	}
}

// event is one RRset that a change removes, replaces or creates, or two of which one
// is renamed to the other.
type event struct {
	key      *record.Key
	old, now *record.RRset // nil when there is none, or when the change does not have it
	zone     int           // index in tally.zones
	effect   effect
	counted  bool // in bounds
	lowered  bool // the TTL
}

// renamed tells whether another owner has the data now.
func (e *event) renamed() bool {
	return e.old != nil && e.now != nil && e.old.Owner != e.now.Owner
}

// events gives what a change does to each RRset; counted, zone and renames are still
// to be found. Both Put and Remove are in the order of Old.
func events(c *reconcile.Change, to []event) []event {
	put, remove := 0, 0
	create := func() {
		to = append(to, event{key: &c.Put[put].Key, now: &c.Put[put], effect: created})
		put++
	}
	for i := range c.Old {
		old := &c.Old[i]
		if remove < len(c.Remove) && c.Remove[remove] == old.Key {
			to = append(to, event{key: &old.Key, old: old, effect: removed})
			remove++
			continue
		}
		for put < len(c.Put) && c.Put[put].Key != old.Key {
			create()
		}
		if put < len(c.Put) {
			now := &c.Put[put]
			to = append(to, event{key: &old.Key, old: old, now: now, effect: replaced, lowered: falls(old.TTL, now.TTL)})
			put++
		}
	}
	for put < len(c.Put) {
		create()
	}
	for ; remove < len(c.Remove); remove++ {
		to = append(to, event{key: &c.Remove[remove], effect: removed})
	}
	return to
}

// falls tells whether a TTL falls to 0 or near it.
func falls(old, now uint32) bool {
	return now < old && (now == 0 || now < nearZero && now < old/10)
}

// isContent tells whether an RRset counts as one of the zone's: all do but its SOA and
// NS, which never go without tripping, and freshness records.
func isContent(k *record.Key, apex record.Name) bool {
	if (k.Type == record.TypeSOA || k.Type == record.TypeNS) && k.Owner == apex {
		return false
	}
	return !snapshot.IsFreshness(*k)
}

// isChallenge tells whether a robot took an ACME challenge away (RFC 8555 §8.4), or
// put another there.
func (e *event) isChallenge() bool {
	const label = "\x0f_acme-challenge"
	return e.key.Type == record.TypeTXT && e.effect != created && len(e.key.Owner) > len(label) && e.key.Owner[:len(label)] == label
}

// pairRenames makes one event of two where an RRset goes and another owner in the same
// zone comes with its type and data.
func (t *tally) pairRenames() {
	type likeness struct {
		zone  int
		typ   record.Type
		loc   record.Location
		first record.Rdata
	}
	like := func(zone int, r *record.RRset) likeness { return likeness{zone, r.Type, r.Location, r.Data[0]} }
	var gone, come int
	for i := range t.events {
		switch e := &t.events[i]; {
		case !e.counted:
		case e.effect == removed && e.old != nil:
			gone++
		case e.effect == created:
			come++
		}
	}
	if gone == 0 || come == 0 {
		return
	}
	went := make(map[likeness][]*event, gone)
	for i := len(t.events) - 1; i >= 0; i-- { // the first of equal ones is the last of its list
		if e := &t.events[i]; e.counted && e.effect == removed && e.old != nil && len(e.old.Data) > 0 {
			k := like(e.zone, e.old)
			went[k] = append(went[k], e)
		}
	}
	for i := range t.events {
		e := &t.events[i]
		if !e.counted || e.effect != created || len(e.now.Data) == 0 {
			continue
		}
		k := like(e.zone, e.now)
		old := went[k]
		if len(old) == 0 || !slices.Equal(old[len(old)-1].old.Data, e.now.Data) {
			continue
		}
		was := old[len(old)-1]
		went[k] = old[:len(old)-1]
		was.effect, was.now, was.lowered = replaced, e.now, falls(was.old.TTL, e.now.TTL)
		e.counted = false
	}
}

// isRepointed tells whether a CNAME leads to another name.
func (e *event) isRepointed() bool {
	return e.effect == replaced && e.key.Type == record.TypeCNAME && e.old != nil && e.now != nil && !slices.Equal(e.old.Data, e.now.Data)
}

// keeps tells whether any of the old data stays.
func (e *event) keeps() bool {
	if e.now == nil {
		return false
	}
	return slices.ContainsFunc(e.old.Data, func(d record.Rdata) bool { return slices.Contains(e.now.Data, d) })
}
