package protocol

import (
	"slices"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/record"
)

// answer is one response in the making.
type answer struct {
	k    *Worker
	view *data.View
	all  bool // ANY means all: over TCP

	rcode                          Rcode
	authoritative, truncated       bool
	answers, authority, additional int // records written
	// final is the RRset that answers the question; the addresses of its targets go
	// to the additional section.
	final *record.RRset
	// dnames has the owners of the DNAMEs written: no RRset is in a message twice
	// (RFC 2181 §5.5).
	dnames [maxChain + 1]*data.Node
}

// respond answers a query that is well formed.
func (a *answer) respond() {
	q := &a.k.q
	a.k.chain.take(len(q.name))
	switch {
	case q.class == classCH:
		a.chaos()
	case q.class != classIN:
		a.rcode = Refused
	case q.qtype == record.TypeAXFR || q.qtype == record.TypeIXFR:
		a.rcode = Refused
	case q.qtype == typeMAILA || q.qtype == typeMAILB: // obsolete (RFC 1035 §3.2.3)
		a.rcode = NotImp
	case q.qtype == record.TypeOPT || q.qtype == typeTSIG || q.qtype == typeTKEY:
		a.rcode = FormErr // no types to ask for (RFC 6891 §6.1.1, RFC 8945 §4.2)
	case a.view == nil:
		a.rcode = ServFail
	default:
		a.resolve()
	}
}

// resolve is the algorithm of RFC 1034 §4.3.2 as RFC 4592 and RFC 6672 changed it.
// The rcode is that of the last name of the chain (RFC 6604 §3).
func (a *answer) resolve() {
	for a.step(a.k.chain.last()) {
	}
	if a.final != nil {
		a.addTargets(a.final)
	}
}

// step does one name and tells whether the next one of the chain is to be done.
func (a *answer) step(name []byte) bool {
	q, c := &a.k.q, &a.k.chain
	first := c.len == 1
	r := a.view.Find(&a.k.lookup, name, q.qtype == record.TypeDS)
	if r.Zone == nil {
		if first {
			a.rcode = Refused
		}
		return false // the rest of the chain is somebody else's
	}
	if r.Cut != nil {
		a.refer(r.Cut)
		return false
	}
	if first {
		a.authoritative = true
	}
	switch {
	case r.DNAME != nil:
		return a.redirect(name, r.DNAME)
	case r.Node == nil:
		a.rcode = NXDomain
		a.deny(r.Zone)
		return false
	case q.qtype == record.TypeANY:
		a.any(name, r)
		return false
	}
	if s := r.Node.Set(q.qtype); s != nil {
		if a.add(name, s) {
			a.final = s
		}
		return false
	}
	if s := r.Node.Set(record.TypeCNAME); s != nil {
		if !a.add(name, s) {
			return false
		}
		target := string(s.Data[0])
		if nameLen(target, 0) != len(target) {
			return false // no name: nothing to follow
		}
		return a.follow(copy(c.next(), target))
	}
	a.deny(r.Zone)
	return false
}

// add puts an RRset under the given owner into the answer section.
func (a *answer) add(owner []byte, s *record.RRset) bool {
	n := set(&a.k.w, owner, s, s.TTL, int(a.k.q.id))
	a.answers += n
	a.truncated = a.truncated || n == 0
	return n > 0
}

// any answers QTYPE ANY: all RRsets, or the first of them (RFC 8482 §4.1).
func (a *answer) any(owner []byte, r data.Result) {
	before := a.answers
	for s := range r.Node.Sets {
		if s.Type == record.TypeDS && r.Node.Zone() != nil {
			continue // the upper zone's, see step
		}
		if !a.add(owner, s) || !a.all {
			return
		}
	}
	if a.answers == before {
		a.deny(r.Zone)
	}
}

// redirect answers a name below a DNAME: with it, and with a CNAME made by it
// (RFC 6672 §3.1).
func (a *answer) redirect(name []byte, at *data.Node) bool {
	c := &a.k.chain
	s := at.Set(record.TypeDNAME)
	if !slices.Contains(a.dnames[:c.len-1], at) {
		n := set(&a.k.w, at.Name, s, s.TTL, 0)
		if n == 0 {
			a.truncated = true
			return false
		}
		a.answers += n
		a.dnames[c.len-1] = at
	}
	target := string(s.Data[0])
	if nameLen(target, 0) != len(target) {
		return false
	}
	prefix := len(name) - len(at.Name)
	if prefix+len(target) > 255 {
		a.rcode = YXDomain
		return false
	}
	next := c.next()
	n := copy(next, name[:prefix])
	n += copy(next[n:], target)
	if !a.cname(name, next[:n], s.TTL) {
		a.truncated = true
		return false
	}
	if q := a.k.q.qtype; q == record.TypeCNAME || q == record.TypeANY {
		return false // the CNAME made is what was asked for
	}
	return a.follow(n)
}

// follow takes the name of n octets in the room for the next one, and goes on there.
// A chain that bites its tail or is too long has no answer: SERVFAIL, with what
// there is of it.
func (a *answer) follow(n int) bool {
	if !a.k.chain.take(n) {
		a.rcode = ServFail
		return false
	}
	return true
}

// cname writes a synthesised CNAME.
func (a *answer) cname(owner, target []byte, ttl uint32) bool {
	w := &a.k.w
	mark, names := len(w.buf), w.names.len
	name(w, owner)
	w.u16(int(record.TypeCNAME))
	w.u16(classIN)
	w.u16(int(ttl >> 16))
	w.u16(int(ttl))
	at := len(w.buf)
	w.u16(0)
	name(w, target)
	if w.size() > w.limit {
		w.buf = w.buf[:mark]
		w.names.shrink(names)
		return false
	}
	n := len(w.buf) - at - 2
	w.buf[at], w.buf[at+1] = byte(n>>8), byte(n)
	a.answers++
	return true
}

// deny puts the SOA of a negative response into the authority section (RFC 2308 §3).
func (a *answer) deny(z *data.Zone) {
	n := set(&a.k.w, z.Apex, &z.SOA, z.NegativeTTL, 0)
	a.authority += n
	a.truncated = a.truncated || n == 0
}

// refer writes a referral: NS, DS for who asks for DNSSEC, and addresses.
func (a *answer) refer(cut *data.Node) {
	ns := cut.Set(record.TypeNS)
	if !a.authorityOf(cut, ns) {
		return
	}
	if a.k.q.do {
		if ds := cut.Set(record.TypeDS); ds != nil && !a.authorityOf(cut, ds) {
			return
		}
	}
	// All addresses of servers within the delegated zone, or TC (RFC 9471 §3): without
	// them nobody could ask on. The others as far as there is room.
	for _, within := range [2]bool{true, false} {
		for _, rd := range ns.Data {
			target := string(rd)
			if nameLen(target, 0) != len(target) || record.Name(rd).IsSubdomainOf(cut.Name) != within {
				continue
			}
			if !a.addresses(target) && within {
				a.truncated = true
				return
			}
		}
	}
}

func (a *answer) authorityOf(cut *data.Node, s *record.RRset) bool {
	n := set(&a.k.w, cut.Name, s, s.TTL, int(a.k.q.id))
	a.authority += n
	a.truncated = a.truncated || n == 0
	return n > 0
}

// maxTargets is how many targets get addresses in the additional section. More do
// not fit a UDP response, and over TCP the client asks for those it needs.
const maxTargets = 64

// addTargets puts the addresses of the names in s into the additional section.
func (a *answer) addTargets(s *record.RRset) {
	before := 0 // octets of RDATA before the name
	switch s.Type {
	case record.TypeNS:
	case record.TypeMX:
		before = 2
	case record.TypeSRV:
		before = 6
	default:
		return
	}
	var done [maxTargets]string // several SRV name one host on different ports
	n := 0
	for _, rd := range s.Data {
		if len(rd) <= before || nameLen(string(rd), before) != len(rd)-before {
			continue
		}
		target := string(rd[before:])
		if slices.Contains(done[:n], target) {
			continue
		}
		if n == maxTargets || !a.addresses(target) {
			return
		}
		done[n] = target
		n++
	}
}

// addresses puts the A and AAAA RRsets of a name into the additional section, and
// tells whether all there are had room.
func (a *answer) addresses(target string) bool {
	n := a.view.Get([]byte(target))
	if n == nil {
		return true
	}
	for _, t := range [2]record.Type{record.TypeA, record.TypeAAAA} {
		s := n.Set(t)
		if s == nil {
			continue
		}
		k := set(&a.k.w, target, s, s.TTL, int(a.k.q.id))
		if k == 0 {
			return false
		}
		a.additional += k
	}
	return true
}
