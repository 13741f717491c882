package beacon

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/beacon/join"
	"github.com/zonecast/zonecast/rtt"
)

// minified is script/beacon.js as scripts/gen-beacon.sh makes it.
//
//go:embed script/beacon.min.js
var minified []byte

// script puts the rate into it.
func script(rate float64) []byte {
	return bytes.Replace(minified, []byte("__RATE__"), []byte(strconv.FormatFloat(rate, 'g', -1, 64)), 1)
}

// Paths that browsers fetch.
const (
	scriptPath = "/beacon.js"
	startPath  = "/start"
	reportPath = "/report"
	pixelPath  = "/b"
)

// Bounds of a report.
const (
	maxBody  = 4096 // octets
	maxTimes = 32   // targets
)

// Handler serves what browsers fetch:
//
//	GET  /beacon.js   the script
//	GET  /start       a token and the names to fetch, as JSON; 204: do not measure
//	GET  /b           what is measured: the name of this PoP, a few octets
//	POST /report      the times; 204 whatever becomes of them
//
// It sets no cookies and keeps no state of a user.
func (b *Beacon) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+scriptPath, b.serveScript)
	mux.HandleFunc("GET "+startPath, b.serveStart)
	mux.HandleFunc("GET "+pixelPath, b.servePixel)
	mux.HandleFunc("POST "+reportPath, b.serveReport)
	mux.HandleFunc("OPTIONS /", b.servePreflight)
	return mux
}

// Times serves all files of round-trip times, one behind the other, for rtt.ReadAll.
func (b *Beacon) Times() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "no-store")
		if err := b.files.serve(w); err != nil && r.Context().Err() == nil {
			b.log.Error("round-trip times are not served", "error", err)
			panic(http.ErrAbortHandler) // the length is not known: the reader must see that it is not whole
		}
	})
}

func (b *Beacon) serveScript(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=3600")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	w.Write(b.script) // an error is the reader's hanging up
}

// open sets what a page of another origin needs to read a response, and tells whether it
// may. No credentials are ever allowed (Fetch §3.2).
func (b *Beacon) open(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	origin := r.Header.Get("Origin")
	if len(b.cfg.Origins) == 0 {
		h.Set("Access-Control-Allow-Origin", "*")
		return true
	}
	h.Set("Vary", "Origin")
	if origin != "" && !slices.Contains(b.cfg.Origins, origin) {
		return false
	}
	if origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
	}
	return true
}

// optedOut tells whether the user asks not to be measured: Do Not Track (W3C Tracking
// Preference Expression), Global Privacy Control.
func optedOut(r *http.Request) bool {
	return r.Header.Get("DNT") == "1" || r.Header.Get("Sec-GPC") == "1"
}

func (b *Beacon) servePreflight(w http.ResponseWriter, r *http.Request) {
	if b.open(w, r) {
		w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
		w.Header().Set("Access-Control-Max-Age", "86400")
	}
	w.WriteHeader(http.StatusNoContent)
}

// started is what /start says.
type started struct {
	Token  string   `json:"t"`
	Names  []string `json:"n"`
	Suffix string   `json:"u"` // what follows TOKEN.NAME in a URL
}

func (b *Beacon) serveStart(w http.ResponseWriter, r *http.Request) {
	outcome := b.mayStart(w, r)
	b.metrics.starts.WithLabelValues(outcome).Inc()
	if outcome != "issued" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	text, _ := b.keys.Load().Issue(b.clock.now())
	names := make([]string, 0, b.cfg.Targets+2)
	for _, i := range rand.Perm(len(b.cfg.PoPs))[:min(b.cfg.Targets, len(b.cfg.PoPs))] {
		names = append(names, b.cfg.PoPs[i])
	}
	for _, label := range []string{b.cfg.Mapped, b.cfg.Anycast} {
		if label != "" {
			names = append(names, label)
		}
	}
	// By chance: the first one fetched has the line to itself, the last one a warm resolver.
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(started{text, names, b.suffix}) // an error is the reader's hanging up
}

// admit gives the client of a request, or why the request is not taken.
func (b *Beacon) admit(w http.ResponseWriter, r *http.Request) (a netip.Addr, key rtt.Key, refused string) {
	if !b.open(w, r) {
		return a, key, "origin"
	}
	if optedOut(r) {
		return a, key, "opted_out"
	}
	a, ok := clientOf(r, b.proxies)
	key, public := keyOf(rtt.Client, a)
	if !ok || !public {
		return a, key, "private"
	}
	return a, key, ""
}

func (b *Beacon) mayStart(w http.ResponseWriter, r *http.Request) string {
	_, key, refused := b.admit(w, r)
	if refused != "" {
		return refused
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !take(b.starts, key.Prefix, time.Now()) {
		return "limited"
	}
	if b.joiner.Full() {
		return "full"
	}
	return "issued"
}

func (b *Beacon) servePixel(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Timing-Allow-Origin", "*")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, b.cfg.PoP)
}

func (b *Beacon) serveReport(w http.ResponseWriter, r *http.Request) {
	outcome := b.report(w, r)
	b.metrics.reports.WithLabelValues(outcome).Inc()
	w.WriteHeader(http.StatusNoContent) // nobody learns which of his forgeries was the best
}

func (b *Beacon) report(w http.ResponseWriter, r *http.Request) string {
	a, key, refused := b.admit(w, r)
	if refused != "" {
		return refused
	}
	now := time.Now()
	b.mu.Lock()
	may := b.admitted(a, key.Prefix, now)
	b.mu.Unlock()
	if !may {
		return "limited"
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return "malformed"
	}
	report, err := b.parse(body)
	if err != nil {
		return "malformed"
	}
	keys := b.keys.Load()
	t, err := keys.Verify([]byte(report.Token), b.clock.now(), b.life)
	if err != nil {
		return reason(err)
	}
	if t.Time.Before(b.began.Truncate(time.Second)) {
		return "restarted"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.joiner.Reported(join.Reported{ID: t.ID, Client: key, Hash: keys.ClientHash(single(a).Addr().AsSlice()), Times: report.times()}, now); err != nil {
		return reason(err)
	}
	return "taken"
}

// admitted tells whether a client may report once more. The prefix is looked at first: out of a /48 come
// 65,536 clients, who would use up the counters of everybody. But it is charged last: a client who may not
// takes nothing from its neighbours. mu is held.
func (b *Beacon) admitted(a netip.Addr, prefix netip.Prefix, now time.Time) bool {
	return room(b.reports, prefix, now) && take(b.clients, single(a), now) && take(b.reports, prefix, now)
}

// reported is the body of a report:
//
//	{"t": TOKEN, "m": [[NAME, MILLISECONDS, PoP that answered], ...]}
type reported struct {
	Token string   `json:"t"`
	Times []timing `json:"m"`
}

type timing struct {
	name string
	rtt  time.Duration
}

var errReport = errors.New("no report")

// UnmarshalJSON reads [NAME, MILLISECONDS] and what follows that, which is for people who look at
// their browser.
func (t *timing) UnmarshalJSON(b []byte) error {
	var all []json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil || len(all) < 2 || len(all) > 3 {
		return errReport
	}
	var ms float64
	if json.Unmarshal(all[0], &t.name) != nil || json.Unmarshal(all[1], &ms) != nil || !(ms > 0 && ms <= rtt.Longest.Seconds()*1000) {
		return errReport
	}
	t.rtt = max(time.Duration(ms*float64(time.Millisecond)), 1)
	return nil
}

// parse reads a report; it names each target once, and no other.
func (b *Beacon) parse(body []byte) (r reported, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fmt.Errorf("%w: %w", errReport, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("%w: something follows", errReport)
	}
	if len(r.Times) == 0 || len(r.Times) > maxTimes {
		return r, fmt.Errorf("%w: %d times, expected 1 to %d", errReport, len(r.Times), maxTimes)
	}
	for i, t := range r.Times {
		if !b.targets[t.name] {
			return r, fmt.Errorf("%w: there is no target %.80q", errReport, t.name)
		}
		if slices.ContainsFunc(r.Times[:i], func(o timing) bool { return o.name == t.name }) {
			return r, fmt.Errorf("%w: target %q is there twice", errReport, t.name)
		}
	}
	return r, nil
}

func (r reported) times() []join.Time {
	times := make([]join.Time, len(r.Times))
	for i, t := range r.Times {
		times[i] = join.Time{Target: strings.Clone(t.name), RTT: t.rtt}
	}
	return times
}
