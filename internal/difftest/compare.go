package difftest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/record"
)

// Options of Compare.
type Options struct {
	// Zones are what the peer has.
	Zones []Zone
	// Ours are the hosts, asked in turn.
	Ours []netip.AddrPort
	Peer *Server
	// Ask is what to ask; nil means Questions of the Zones.
	Ask     iter.Seq[Question]
	Allowed *Allowed // nil allows nothing
	// Explain, when not nil, says by which rule of Allowed a difference follows from
	// the data; "" means that it does not. Several goroutines call it.
	Explain func(Difference) string
	// Stamps is what ours adds to the serial of each zone's SOA; nil means nothing.
	Stamps  map[record.Name]uint32
	Workers int // questions at a time; zero means 8
	// Most is how many differences are kept in the Report; zero means 1000.
	Most int
}

// Report is what came out.
type Report struct {
	Peer        string
	Questions   int
	Differences int          // that no rule allows
	First       []Difference // of them, at most Options.Most
	Allowed     map[string]int
	Unused      []string // rules that allowed nothing
	Took        time.Duration
}

// Difference is one thing in which two responses differ.
type Difference struct {
	Question
	Kind         string // rcode, aa, tc, question, serial, answer, authority, glue or chain
	Ours, Theirs string
	Peer         string // the name of the other server
}

// String is one line, against which the rules of Allowed are matched:
//
//	answer udp1232 www.example.net. A: ours [...], named [...]
func (d Difference) String() string {
	return fmt.Sprintf("%s %s %s %s: ours %s, %s %s", d.Kind, d.Via, d.Name, d.Type, d.Ours, d.Peer, d.Theirs)
}

// String is the report for people.
func (r Report) String() string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "%d questions to zonecast and %s in %s: %d differences", r.Questions, r.Peer, r.Took.Round(time.Millisecond), r.Differences)
	for _, rule := range slices.Sorted(maps.Keys(r.Allowed)) {
		fmt.Fprintf(&sb, "\n  allowed %d times: %s", r.Allowed[rule], rule)
	}
	for _, rule := range r.Unused {
		fmt.Fprintf(&sb, "\n  allowed nothing: %s", rule)
	}
	for _, d := range r.First {
		fmt.Fprintf(&sb, "\n  %s", d)
	}
	return sb.String()
}

// Compare asks both servers all Questions about the zones. An error means that
// they could not be asked, not that they differ; the Report then has what was
// compared before.
func Compare(ctx context.Context, o Options) (Report, error) {
	if o.Workers == 0 {
		o.Workers = 8
	}
	if o.Most == 0 {
		o.Most = 1000
	}
	if o.Ask == nil {
		o.Ask = Questions(o.Zones)
	}
	started := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	questions := make(chan Question, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(questions)
		for q := range o.Ask {
			select {
			case questions <- q:
			case <-ctx.Done():
				return
			}
		}
	})
	var (
		mu     sync.Mutex // guards below
		report = Report{Peer: o.Peer.Name}
		failed error
	)
	for range o.Workers {
		wg.Go(func() {
			err := compareEach(ctx, o, questions, func(found []Difference) {
				explained := make([]string, len(found))
				for i := range found {
					found[i].Peer = o.Peer.Name
					if o.Explain != nil {
						explained[i] = o.Explain(found[i])
					}
				}
				mu.Lock()
				defer mu.Unlock()
				report.Questions++
				for i, d := range found {
					if o.Allowed.allows(d.String(), explained[i]) {
						continue
					}
					report.Differences++
					if len(report.First) < o.Most {
						report.First = append(report.First, d)
					}
				}
			})
			if err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
				cancel()
			}
		})
	}
	wg.Wait()
	report.Allowed, report.Unused = o.Allowed.use()
	report.Took = time.Since(started)
	slices.SortFunc(report.First, func(a, b Difference) int { return strings.Compare(a.String(), b.String()) })
	return report, failed
}

func compareEach(ctx context.Context, o Options, questions <-chan Question, found func([]Difference)) (err error) {
	var ours []*client
	for _, h := range o.Ours {
		c, err := newClient(h)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.close()) }()
		ours = append(ours, c)
	}
	peer, err := newClient(o.Peer.Addr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.close()) }()
	zones := map[record.Name]bool{}
	for _, z := range o.Zones {
		zones[z.Apex] = true
	}
	turn := 0
	for q := range questions {
		a, err := ours[turn%len(ours)].ask(ctx, q)
		if err != nil {
			return err
		}
		turn++
		a.unstamp(o.Stamps)
		b, err := peer.ask(ctx, q)
		if err != nil {
			return err
		}
		whole, followed, err := follow(ctx, peer, q, b, zones)
		if err != nil {
			return err
		}
		ds := differences(q, a, whole)
		if followed && !whole.tc {
			ds = append(ds, Difference{Question: q, Kind: "chain", Ours: "one response", Theirs: "stops at the end of a zone"})
		}
		found(ds)
	}
	return nil
}

// follow asks the peer on where its response stops at a CNAME into another of the
// zones, as it does without recursion, and joins the responses: the answers one
// after another, the rest from the last one. Of ours one response has it all.
func follow(ctx context.Context, peer *client, q Question, first *response, zones map[record.Name]bool) (*response, bool, error) {
	whole, followed := *first, false
	const most = 16 // as many as ours follows
	for len(whole.answer) <= most && !whole.tc && whole.rcode == 0 && q.Type != record.TypeCNAME && q.Type != record.TypeANY {
		end := chainEnd(whole.answer, q.Name)
		if end == q.Name || zoneOf(end, zones) == "" || zoneOf(end, zones) == zoneOf(q.Name, zones) {
			break
		}
		if slices.ContainsFunc(whole.answer, func(r rr) bool { return r.owner == end && r.t == q.Type }) {
			break // it has followed, as NSD does
		}
		q = Question{Name: end, Type: q.Type, Via: q.Via}
		next, err := peer.ask(ctx, q)
		if err != nil {
			return nil, false, err
		}
		followed = true
		answer := append(slices.Clone(whole.answer), next.answer...)
		aa := whole.aa
		whole = *next
		whole.answer, whole.aa, whole.question = answer, aa, first.question
	}
	return &whole, followed, nil
}

// chainEnd is where the CNAMEs of an answer lead from name.
func chainEnd(answer []rr, name record.Name) record.Name {
	for range answer {
		i := slices.IndexFunc(answer, func(r rr) bool { return r.owner == name && r.t == record.TypeCNAME })
		if i < 0 {
			break
		}
		name = record.Name(answer[i].rdata)
	}
	return name
}

func zoneOf(n record.Name, zones map[record.Name]bool) record.Name {
	for n != "" && !zones[n] {
		n = n.Parent()
	}
	return n
}

// differences compares what a response promises. After TC only the flags count:
// the client asks again.
func differences(q Question, ours, theirs *response) (ds []Difference) {
	differ := func(kind string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			ds = append(ds, Difference{Question: q, Kind: kind, Ours: x, Theirs: y})
		}
	}
	differ("rcode", ours.rcode, theirs.rcode)
	differ("aa", ours.aa, theirs.aa)
	differ("tc", ours.tc, theirs.tc)
	differ("question", fmt.Sprintf("%q", ours.question), fmt.Sprintf("%q", theirs.question))
	if ours.tc || theirs.tc {
		return ds
	}
	a, b := sorted(ours.answer, keepSerial), sorted(theirs.answer, keepSerial)
	c, d := sorted(ours.authority, keepSerial), sorted(theirs.authority, keepSerial)
	if a == b && c == d {
		differ("glue", glue(ours), glue(theirs))
		return ds
	}
	a0, b0 := sorted(ours.answer, zeroSerial), sorted(theirs.answer, zeroSerial)
	c0, d0 := sorted(ours.authority, zeroSerial), sorted(theirs.authority, zeroSerial)
	if a0 == b0 && c0 == d0 {
		differ("serial", a+c, b+d)
	}
	differ("answer", a0, b0)
	differ("authority", c0, d0)
	differ("glue", glue(ours), glue(theirs))
	return ds
}

func keepSerial(r rr) rr { return r }

// unstamp takes out of the serials what ours adds to them.
func (r *response) unstamp(stamps map[record.Name]uint32) {
	for _, section := range [][]rr{r.answer, r.authority} {
		for i := range section {
			x := &section[i]
			if n := len(x.rdata); x.t == record.TypeSOA && n >= 20 && stamps[x.owner] != 0 {
				serial := binary.BigEndian.Uint32([]byte(x.rdata[n-20:])) - stamps[x.owner]
				x.rdata = x.rdata[:n-20] + record.Rdata(binary.BigEndian.AppendUint32(nil, serial)) + x.rdata[n-16:]
			}
		}
	}
}

// zeroSerial takes the serial out of a SOA (RFC 1035 §3.3.13: 20 octets from its end).
func zeroSerial(r rr) rr {
	if n := len(r.rdata); r.t == record.TypeSOA && n >= 20 {
		r.rdata = r.rdata[:n-20] + "\x00\x00\x00\x00" + r.rdata[n-16:]
	}
	return r
}

func sorted(rrs []rr, change func(rr) rr) string {
	lines := make([]string, len(rrs))
	for i, r := range rrs {
		lines[i] = change(r).String()
	}
	slices.Sort(lines)
	return "[" + strings.Join(lines, " | ") + "]"
}

// glue is the addresses in a referral of servers within the delegated zone: those
// that have to be there (RFC 9471 §3.1).
func glue(r *response) string {
	if r.aa || len(r.answer) > 0 {
		return ""
	}
	var cut record.Name
	targets := map[record.Name]bool{}
	for _, x := range r.authority {
		if x.t == record.TypeNS {
			cut = x.owner
			targets[record.Name(x.rdata)] = true
		}
	}
	if cut == "" {
		return ""
	}
	var needed []rr
	for _, x := range r.additional {
		if x.owner.IsSubdomainOf(cut) && targets[x.owner] {
			needed = append(needed, x)
		}
	}
	return sorted(needed, keepSerial)
}
