package update_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/update"
)

const head = "$TTL 300\n@ SOA ns1 admin 1 7200 900 604800 60\n@ NS ns1\n"

// rig is an importer running over a directory and a store in memory.
type rig struct {
	t     *testing.T
	dir   string
	store *memstore.Store
	reg   *prometheus.Registry
}

func newRig(t *testing.T) *rig {
	st := memstore.New()
	t.Cleanup(func() { st.Close() })
	return &rig{t: t, dir: t.TempDir(), store: st}
}

// start runs an importer; the function it returns stops it and waits.
func (r *rig) start() (stop func()) {
	r.t.Helper()
	r.reg = prometheus.NewRegistry()
	cfg := update.DefaultConfig()
	cfg.Dir = r.dir
	cfg.Rescan = time.Second
	im, err := update.New(cfg, update.Deps{Store: r.store, Log: slog.New(slog.DiscardHandler), Metrics: r.reg})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- im.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run: %v, want context.Canceled", err)
		}
	}
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// replace writes as careful editors do: a new file renamed over the old one.
func (r *rig) replace(name, text string) {
	r.t.Helper()
	r.write("."+name+".new", text)
	if err := os.Rename(filepath.Join(r.dir, "."+name+".new"), filepath.Join(r.dir, name)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) source(file string) tree.Source {
	r.t.Helper()
	n, err := r.store.Get(r.t.Context(), tree.SourcePath(record.Source("zone/"+file)))
	if errors.Is(err, store.ErrNotFound) {
		return tree.Source{}
	}
	var s tree.Source
	if err == nil {
		err = tree.Decode(n, &s)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// has waits until the claims of file are exactly lines: "owner type ttl place".
func (r *rig) has(file string, want ...string) {
	r.t.Helper()
	r.until(func() string {
		claims, err := claimtree.Load(r.t.Context(), r.store, record.Source("zone/"+file))
		if err != nil {
			return err.Error()
		}
		var got []string
		for _, c := range claims {
			if c.Type != record.TypeSOA && c.Type != record.TypeNS {
				got = append(got, fmt.Sprintf("%s %s %d %s", c.Owner, c.Type, c.TTL, c.Place))
			}
		}
		return cmp.Diff(want, got)
	})
}

// fails waits until the source's state has an error that begins so.
func (r *rig) fails(file, begin string) {
	r.t.Helper()
	r.until(func() string {
		if s := r.source(file); begin == "" && s.Error != "" || begin != "" && !strings.HasPrefix(s.Error, begin) {
			return fmt.Sprintf("error of %s is %q, want %q", file, s.Error, begin)
		}
		return ""
	})
}

// until polls until wrong says nothing.
func (r *rig) until(wrong func() string) {
	r.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		w := wrong()
		if w == "" {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("after 10s: %s", w)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// revision of the store: grows with every commit.
func (r *rig) revision() store.Revision {
	r.t.Helper()
	_, rev, err := r.store.List(r.t.Context(), tree.Claims)
	if err != nil {
		r.t.Fatal(err)
	}
	return rev
}

func TestChangesAppearWhateverWayTheyAreWritten(t *testing.T) {
	r := newRig(t)
	r.write("example.net", head+"www A 192.0.2.1\n")
	r.start()
	r.has("example.net", "www.example.net. A 300 example.net:4")
	r.replace("example.net", head+"\nwww A 192.0.2.1\n")
	r.has("example.net", "www.example.net. A 300 example.net:5")
	r.write("example.net", head+"www AAAA 2001:db8::1\n") // truncated and written
	r.has("example.net", "www.example.net. AAAA 300 example.net:4")
	f, err := os.OpenFile(filepath.Join(r.dir, "example.net"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		fmt.Fprintf(f, "w%02d 60 A 192.0.2.%d\n", i, i)
	}
	f.Close()
	r.until(func() string { return cmp.Diff(23, r.source("example.net").Records) })
	r.write("db.example.org", head)
	r.write("example.com.zone", head)
	r.until(func() string { return cmp.Diff(2, r.source("db.example.org").Records) })
	r.until(func() string { return cmp.Diff(2, r.source("example.com.zone").Records) })
	if err := os.Remove(filepath.Join(r.dir, "example.net")); err != nil {
		t.Fatal(err)
	}
	r.has("example.net")
	r.until(func() string { return cmp.Diff(tree.Source{}, r.source("example.net")) })
}

func TestBrokenFileKeepsItsClaimsAndOthersGoOn(t *testing.T) {
	r := newRig(t)
	r.write("example.net", head+"www A 192.0.2.1\n")
	r.start()
	r.has("example.net", "www.example.net. A 300 example.net:4")
	good := r.source("example.net")
	r.write("example.net", head+"www A 192.0.2.1\nmail A 192.0.2.300\n")
	r.fails("example.net", "example.net:5:8: A: expected an IPv4 address, found \"192.0.2.300\"")
	r.write("example.org", head+"www A 192.0.2.2\n")
	r.has("example.org", "www.example.org. A 300 example.org:4")
	r.has("example.net", "www.example.net. A 300 example.net:4")
	if bad := r.source("example.net"); bad.Revision != good.Revision || bad.Records != good.Records {
		t.Errorf("state beside the error is %+v, want revision and records of what is in the claims, %+v", bad, good)
	}
	r.write("example.net", head+"www A 192.0.2.1\n")
	r.fails("example.net", "")
	if s := r.source("example.net"); s.Revision != good.Revision {
		t.Errorf("revision after mending is %s, want %s", s.Revision, good.Revision)
	}
	got, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got {
		if m.GetName() == "zonecast_zonefile_errors_total" && m.Metric[0].Counter.GetValue() < 1 {
			t.Error("zonecast_zonefile_errors_total did not move")
		}
		if m.GetName() == "zonecast_zonefile_commit_seconds" && m.Metric[0].Histogram.GetSampleCount() < 2 {
			t.Error("zonecast_zonefile_commit_seconds did not move")
		}
	}
}

func TestTwoFilesForOneZone(t *testing.T) {
	r := newRig(t)
	r.write("b.example", "$ORIGIN example.net.\n"+head+"www A 192.0.2.1\n")
	stop := r.start()
	r.has("b.example", "www.example.net. A 300 b.example:5")
	// A copy before and one behind it in the order of names: neither takes over.
	const says = ":1: zone example.net. is in the file b.example already, which stays in force; one zone is one file: remove one of the two"
	for _, name := range []string{"a.example", "example.net"} {
		r.write(name, "$ORIGIN example.net.\n"+head+"www A 192.0.2.2\n")
		r.fails(name, name+says)
		r.has(name)
	}
	r.has("b.example", "www.example.net. A 300 b.example:5")
	stop()
	stop = r.start() // nor does it after a restart
	r.fails("a.example", "a.example"+says)
	r.has("a.example")
	r.has("b.example", "www.example.net. A 300 b.example:5")
	// The file in force goes: one of the others takes over.
	if err := os.Remove(filepath.Join(r.dir, "b.example")); err != nil {
		t.Fatal(err)
	}
	r.has("a.example", "www.example.net. A 300 a.example:5")
	r.has("b.example")
	r.fails("example.net", "example.net:1: zone example.net. is in the file a.example already")
	if err := os.Remove(filepath.Join(r.dir, "example.net")); err != nil {
		t.Fatal(err)
	}
	r.until(func() string {
		if s := r.source("example.net"); s.Error != "" {
			return "error stays: " + s.Error
		}
		return ""
	})
	stop()
}

func TestRenamedFileNeverLeavesTheZoneAway(t *testing.T) {
	r := newRig(t)
	zone := "$ORIGIN example.net.\n" + head + "www A 192.0.2.1\n"
	r.write("a.example", zone)
	r.start()
	r.has("a.example", "www.example.net. A 300 a.example:5")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	batches := r.store.Watch(ctx, tree.Claims, 0)
	done := make(chan string, 1)
	go func() {
		live := map[string]bool{} // paths of heads
		for b := range batches {
			for _, n := range b.Puts {
				if strings.HasSuffix(n.Path, "/@head") {
					live[n.Path] = true
				}
			}
			for _, p := range b.Deletes {
				delete(live, p)
			}
			switch {
			case len(live) == 0:
				done <- "no source has the zone"
				return
			case live[tree.Claims+"zone/b.example/@head"] && len(live) == 1:
				done <- ""
				return
			}
		}
		done <- "the watch ended"
	}()
	if err := os.Rename(filepath.Join(r.dir, "a.example"), filepath.Join(r.dir, "b.example")); err != nil {
		t.Fatal(err)
	}
	select {
	case wrong := <-done:
		if wrong != "" {
			t.Fatal(wrong)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the zone did not move in 10s")
	}
}

func TestUnchangedRecordsKeepTheirProvenance(t *testing.T) {
	r := newRig(t)
	r.write("example.net", head+"a A 192.0.2.1\nb A 192.0.2.2\n")
	r.start()
	r.has("example.net", "a.example.net. A 300 example.net:4", "b.example.net. A 300 example.net:5")
	first := r.source("example.net").Revision
	r.write("example.net", head+"a A 192.0.2.1\nb AAAA 2001:db8::2\n")
	r.has("example.net", "a.example.net. A 300 example.net:4", "b.example.net. AAAA 300 example.net:5")
	second := r.source("example.net").Revision
	claims, err := claimtree.Load(t.Context(), r.store, "zone/example.net")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range claims {
		got[c.Key.String()] = c.Revision
		if c.Author == "" || c.Time.IsZero() {
			t.Errorf("%s has author %q and time %s", c.Key, c.Author, c.Time)
		}
	}
	want := map[string]string{"example.net. SOA": first, "example.net. NS": first, "a.example.net. A": first, "b.example.net. AAAA": second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
}

func TestIncludesAndLinks(t *testing.T) {
	r := newRig(t)
	// A config map: links through ..data, which is swapped.
	for _, v := range []string{"..v1", "..v2"} {
		if err := os.Mkdir(filepath.Join(r.dir, v), 0o755); err != nil {
			t.Fatal(err)
		}
		r.write(v+"/example.net", head+v[3:]+"0 A 192.0.2.1\n")
	}
	link := func(to, name string) {
		if err := os.Symlink(to, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..v1", "..data")
	link("..data/example.net", "example.net")
	r.write("example.org", head+"$INCLUDE hosts.inc\n$INCLUDE sub/more\n")
	r.write("hosts.inc", "h A 192.0.2.1\n")
	if err := os.Mkdir(filepath.Join(r.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.write("sub/more", "m A 192.0.2.1\n")
	r.start()
	r.has("example.net", "10.example.net. A 300 example.net:4")
	r.has("example.org", "h.example.org. A 300 hosts.inc:1", "m.example.org. A 300 sub/more:1")
	if s := r.source("hosts.inc"); s != (tree.Source{}) {
		t.Errorf("an included file is a source: %+v", s)
	}
	link("..v2", "..tmp")
	if err := os.Rename(filepath.Join(r.dir, "..tmp"), filepath.Join(r.dir, "..data")); err != nil {
		t.Fatal(err)
	}
	r.has("example.net", "20.example.net. A 300 example.net:4")
	r.write("sub/more", "m A 192.0.2.1\nn A 192.0.2.2\n")
	r.has("example.org", "h.example.org. A 300 hosts.inc:1", "m.example.org. A 300 sub/more:1", "n.example.org. A 300 sub/more:2")
	r.write("sub/more", "m A\n")
	r.fails("example.org", "sub/more:1:3: A: an IPv4 address is missing")
	if err := os.Remove(filepath.Join(r.dir, "sub/more")); err != nil {
		t.Fatal(err)
	}
	r.fails("example.org", "example.org:5:10: $INCLUDE \"sub/more\": ")
	r.write("sub/more", "m AAAA 2001:db8::1\n")
	r.has("example.org", "h.example.org. A 300 hosts.inc:1", "m.example.org. AAAA 300 sub/more:1")
	// No longer included: now it stands for itself, and is no zone.
	r.write("example.org", head)
	r.has("example.org")
	r.fails("hosts.inc", "hosts.inc:")
}

func TestRestartImportsNothingTwiceAndRemovesWhatIsGone(t *testing.T) {
	r := newRig(t)
	for _, f := range []string{"example.net", "example.org", "example.com"} {
		r.write(f, head+"www A 192.0.2.1\n")
	}
	stop := r.start()
	for _, f := range []string{"example.net", "example.org", "example.com"} {
		r.has(f, "www."+f+". A 300 "+f+":4")
	}
	stop()
	before := map[string]store.Revision{}
	nodes, _, err := r.store.List(t.Context(), tree.Claims)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		before[n.Path] = n.Modified
	}
	if err := os.Remove(filepath.Join(r.dir, "example.org")); err != nil {
		t.Fatal(err)
	}
	r.replace("example.com", head+"www A 192.0.2.1\n") // same content, another inode
	r.start()
	r.has("example.org")
	r.write("last", head)
	r.until(func() string { return cmp.Diff(2, r.source("last").Records) })
	nodes, _, err = r.store.List(t.Context(), tree.Claims)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, n := range nodes {
		if rev, ok := before[n.Path]; ok {
			kept++
			if rev != n.Modified {
				t.Errorf("%s was written again", n.Path)
			}
		}
	}
	if kept != 4 {
		t.Errorf("%d nodes are as before, want head and shard of two zones", kept)
	}
}

func TestVanishedDirectoryRemovesNothing(t *testing.T) {
	r := newRig(t)
	r.dir = filepath.Join(r.dir, "zones")
	mkdir := func() {
		if err := os.Mkdir(r.dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mkdir()
	r.write("example.net", head+"www A 192.0.2.1\n")
	r.start()
	r.has("example.net", "www.example.net. A 300 example.net:4")
	state := func(part string) {
		t.Helper()
		r.until(func() string {
			n, err := r.store.Get(t.Context(), tree.Sources+"zone")
			if part == "" && errors.Is(err, store.ErrNotFound) {
				return ""
			}
			if err == nil && part != "" && strings.Contains(string(n.Value), part) {
				return ""
			}
			return fmt.Sprintf("state of the directory is %s, %v; want %q", n.Value, err, part)
		})
	}
	if err := os.Rename(r.dir, r.dir+".away"); err != nil {
		t.Fatal(err)
	}
	state("no such file or directory")
	r.has("example.net", "www.example.net. A 300 example.net:4")
	mkdir() // an empty mount point
	state("is it mounted?")
	r.has("example.net", "www.example.net. A 300 example.net:4")
	r.write("example.org", head+"www A 192.0.2.1\n") // not empty: then example.net is gone
	r.has("example.org", "www.example.org. A 300 example.org:4")
	r.has("example.net")
	state("")
	r.write(".allow-empty", "")
	if err := os.Remove(filepath.Join(r.dir, "example.org")); err != nil {
		t.Fatal(err)
	}
	r.has("example.org")
}

func TestSourcesFromElsewhereStay(t *testing.T) {
	r := newRig(t)
	rr := record.NewRRset("\x03net\x00", record.TypeTXT, 1, "\x01x")
	if _, _, err := claimtree.Replace(t.Context(), r.store, "zone/by-hand", []record.Claim{{RRset: rr, Source: "zone/by-hand"}},
		store.Txn{Do: []store.Op{{Path: tree.SourcePath("zone/by-hand"), Value: tree.Encode(tree.Source{Source: "zone/by-hand", Where: "/elsewhere/by-hand"})}}}); err != nil {
		t.Fatal(err)
	}
	r.write("example.net", head)
	r.write("example.org", head)
	r.start()
	r.until(func() string { return cmp.Diff(2, r.source("example.org").Records) })
	if err := os.Remove(filepath.Join(r.dir, "example.org")); err != nil {
		t.Fatal(err)
	}
	r.until(func() string { return cmp.Diff(0, r.source("example.org").Records) })
	r.has("by-hand", "net. TXT 1 ")
}

func TestOneImporterLeadsAndTheOtherTakesOver(t *testing.T) {
	r := newRig(t)
	r.write("example.net", head+"a A 192.0.2.1\n")
	first := r.start()
	r.has("example.net", "a.example.net. A 300 example.net:4")
	second := &rig{t: t, dir: r.dir, store: r.store}
	second.start()
	rev := r.revision()
	r.write("example.net", head+"b A 192.0.2.1\n")
	r.has("example.net", "b.example.net. A 300 example.net:4")
	if got := r.revision(); got != rev+1 {
		t.Errorf("the change took %d commits, want 1", got-rev)
	}
	first()
	r.write("example.net", head+"c A 192.0.2.1\n")
	r.has("example.net", "c.example.net. A 300 example.net:4")
}

func TestStoreOutageDelaysAndLosesNothing(t *testing.T) {
	r := newRig(t)
	r.write("example.net", head+"a A 192.0.2.1\n")
	r.start()
	r.has("example.net", "a.example.net. A 300 example.net:4")
	r.store.SetAvailable(false)
	r.write("example.net", head+"b A 192.0.2.1\n")
	time.Sleep(30 * time.Millisecond) // let it run into the outage; the result is the same if it does not
	r.store.SetAvailable(true)
	r.has("example.net", "b.example.net. A 300 example.net:4")
}

func TestWhatIsNoZoneFile(t *testing.T) {
	r := newRig(t)
	for _, f := range []string{".hidden", "example.net~", ".example.net.swp", "x.tmp", "#example.net#", "4913", "example.net.jnl"} {
		r.write(f, head)
	}
	r.write("bad name", head)
	r.write("readme.txt", "This is no zone.\n")
	r.write("example.net", head)
	r.start()
	r.until(func() string { return cmp.Diff(2, r.source("example.net").Records) })
	r.fails("readme.txt", "readme.txt:1:")
	r.until(func() string { // it comes after the files
		n, err := r.store.Get(t.Context(), tree.Sources+"zone")
		if err != nil || !strings.Contains(string(n.Value), `bad name`) {
			return fmt.Sprintf("state of the directory is %s, %v; want the file whose name cannot be a source's", n.Value, err)
		}
		return ""
	})
	nodes, _, err := r.store.List(t.Context(), tree.Sources)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range nodes {
		got = append(got, n.Path)
	}
	if diff := cmp.Diff([]string{"/sources/zone", "/sources/zone/example.net", "/sources/zone/readme.txt"}, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestNoDirectoryIsReady(t *testing.T) {
	im, err := update.New(update.DefaultConfig(), update.Deps{Store: memstore.New(), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- im.Run(ctx) }()
	select {
	case <-im.Ready():
	case <-time.After(10 * time.Second):
		t.Error("not ready without a directory")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want context.Canceled", err)
	}
}
