package protocol

import (
	"encoding/binary"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/record"
)

// place is where a name of n octets stands in the message: its first octets at the
// offset at, its last shared ones with a name that stands elsewhere, up. Names are
// compressed by what is known of them, nothing is searched for: RRsets come with how
// much their names share with their owner and with each other.
type place struct {
	at, n, shared int
	up            *place // nil: shared is 0
}

// suffix is the offset of the last s octets, which are whole labels.
func (p *place) suffix(s int) int {
	for p.up != nil && s <= p.shared {
		p = p.up
	}
	return p.at + p.n - s
}

// target is a name that was written, whose addresses the client will want.
type target struct {
	name  []byte
	place place
}

// maxTargets is how many targets of an RRset get addresses in the additional
// section. More do not fit a UDP response, and over TCP the client asks for those it
// needs.
const maxTargets = 64

func (a *answer) u16(v int) { a.buf = binary.BigEndian.AppendUint16(a.buf, uint16(v)) }

func (a *answer) u32(v uint32) { a.buf = binary.BigEndian.AppendUint32(a.buf, v) }

// owner writes the name at a place once more.
func (a *answer) owner(name []byte, p *place) {
	if len(name) > 1 {
		if at := p.suffix(len(name)); at <= maxPointer {
			a.u16(pointerMark<<8 | at)
			return
		}
	}
	a.buf = append(a.buf, name...)
}

// name writes a name whose last shared octets are the last ones of up.
func (a *answer) name(name []byte, shared int, up *place) place {
	p := place{at: len(a.buf), n: len(name)}
	if shared > 1 {
		if at := up.suffix(shared); at <= maxPointer {
			p.shared, p.up = shared, up
			a.buf = append(a.buf, name[:len(name)-shared]...)
			a.u16(pointerMark<<8 | at)
			return p
		}
	}
	a.buf = append(a.buf, name...)
	return p
}

// set writes the records of an RRset for everybody, rotated, under the name at owner,
// and gives how many they were; fits is false when there was no room:
// then nothing was written. ttl, unless nil, goes for all of them. The first targets
// of its names are in k.targets then.
func (a *answer) set(name []byte, owner *place, s image.Set, ttl *uint32) (count int, fits bool) {
	v := s.View()
	mark := len(a.buf)
	k := a.k
	k.targets = k.targets[:0]
	head := [8]byte(v.Head())
	if ttl != nil {
		binary.BigEndian.PutUint32(head[4:], *ttl)
	}
	first := 0
	rest := v.Records()
	if v.Count > 1 {
		first = a.turn(v.Count)
		for range first {
			_, rest = image.Next(rest)
		}
	}
	i := first
	for n := range v.Count {
		var rd []byte
		rd, rest = image.Next(rest)
		a.owner(name, owner)
		a.buf = append(a.buf, head[:]...)
		at := len(a.buf)
		a.u16(0)
		a.rdata(&v, i, rd, owner, n > 0)
		binary.BigEndian.PutUint16(a.buf[at:], uint16(len(a.buf)-at-2))
		if len(a.buf) > a.limit {
			a.buf = a.buf[:mark]
			k.targets = k.targets[:0]
			return 0, false
		}
		if i++; i == v.Count {
			i, rest = 0, v.Records()
		}
	}
	return v.Count, true
}

// turn is which record of n comes first: clients that take the first spread over all.
func (a *answer) turn(n int) int { return int(binary.BigEndian.Uint16(a.msg)) % n }

// rdata writes RDATA. Names are compressed in the types of RFC 1035 only, since
// receivers know no others to be compressed (RFC 3597 §4). follows tells that the
// record before it in the RRset was written right before.
func (a *answer) rdata(v *image.View, i int, rd []byte, owner *place, follows bool) {
	var p place
	switch v.Layout {
	case image.OneName, image.MXName:
		shared, up := int(v.Shares[i]), owner
		if v.Count > 1 {
			shared = int(v.Shares[2*i])
			if before := int(v.Shares[2*i+1]); follows && before > shared && a.k.before != nil {
				shared, up = before, a.k.before
			}
		}
		name := rd
		if v.Layout == image.MXName {
			a.buf = append(a.buf, rd[:2]...)
			name = rd[2:]
		}
		p = a.name(name, shared, up)
	case image.TwoNames:
		m := nameLen(rd)
		r := m + nameLen(rd[m:])
		first := a.name(rd[:m], int(v.Shares[0]), owner)
		if v.Shares[2] > v.Shares[1] {
			a.name(rd[m:r], int(v.Shares[2]), &first)
		} else {
			a.name(rd[m:r], int(v.Shares[1]), owner)
		}
		a.buf = append(a.buf, rd[r:]...)
		return
	case image.Opaque:
		a.buf = append(a.buf, rd...)
		return
	default:
		p = place{at: len(a.buf) + len(rd) - len(v.Layout.Target(rd)), n: len(v.Layout.Target(rd))}
		if v.Layout == image.SVCName {
			p.at = len(a.buf) + 2
		}
		a.buf = append(a.buf, rd...)
	}
	a.remember(v.Layout.Target(rd), p)
}

// remember keeps a target. k.before is the newest one's place, nil when there was no
// room to keep it.
func (a *answer) remember(name []byte, p place) {
	k := a.k
	k.before = nil
	if len(k.targets) < cap(k.targets) {
		k.targets = append(k.targets, target{name, p})
		k.before = &k.targets[len(k.targets)-1].place
	}
}

// nameLen is the length of the name at the front of b, of which it is known that
// there is one.
func nameLen(b []byte) int {
	i := 0
	for b[i] != 0 {
		i += int(b[i]) + 1
	}
	return i + 1
}

// here gives the RRsets of type t at a node that are for the client: the one for
// everybody and the one for its location (tinydns: both hold).
func (a *answer) here(n image.Node, t record.Type) []image.View {
	k := a.k
	k.views = k.views[:0]
	for i := range n.Len() {
		kind, s := n.At(i)
		if kind != t {
			continue
		}
		v := s.View()
		a.varied = a.varied || len(v.Location) > 0
		if v.For(a.q.Location) && len(k.views) < cap(k.views) {
			k.views = append(k.views, v)
		}
	}
	// A zone has one SOA (RFC 1035 §5.2): that of the client's location is nearer.
	if t == record.TypeSOA {
		for n := len(k.views) - 1; n >= 0; n-- {
			if v := &k.views[n]; n == 0 || data.Holds(v.Terms(0), a.q.Now) {
				k.views[0], k.views = *v, k.views[:1]
				break
			}
		}
	}
	return k.views
}

// special writes those records of the RRsets in k.views that hold now, each with the
// TTL that it has now, at most as many as are to be chosen.
func (a *answer) special(name []byte, owner *place) (count int, fits bool) {
	k := a.k
	mark := len(a.buf)
	k.targets = k.targets[:0]
	a.choose()
	for n := range k.views {
		v := &k.views[n]
		rest := v.Records()
		for i := range v.Count {
			var rd []byte
			rd, rest = image.Next(rest)
			if !k.chosen[n].has(i) {
				continue
			}
			a.owner(name, owner)
			a.u16(int(v.Type))
			a.u16(classIN)
			a.u32(min(remaining(v.Terms(i), a.q.Now), a.most))
			at := len(a.buf)
			a.u16(0)
			a.rdata(v, i, rd, owner, false)
			binary.BigEndian.PutUint16(a.buf[at:], uint16(len(a.buf)-at-2))
			if count++; len(a.buf) > a.limit {
				a.buf = a.buf[:mark]
				k.targets = k.targets[:0]
				return 0, false
			}
		}
	}
	return count, true
}
