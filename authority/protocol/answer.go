package protocol

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/record"
)

// Outcome is what kind of answer a query got, for statistics and rate limits.
type Outcome uint8

// The outcomes.
const (
	Positive Outcome = iota
	Wildcard
	NoData
	NoName
	Referral
	Alias // the answer ends in an alias that leads out of the zones here, or in a loop
	Failure
	Outcomes
)

// String is the outcome's name in metrics.
func (o Outcome) String() string {
	return [...]string{"positive", "wildcard", "nodata", "nxdomain", "referral", "alias", "failure"}[o]
}

// answer is one response in the making.
type answer struct {
	k    *Worker
	view *data.View
	q    *query
	msg  []byte // the query
	all  bool   // ANY means all: over TCP

	buf   []byte // the response so far
	limit int    // octets it may have without the OPT

	rcode                          Rcode
	info                           ErrorInfo
	outcome                        Outcome
	authoritative, truncated       bool
	varied                         bool // another location might get another answer
	answers, authority, additional int  // records written

	most uint32     // TTL of records that have terms
	zone image.Node // of the last step; nil: none is here
	// dnames has the owners of the DNAMEs written: no RRset is in a message twice
	// (RFC 2181 §5.5).
	dnames [maxChain + 1]image.Node
}

// respond answers a query that is well formed.
func (a *answer) respond() {
	q := a.q
	switch {
	case q.question == 0: // only a cookie was asked for
	case q.class == classCH:
		a.chaos()
	case q.class != classIN:
		a.fail(Refused, NotSupported)
	case q.qtype == record.TypeAXFR || q.qtype == record.TypeIXFR:
		a.fail(Refused, Prohibited)
	case q.qtype == typeMAILA || q.qtype == typeMAILB: // obsolete (RFC 1035 §3.2.3)
		a.fail(NotImp, NoInfo)
	case q.qtype == record.TypeOPT || q.qtype == typeTSIG || q.qtype == typeTKEY:
		a.fail(FormErr, NoInfo) // no types to ask for (RFC 6891 §6.1.1, RFC 8945 §4.2)
	case a.view == nil:
		a.fail(ServFail, NotReady)
	default:
		a.resolve()
	}
}

func (a *answer) fail(r Rcode, info ErrorInfo) {
	a.rcode, a.info, a.outcome = r, info, Failure
}

// resolve is the algorithm of RFC 1034 §4.3.2 as RFC 4592 and RFC 6672 changed it.
// The rcode is that of the last name of the chain (RFC 6604 §3).
func (a *answer) resolve() {
	c := &a.k.chain
	c.begin(a.q.Len())
	lookup := &a.q.Query
	for a.step(lookup) {
		// The names of a chain but the first are looked up by a Query of their own:
		// the question's is still wanted.
		lookup = &a.k.lookup
		lookup.Location, lookup.Now, lookup.Whole = a.q.Location, a.q.Now, a.q.Whole
		lookup.Set(a.view.Hasher(), c.last().name)
	}
}

// step does one name and tells whether the next one of the chain is to be done.
func (a *answer) step(lookup *data.Query) bool {
	c := &a.k.chain
	link := c.last()
	name := lookup.Name()
	r := a.view.Find(lookup, a.q.qtype == record.TypeDS)
	a.varied = a.varied || lookup.Varied
	if r.Damaged {
		a.fail(ServFail, OtherError)
		return false
	}
	a.zone = r.Zone
	if r.Zone == nil {
		a.outcome = Alias
		if c.len == 1 {
			a.fail(Refused, NotAuthoritative)
		}
		return false // the rest of the chain is somebody else's
	}
	if r.Cut != nil {
		a.q.imputed = r.Cut.Name()
		a.refer(r.Cut, name, link.place)
		return false
	}
	if c.len == 1 {
		a.authoritative = true
	}
	if r.Node != nil {
		a.q.imputed = r.Node.Name()
	}
	switch {
	case r.DName != nil: // all that is below is answered by it
		a.q.imputed = r.DName.Name()
		return a.redirect(name, r.DName)
	case r.Node == nil:
		a.rcode, a.outcome = NXDomain, NoName
		a.q.imputed = r.Zone.Name()
		a.deny(r.Zone, name, link.place)
		return false
	case a.q.qtype == record.TypeANY:
		a.any(name, r, link.place)
		return false
	}
	if r.Wildcard {
		a.outcome = Wildcard
	}
	if a.q.qtype == record.TypeDNAME && !r.Wildcard && a.redirected(r.Node) >= 0 {
		return false // it is in the answer already
	}
	switch n, fits := a.rrset(name, link.place, r.Node, a.q.qtype); {
	case !fits:
		a.truncated = true
		return false
	case n > 0:
		a.answers += n
		a.addTargets(name, link.place, a.q.qtype)
		return false
	}
	if n, fits := a.rrset(name, link.place, r.Node, record.TypeCNAME); !fits {
		a.truncated = true
		return false
	} else if n > 0 {
		a.answers += n
		a.outcome = Alias
		if len(a.k.targets) != 1 {
			return false // no name: nothing to follow
		}
		t := &a.k.targets[0]
		return a.follow(t.name, t.place)
	}
	a.outcome = NoData
	a.deny(r.Zone, name, link.place)
	return false
}

// rrset writes the RRset of type t that a node has for the client, if any, under the
// given name.
func (a *answer) rrset(name []byte, owner *place, n image.Node, t record.Type) (count int, fits bool) {
	if a.q.Whole {
		s := a.pick(n, t)
		switch {
		case s == nil:
			return 0, true
		case s.Dressed():
			a.k.views = append(a.k.views[:0], s.View())
			return a.special(name, owner)
		}
		return a.set(name, owner, s, nil)
	}
	if n.Traits()&image.Located == 0 {
		if s := n.Find(t); s != nil {
			return a.set(name, owner, s, nil)
		}
		return 0, true
	}
	if len(a.here(n, t)) == 0 {
		return 0, true
	}
	return a.special(name, owner)
}

// any answers QTYPE ANY: all RRsets, or the first of them (RFC 8482 §4.1).
func (a *answer) any(name []byte, r data.Result, owner *place) {
	before := a.answers
	last := record.Type(0)
	for i := range r.Node.Len() {
		t, _ := r.Node.At(i)
		if t == last || t == record.TypeDS && r.Node.Traits()&image.Apex != 0 {
			continue // another location's; the upper zone's, see step
		}
		last = t
		n, fits := a.rrset(name, owner, r.Node, t)
		if !fits {
			a.truncated = true
			return
		}
		a.answers += n
		if n > 0 && !a.all {
			return
		}
	}
	if a.answers == before {
		a.outcome = NoData
		a.deny(r.Zone, name, owner)
	}
}

// redirect answers a name below a DNAME: with it, and with a CNAME made by it
// (RFC 6672 §3.1).
func (a *answer) redirect(name []byte, at image.Node) bool {
	c := &a.k.chain
	link := c.last()
	s := at.Set(record.TypeDNAME)
	a.outcome = Alias
	seen := a.redirected(at)
	if seen < 0 {
		n, fits := a.set(at.Name(), link.place, s, nil)
		if !fits {
			a.truncated = true
			return false
		}
		a.answers += n
		seen = c.len - 1
		a.dnames[seen] = at
		if len(a.k.targets) == 1 {
			c.bases[seen] = a.k.targets[0].place
		}
	}
	v := s.View()
	rd, _ := image.Next(v.Records())
	if v.Layout != image.DNameName {
		return false
	}
	prefix := len(name) - len(at.Name())
	if prefix+len(rd) > 255 {
		a.rcode = YXDomain
		return false
	}
	next := append(append(c.room(), name[:prefix]...), rd...)
	shared, up := len(rd), &c.bases[seen]
	if n := image.SharedSuffix(next, name); n > shared {
		shared, up = n, link.place
	}
	p, fits := a.cname(name, link.place, next, shared, up, v.TTL)
	if !fits {
		a.truncated = true
		return false
	}
	if q := a.q.qtype; q == record.TypeCNAME || q == record.TypeANY {
		return false // the CNAME made is what was asked for
	}
	return a.follow(next, p)
}

// redirected tells at which step of the chain the DNAME of a node was written; -1: it
// was not.
func (a *answer) redirected(at image.Node) int {
	return slices.IndexFunc(a.dnames[:a.k.chain.len-1], func(n image.Node) bool { return n != nil && &n[0] == &at[0] })
}

// cname writes a synthesised CNAME, whose target ends in the shared octets of up.
func (a *answer) cname(name []byte, owner *place, target []byte, shared int, up *place, ttl uint32) (place, bool) {
	mark := len(a.buf)
	a.owner(name, owner)
	a.u16(int(record.TypeCNAME))
	a.u16(classIN)
	a.u32(ttl)
	at := len(a.buf)
	a.u16(0)
	p := a.name(target, shared, up)
	if len(a.buf) > a.limit {
		a.buf = a.buf[:mark]
		return place{}, false
	}
	n := len(a.buf) - at - 2
	a.buf[at], a.buf[at+1] = byte(n>>8), byte(n)
	a.answers++
	return p, true
}

// follow goes on at a name that was written at p. A chain that bites its tail or is
// too long has no answer: SERVFAIL, with what there is of it.
func (a *answer) follow(name []byte, p place) bool {
	if !a.k.chain.take(a.q.Name(), name, p) {
		a.fail(ServFail, InvalidData)
		return false
	}
	return true
}

// deny puts the SOA of a negative response into the authority section (RFC 2308 §3).
// name, which stands at p, is in the zone.
func (a *answer) deny(zone image.Node, name []byte, p *place) {
	if zone.Traits()&image.Located != 0 && !a.q.Whole {
		a.denyHere(zone, p)
		return
	}
	s := zone.Set(record.TypeSOA)
	ttl := zone.NegativeTTL()
	n, fits := a.set(zone.Name(), p, s, &ttl)
	a.authority += n
	a.truncated = a.truncated || !fits
}

// denyHere is deny for a zone whose SOA is not for everybody, or not for ever.
func (a *answer) denyHere(zone image.Node, p *place) {
	views := a.here(zone, record.TypeSOA)
	if len(views) == 0 {
		return
	}
	rd, _ := image.Next(views[0].Records())
	if len(rd) > 4 { // a SOA is longer, but for one that is malformed
		a.most = binary.BigEndian.Uint32(rd[len(rd)-4:])
	}
	n, fits := a.special(zone.Name(), p)
	a.most = math.MaxUint32
	a.authority += n
	a.truncated = a.truncated || !fits
}

// refer writes a referral: NS, DS for who asks for DNSSEC, and addresses.
func (a *answer) refer(cut image.Node, name []byte, p *place) {
	a.outcome = Referral
	if !a.authorityOf(cut, p, record.TypeNS) {
		return
	}
	targets := a.k.targets
	if a.q.do && !a.authorityOf(cut, p, record.TypeDS) {
		return
	}
	// All addresses of servers within the delegated zone, or TC (RFC 9471 §3): without
	// them nobody could ask on. The others as far as there is room.
	for _, within := range [2]bool{true, false} {
		for i := range targets {
			t := &targets[i]
			if isBelow(t.name, cut.Name()) != within {
				continue
			}
			if !a.addresses(t) && within {
				a.truncated = true
				return
			}
		}
	}
}

// isBelow tells whether a name is zone or lies below it.
func isBelow(name, zone []byte) bool {
	for i := 0; ; i += int(name[i]) + 1 {
		if len(name)-i == len(zone) {
			return string(name[i:]) == string(zone)
		}
		if len(name)-i < len(zone) {
			return false
		}
	}
}

func (a *answer) authorityOf(cut image.Node, p *place, t record.Type) bool {
	a.k.targets = a.k.targets[:0]
	n, fits := a.rrset(cut.Name(), p, cut, t)
	a.authority += n
	a.truncated = a.truncated || !fits
	return fits
}

// addTargets puts the addresses of the names in the RRset just written, of type t and
// the given owner, into the additional section.
func (a *answer) addTargets(owner []byte, at *place, t record.Type) {
	service := t == record.TypeSVCB || t == record.TypeHTTPS
	switch t {
	case record.TypeNS, record.TypeMX, record.TypeSRV:
	default:
		if !service {
			return
		}
	}
	targets := a.k.targets
	for i := range targets {
		x := &targets[i]
		if service && len(x.name) == 1 {
			*x = target{owner, *at} // "." means the owner (RFC 9460 §2.5)
		}
		// Several SRV name one host on different ports.
		again := slices.ContainsFunc(targets[:i], func(b target) bool { return string(b.name) == string(x.name) })
		if !again && !a.addresses(x) {
			return
		}
	}
}

// addresses puts the A and AAAA RRsets of a name that was written into the additional
// section, and tells whether all there are had room.
func (a *answer) addresses(t *target) bool {
	n := a.view.Get(t.name)
	if n == nil {
		return true
	}
	for _, kind := range [2]record.Type{record.TypeA, record.TypeAAAA} {
		k, fits := a.rrset(t.name, &t.place, n, kind)
		if !fits {
			return false
		}
		a.additional += k
	}
	return true
}
