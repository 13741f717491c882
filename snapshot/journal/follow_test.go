package journal_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// follower runs Follow and applies what it is told.
type follower struct {
	h      *history
	events chan journal.Event
	cancel context.CancelFunc
	ended  chan error
	state  *snapshot.Dataset
}

func follow(h *history, dir string, keys journal.Keys) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{h: h, events: make(chan journal.Event, 100), cancel: cancel, ended: make(chan error, 1)}
	go func() {
		f.ended <- journal.Follow(ctx, dir, keys, func(e journal.Event) error {
			f.events <- e
			return nil
		})
	}()
	return f
}

func (f *follower) stop() {
	f.h.t.Helper()
	f.cancel()
	if err := <-f.ended; !errors.Is(err, context.Canceled) {
		f.h.t.Errorf("Follow returned %v, want context.Canceled", err)
	}
}

func (f *follower) next() journal.Event {
	f.h.t.Helper()
	select {
	case e := <-f.events:
		return e
	case <-time.After(20 * time.Second):
		f.h.t.Fatal("no event within 20 s")
		panic("unreachable")
	}
}

// reach applies events until version v, checks it, and returns what they were:
// R for a reset, D for a delta, P for a problem.
func (f *follower) reach(v int) string {
	f.h.t.Helper()
	var kinds strings.Builder
	for f.state == nil || f.state.Version() != uint64(v) {
		switch e := f.next(); {
		case e.Reset != nil:
			kinds.WriteByte('R')
			f.state = e.Reset
		case e.Delta != nil:
			kinds.WriteByte('D')
			if err := f.state.Apply(e.Delta); err != nil {
				f.h.t.Fatal(err)
			}
			if e.Manifest == nil || e.Manifest.Version < e.Delta.Version {
				f.h.t.Fatalf("delta %d came without its manifest", e.Delta.Version)
			}
		default:
			kinds.WriteByte('P')
			f.h.t.Log(e.Problem)
		}
	}
	f.h.same(f.state)
	return kinds.String()
}

func (f *follower) want(v int, kinds string) {
	f.h.t.Helper()
	if got := f.reach(v); got != kinds {
		f.h.t.Fatalf("events up to version %d were %q, want %q", v, got, kinds)
	}
}

// quiet fails when an event is there. The last thing before it must have been
// seen by the follower already.
func (f *follower) quiet() {
	f.h.t.Helper()
	select {
	case e := <-f.events:
		f.h.t.Fatalf("unexpected event %+v", e)
	default:
	}
}

func open(t *testing.T, h *history, dir string, foldSize int64) *journal.Writer {
	t.Helper()
	w, _, err := journal.OpenWriter(dir, journal.Options{Dataset: "internal", Keys: h.keys(), FoldSize: foldSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 30)
	dir := filepath.Join(t.TempDir(), "journals", "internal")
	f := follow(h, dir, h.keys())
	defer f.stop()

	w := open(t, h, dir, -1)
	f.want(0, "R")
	must(t, w.Append(h.deltas[1:3], h.manifest(2, 0)))
	f.want(2, "DD")
	must(t, w.Fold())
	must(t, w.Append(h.deltas[3:4], h.manifest(3, 2)))
	f.want(3, "D") // folding tells nothing
	must(t, w.Close())
	w = open(t, h, dir, -1)
	must(t, w.Append(h.deltas[4:5], h.manifest(4, 2)))
	f.want(4, "D") // nor does a restart

	// A snapshot that is ahead.
	path := filepath.Join(t.TempDir(), "snapshot")
	file, _ := h.file(9)
	must(t, os.WriteFile(path, file, 0o644))
	must(t, w.Reset(path, h.manifest(10, 9)))
	f.want(9, "R")
	must(t, w.Append(h.deltas[10:13], h.manifest(12, 9)))
	f.want(12, "DDD")

	// A follower that starts later sees the same.
	late := follow(h, dir, h.keys())
	late.want(12, "R")
	late.stop()

	// The journal is found damaged and fetched anew, from a snapshot older than
	// what was told: nothing goes back, and the next version is a delta.
	must(t, w.Close())
	to, err := journal.Quarantine(dir)
	must(t, err)
	if _, err := os.Stat(filepath.Join(to, "CURRENT")); err != nil {
		t.Fatal(err)
	}
	w = open(t, h, dir, -1)
	must(t, w.Reset(path, h.manifest(10, 9)))
	must(t, w.Append(h.deltas[10:12], h.manifest(11, 9)))
	must(t, w.Append(h.deltas[12:14], h.manifest(13, 9)))
	if got := strings.Trim(f.reach(13), "P"); got != "D" {
		t.Fatalf("events after quarantine were %q, want one delta", got)
	}

	// Another history in its place, further on.
	fork := newFork(t, 40, "other")
	f.h = fork
	must(t, w.Close())
	w = open(t, fork, dir, -1)
	must(t, w.ResetDataset(fork.states[39], fork.manifest(39, 0)))
	f.want(39, "R")
	must(t, w.Append(fork.deltas[40:41], fork.manifest(40, 0)))
	f.want(40, "D")
	must(t, w.Close())
	f.quiet()
}

// TestFollowFork has the other history in a log that passes the version told last.
func TestFollowFork(t *testing.T) {
	t.Parallel()
	h, fork := newHistory(t, 5), newFork(t, 7, "other")
	dir := filepath.Join(t.TempDir(), "internal")
	w := open(t, h, dir, -1)
	must(t, w.Append(h.deltas[1:6], h.manifest(5, 0)))
	f := follow(h, dir, h.keys())
	defer f.stop()
	f.want(5, "R")
	must(t, w.Close())
	// The directory is replaced in one rename, so that no state in between is seen.
	made := filepath.Join(t.TempDir(), "made")
	w = open(t, fork, made, -1)
	must(t, w.Append(fork.deltas[1:8], fork.manifest(7, 0)))
	must(t, w.Close())
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Rename(made, dir))
	f.h = fork
	if got := strings.Trim(f.reach(7), "P"); got != "R" {
		t.Fatalf("events were %q, want a reset", got)
	}
}

// TestFollowBeliefs has manifests of a key that the follower does not know.
func TestFollowBeliefs(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 3)
	dir := filepath.Join(t.TempDir(), "internal")
	w := open(t, h, dir, -1)
	must(t, w.Append(h.deltas[1:3], h.manifest(2, 0)))
	stranger := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	f := follow(h, dir, journal.Fixed(stranger))
	defer f.stop()
	if e := f.next(); e.Problem == nil || !strings.Contains(e.Problem.Error(), snapshot.KeyID(h.public())) {
		t.Fatalf("%+v, want a problem that names the key", e)
	}
	if _, _, err := journal.Load(dir, journal.Fixed(stranger)); !errors.Is(err, journal.ErrCorrupt) {
		t.Errorf("load: %v", err)
	}
	d, m, err := journal.Load(dir, h.keys())
	must(t, err)
	h.same(d)
	if m.Version != 2 || d.Version() != 2 {
		t.Errorf("loaded version %d, manifest %d", d.Version(), m.Version)
	}
	if _, _, err := journal.Load(dir+"x", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load of none: %v", err)
	}
}

// TestFollowStranger has one group of a key that the follower does not know among
// those that it knows: nothing from there on is believed, not even what a known key
// signed later, until the log is folded - then the newest manifest is all that counts.
func TestFollowStranger(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 4)
	stranger := &history{t: t, key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), states: h.states, deltas: h.deltas, manifests: map[[2]int][]byte{}}
	dir := filepath.Join(t.TempDir(), "internal")
	w, _, err := journal.OpenWriter(dir, journal.Options{Dataset: "internal", Keys: journal.Fixed(h.public(), stranger.public()), FoldSize: -1})
	must(t, err)
	defer w.Close()
	must(t, w.Append(h.deltas[1:2], h.manifest(1, 0)))
	f := follow(h, dir, h.keys())
	defer f.stop()
	f.want(1, "R")
	must(t, w.Append(h.deltas[2:3], stranger.manifest(2, 0)))
	if e := f.next(); e.Problem == nil {
		t.Fatalf("%+v, want a problem", e)
	}
	must(t, w.Append(h.deltas[3:4], h.manifest(3, 0)))
	must(t, w.Fold())
	if got := strings.ReplaceAll(f.reach(3), "P", ""); got != "R" {
		t.Errorf("events were %q, want a reset", got)
	}
	must(t, w.Append(h.deltas[4:5], h.manifest(4, 0)))
	f.want(4, "D")
}

// TestFollowEndsWithItsFunction: an error of fn ends Follow, from either event.
func TestFollowEndsWithItsFunction(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 2)
	dir := filepath.Join(t.TempDir(), "internal")
	w := open(t, h, dir, -1)
	must(t, w.Append(h.deltas[1:2], h.manifest(1, 0)))
	stop := errors.New("enough")
	for _, after := range []int{1, 2} {
		n := 0
		err := journal.Follow(context.Background(), dir, h.keys(), func(journal.Event) error {
			if n++; n == after {
				return stop
			}
			return w.Append(h.deltas[2:3], h.manifest(2, 0))
		})
		if !errors.Is(err, stop) {
			t.Errorf("after %d events: %v", after, err)
		}
	}
}

// TestFollowLongLog folds by itself while a follower reads.
func TestFollowLongLog(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 200)
	dir := filepath.Join(t.TempDir(), "internal")
	w := open(t, h, dir, 8<<10)
	f := follow(h, dir, h.keys())
	defer f.stop()
	f.want(0, "R")
	for v := 1; v <= 200; v++ {
		must(t, w.Append(h.deltas[v:v+1], h.manifest(v, 0)))
	}
	if got := f.reach(200); strings.Count(got, "D") != 200 && !strings.HasPrefix(strings.TrimLeft(got, "D"), "R") {
		t.Fatalf("events were %q", got)
	}
	must(t, w.Close())
	if w.State().ID.IsZero() {
		t.Error("the log was never folded")
	}
	names, err := os.ReadDir(dir)
	must(t, err)
	if len(names) > 4 {
		t.Errorf("files are left over: %v", names)
	}
	d, _, err := journal.Load(dir, h.keys())
	must(t, err)
	h.same(d)
}

func TestLock(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 1)
	dir := filepath.Join(t.TempDir(), "internal")
	w := open(t, h, dir, -1)
	if _, _, err := journal.OpenWriter(dir, journal.Options{Dataset: "internal"}); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("second writer: %v", err)
	}
	if _, err := journal.Quarantine(dir); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("quarantine beside a writer: %v", err)
	}
	must(t, w.Close())
	if err := w.Append(h.deltas[1:], h.manifest(1, 0)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if _, _, err := journal.OpenWriter(dir, journal.Options{Dataset: "external"}); err == nil || !strings.Contains(err.Error(), "internal") {
		t.Errorf("journal of another dataset: %v", err)
	}
	var names []string
	for range 5 {
		to, err := journal.Quarantine(dir)
		must(t, err)
		names = append(names, filepath.Base(to))
		must(t, open(t, h, dir, -1).Close())
	}
	if !slices.IsSorted(names) {
		t.Errorf("quarantined as %q", names)
	}
	kept, err := filepath.Glob(dir + ".corrupt-*")
	must(t, err)
	if len(kept) != 3 || filepath.Base(kept[2]) != names[4] {
		t.Errorf("kept %q of %q", kept, names)
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	h, fork := newHistory(t, 4), newFork(t, 4, "other")
	w := open(t, h, filepath.Join(t.TempDir(), "internal"), -1)
	must(t, w.Append(h.deltas[1:3], h.manifest(2, 0)))
	for what, err := range map[string]error{
		"gap":              w.Append(h.deltas[4:5], h.manifest(4, 0)),
		"again":            w.Append(h.deltas[2:3], h.manifest(2, 0)),
		"other history":    w.Append(fork.deltas[3:4], fork.manifest(3, 0)),
		"other manifest":   w.Append(h.deltas[3:4], h.manifest(4, 0)),
		"older manifest":   w.Append(nil, h.manifest(1, 0)),
		"damaged delta":    w.Append([][]byte{bytes.ToUpper(h.deltas[3])}, h.manifest(3, 0)),
		"damaged manifest": w.Append(h.deltas[3:4], h.manifest(3, 0)[1:]),
		"no manifest":      w.Append(h.deltas[3:4], nil),
		"reset, no file":   w.Reset("/nonexistent", h.manifest(3, 3)),
		"reset, unnamed":   w.Reset("/nonexistent", h.manifest(3, 0)),
		"reset dataset":    w.ResetDataset(h.states[3], h.manifest(4, 0)),
	} {
		if err == nil || errors.Is(err, journal.ErrCorrupt) {
			t.Errorf("%s: %v, want a refusal that does not blame the journal", what, err)
		}
	}
	if got := w.State().Version; got != 2 {
		t.Errorf("version %d, want 2", got)
	}
	must(t, w.Append(h.deltas[3:5], h.manifest(4, 0)))
	if !bytes.Equal(w.Manifest(), h.manifest(4, 0)) {
		t.Error("manifest is not the one appended")
	}
}

// BenchmarkAppendToEvent measures from the call of Append to the event in a
// follower, sync included; and, as event-ns, from its return on.
func BenchmarkAppendToEvent(b *testing.B) {
	h := newHistory(b, min(b.N, 5000))
	dir := filepath.Join(b.TempDir(), "internal")
	w, _, err := journal.OpenWriter(dir, journal.Options{Dataset: "internal", Keys: h.keys(), FoldSize: -1})
	must(b, err)
	f := follow(h, dir, h.keys())
	defer f.stop()
	f.want(0, "R")
	for v := 1; v < len(h.states); v++ {
		h.manifest(v, 0)
	}
	var behind []time.Duration
	b.ResetTimer()
	for v := 1; v < len(h.states); v++ {
		must(b, w.Append(h.deltas[v:v+1], h.manifest(v, 0)))
		returned := time.Now()
		f.next()
		behind = append(behind, time.Since(returned))
	}
	b.StopTimer()
	slices.Sort(behind)
	b.ReportMetric(float64(behind[len(behind)/2]), "event-ns-p50")
	b.ReportMetric(float64(behind[len(behind)*99/100]), "event-ns-p99")
	must(b, w.Close())
}
