package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// glassHost is an agent that takes overrides, and does nothing else; alice is its operator.
type glassHost struct {
	*Agent
	t      *testing.T
	config Config
	key    ed25519.PrivateKey
	log    bytes.Buffer
}

func newGlassHost(t *testing.T) *glassHost {
	t.Helper()
	dir := t.TempDir()
	if _, err := snapshot.LoadOrCreateKey(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	line, err := operator.Line("alice", public)
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.Host, c.Journal, c.StatusDir, c.Keys, c.DNS = "host0", filepath.Join(dir, "journal"), dir, []string{filepath.Join(dir, "key.pub")}, "192.0.2.53:53"
	c.Operators, c.Direct = filepath.Join(dir, "operators"), "unix:"+filepath.Join(dir, "s")
	h := &glassHost{t: t, config: c, key: private}
	h.write(c.Operators, line+"\n")
	t.Cleanup(h.end)
	return h
}

func (h *glassHost) write(path, text string) {
	h.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *glassHost) end() {
	if h.Agent != nil {
		_ = h.direct.ln.Close()
	}
}

// start begins a life of the agent.
func (h *glassHost) start() (err error) {
	h.end()
	h.Agent = nil
	a, err := New(h.config, Deps{Store: memstore.New(), Log: slog.New(slog.NewTextHandler(&h.log, nil)), Metrics: prometheus.NewRegistry()})
	if err == nil {
		h.Agent = a
	}
	return err
}

func (h *glassHost) sign(act operator.Act) []byte {
	h.t.Helper()
	return h.signFor("internal", act)
}

func (h *glassHost) signFor(dataset string, act operator.Act) []byte {
	h.t.Helper()
	b, err := operator.Sign(h.key, "alice", act.Action, dataset, act.Args, time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// call hands a statement over; nobody waits for an authority here.
func (h *glassHost) call(signed []byte) (int, tree.DirectReply) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Millisecond)
	defer cancel()
	w := httptest.NewRecorder()
	h.direct.call(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/direct", bytes.NewReader(signed)))
	var r tree.DirectReply
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		h.t.Fatal(err)
	}
	return w.Code, r
}

func (h *glassHost) takes(signed []byte) (id string) {
	h.t.Helper()
	status, r := h.call(signed)
	if status != http.StatusOK {
		h.t.Fatalf("status %d: %s", status, r.Error)
	}
	return r.ID
}

func (h *glassHost) refuses(signed []byte, status int, says string) {
	h.t.Helper()
	if got, r := h.call(signed); got != status || !strings.Contains(r.Error, says) {
		h.t.Errorf("status %d, %q, want %d, %q", got, r.Error, status, says)
	}
}

// kept are the owners of the overrides in the file.
func (h *glassHost) kept() (owners []string) {
	h.t.Helper()
	k, err := direct.Read(direct.Path(h.config.Journal))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, d := range k.Overrides {
		owners = append(owners, d.Owner)
	}
	return owners
}

func setA(owner, address string) operator.Act {
	return direct.Set(owner, "A", 60, []string{address}, time.Hour, false, "no store")
}

// TestDirectFlood: calls that are refused fill no disk, and how many there were is said.
func TestDirectFlood(t *testing.T) {
	h := newGlassHost(t)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	const calls = 200
	for range calls {
		h.refuses([]byte("nothing that is signed"), http.StatusForbidden, "")
	}
	if n := strings.Count(h.log.String(), "direct override refused"); n < refusalsAtOnce || n > calls/2 {
		t.Errorf("%d calls are logged in %d lines", calls, n)
	}
	if n := h.direct.unsaid.Load(); n == 0 {
		t.Error("nothing is left to be said")
	}
}

// TestDirectDamaged: a file that is damaged is moved aside and said, and the host takes what
// comes; three of them are kept. One that cannot be read for another reason ends the start.
func TestDirectDamaged(t *testing.T) {
	h := newGlassHost(t)
	path := direct.Path(h.config.Journal)
	if err := h.start(); err != nil || len(h.DirectTroubles()) > 0 {
		t.Fatal(err, h.DirectTroubles())
	}
	for n := range 5 {
		h.takes(h.sign(setA("www.example.net", "192.0.2.7")))
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		h.write(path, string(b))
		if err := h.start(); err != nil {
			t.Fatalf("with a damaged file: %v", err)
		}
		aside, err := filepath.Glob(path + ".damaged-*")
		if err != nil || len(aside) != min(n+1, 3) {
			t.Fatalf("moved aside: %v, %v", aside, err)
		}
		if got, err := os.ReadFile(aside[len(aside)-1]); err != nil || !bytes.Equal(got, b) {
			t.Errorf("the newest is not what was damaged: %v", err)
		}
		if got := strings.Join(h.DirectTroubles(), "; "); !strings.Contains(got, "sha256 is") || !strings.Contains(got, aside[len(aside)-1]) {
			t.Errorf("the trouble is %q", got)
		}
		if got := h.kept(); got != nil {
			t.Errorf("kept: %v", got)
		}
	}
	if n := strings.Count(h.log.String(), "direct overrides are damaged"); n != 5 {
		t.Errorf("logged %d times, want 5: %s", n, h.log.String())
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.start(); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("with a directory in its place: %v", err)
	}
}

// TestDirectOnce: a statement is taken once, also when what it did is over and the agent has
// started again; one that could not be kept was not taken.
func TestDirectOnce(t *testing.T) {
	h := newGlassHost(t)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	set := h.sign(setA("www.example.net", "192.0.2.7"))
	path := h.direct.path
	h.direct.path = filepath.Join(t.TempDir(), "nowhere", "f")
	h.refuses(set, http.StatusInsufficientStorage, "no such file")
	h.direct.path = path
	id := h.takes(set)
	h.refuses(set, http.StatusConflict, "was taken already")
	clear := h.sign(direct.Clear(id, "over"))
	h.takes(clear)
	h.direct.drop(id)
	if got := h.kept(); got != nil {
		t.Fatalf("kept: %v", got)
	}
	h.refuses(set, http.StatusConflict, "was taken already")
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	h.refuses(set, http.StatusConflict, "was taken already")
	h.takes(h.sign(setA("mail.example.net", "192.0.2.8")))
	if got := strings.Join(h.kept(), " "); got != "mail.example.net." {
		t.Errorf("kept: %s", got)
	}
	// They are forgotten when they are too old to be taken, and not before.
	old := time.Now().Add(-2*operator.Skew - time.Second).UnixMilli()
	h.direct.kept.Seen["old"] = old
	h.takes(h.sign(setA("mail.example.net", "192.0.2.9")))
	k, err := direct.Read(path)
	if _, there := k.Seen["old"]; there || len(k.Seen) != 4 || err != nil {
		t.Errorf("remembered: %v, %v", k.Seen, err)
	}
}

// TestDirectBound: there are no more overrides in force than a host keeps.
func TestDirectBound(t *testing.T) {
	h := newGlassHost(t)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	for i := range direct.Max {
		h.direct.kept.Overrides = append(h.direct.kept.Overrides, tree.Direct{
			ID: string(rune('0' + i)), Owner: "x.example.net.", Type: "TXT", Rdata: []string{"x"}, Until: time.Now().Add(time.Hour).UnixMilli(),
		})
	}
	h.refuses(h.sign(setA("www.example.net", "192.0.2.7")), http.StatusTooManyRequests, "at most 100")
}

// TestOperatorsFileStays: an operators' file that becomes unreadable leaves those that were
// read last, and it is said; at a start it must be there.
func TestOperatorsFileStays(t *testing.T) {
	h := newGlassHost(t)
	good, err := os.ReadFile(h.config.Operators)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	stranger := h.sign(direct.Set("www.example.net", "A", 60, []string{"192.0.2.7"}, time.Hour, false, "x"))
	stranger[len(stranger)/2] ^= 1
	for what, broken := range map[string]func(){
		"broken": func() { h.write(h.config.Operators, "alice\n") },
		"gone":   func() { _ = os.Remove(h.config.Operators) },
	} {
		broken()
		if got := strings.Join(h.DirectTroubles(), "; "); !strings.Contains(got, "operators") || !strings.Contains(got, "those that were read last stay") {
			t.Errorf("%s: the trouble is %q", what, got)
		}
		h.takes(h.sign(setA("www.example.net", "192.0.2.7")))
		if status, _ := h.call(stranger); status == http.StatusOK {
			t.Errorf("%s: what nobody signed is taken", what)
		}
		h.write(h.config.Operators, string(good))
		if got := h.DirectTroubles(); len(got) > 0 {
			t.Errorf("%s and mended: the trouble is %q", what, got)
		}
	}
	if n := strings.Count(h.log.String(), "those that were read last stay"); n != 2 {
		t.Errorf("logged %d times, want twice: %s", n, h.log.String())
	}
	h.write(h.config.Operators, "alice\n")
	if err := h.start(); err == nil || !strings.Contains(err.Error(), "operators:1") {
		t.Errorf("started with a broken file: %v", err)
	}
}

// TestDirectTroubleIsReported: what is wrong with a host's operators is told to the store.
func TestDirectTroubleIsReported(t *testing.T) {
	h := newGlassHost(t)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	r := &reporter{Agent: h.Agent, parts: map[*Agent]*reported{}}
	h.write(h.config.Operators, "alice\n")
	if host, _, due := r.due(time.Now()); !due || !strings.Contains(host.Refused, "direct: ") || !strings.Contains(host.Refused, "those that were read last stay") {
		t.Errorf("due %v: %+v", due, host)
	}
}

// TestDirectRoom: in a long outage of the store overrides are renewed, and cleared, more often
// than there is room for; those that are over make room, those in force do not.
func TestDirectRoom(t *testing.T) {
	h := newGlassHost(t)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	for n := range direct.Max + 20 {
		h.takes(h.sign(setA("www.example.net", fmt.Sprintf("192.0.2.%d", n))))
	}
	in := h.direct.kept.Overrides
	if last := in[len(in)-1]; len(in) != direct.Max || last.Cleared != "" || last.Rdata[0] != fmt.Sprintf("192.0.2.%d", direct.Max+19) {
		t.Errorf("%d are kept, the last is %+v", len(in), last)
	}
	if n := strings.Count(h.log.String(), "is forgotten"); n != 20 {
		t.Errorf("said %d times that one is forgotten, expected 20", n)
	}
	for n := range direct.Max - 1 {
		h.takes(h.sign(setA(fmt.Sprintf("n%d.example.net", n), "192.0.2.7")))
	}
	h.refuses(h.sign(setA("mail.example.net", "192.0.2.7")), http.StatusTooManyRequests, "at most")
	if got := h.kept(); len(got) != direct.Max || got[0] != "www.example.net." {
		t.Errorf("%d are kept, the first of %s", len(got), got[0])
	}
}

// TestDirectStorePutBack: a store that was told of an override, and is put back to an older copy,
// is told again: the override goes from the host only when it is known what became of it.
func TestDirectStorePutBack(t *testing.T) {
	h := newGlassHost(t)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	id := h.takes(h.sign(setA("www.example.net", "192.0.2.7")))
	d, said := h.direct.kept.Overrides[0], map[string]bool{}
	st := h.deps.Store
	for n := range 2 {
		if over, err := h.direct.handInOne(t.Context(), d, said); over || err != nil {
			t.Fatalf("time %d: over %v, %v", n, over, err)
		}
		if _, err := st.Get(t.Context(), tree.DirectPath(id)); err != nil {
			t.Fatalf("time %d: not handed in: %v", n, err)
		}
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.DirectPath(id), Delete: true}}}); err != nil {
			t.Fatal(err)
		}
	}
	d.Until = time.Now().Add(-direct.Memory - time.Minute).UnixMilli()
	if over, err := h.direct.handInOne(t.Context(), d, said); !over || err != nil {
		t.Errorf("long after its end: over %v, %v", over, err)
	}
}

// TestDirectBeside: an override goes to the dataset that it was signed for, of those that the host
// carries now.
func TestDirectBeside(t *testing.T) {
	h := newGlassHost(t)
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	h.refuses(h.signFor("edge", setA("www.example.org", "192.0.2.7")), http.StatusBadRequest, `signed for dataset "edge", this host has ["internal"]`)
	edge, err := h.takeUp("edge")
	if err != nil {
		t.Fatal(err)
	}
	carries := func(all ...*Agent) {
		h.carried.mu.Lock()
		defer h.carried.mu.Unlock()
		h.carried.agents = all
	}
	carries(h.Agent, edge.Agent)
	id := h.takes(h.signFor("edge", setA("www.example.org", "192.0.2.7")))
	h.takes(h.sign(setA("www.example.net", "192.0.2.8")))
	k, err := direct.Read(direct.Path(edge.cfg.Journal))
	if err != nil || len(k.Overrides) != 1 || k.Overrides[0].Owner != "www.example.org." {
		t.Errorf("edge keeps %+v, %v", k.Overrides, err)
	}
	if got := strings.Join(h.kept(), " "); got != "www.example.net." {
		t.Errorf("internal keeps %s", got)
	}
	h.refuses(h.sign(direct.Clear(id, "over")), http.StatusNotFound, "no direct override")
	h.takes(h.signFor("edge", direct.Clear(id, "over")))
	carries(edge.Agent)
	h.refuses(h.sign(setA("ftp.example.net", "192.0.2.8")), http.StatusBadRequest, `this host has ["edge"]`)
}
