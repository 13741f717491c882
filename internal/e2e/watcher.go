package e2e

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
)

// Mark is a server that is registered again and again under ever higher numbers,
// each time with another IPv4 and IPv6 address. Its A, its AAAA, those of its service
// name and two PTR, in three zones, change together in one registration, so that DNS,
// which is asked for one of them at a time, shows a mixture: whatever is asked later
// must not say less than what was asked before.
type Mark struct {
	Server  record.Name // what is registered
	Service record.Name // <role>.<domain of the server>
}

// NewMark makes the mark whose server is mark1 in a domain.
func NewMark(domain string) (Mark, error) {
	d, err := record.ParseName(domain)
	if err != nil {
		return Mark{}, err
	}
	service, err := d.Child("mark")
	if err != nil {
		return Mark{}, err
	}
	server, err := d.Child("mark1")
	return Mark{Server: server, Service: service}, err
}

// Addresses are those of number n, of 1 to 65535.
func (m Mark) Addresses(n int) (v4, v6 netip.Addr) {
	b := [16]byte{0: 0xfd, 3: 0x99, 14: byte(n >> 8), 15: byte(n)}
	return netip.AddrFrom4([4]byte{10, 99, byte(n >> 8), byte(n)}), netip.AddrFrom16(b)
}

// Registration is what number n registers.
func (m Mark) Registration(n int) *registryapi.Registration {
	v4, v6 := m.Addresses(n)
	return &registryapi.Registration{Name: m.Server.String(), Addresses: []string{v4.String(), v6.String()}, Role: "mark", Site: "e2e"}
}

// number reads the number out of the RDATA of an A or AAAA.
func (m Mark) number(rd record.Rdata) (int, error) {
	a, ok := netip.AddrFromSlice([]byte(rd))
	if !ok {
		return 0, fmt.Errorf("address of %d octets", len(rd))
	}
	b := a.AsSlice()
	n := int(b[len(b)-2])<<8 | int(b[len(b)-1])
	if v4, v6 := m.Addresses(n); a != v4 && a != v6 {
		return 0, fmt.Errorf("address %s is of no number", a)
	}
	return n, nil
}

// Watcher asks one host without pause what must never go backwards and never be a
// mixture: not while everything dies around it, and not across its own restarts.
type Watcher struct {
	Host netip.AddrPort
	Mark Mark
	// Zones are asked for their serials.
	Zones []record.Name
	// Pause is between two questions; zero means 2 ms.
	Pause time.Duration

	rng *rand.Rand

	mu      sync.Mutex // guards below
	report  WatchReport
	answers time.Time // of the last answer; zero before the first
	fresh   stamp
	number  int // of the mark, highest seen
	serials map[record.Name]serial
}

// WatchReport is what a watcher has seen.
type WatchReport struct {
	Answers int
	// Number is the highest of the mark.
	Number int
	// Longest is the longest time without an answer, since the first one, and Silent
	// when that began.
	Longest time.Duration
	Silent  time.Time
	// Oldest is the highest age of a freshness record that was answered: how long
	// no change got through.
	Oldest time.Duration
	// Stamps are the versions and digests, cut to 16 digits, that freshness records
	// said had been published.
	Stamps map[uint64]string
	// Violations are what must never be, at most maxViolations.
	Violations []string
}

const maxViolations = 20

type stamp struct {
	version uint64
	ms      int64
}

// serial is a zone's newest serial and the mark's number that was seen first after
// it; 0 while none was.
type serial struct {
	value uint32
	after int
}

// freshName is where the freshness record of the dataset is.
const freshName = "_fresh.internal.zonecast.internal."

// queryTimeout is how long a host has to answer one question: much longer than it
// takes, and short beside an outage.
const queryTimeout = 500 * time.Millisecond

// NewWatcher makes one for a host; what it asks next comes from seed.
func NewWatcher(host netip.AddrPort, mark Mark, zones []record.Name, seed uint64) *Watcher {
	return &Watcher{
		Host: host, Mark: mark, Zones: zones, rng: rand.New(rand.NewPCG(seed, uint64(host.Port()))),
		serials: map[record.Name]serial{}, report: WatchReport{Stamps: map[uint64]string{}},
	}
}

// Run asks until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	fresh, err := record.ParseName(freshName)
	if err != nil {
		panic(err) // a constant
	}
	asks := []func(){
		func() { w.askFresh(ctx, fresh) },
		func() { w.askAddress(ctx, w.Mark.Server, record.TypeA) },
		func() { w.askAddress(ctx, w.Mark.Server, record.TypeAAAA) },
		func() { w.askAddress(ctx, w.Mark.Service, record.TypeA) },
		func() { w.askAddress(ctx, w.Mark.Service, record.TypeAAAA) },
		func() { w.askReverse(ctx, false) },
		func() { w.askReverse(ctx, true) },
	}
	for _, z := range w.Zones {
		asks = append(asks, func() { w.askSerial(ctx, z) })
	}
	for ctx.Err() == nil {
		asks[w.rng.IntN(len(asks))]()
		_ = Pause(ctx, cmp.Or(w.Pause, 2*time.Millisecond)) // the end of ctx ends the loop
	}
}

// Report is what was seen until now.
func (w *Watcher) Report() WatchReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.report
	r.Number = w.number
	if silent := time.Since(w.answers); !w.answers.IsZero() && silent > r.Longest {
		r.Longest, r.Silent = silent, w.answers
	}
	return r
}

// ask asks one question. False means no answer: none at all, or SERVFAIL, which an
// authority says that has not read its journal yet.
func (w *Watcher) ask(ctx context.Context, name record.Name, t record.Type) ([]record.Rdata, string, bool) {
	qctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	r, err := dnswire.Query(qctx, w.Host, name, t, false)
	if err != nil || r.RcodeName == "SERVFAIL" {
		return nil, "", false
	}
	now := time.Now()
	w.mu.Lock()
	if silent := now.Sub(w.answers); !w.answers.IsZero() && silent > w.report.Longest {
		w.report.Longest, w.report.Silent = silent, w.answers
	}
	w.answers = now
	w.report.Answers++
	w.mu.Unlock()
	var data []record.Rdata
	for _, set := range r.Answer {
		if set.Owner == name && set.Type == t {
			data = append(data, set.Data...)
		}
	}
	return data, r.RcodeName, true
}

// violate notes what must not be.
func (w *Watcher) violate(format string, args ...any) {
	if len(w.report.Violations) < maxViolations {
		w.report.Violations = append(w.report.Violations,
			fmt.Sprintf("%s %s: %s", time.Now().Format("15:04:05.000"), w.Host, fmt.Sprintf(format, args...)))
	}
}

func (w *Watcher) askFresh(ctx context.Context, name record.Name) {
	data, rcode, ok := w.ask(ctx, name, record.TypeTXT)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(data) == 0 {
		if w.fresh.ms != 0 {
			w.violate("freshness record is gone (%s), it was of version %d", rcode, w.fresh.version)
		}
		return
	}
	var s stamp
	var digest string
	if _, err := fmt.Sscanf(string(data[0][1:]), "v=%d t=%d d=%s", &s.version, &s.ms, &digest); err != nil {
		if s.version != 0 { // the first stamp of all knows no digest yet
			w.violate("freshness record %q: %v", data[0], err)
		}
		return
	}
	if s.version < w.fresh.version || s.ms < w.fresh.ms {
		w.violate("freshness went back from version %d stamped at %d to version %d at %d", w.fresh.version, w.fresh.ms, s.version, s.ms)
	}
	if d, known := w.report.Stamps[s.version]; known && d != digest {
		w.violate("version %d had digest %s and now %s", s.version, d, digest)
	}
	w.report.Stamps[s.version] = digest
	w.report.Oldest = max(w.report.Oldest, time.Since(time.UnixMilli(s.ms)))
	w.fresh = s
}

func (w *Watcher) askAddress(ctx context.Context, name record.Name, t record.Type) {
	data, rcode, ok := w.ask(ctx, name, t)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(data) == 0 {
		if w.number != 0 {
			w.violate("%s %s is gone (%s), the mark had number %d", name, t, rcode, w.number)
		}
		return
	}
	if len(data) != 1 {
		w.violate("%s %s has %d addresses, expected that of one number", name, t, len(data))
		return
	}
	n, err := w.Mark.number(data[0])
	switch {
	case err != nil:
		w.violate("%s %s: %v", name, t, err)
	case n < w.number:
		w.violate("%s %s says number %d, what was asked before said %d", name, t, n, w.number)
	default:
		w.saw(n)
	}
}

// askReverse asks for the PTR of the number seen last. When it is gone another must
// have come.
func (w *Watcher) askReverse(ctx context.Context, six bool) {
	w.mu.Lock()
	seen := w.number
	w.mu.Unlock()
	if seen == 0 {
		return
	}
	a, v6 := w.Mark.Addresses(seen)
	t := record.TypeA
	if six {
		a, t = v6, record.TypeAAAA
	}
	data, rcode, ok := w.ask(ctx, rules.ReverseName(a), record.TypePTR)
	if !ok || len(data) > 0 {
		return
	}
	for ctx.Err() == nil { // until the host answers again
		found, _, ok := w.ask(ctx, w.Mark.Server, t)
		if !ok {
			continue
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		n := 0
		if len(found) == 1 {
			n, _ = w.Mark.number(found[0])
		}
		if n <= seen {
			w.violate("PTR of number %d is gone (%s) and %s %s says number %d", seen, rcode, w.Mark.Server, t, n)
		} else {
			w.saw(n)
		}
		return
	}
}

// askSerial asks for a zone's serial. When the mark's number grew since it was asked
// last, the serials of the zones with its records must have grown.
func (w *Watcher) askSerial(ctx context.Context, zone record.Name) {
	data, rcode, ok := w.ask(ctx, zone, record.TypeSOA)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	old, known := w.serials[zone]
	if len(data) != 1 || len(data[0]) < 22 {
		if known {
			w.violate("%s has no SOA (%s), its serial was %d", zone, rcode, old.value)
		}
		return
	}
	// SERIAL and four more numbers of 32 bits stand at the end (RFC 1035 §3.3.13).
	value := binary.BigEndian.Uint32([]byte(data[0][len(data[0])-20:]))
	switch step := int32(value - old.value); { // RFC 1982
	case known && step < 0:
		w.violate("serial of %s went back from %d to %d", zone, old.value, value)
	case known && step == 0:
		if old.after != 0 && old.after < w.number && w.holdsMark(zone) {
			w.violate("serial of %s is still %d, the mark went from number %d to %d", zone, value, old.after, w.number)
		}
	default:
		w.serials[zone] = serial{value: value}
	}
}

// saw notes the mark's number.
func (w *Watcher) saw(n int) {
	w.number = n
	for z, s := range w.serials {
		if s.after == 0 {
			s.after = n
			w.serials[z] = s
		}
	}
}

func (w *Watcher) holdsMark(zone record.Name) bool {
	v4, v6 := w.Mark.Addresses(w.number)
	for _, n := range []record.Name{w.Mark.Server, rules.ReverseName(v4), rules.ReverseName(v6)} {
		if strings.HasSuffix(string(n), string(zone)) {
			return true
		}
	}
	return false
}

// String says what a watcher saw, in a line.
func (r WatchReport) String() string {
	return strconv.Itoa(r.Answers) + " answers, longest outage " + r.Longest.Round(time.Millisecond).String() +
		" from " + r.Silent.Format("15:04:05.0") +
		", oldest answer " + r.Oldest.Round(time.Millisecond).String() + ", mark at " + strconv.Itoa(r.Number) + ", " + strconv.Itoa(len(r.Violations)) + " violations"
}
