package snapshot

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// zones knows where the zones are and when each changed.
type zones struct {
	// soas has, for each apex, its SOAs by location.
	soas map[record.Name][]zoneSOA
	// stamps has the same keys: the version that last changed the zone.
	stamps map[record.Name]uint64
}

// zoneSOA is what matters of one: where it holds, and the serial that it claims; 0 when its
// RDATA is not a SOA's.
type zoneSOA struct {
	location record.Location
	claimed  uint32
}

func (s zoneSOA) compare(l record.Location) int { return cmp.Compare(s.location, l) }

func newZones() zones {
	return zones{soas: map[record.Name][]zoneSOA{}, stamps: map[record.Name]uint64{}}
}

func (z zones) clone() zones {
	c := zones{soas: maps.Clone(z.soas), stamps: maps.Clone(z.stamps)}
	for apex, soas := range c.soas {
		c.soas[apex] = slices.Clone(soas)
	}
	return c
}

// enclosing is the apex nearest at or above name.
func (z zones) enclosing(name record.Name) (record.Name, bool) {
	for ; name != ""; name = name.Parent() {
		if _, ok := z.soas[name]; ok {
			return name, true
		}
	}
	return "", false
}

// touch is what a change touches, seen from the apexes as they are at one moment.
type touch struct {
	zones map[record.Name]struct{}
	// apexes has the owners of the SOAs that change and are apexes at the moment,
	// parents the zones above all of those owners.
	apexes  map[record.Name]struct{}
	parents map[record.Name]record.Name
}

// touched tells what a change of the keys touches now. A zone's parent holds its
// delegation, so NS and DS at an apex touch both.
func (z zones) touched(keys []record.Key) touch {
	t := touch{zones: map[record.Name]struct{}{}}
	for _, k := range keys {
		if IsFreshness(k) {
			continue
		}
		apex, ok := z.enclosing(k.Owner)
		if ok {
			t.zones[apex] = struct{}{}
		}
		switch k.Type {
		case record.TypeSOA, record.TypeNS, record.TypeDS:
		default:
			continue
		}
		parent, hasParent := z.enclosing(k.Owner.Parent())
		isApex := ok && apex == k.Owner
		if k.Type != record.TypeSOA {
			if hasParent && isApex {
				t.zones[parent] = struct{}{}
			}
			continue
		}
		if t.apexes == nil {
			t.apexes, t.parents = map[record.Name]struct{}{}, map[record.Name]record.Name{}
		}
		if hasParent {
			t.parents[k.Owner] = parent
		}
		if isApex {
			t.apexes[k.Owner] = struct{}{}
		}
	}
	return t
}

// stamp gives version to what a change touched before and after it. A zone that
// came or went touches the zones above it: the names moved between them.
func (z zones) stamp(version uint64, before, after touch) {
	set := func(apex record.Name) {
		if _, ok := z.soas[apex]; ok {
			z.stamps[apex] = version
		}
	}
	for _, t := range []touch{before, after} {
		for apex := range t.zones {
			set(apex)
		}
		for owner, parent := range t.parents {
			_, was := before.apexes[owner]
			if _, is := after.apexes[owner]; was != is {
				set(parent)
			}
		}
	}
}

// add and remove follow one RRset that comes or goes.
func (z zones) add(r *record.RRset) {
	if r.Type != record.TypeSOA {
		return
	}
	claimed, err := SOASerial(r.Data[0])
	if err != nil {
		claimed = 0 // the stamp alone still grows
	}
	soas := z.soas[r.Owner]
	i, found := slices.BinarySearchFunc(soas, r.Location, zoneSOA.compare)
	if found {
		soas[i].claimed = claimed
		return
	}
	z.soas[r.Owner] = slices.Insert(soas, i, zoneSOA{r.Location, claimed})
}

func (z zones) remove(k record.Key) {
	if k.Type != record.TypeSOA {
		return
	}
	i, found := slices.BinarySearchFunc(z.soas[k.Owner], k.Location, zoneSOA.compare)
	if !found {
		return
	}
	if z.soas[k.Owner] = slices.Delete(z.soas[k.Owner], i, i+1); len(z.soas[k.Owner]) == 0 {
		delete(z.soas, k.Owner)
		delete(z.stamps, k.Owner)
	}
}

// Zones gives each zone's apex - the owner of a SOA, for whatever location - and
// the version that last changed the zone: an RRset whose nearest apex it is, or
// was before the change. A zone that comes or goes, and the NS and DS at its
// apex, also touch the zone above it. The map is the caller's.
func (l *Ledger) Zones() map[record.Name]uint64 { return maps.Clone(l.zones.stamps) }

// Stamp is the version that last changed the zone; false when apex has no SOA.
func (l *Ledger) Stamp(apex record.Name) (uint64, bool) {
	v, ok := l.zones.stamps[apex]
	return v, ok
}

// ZoneOf is the apex of the zone that name is in: the nearest at or above it.
func (l *Ledger) ZoneOf(name record.Name) (apex record.Name, ok bool) {
	return l.zones.enclosing(name)
}

// Serial is the serial number to answer for the zone: the claimed one plus the
// zone's stamp, modulo 2^32. 0 when apex has no SOA. The SOA for everybody
// counts; where there is none, the one of the least location. Each of several
// SOAs of a zone is answered with this one serial.
func (l *Ledger) Serial(apex record.Name) uint32 {
	soas := l.zones.soas[apex]
	if len(soas) == 0 {
		return 0
	}
	return soas[0].claimed + uint32(l.zones.stamps[apex])
}

// Claimed is the serial that the SOA of apex for a location claims, without the stamp;
// 0 when there is none, or when its RDATA is not a SOA's.
func (l *Ledger) Claimed(apex record.Name, location record.Location) uint32 {
	soas := l.zones.soas[apex]
	if i, found := slices.BinarySearchFunc(soas, location, zoneSOA.compare); found {
		return soas[i].claimed
	}
	return 0
}

// SOASerial reads the serial out of a SOA's RDATA (RFC 1035 §3.3.13): the first
// four octets behind two names.
func SOASerial(rdata record.Rdata) (uint32, error) {
	at, err := soaSerialOffset(rdata)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32([]byte(rdata[at : at+4])), nil
}

// SOAWithSerial is rdata with another serial. RDATA that is no SOA's comes back
// as it is.
func SOAWithSerial(rdata record.Rdata, serial uint32) record.Rdata {
	at, err := soaSerialOffset(rdata)
	if err != nil {
		return rdata
	}
	b := []byte(rdata)
	binary.BigEndian.PutUint32(b[at:], serial)
	return record.Rdata(b)
}

// soaSerialOffset skips MNAME and RNAME; SERIAL, REFRESH, RETRY, EXPIRE and
// MINIMUM of 4 octets each must be all that is left.
func soaSerialOffset(rdata record.Rdata) (int, error) {
	at := 0
	for _, field := range []string{"MNAME", "RNAME"} {
		_, n, err := record.NameFromWire([]byte(rdata[at:]))
		if err != nil {
			return 0, fmt.Errorf("SOA %s: %w", field, err)
		}
		at += n
	}
	if len(rdata)-at != 20 {
		return 0, fmt.Errorf("SOA has %d octets behind its names, expected 20", len(rdata)-at)
	}
	return at, nil
}
