package snapshot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// Ledger is all that a Dataset knows beside its RRsets: enough to follow deltas where
// somebody else keeps those. A copy shares the zones with what it was copied from, so
// that only one of both may go on.
type Ledger struct {
	name    string
	version uint64
	content uint64 // last version that changed more than freshness records
	time    int64  // unix milliseconds of the delta that made version
	digest  Digest
	chain   Chain
	zones   zones
}

// Name is the dataset's name.
func (l *Ledger) Name() string { return l.name }

// Version counts the deltas since the dataset began; 0 is before the first.
func (l *Ledger) Version() uint64 { return l.version }

// Content is the last version that changed more than freshness records; 0 when
// there is none.
func (l *Ledger) Content() uint64 { return l.content }

// Time is when Version was made: unix milliseconds, the clock of its maker.
func (l *Ledger) Time() int64 { return l.time }

// Digest is the set hash of the RRsets.
func (l *Ledger) Digest() Digest { return l.digest }

// Chain is the Chain of the delta that made Version.
func (l *Ledger) Chain() Chain { return l.chain }

// Ref describes the dataset as Write does, but for ID, Size and URLs.
func (l *Ledger) Ref() Ref {
	return Ref{Version: l.version, Digest: l.digest, Chain: l.chain, Time: l.time}
}

const ledgerMagic = "zcledger\x01"

// Append appends the encoding, for this machine alone (big endian):
//
//	magic    9 octets  "zcledger" 01
//	name     u8 length, octets
//	version, content u64; time i64; digest, chain 32 octets
//	zones    u32, and of each, by apex: apex, stamp u64, SOAs u32, and of each
//	         location u8 length, octets; claimed serial u32
func (l *Ledger) Append(b []byte) []byte {
	b = append(append(b, ledgerMagic...), byte(len(l.name)))
	b = append(b, l.name...)
	b = binary.BigEndian.AppendUint64(b, l.version)
	b = binary.BigEndian.AppendUint64(b, l.content)
	b = binary.BigEndian.AppendUint64(b, uint64(l.time))
	b = append(append(b, l.digest[:]...), l.chain[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.zones.soas)))
	for _, apex := range slices.SortedFunc(maps.Keys(l.zones.soas), record.Name.Compare) {
		soas := l.zones.soas[apex]
		b = append(b, apex...)
		b = binary.BigEndian.AppendUint64(b, l.zones.stamps[apex])
		b = binary.BigEndian.AppendUint32(b, uint32(len(soas)))
		for _, s := range soas {
			b = append(append(b, byte(len(s.location))), s.location...)
			b = binary.BigEndian.AppendUint32(b, s.claimed)
		}
	}
	return b
}

// DecodeLedger reads what Append wrote.
func DecodeLedger(b []byte) (*Ledger, error) {
	all := len(b)
	cut := func() (*Ledger, error) {
		return nil, fmt.Errorf("ledger: cut off or damaged at offset %d of %d", all-len(b), all)
	}
	const fixed = 8 + 8 + 8 + 32 + 32 + 4
	if !bytes.HasPrefix(b, []byte(ledgerMagic)) || len(b) < len(ledgerMagic)+1 {
		return nil, fmt.Errorf("ledger: begins with %q, expected %q", b[:min(len(b), len(ledgerMagic))], ledgerMagic)
	}
	b = b[len(ledgerMagic):]
	n := int(b[0])
	if len(b) < 1+n+fixed {
		return cut()
	}
	l := &Ledger{name: string(b[1 : 1+n]), zones: newZones()}
	if err := CheckName(l.name); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	b = b[1+n:]
	l.version, l.content, l.time = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), int64(binary.BigEndian.Uint64(b[16:]))
	b = b[24:]
	b = b[copy(l.digest[:], b):]
	b = b[copy(l.chain[:], b):]
	zones := binary.BigEndian.Uint32(b)
	b = b[4:]
	for range zones {
		apex, n, err := record.NameFromWire(b)
		if err != nil || len(b) < n+8+4 {
			return cut()
		}
		stamp, count := binary.BigEndian.Uint64(b[n:]), binary.BigEndian.Uint32(b[n+8:])
		b = b[n+8+4:]
		for range count {
			if len(b) < 1 || len(b) < 1+int(b[0])+4 {
				return cut()
			}
			n := int(b[0])
			l.zones.soas[apex] = append(l.zones.soas[apex], zoneSOA{record.Location(b[1 : 1+n]), binary.BigEndian.Uint32(b[1+n:])})
			b = b[1+n+4:]
		}
		l.zones.stamps[apex] = stamp
	}
	if len(b) > 0 || uint32(len(l.zones.soas)) != zones {
		return cut()
	}
	return l, nil
}

// Apply moves the ledger to the delta's version as Dataset.Apply does; get gives the
// RRsets as they are before.
func (l *Ledger) Apply(delta *Delta, get func(record.Key) (record.RRset, bool)) error {
	_, err := l.follow(delta, get)
	return err
}

func (l *Ledger) follow(delta *Delta, get func(record.Key) (record.RRset, bool)) (effect, error) {
	e, err := l.fits(delta, get)
	if err != nil {
		return e, fmt.Errorf("apply to %s at version %d: %w", l.name, l.version, err)
	}
	// Nothing below can fail.
	l.version, l.time, l.digest, l.chain = delta.Version, delta.Time, delta.Digest, delta.Chain()
	if delta.Full {
		l.refill(delta.Put)
		l.content = l.version
		for apex := range l.zones.soas {
			l.zones.stamps[apex] = l.version
		}
		return e, nil
	}
	before := l.zones.touched(e.changed)
	for i := range e.put {
		l.zones.add(&e.put[i])
	}
	for _, k := range e.removed {
		l.zones.remove(k)
	}
	l.zones.stamp(l.version, before, l.zones.touched(e.changed))
	if slices.ContainsFunc(e.changed, func(k record.Key) bool { return !IsFreshness(k) }) {
		l.content = l.version
	}
	return e, nil
}

// refill makes the zones those of sets, without stamps.
func (l *Ledger) refill(sets []record.RRset) {
	l.zones = newZones()
	for i := range sets {
		l.zones.add(&sets[i])
	}
}

// fits tells what a delta does, or why it does not follow.
func (l *Ledger) fits(delta *Delta, get func(record.Key) (record.RRset, bool)) (e effect, err error) {
	if err := delta.Check(); err != nil {
		return e, err
	}
	switch {
	case delta.Dataset != l.name:
		return e, fmt.Errorf("%w: it is of dataset %s", ErrMismatch, delta.Dataset)
	case delta.Version != l.version+1:
		return e, fmt.Errorf("%w: it makes version %d, expected %d", ErrMismatch, delta.Version, l.version+1)
	case delta.Prev != l.chain:
		return e, fmt.Errorf("%w: its predecessor has the chain %s, expected %s", ErrMismatch, delta.Prev, l.chain)
	case !delta.Full && delta.BaseDigest != l.digest:
		return e, fmt.Errorf("%w: its base has the digest %s, expected %s", ErrMismatch, delta.BaseDigest, l.digest)
	}
	if delta.Full {
		e.digest = digestOf(delta.Put)
	} else {
		e = l.effect(delta, get)
	}
	if e.digest != delta.Digest {
		return e, fmt.Errorf("%w: it leads to the digest %s and says %s", ErrMismatch, e.digest, delta.Digest)
	}
	return e, nil
}

// effect is what a delta changes, and the digest it leads to.
type effect struct {
	digest  Digest
	put     []record.RRset // without those that are there already
	removed []record.Key   // without those that are not there
	changed []record.Key   // of both
}

func (l *Ledger) effect(delta *Delta, get func(record.Key) (record.RRset, bool)) effect {
	e := effect{digest: l.digest, changed: make([]record.Key, 0, len(delta.Put)+len(delta.Remove))}
	for _, r := range delta.Put {
		old, there := get(r.Key)
		if there && old.Equal(r) {
			continue
		}
		if !IsFreshness(r.Key) {
			if there {
				e.digest = e.digest.Sub(HashRRset(old))
			}
			e.digest = e.digest.Add(HashRRset(r))
		}
		e.put = append(e.put, r)
		e.changed = append(e.changed, r.Key)
	}
	for _, k := range delta.Remove {
		old, there := get(k)
		if !there {
			continue
		}
		if !IsFreshness(k) {
			e.digest = e.digest.Sub(HashRRset(old))
		}
		e.removed = append(e.removed, k)
		e.changed = append(e.changed, k)
	}
	return e
}
