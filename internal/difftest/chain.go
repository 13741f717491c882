package difftest

import (
	"context"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// links are the CNAMEs of an answer from the name on, and whether they come back.
func links(answer []rr, name record.Name) (chain []rr, circle bool) {
	seen := map[record.Name]bool{}
	for !seen[name] {
		seen[name] = true
		i := slices.IndexFunc(answer, func(r rr) bool { return r.owner == name && r.t == record.TypeCNAME })
		if i < 0 {
			return chain, false
		}
		chain = append(chain, answer[i])
		name = record.Name(answer[i].rdata)
	}
	return chain, true
}

// agree tells whether two chains are the same as far as the shorter one goes.
func agree(a, b []rr) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

// onlyChain tells whether an answer has nothing but a chain and the DNAMEs of it.
func onlyChain(answer, chain []rr) bool {
	for _, r := range answer {
		if r.t != record.TypeDNAME && !slices.Contains(chain, r) {
			return false
		}
	}
	return true
}

// maxLinks is how many CNAMEs ours follows.
const maxLinks = 16

// circle: ours says SERVFAIL to a chain that comes back to where it was, or that
// has more links than ours follows. Theirs has the same chain as far as it goes.
func (c *compared) circle(_ context.Context, d Difference) bool {
	if c.ours.rcode != 2 || c.ours.tc {
		return false
	}
	a, back := links(c.ours.answer, c.q.Name)
	b, _ := links(c.theirs.answer, c.q.Name)
	return (back || len(a) >= maxLinks) && agree(a, b) && (len(b) > 0 || c.theirs.tc) && onlyChain(c.ours.answer, a)
}

// chainEnds: theirs stops in the middle of a chain, without an error; what it has
// is the begin of ours.
func (c *compared) chainEnds(_ context.Context, d Difference) bool {
	if d.Kind == "tc" || c.ours.rcode == 2 || c.theirs.rcode != 0 && c.theirs.rcode != c.ours.rcode || c.theirs.tc {
		return false
	}
	a, _ := links(c.ours.answer, c.q.Name)
	b, _ := links(c.theirs.answer, c.q.Name)
	return len(b) > 0 && agree(a, b) && len(b) <= len(a) && onlyChain(c.theirs.answer, b) && len(c.theirs.authority) == 0
}

// dsBelowChain: a chain leads to an apex, and DS is asked for: ours goes to the zone
// above, theirs stays in the zone and says that there is none.
func (c *compared) dsBelowChain(_ context.Context, d Difference) bool {
	if c.q.Type != record.TypeDS || c.ours.rcode != 0 || c.theirs.rcode != 0 || d.Kind == "tc" {
		return false
	}
	a, _ := links(c.ours.answer, c.q.Name)
	b, _ := links(c.theirs.answer, c.q.Name)
	if len(b) == 0 || !agree(a, b) {
		return false
	}
	end := record.Name(b[len(b)-1].rdata)
	return c.data.apexes[end] && len(c.theirs.authority) == 1 && c.theirs.authority[0].owner == end && c.theirs.authority[0].t == record.TypeSOA
}

// overflow: ours says YXDOMAIN, since the name that a DNAME makes is too long (RFC
// 6672 §2.2). Theirs goes on after it, and looks for the records or for the SOA of
// another name.
func (c *compared) overflow(_ context.Context, d Difference) bool {
	if c.ours.rcode != 6 || c.theirs.rcode != 6 && c.theirs.rcode != 3 || d.Kind == "tc" || len(c.ours.authority) > 0 || !c.within() {
		return false
	}
	name := c.q.Name
	if a, _ := links(c.ours.answer, name); len(a) > 0 {
		name = record.Name(a[len(a)-1].rdata)
	}
	return slices.ContainsFunc(c.ours.answer, func(r rr) bool {
		return r.t == record.TypeDNAME && name != r.owner && name.IsSubdomainOf(r.owner) && len(name)-len(r.owner)+len(r.rdata) > 255
	})
}

// chainLimit: theirs says SERVFAIL where it stops following; ours has the same chain
// and goes on.
func (c *compared) chainLimit(_ context.Context, d Difference) bool {
	const named = 11 // BIND follows as many (9.18, query_cname and query_dname)
	if d.Kind == "tc" || c.theirs.rcode != 2 {
		return false
	}
	a, _ := links(c.ours.answer, c.q.Name)
	b, _ := links(c.theirs.answer, c.q.Name)
	return len(b) >= named && len(a) >= len(b) && agree(a, b) && onlyChain(c.theirs.answer, b)
}
