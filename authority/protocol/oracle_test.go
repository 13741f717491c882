package protocol

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/record"
)

// oracle answers by scanning all records for every step of RFC 1034 §4.3.2. It
// shares nothing with the code under test, not even the library for wire format.
type oracle []dns.RR

// result is what the oracle and the server are compared by.
type result struct {
	Rcode             string
	AA                bool
	Answer, Authority []string
}

func (o oracle) has(owner string, t uint16) []dns.RR {
	var found []dns.RR
	for _, rr := range o {
		if rr.Header().Name == owner && rr.Header().Rrtype == t {
			found = append(found, rr)
		}
	}
	return found
}

func (o oracle) exists(name string) bool {
	return slices.ContainsFunc(o, func(rr dns.RR) bool { return dns.IsSubDomain(name, rr.Header().Name) })
}

// zone is the longest apex at or above name, "" when there is none.
func (o oracle) zone(name string) string {
	best := ""
	for _, rr := range o {
		if rr.Header().Rrtype == dns.TypeSOA && dns.IsSubDomain(rr.Header().Name, name) && len(rr.Header().Name) > len(best) {
			best = rr.Header().Name
		}
	}
	return best
}

func parent(name string) string {
	off, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[off:]
}

// lines writes records as text under another owner.
func lines(rrs []dns.RR, owner string) []string {
	var out []string
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		rr.Header().Name = owner
		out = append(out, strings.ToLower(rr.String()))
	}
	return out
}

func (o oracle) soa(apex string) []string {
	soa := dns.Copy(o.has(apex, dns.TypeSOA)[0]).(*dns.SOA)
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	return lines([]dns.RR{soa}, apex)
}

func (o oracle) answer(qname string, qtype uint16, do bool) (r result) {
	name, first := qname, true
	seen := map[string]bool{}
	dnames := map[string]bool{}
	for {
		if len(seen) > 16 || seen[name] {
			r.Rcode = "SERVFAIL"
			return r
		}
		seen[name] = true
		apex := o.zone(name)
		if qtype == dns.TypeDS && apex == name && name != "." && o.zone(parent(name)) != "" {
			apex = o.zone(parent(name))
		}
		if apex == "" {
			if first {
				r.Rcode = "REFUSED"
			}
			return r
		}
		// From below the apex down to the name: the first cut or DNAME holds.
		labels := dns.SplitDomainName(name)
		for i := len(labels) - dns.CountLabel(apex); i >= 0; i-- {
			at := dns.Fqdn(strings.Join(labels[i:], "."))
			isCut := at != apex && len(o.has(at, dns.TypeNS)) > 0 && len(o.has(at, dns.TypeSOA)) == 0
			if isCut && !(at == name && qtype == dns.TypeDS) {
				r.Authority = lines(o.has(at, dns.TypeNS), at)
				if do {
					r.Authority = append(r.Authority, lines(o.has(at, dns.TypeDS), at)...)
				}
				return r
			}
			if d := o.has(at, dns.TypeDNAME); len(d) > 0 && at != name {
				r.AA = r.AA || first
				if !dnames[at] {
					r.Answer = append(r.Answer, lines(d, at)...)
				}
				dnames[at] = true
				target := strings.TrimSuffix(name, at) + d[0].(*dns.DNAME).Target
				if d[0].(*dns.DNAME).Target == "." {
					target = strings.TrimSuffix(name, at)
				}
				r.Answer = append(r.Answer, strings.ToLower((&dns.CNAME{Hdr: dns.RR_Header{
					Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: d[0].Header().Ttl,
				}, Target: target}).String()))
				if qtype == dns.TypeCNAME || qtype == dns.TypeANY {
					return r
				}
				name = target
				goto next
			}
		}
		r.AA = r.AA || first
		{
			owner := name
			if !o.exists(name) {
				for owner = name; !o.exists(owner); {
					owner = parent(owner)
				}
				owner = "*." + strings.TrimPrefix(owner, ".")
				if !o.exists(owner) || len(o.has(owner, dns.TypeSOA)) > 0 {
					r.Rcode = "NXDOMAIN"
					r.Authority = o.soa(apex)
					return r
				}
			}
			if found := o.has(owner, qtype); len(found) > 0 {
				r.Answer = append(r.Answer, lines(found, name)...)
				return r
			}
			if qtype == dns.TypeANY {
				for _, rr := range o {
					apexDS := rr.Header().Rrtype == dns.TypeDS && len(o.has(owner, dns.TypeSOA)) > 0 // the upper zone's
					if rr.Header().Name == owner && !apexDS {
						r.Answer = append(r.Answer, lines([]dns.RR{rr}, name)...)
					}
				}
				if len(r.Answer) == 0 || !first && !o.owns(owner) {
					r.Authority = o.soa(apex)
				}
				return r
			}
			c := o.has(owner, dns.TypeCNAME)
			if len(c) == 0 {
				r.Authority = o.soa(apex)
				return r
			}
			r.Answer = append(r.Answer, lines(c, name)...)
			name = c[0].(*dns.CNAME).Target
		}
	next:
		first = false
	}
}

func (o oracle) owns(name string) bool {
	return slices.ContainsFunc(o, func(rr dns.RR) bool { return rr.Header().Name == name })
}

// view makes a View of the oracle's records.
func (o oracle) view(t testing.TB) *data.View { return viewOfRRs(t, o) }

func viewOfRRs(t interface{ Fatal(...any) }, rrs []dns.RR) *data.View {
	type set struct {
		ttl  uint32
		data []record.Rdata
	}
	sets := map[record.Key]*set{}
	for _, rr := range rrs {
		buf := make([]byte, 70000)
		n, err := dns.PackRR(dns.Copy(rr), buf, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		owner, at, err := record.NameFromWire(buf)
		if err != nil {
			t.Fatal(err)
		}
		k := record.Key{Owner: owner, Type: record.Type(rr.Header().Rrtype)}
		if sets[k] == nil {
			sets[k] = &set{ttl: rr.Header().Ttl}
		}
		sets[k].data = append(sets[k].data, record.Rdata(buf[at+10:n]))
	}
	var all []record.Set
	for k, s := range sets {
		all = append(all, record.Set{RRset: record.NewRRset(k.Owner, k.Type, s.ttl, s.data...)})
	}
	return viewOfSets(t, all, image.Options{})
}

// viewOfSets makes a View of an image that has no name in the file system any more.
func viewOfSets(t interface{ Fatal(...any) }, sets []record.Set, o image.Options) *data.View {
	dir, err := os.MkdirTemp("", "view")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	o.NoSync = true
	im, err := imagetest.Build(filepath.Join(dir, "image"), sets, o)
	if err != nil {
		t.Fatal(err)
	}
	return data.New(im)
}

// got reads a response for comparing.
func got(m *dns.Msg) result {
	r := result{AA: m.Authoritative}
	if m.Rcode != dns.RcodeSuccess {
		r.Rcode = dns.RcodeToString[m.Rcode]
	}
	for _, rr := range m.Answer {
		r.Answer = append(r.Answer, strings.ToLower(rr.String()))
	}
	for _, rr := range m.Ns {
		r.Authority = append(r.Authority, strings.ToLower(rr.String()))
	}
	return r
}

func (r result) sorted() result {
	slices.Sort(r.Answer)
	slices.Sort(r.Authority)
	return r
}

func mixedCase(name string, bits uint64) string {
	b := []byte(name)
	for i, c := range b {
		if c >= 'a' && c <= 'z' && bits>>(i%64)&1 == 1 {
			b[i] = c - 32
		}
	}
	return string(b)
}

// TestAgainstOracle asks random questions of random zones: every shape that the
// few labels allow, sensible or not.
func TestAgainstOracle(t *testing.T) {
	label := rapid.SampledFrom([]string{"a", "b", "*"})
	name := rapid.Custom(func(t *rapid.T) string {
		labels := rapid.SliceOfN(label, 0, 4).Draw(t, "labels")
		return dns.Fqdn(strings.Join(append(labels, rapid.SampledFrom([]string{"z", "z", "z", "y"}).Draw(t, "top")), "."))
	})
	types := []uint16{
		dns.TypeA, dns.TypeA, dns.TypeTXT, dns.TypeMX, dns.TypeNS, dns.TypeNS, dns.TypeCNAME, dns.TypeCNAME, dns.TypeCNAME,
		dns.TypeDNAME, dns.TypeSOA, dns.TypeDS, dns.TypeSRV, 65280,
	}
	worker := NewWorker(Config{})
	rapid.Check(t, func(t *rapid.T) {
		o := oracle{mustRR("z. 300 IN SOA m.z. r.z. 7 1 1 1 60")}
		have := map[string]bool{"z. SOA": true}
		for range rapid.IntRange(1, 25).Draw(t, "records") {
			owner, target := name.Draw(t, "owner"), name.Draw(t, "target")
			qtype := rapid.SampledFrom(types).Draw(t, "type")
			rdata := map[uint16]string{
				dns.TypeA: "192.0.2." + fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "host")), dns.TypeTXT: `"x"`, dns.TypeMX: "10 " + target,
				dns.TypeNS: target, dns.TypeCNAME: target, dns.TypeDNAME: target, dns.TypeSOA: "m.z. r." + target + " 7 1 1 1 600",
				dns.TypeDS: "1 13 2 " + strings.Repeat("ab", 32), dns.TypeSRV: "1 1 53 " + target, 65280: `\# 3 c00c00`,
			}[qtype]
			key := owner + " " + dns.Type(qtype).String()
			single := qtype == dns.TypeCNAME || qtype == dns.TypeDNAME || qtype == dns.TypeSOA
			if have[key+rdata] || single && have[key] {
				continue
			}
			have[key+rdata], have[key] = true, true
			o = append(o, mustRR(fmt.Sprintf("%s 300 IN %s %s", owner, dns.Type(qtype), rdata)))
		}
		view := viewOfRRs(t, o)
		for range 20 {
			q := new(dns.Msg)
			qname := name.Draw(t, "qname")
			qtype := rapid.SampledFrom(append(types, dns.TypeANY, dns.TypeAAAA)).Draw(t, "qtype")
			q.SetQuestion(mixedCase(qname, rapid.Uint64().Draw(t, "case")), qtype)
			q.Id = rapid.Uint16().Draw(t, "id")
			do := rapid.Bool().Draw(t, "do")
			if do {
				q.SetEdns0(1232, true)
			}
			m := ask(t, worker, view, q, TCP)
			want := o.answer(qname, qtype, do)
			want = want.sorted()
			want.Answer = slices.Compact(want.Answer) // a chain that comes back to a DNAME has it once
			if diff := cmp.Diff(want, got(m).sorted()); diff != "" {
				t.Fatalf("%s %s do=%v of\n%v\n(-oracle +server)\n%s", qname, dns.Type(qtype), do, o, diff)
			}
		}
	})
}

func mustRR(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

// ask packs q, has it answered and unpacks, checking what holds for every response.
func ask(t interface{ Fatalf(string, ...any) }, k *Worker, view *data.View, q *dns.Msg, transport Transport) *dns.Msg {
	b, err := q.Pack()
	if err != nil {
		t.Fatalf("pack %v: %v", q, err)
	}
	prefix := []byte("kept")
	out := k.Respond(view, b, transport, time.Unix(0, 0), prefix)
	if string(out[:4]) != "kept" {
		t.Fatalf("the response is not appended: %q", out[:4])
	}
	m := new(dns.Msg)
	if err := m.Unpack(out[4:]); err != nil {
		t.Fatalf("unpack response to %v: %v", q, err)
	}
	if m.Id != q.Id || !m.Response || m.RecursionAvailable || m.AuthenticatedData || m.RecursionDesired != q.RecursionDesired {
		t.Fatalf("header of the response to\n%v\nis wrong:\n%v", q, m)
	}
	if len(q.Question) == 1 && q.Opcode == 0 && (len(m.Question) != 1 || m.Question[0] != q.Question[0]) {
		t.Fatalf("question is %v, want %v, case kept", m.Question, q.Question)
	}
	if (m.IsEdns0() != nil) != (q.IsEdns0() != nil) && q.Opcode == 0 {
		t.Fatalf("EDNS in the query and the response differ:\n%v\n%v", q, m)
	}
	return m
}
