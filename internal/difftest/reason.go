package difftest

import (
	"context"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// compared is one question with the answers of ours and of a peer.
type compared struct {
	data         *dataset
	q            Question
	ours, theirs *response // theirs: with what it was asked on for
	first        *response // of theirs, before that
	us, peer     *client
}

// reasons are the rules that look at the data and at both answers. Each is as narrow
// as can be said: what it does not hold for stays a difference.
var reasons = []struct {
	name  string
	holds func(*compared, context.Context, Difference) bool
}{
	{"truncated", (*compared).truncated},
	{"glue", (*compared).glueLeftOut},
	{"glue-wildcard", (*compared).glueOfWildcard},
	{"size-theirs", (*compared).theirsTooLarge},
	{"size-ours", (*compared).oursTooLarge},
	{"soa-left-out", (*compared).soaLeftOut},
	{"compression", (*compared).compression},
	{"ds-referral", (*compared).dsInReferral},
	{"circle", (*compared).circle},
	{"chain-end", (*compared).chainEnds},
	{"ds-below-chain", (*compared).dsBelowChain},
	{"wildcard-dname", (*compared).wildcardDNAME},
	{"wildcard-ns", (*compared).wildcardNS},
	{"wildcard-apex", (*compared).wildcardApex},
	{"overflow", (*compared).overflow},
	{"chain-limit", (*compared).chainLimit},
	{"any-ds", (*compared).anyWithoutDS},
	{"any-dname", (*compared).anyBelowDNAME},
	{"any", (*compared).anyOfUDP},
	{"any-tcp", (*compared).anyOfTCP},
}

// reasons names the rules by which the difference follows from the data.
func (c *compared) reasons(ctx context.Context, d Difference) (names []string) {
	for _, r := range reasons {
		if r.holds(c, ctx, d) {
			names = append(names, r.name)
		}
	}
	return names
}

// truncated: one of the answers is not whole, and the rest of the header is of as much as
// each server had found when it stopped.
func (c *compared) truncated(_ context.Context, d Difference) bool {
	return (c.ours.tc || c.theirs.tc) && (d.Kind == "rcode" || d.Kind == "aa")
}

// glueLeftOut: ours says TC because not all addresses in the delegated zone fit;
// theirs leaves some out.
func (c *compared) glueLeftOut(_ context.Context, d Difference) bool {
	if d.Kind != "tc" && d.Kind != "glue" || !c.ours.tc && d.Kind == "tc" || len(c.theirs.authority) == 0 {
		return false
	}
	ns := c.theirs.authority
	i := slices.IndexFunc(ns, func(r rr) bool { return r.t == record.TypeNS })
	if i < 0 {
		return false
	}
	cut := ns[i].owner
	for _, rd := range c.data.sets[record.Key{Owner: cut, Type: record.TypeNS}].Data {
		target := record.Name(rd)
		if !target.IsSubdomainOf(cut) {
			continue
		}
		for _, t := range []record.Type{record.TypeA, record.TypeAAAA} {
			has := len(c.data.sets[record.Key{Owner: target, Type: t}].Data)
			if has > count(c.theirs.additional, target, t) {
				return true
			}
		}
	}
	return false
}

func count(rrs []rr, owner record.Name, t record.Type) (n int) {
	for _, r := range rrs {
		if r.owner == owner && r.t == t {
			n++
		}
	}
	return n
}

// theirsTooLarge: the whole answer of theirs, as it gives it over TCP, is too large.
func (c *compared) theirsTooLarge(ctx context.Context, d Difference) bool {
	if d.Kind != "tc" || !c.theirs.tc || c.ours.tc {
		return false
	}
	_, size := c.overTCP(ctx, c.peer)
	return size > c.room()
}

// oursTooLarge: the whole answer of ours, as it gives it over TCP, is too large, and
// it is because ours follows a chain further, or has all of one that comes back to
// where it was.
func (c *compared) oursTooLarge(ctx context.Context, d Difference) bool {
	if d.Kind != "tc" || !c.ours.tc || c.theirs.tc {
		return false
	}
	b, size := c.overTCP(ctx, c.us)
	whole, err := decode(b, c.us.id)
	if err != nil || size <= c.room() {
		return false
	}
	ours, back := links(whole.answer, c.q.Name)
	theirs, _ := links(c.first.answer, c.q.Name)
	more := len(whole.answer)+len(whole.authority) > len(c.first.answer)+len(c.first.authority)
	return (back || len(theirs) > 0 && more) && agree(ours, theirs)
}

// soaLeftOut: the SOA of a negative answer does not fit, as it does over TCP; ours
// says TC, theirs leaves it out without a word.
func (c *compared) soaLeftOut(ctx context.Context, d Difference) bool {
	if d.Kind != "tc" || !c.ours.tc || c.theirs.tc || len(c.theirs.authority) > 0 {
		return false
	}
	b, size := c.overTCP(ctx, c.peer)
	whole, err := decode(b, c.peer.id)
	return err == nil && size > c.room() && len(whole.authority) == 1 && whole.authority[0].t == record.TypeSOA &&
		sorted(whole.answer, keepSerial) == sorted(c.theirs.answer, keepSerial)
}

// compression: the whole answers have the same records, and ours is a few octets
// larger, so that it does not fit and theirs does.
func (c *compared) compression(ctx context.Context, d Difference) bool {
	const few = 8 // octets: a label of a server's name and its pointer, twice
	if d.Kind != "tc" || !c.ours.tc || c.theirs.tc {
		return false
	}
	a, ours := c.overTCP(ctx, c.us)
	b, theirs := c.overTCP(ctx, c.peer)
	var x, y shape
	if x.read(a) != nil || y.read(b) != nil || ours <= c.room() || theirs > c.room() || ours-theirs > few {
		return false
	}
	return x.sameSection(&y, 0) && x.sameSection(&y, 1) && x.sameSection(&y, 2)
}

// overTCP is the answer that one of both gives over TCP, and its size with the OPT
// that it would have over UDP; 0 when there is none.
func (c *compared) overTCP(ctx context.Context, by *client) (b []byte, size int) {
	q := c.q
	q.Via = q.Via.overTCP()
	by.id++
	b, err := by.octets(ctx, q, q.encode(by.id))
	if err != nil {
		return nil, 0
	}
	size = len(b)
	if c.q.Via.way().edns > 0 && q.Via.way().edns == 0 {
		size += 11 // OPT
	}
	return b, size
}

// room is how large an answer over UDP may be: what the client takes, and at most
// the 1232 octets that all servers are configured to.
func (c *compared) room() int { return min(max(512, int(c.q.Via.way().edns)), 1232) }

// dsInReferral: ours has the DS of the cut, complete, with a referral to who asks
// for DNSSEC; theirs has the same referral without it.
func (c *compared) dsInReferral(_ context.Context, d Difference) bool {
	if d.Kind != "authority" || !c.q.Via.way().do {
		return false
	}
	var cut record.Name
	rest := slices.DeleteFunc(slices.Clone(c.ours.authority), func(r rr) bool {
		if r.t == record.TypeDS {
			cut = r.owner
		}
		return r.t == record.TypeDS
	})
	return cut != "" && sorted(rest, keepSerial) == sorted(c.theirs.authority, keepSerial) &&
		count(c.ours.authority, cut, record.TypeDS) == len(c.data.sets[record.Key{Owner: cut, Type: record.TypeDS}].Data) &&
		count(c.ours.authority, cut, record.TypeNS) > 0
}

// wildcardDNAME: a DNAME at a wildcard, asked for a name below that has the asterisk
// in it: theirs gives the DNAME under the name that was asked for.
func (c *compared) wildcardDNAME(_ context.Context, d Difference) bool {
	if d.Kind != "answer" {
		return false
	}
	answer, found := c.underAsterisk()
	return found && sorted(answer, keepSerial) == sorted(c.ours.answer, keepSerial)
}

// underAsterisk is the answer of theirs with the DNAMEs of wildcards under the names
// that they have in the zone.
func (c *compared) underAsterisk() (answer []rr, changed bool) {
	answer = slices.Clone(c.theirs.answer)
	for i := range answer {
		if answer[i].t != record.TypeDNAME {
			continue
		}
		for n := answer[i].owner.Parent(); n != ""; n = n.Parent() {
			s := c.data.sets[record.Key{Owner: n, Type: record.TypeDNAME}]
			if n.IsWildcard() && len(s.Data) == 1 && s.Data[0] == answer[i].rdata {
				answer[i].owner, changed = n, true
				break
			}
		}
	}
	return answer, changed
}

// within tells whether theirs has all records of ours.
func (c *compared) within() bool {
	theirs, _ := c.underAsterisk()
	for _, r := range c.ours.answer {
		if !slices.Contains(theirs, r) {
			return false
		}
	}
	return true
}

// wildcardNS: theirs takes NS at a wildcard for a delegation of the names that it
// covers (RFC 4592 §4.2 leaves it undefined); for ours it is a record like others.
func (c *compared) wildcardNS(_ context.Context, d Difference) bool {
	name := c.q.Name
	if b, _ := links(c.theirs.answer, name); len(b) > 0 {
		name = record.Name(b[len(b)-1].rdata)
	}
	return slices.ContainsFunc(c.theirs.authority, func(r rr) bool {
		return r.t == record.TypeNS && r.owner.IsWildcard() && name.IsSubdomainOf(r.owner.Parent()) && !name.IsSubdomainOf(r.owner)
	})
}

// wildcardApex: a wildcard is the cut to a zone of its own. Of the names that it would
// cover ours says that they do not exist; theirs makes them from the NS of the cut.
func (c *compared) wildcardApex(_ context.Context, d Difference) bool {
	name := c.q.Name
	if a, _ := links(c.ours.answer, name); len(a) > 0 {
		name = record.Name(a[len(a)-1].rdata)
	}
	from := c.source(name)
	return c.ours.rcode == 3 && c.theirs.rcode == 0 && c.data.apexes[from] && from.IsWildcard() && !name.IsSubdomainOf(from)
}

// glueOfWildcard: theirs makes glue from a wildcard below the cut; no such name is in
// the zone, and ours gives what is.
func (c *compared) glueOfWildcard(_ context.Context, d Difference) bool {
	if d.Kind != "glue" || len(c.theirs.authority) == 0 {
		return false
	}
	made := 0
	rest := slices.DeleteFunc(slices.Clone(c.theirs.additional), func(r rr) bool {
		from := c.source(r.owner)
		if len(c.data.types[r.owner]) > 0 || !from.IsWildcard() || !slices.Contains(c.data.sets[record.Key{Owner: from, Type: r.t}].Data, r.rdata) {
			return false
		}
		made++
		return true
	})
	theirs := *c.theirs
	theirs.additional = rest
	return made > 0 && glue(&theirs) == glue(c.ours)
}

// anyWithoutDS: theirs has no DS in an answer to ANY.
func (c *compared) anyWithoutDS(_ context.Context, d Difference) bool {
	if d.Kind != "answer" || c.q.Type != record.TypeANY || count(c.theirs.answer, c.q.Name, record.TypeDS) > 0 || count(c.ours.answer, c.q.Name, record.TypeDS) == 0 {
		return false
	}
	rest := slices.DeleteFunc(slices.Clone(c.ours.answer), func(r rr) bool { return r.t == record.TypeDS })
	return sorted(rest, keepSerial) == sorted(c.theirs.answer, keepSerial) || len(rest) == 0 && c.isSet(c.theirs.answer)
}

// anyBelowDNAME: ours takes the CNAME that a DNAME makes for the answer to ANY;
// theirs goes on from there.
func (c *compared) anyBelowDNAME(_ context.Context, d Difference) bool {
	if c.q.Type != record.TypeANY || c.ours.rcode != 0 || count(c.ours.answer, c.q.Name, record.TypeCNAME) != 1 || c.ours.tc {
		return false
	}
	if !slices.ContainsFunc(c.ours.answer, func(r rr) bool { return r.t == record.TypeDNAME && c.q.Name != r.owner }) {
		return false
	}
	return c.within()
}

// source is where the records of an answer to the name come from: it or a wildcard.
func (c *compared) source(n record.Name) record.Name {
	if len(c.data.types[n]) > 0 {
		return n
	}
	for up := n.Parent(); up != ""; up = up.Parent() {
		if w, err := up.Wildcard(); err == nil && len(c.data.types[w]) > 0 {
			return w
		}
	}
	return ""
}

// setsIn takes an answer apart into RRsets; false when one of them is not complete
// or not what the data has.
func (c *compared) setsIn(answer []rr) (n int, ok bool) {
	counts := map[record.Type]int{}
	from := c.source(c.q.Name)
	for _, r := range answer {
		s := c.data.sets[record.Key{Owner: from, Type: r.t}]
		if r.owner != c.q.Name || r.ttl != s.TTL || !slices.Contains(s.Data, r.rdata) {
			return 0, false
		}
		counts[r.t]++
	}
	for t, k := range counts {
		if k != len(c.data.sets[record.Key{Owner: from, Type: t}].Data) {
			return 0, false
		}
	}
	return len(counts), true
}

func (c *compared) isSet(answer []rr) bool {
	n, ok := c.setsIn(answer)
	return ok && n == 1
}

// anyOfUDP: both give one RRset of the name, each another one.
func (c *compared) anyOfUDP(_ context.Context, d Difference) bool {
	return c.q.Type == record.TypeANY && !c.q.Via.way().tcp && d.Kind == "answer" && c.isSet(c.ours.answer) && c.isSet(c.theirs.answer)
}

// anyOfTCP: over TCP ours gives all RRsets, theirs one of them.
func (c *compared) anyOfTCP(_ context.Context, d Difference) bool {
	if c.q.Type != record.TypeANY || !c.q.Via.way().tcp || d.Kind != "answer" {
		return false
	}
	n, ok := c.setsIn(c.ours.answer)
	return ok && n > 1 && c.isSet(c.theirs.answer)
}
