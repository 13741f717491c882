package builtin

import (
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/syntax"

	"github.com/zonecast/zonecast/configurator/idl"
	"github.com/zonecast/zonecast/configurator/star"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
)

// PlaceError is an error of a record, with where in a program it was made.
type PlaceError struct {
	Pos syntax.Position
	Err error
}

// Error implements error.
func (e *PlaceError) Error() string { return fmt.Sprintf("%s: %v", e.Pos, e.Err) }

// Unwrap gives what is wrong.
func (e *PlaceError) Unwrap() error { return e.Err }

// HasClaims tells whether values of s are claims.
func (l *Library) HasClaims(s *idl.Struct) bool { return s == l.Zone || s == l.Records }

// Claims gives the claims of a Zone or Records, in canonical order, without provenance;
// zone is the apex of a Zone. Errors are all that were found, of type *PlaceError.
func (l *Library) Claims(x *idl.Instance, source record.Source) (claims []record.Claim, zone record.Name, errs []error) {
	where := place(x, syntax.Position{})
	origin, err := record.ParseName(text(x, "origin"))
	if err != nil {
		return nil, "", []error{&PlaceError{where, err}}
	}
	g := gatherer{source: source, origin: origin, sets: map[record.Key]*gathered{}}
	g.ttl, _ = x.Get("ttl").(int64)
	if soa, ok := x.Get("soa").(*idl.Instance); ok {
		zone = origin
		g.soa(soa, where)
	}
	records, _ := x.Get("records").([]idl.Value)
	for _, r := range records {
		g.add(r.(*idl.Instance), where)
	}
	claims = g.claims()
	if len(g.errs) > 0 {
		return nil, zone, g.errs
	}
	return claims, zone, nil
}

// place is where a value was made; that of the value around it when no program made it.
func place(x *idl.Instance, around syntax.Position) syntax.Position {
	if pos, ok := star.OriginOf(x); ok && pos.IsValid() {
		return pos
	}
	return around
}

func fileLine(pos syntax.Position) string { return fmt.Sprintf("%s:%d", pos.Filename(), pos.Line) }

// gatherer gathers record sets to RRsets.
type gatherer struct {
	source record.Source
	origin record.Name
	ttl    int64
	sets   map[record.Key]*gathered
	errs   []error
}

type gathered struct {
	ttl  uint32
	data []record.Rdata
	pos  syntax.Position

	weights map[record.Rdata]weight
	most    int // answered; 0: all
	mostAt  syntax.Position
}

// weight is one that was said, and where.
type weight struct {
	n   uint32
	pos syntax.Position
}

func (g *gatherer) fail(pos syntax.Position, format string, args ...any) {
	g.errs = append(g.errs, &PlaceError{pos, fmt.Errorf(format, args...)})
}

func soaRdata(x *idl.Instance, origin record.Name) (record.Rdata, error) {
	words := []string{text(x, "primary"), text(x, "mailbox")}
	for _, w := range words {
		if _, err := dnswire.ParseName(w, origin); err != nil {
			return "", err
		}
	}
	for _, f := range []string{"serial", "refresh", "retry_after", "expire", "minimum"} {
		words = append(words, fmt.Sprint(x.Get(f)))
	}
	return dnswire.ParseRdata(record.TypeSOA, strings.Join(words, " "), origin)
}

func (g *gatherer) soa(x *idl.Instance, around syntax.Position) {
	pos := place(x, around)
	rd, err := soaRdata(x, g.origin)
	if err != nil {
		g.fail(pos, "%w", err)
		return
	}
	g.put(record.Key{Owner: g.origin, Type: record.TypeSOA}, g.ttlOf(x), []record.Rdata{rd}, pos)
}

func (g *gatherer) ttlOf(x *idl.Instance) uint32 {
	if ttl, ok := x.Get("ttl").(int64); ok {
		return uint32(ttl)
	}
	return uint32(g.ttl)
}

func (g *gatherer) add(x *idl.Instance, around syntax.Position) {
	pos := place(x, around)
	t, err := record.ParseType(text(x, "type"))
	if err != nil {
		g.fail(pos, "%w", err)
		return
	}
	name := text(x, "name")
	owner, err := dnswire.ParseName(name, g.origin)
	switch {
	case err != nil:
		g.fail(pos, "%w", err)
		return
	case g.doubled(name, owner):
		g.fail(pos, "name %q has no final dot, so that it means %s: write %q, or leave the zone's name out", name, owner, name+".")
		return
	case !owner.IsSubdomainOf(g.origin):
		g.fail(pos, "%s is outside the zone %s", owner, g.origin)
		return
	}
	k := record.Key{Owner: owner, Type: t, Location: record.Location(text(x, "location"))}
	all, _ := x.Get("data").([]idl.Value)
	data := make([]record.Rdata, 0, len(all))
	for _, v := range all {
		d := v.(string)
		rd, err := dnswire.ParseRdata(t, d, g.origin)
		if err != nil {
			g.fail(pos, "%s: %w", owner, err)
			return
		}
		if target, ok := lastName(t, d); ok {
			if n, err := dnswire.ParseName(target, g.origin); err == nil && g.doubled(target, n) {
				g.fail(pos, "%s %s: name %q has no final dot, so that it means %s: write %q, or leave the zone's name out", owner, t, target, n, target+".")
				return
			}
		}
		data = append(data, rd)
	}
	g.put(k, g.ttlOf(x), data, pos)
	g.terms(k, x, data, pos)
}

// terms takes what a record set says of weights, and how many are answered.
func (g *gatherer) terms(k record.Key, x *idl.Instance, data []record.Rdata, pos syntax.Position) {
	s := g.sets[k]
	weights, _ := x.Get("weights").([]idl.Value)
	for i := range weights {
		n, _ := weights[i].(int64)
		rd, w := data[i], weight{uint32(n), pos}
		if before, ok := s.weights[rd]; ok && before.n != w.n {
			g.fail(pos, "%s has a record with the weight %d here and %d at %s: expected one weight", k, w.n, before.n, before.pos)
			return
		}
		if s.weights == nil {
			s.weights = map[record.Rdata]weight{}
		}
		s.weights[rd] = w
	}
	if most, ok := x.Get("most").(int64); ok {
		if s.most > 0 && s.most != int(most) {
			g.fail(pos, "%s has most = %d here and %d at %s: expected one number", k, most, s.most, s.mostAt)
			return
		}
		s.most, s.mostAt = int(most), pos
	}
}

// set is the RRset with its terms.
func (s *gathered) set(r record.RRset) record.Set {
	out := record.Set{RRset: r, Choose: s.most}
	for _, rd := range r.Data {
		w := uint32(1)
		if said, ok := s.weights[rd]; ok {
			w = said.n
		}
		out.Terms = append(out.Terms, record.Terms{TTL: r.TTL, Weight: w})
	}
	return out
}

// doubled tells whether a relative name, completed, has the zone's name twice at its
// end: a forgotten dot.
func (g *gatherer) doubled(name string, n record.Name) bool {
	if g.origin == record.Root || name == "@" || strings.HasSuffix(name, ".") || !n.IsSubdomainOf(g.origin) {
		return false
	}
	return (n[:len(n)-len(g.origin)] + record.Root).IsSubdomainOf(g.origin)
}

// lastName is the name that RDATA of some types ends in.
func lastName(t record.Type, data string) (string, bool) {
	switch t {
	case record.TypeNS, record.TypeCNAME, record.TypePTR, record.TypeDNAME, record.TypeMX, record.TypeSRV:
		words := strings.Fields(data)
		if len(words) > 0 && words[0] != `\#` {
			return words[len(words)-1], true
		}
	}
	return "", false
}

func (g *gatherer) put(k record.Key, ttl uint32, data []record.Rdata, pos syntax.Position) {
	s := g.sets[k]
	if s == nil {
		s = &gathered{ttl: ttl, pos: pos}
		g.sets[k] = s
	} else if s.ttl != ttl {
		g.fail(pos, "%s has the TTL %d here and %d at %s: the records of one name and type have one TTL", k, ttl, s.ttl, s.pos)
		return
	}
	for _, rd := range data {
		if zonefile.Single(k.Type) && len(s.data) > 0 && s.data[0] != rd {
			g.fail(pos, "%s has a second %s record, the first is at %s", k.Owner, k.Type, s.pos)
			return
		}
		s.data = append(s.data, rd)
	}
}

func (g *gatherer) claims() []record.Claim {
	keys := make([]record.Key, 0, len(g.sets))
	for k := range g.sets {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, record.Key.Compare)
	claims := make([]record.Claim, 0, len(keys))
	for i, k := range keys {
		s := g.sets[k]
		c := record.Claim{RRset: record.NewRRset(k.Owner, k.Type, s.ttl, s.data...), Source: g.source, Place: fileLine(s.pos)}
		c.Location = k.Location
		if err := c.Check(); err != nil {
			g.fail(s.pos, "%w", err)
		}
		if k.Type == record.TypeCNAME {
			if other := beside(keys, i); other != nil {
				g.fail(s.pos, "%s has a CNAME and also %s at %s", k.Owner, other.Type, g.sets[*other].pos)
			}
		}
		claims = append(claims, c)
	}
	return g.withTerms(claims)
}

// withTerms adds the claims of terms, each beside those that it is about.
func (g *gatherer) withTerms(claims []record.Claim) []record.Claim {
	type at struct {
		owner    record.Name
		location record.Location
	}
	sets, places := map[at][]record.Set{}, map[at]string{}
	for _, c := range claims {
		s := g.sets[c.Key]
		if s.weights == nil && s.most == 0 {
			continue
		}
		k := at{c.Owner, c.Location}
		set := s.set(c.RRset)
		if _, some, _ := record.TermsRRset(set); !some {
			continue
		}
		sets[k] = append(sets[k], set)
		if places[k] == "" {
			places[k] = fileLine(s.pos)
		}
	}
	for k, of := range sets {
		r, _, err := record.TermsRRset(of...)
		if err != nil {
			g.fail(g.sets[of[0].Key].pos, "%w", err)
			continue
		}
		claims = append(claims, record.Claim{RRset: r, Source: g.source, Place: places[k]})
	}
	slices.SortFunc(claims, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
	return claims
}

// beside finds a key of the same owner and location as keys[i], a CNAME's, that cannot be
// with it. keys are in order.
func beside(keys []record.Key, i int) *record.Key {
	first := i
	for first > 0 && keys[first-1].Owner == keys[i].Owner {
		first--
	}
	for j := first; j < len(keys) && keys[j].Owner == keys[i].Owner; j++ {
		if keys[j].Location == keys[i].Location && !zonefile.WithCNAME(keys[j].Type) {
			return &keys[j]
		}
	}
	return nil
}

// Relative gives a name as it is written in a zone: without the zone's name behind it, "@"
// for the zone's own, and with a final dot when it is outside or would be taken for one
// whose dot was forgotten.
func Relative(n, origin record.Name) string {
	text := n.String()
	switch {
	case n == origin:
		return "@"
	case origin == record.Root, !n.IsSubdomainOf(origin):
		return text
	}
	prefix := n[:len(n)-len(origin)] + record.Root
	if prefix.IsSubdomainOf(origin) {
		return text
	}
	return strings.TrimSuffix(prefix.String(), ".")
}
