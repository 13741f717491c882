package trust_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
	"github.com/zonecast/zonecast/store"
)

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func id(k ed25519.PrivateKey) string { return snapshot.KeyID(k.Public().(ed25519.PublicKey)) }

// writeKeys makes a file of public keys.
func writeKeys(t *testing.T, file string, keys ...ed25519.PrivateKey) {
	t.Helper()
	var text []byte
	for _, k := range keys {
		b, err := snapshot.EncodePublicKey(k.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
	}
	write(t, file, string(text))
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func revoke(t *testing.T, k ed25519.PrivateKey, void bool, reason string) string {
	t.Helper()
	line, err := trust.Statement{Void: void, Time: time.UnixMilli(1790000000000), Reason: reason}.Sign(k)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within 15 s", what)
}

// TestStatement: a key revokes itself, and nobody else does; nothing of the line can be
// changed.
func TestStatement(t *testing.T) {
	k := testKey(1)
	for _, reason := range []string{"", "disk stolen", "über 100 %"} {
		line := revoke(t, k, true, reason)
		s, err := trust.ParseStatement(line)
		if err != nil {
			t.Fatal(err)
		}
		if s.ID() != id(k) || !s.Void || s.Reason != reason || s.Time.UnixMilli() != 1790000000000 || s.Line() != line {
			t.Errorf("%+v of %q", s, line)
		}
		for bit := range 8 * len(line) {
			bad := []byte(line)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := trust.ParseStatement(string(bad)); err == nil {
				t.Fatalf("bit %d flipped: believed %q", bit, bad)
			}
		}
	}
	// Another's signature in place of the key's own.
	mine, other := strings.Fields(revoke(t, k, true, "")), strings.Fields(revoke(t, testKey(2), true, ""))
	mine[4] = other[4]
	if _, err := trust.ParseStatement(strings.Join(mine, " ")); err == nil || !strings.Contains(err.Error(), "by itself alone") {
		t.Errorf("another key revoked it: %v", err)
	}
	for _, reason := range []string{strings.Repeat("x", trust.MaxReason+1), "two\nlines", " before", "after ", "\x1b[2J"} {
		if _, err := (trust.Statement{Reason: reason}).Sign(k); err == nil {
			t.Errorf("signed with the reason %q", reason)
		}
	}
}

// TestRing follows keys through a host's life: two at once, one revoked in the store, the
// store put back without that, restarts, and what the administrator says.
func TestRing(t *testing.T) {
	dir := t.TempDir()
	keys, local, memory := filepath.Join(dir, "keys.pub"), filepath.Join(dir, "revoked"), filepath.Join(dir, "journal.revoked")
	a, b, c, stranger := testKey(1), testKey(2), testKey(3), testKey(9)
	writeKeys(t, keys, a, b)
	cfg := trust.Config{Keys: []string{keys}, Revoked: local, Memory: memory, Poll: 2 * time.Millisecond}
	open := func() *trust.Ring {
		t.Helper()
		r, err := trust.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	believed := func(r *trust.Ring) []string { return trust.IDs(r.Keys()) }
	st := memstore.New()
	defer st.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r := open()
	changed, end := r.Subscribe()
	defer end()
	refused := make(chan error, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx, st, func(err error, evidence []byte) {
			if len(evidence) == 0 {
				t.Error("nothing to show")
			}
			refused <- err
		})
	}()
	if diff := cmp.Diff([]string{id(a), id(b)}, believed(r)); diff != "" {
		t.Fatal(diff)
	}
	put := func(path, value string) {
		t.Helper()
		if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: path, Value: []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
	}
	// What nobody signed revokes nothing, and is said.
	put(tree.RevocationPath(id(b)), strings.Replace(revoke(t, b, false, ""), "retired", "void", 1))
	if err := <-refused; !strings.Contains(err.Error(), tree.RevocationPath(id(b))) {
		t.Error(err)
	}
	put(tree.RevocationPath(id(stranger)), revoke(t, stranger, true, ""))
	put(tree.RevocationPath(id(a)), revoke(t, a, false, "retired in time"))
	<-changed
	if diff := cmp.Diff([]string{id(b)}, believed(r)); diff != "" {
		t.Fatal(diff)
	}
	if x, ok := r.Keys().Find(id(a)); !ok || x.Void || !strings.Contains(x.Why, "retired in time") {
		t.Errorf("%+v", x)
	}
	// More is taken away, and never less.
	if err := r.Take(revoke(t, a, true, "stolen")); err != nil {
		t.Fatal(err)
	}
	if err := r.Take(revoke(t, a, false, "no, it was not")); err != nil {
		t.Fatal(err)
	}
	if !r.Keys().Void([]string{id(a)}) || r.Keys().Void([]string{id(a), id(b)}) || r.Keys().Void(nil) {
		t.Errorf("%+v", r.Keys())
	}
	// A store that does not say so any more changes nothing, today or after a restart.
	if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.RevocationPath(id(a)), Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	again := open()
	if diff := cmp.Diff([]string{id(b)}, believed(again)); diff != "" || !again.Keys().Void([]string{id(a)}) {
		t.Errorf("after a restart: %s", diff)
	}
	// A memory that is lost while the process runs is written again.
	if err := os.Remove(memory); err != nil {
		t.Fatal(err)
	}
	eventually(t, "memory is back", func() bool { _, err := os.Stat(memory); return err == nil })
	// Files are followed; one that cannot be read leaves what was known.
	writeKeys(t, keys, a, b, c)
	eventually(t, "third key", func() bool { return len(believed(r)) == 2 })
	write(t, keys, "nonsense")
	eventually(t, "problem", func() bool { return len(r.Problems()) == 1 })
	if len(believed(r)) != 2 {
		t.Errorf("believes %v", believed(r))
	}
	writeKeys(t, keys, a, b, c)
	write(t, local, "# of this host\n"+id(c)+" void in the wrong hands\n")
	eventually(t, "administrator's word", func() bool { return len(believed(r)) == 1 && len(r.Problems()) == 0 })
	if !r.Keys().Void([]string{id(c)}) {
		t.Error("not void")
	}
	write(t, local, id(c)+"\nwhat?\n")
	eventually(t, "problem with its place", func() bool {
		return len(r.Problems()) == 1 && strings.Contains(r.Problems()[0], local+":2:")
	})
	cancel()
	<-done
	// A person takes it back.
	if there, err := trust.Forget(memory, id(a)); err != nil || !there {
		t.Fatalf("%v, %v", there, err)
	}
	write(t, local, "")
	if diff := cmp.Diff([]string{id(a), id(b), id(c)}, believed(open())); diff != "" {
		t.Error(diff)
	}
}

// TestMemoryDamaged: of a memory with damage what holds is believed, and it is said.
func TestMemoryDamaged(t *testing.T) {
	dir := t.TempDir()
	keys, memory := filepath.Join(dir, "keys.pub"), filepath.Join(dir, "memory")
	a, b := testKey(1), testKey(2)
	writeKeys(t, keys, a, b)
	line := revoke(t, b, false, "")
	write(t, memory, revoke(t, a, false, "")+"\n"+line[:len(line)-3]+"x\n")
	r, err := trust.Open(trust.Config{Keys: []string{keys}, Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{id(b)}, trust.IDs(r.Keys())); diff != "" {
		t.Error(diff)
	}
	if p := r.Problems(); len(p) != 1 || !strings.Contains(p[0], memory+":2:") {
		t.Errorf("problems %q", p)
	}
}

// TestMemoryFullDisk: a revocation holds although it cannot be remembered, that is said, and
// it is remembered once there is room.
func TestMemoryFullDisk(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.pub")
	a, b := testKey(1), testKey(2)
	writeKeys(t, keys, a, b)
	fsys := faultfs.New()
	if err := fsys.MkdirAll("/host", 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := trust.Config{Keys: []string{keys}, Memory: "/host/journal.revoked", FS: fsys, Poll: time.Hour}
	r, err := trust.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	fsys.FailAt(1, 1<<20, syscall.ENOSPC)
	if err := r.Take(revoke(t, a, false, "")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{id(b)}, trust.IDs(r.Keys())); diff != "" || len(r.Problems()) != 1 {
		t.Errorf("%s; problems %q", diff, r.Problems())
	}
	fsys.FailAt(0, 0, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx, nil, nil) }()
	eventually(t, "remembered", func() bool { return len(r.Problems()) == 0 })
	cancel()
	<-done
	again, err := trust.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{id(b)}, trust.IDs(again.Keys())); diff != "" {
		t.Error(diff)
	}
}

// TestKeyKnownLater: a key comes into the files after its revocation came through the store: it
// is not believed, neither today nor after a restart without the store.
func TestKeyKnownLater(t *testing.T) {
	dir := t.TempDir()
	keys, memory := filepath.Join(dir, "keys.pub"), filepath.Join(dir, "memory")
	a, b := testKey(1), testKey(2)
	writeKeys(t, keys, a)
	cfg := trust.Config{Keys: []string{keys}, Memory: memory, Poll: time.Millisecond}
	r, err := trust.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	st := memstore.New()
	defer st.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx, st, func(err error, _ []byte) { t.Error(err) }) }()
	for _, k := range []ed25519.PrivateKey{b, a} { // the second shows that the first was read
		if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.RevocationPath(id(k)), Value: []byte(revoke(t, k, true, ""))}}}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "revocations are read", func() bool { return len(trust.IDs(r.Keys())) == 0 })
	writeKeys(t, keys, a, b)
	eventually(t, "the key is known and revoked", func() bool { return r.Keys().Void([]string{id(b)}) })
	cancel()
	<-done
	if r, err = trust.Open(cfg); err != nil {
		t.Fatal(err)
	}
	if got := trust.IDs(r.Keys()); len(got) > 0 {
		t.Errorf("after a restart it believes %v", got)
	}
}

// TestProblemsAreShort: what is said goes into a node of the store, whatever is in the files; of
// many nodes that revoke nothing few are told.
func TestProblemsAreShort(t *testing.T) {
	dir := t.TempDir()
	keys, local, memory := filepath.Join(dir, "keys.pub"), filepath.Join(dir, "revoked"), filepath.Join(dir, "memory")
	a, b := testKey(1), testKey(2)
	writeKeys(t, keys, a, b)
	write(t, local, id(a)+" void "+strings.Repeat("ü", 1000)+"\n")
	write(t, memory, strings.Repeat("?\n", 100_000)+revoke(t, b, false, "")+"\n")
	r, err := trust.Open(trust.Config{Keys: []string{keys}, Revoked: local, Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	if got := trust.IDs(r.Keys()); len(got) > 0 {
		t.Errorf("believes %v", got)
	}
	said := r.Problems()
	if len(said) != 1 || !strings.Contains(said[0], memory+":1:") {
		t.Errorf("problems %.300q", said)
	}
	for _, x := range r.Keys().Revoked {
		said = append(said, x.Why)
	}
	for _, text := range said {
		if len(text) > 512 || !utf8.ValidString(text) {
			t.Errorf("%d octets: %.100q", len(text), text)
		}
	}
	st := memstore.New()
	defer st.Close()
	var ops []store.Op
	for i := range 100 {
		ops = append(ops, store.Op{Path: tree.RevocationPath(fmt.Sprintf("%016x", i)), Value: []byte("nonsense")})
	}
	if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan error, len(ops))
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx, st, func(err error, _ []byte) { told <- err }) }()
	<-told
	if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.RevocationPath(id(a)), Value: []byte(revoke(t, a, true, "the last"))}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last is remembered", func() bool { all, _ := trust.Remembered(memory); return len(all) == 2 })
	cancel()
	<-done
	if n := 1 + len(told); n > 10 {
		t.Errorf("%d of %d are told", n, len(ops))
	}
}

// TestMemoryCrashAtEveryCall: power fails in each call of the file system while a second
// revocation is remembered: the first one is always there afterwards, the second when it was
// said to be.
func TestMemoryCrashAtEveryCall(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.pub")
	a, b := testKey(1), testKey(2)
	writeKeys(t, keys, a, b)
	begin := func() (*faultfs.FS, *trust.Ring, trust.Config) {
		t.Helper()
		fsys := faultfs.New()
		if err := fsys.MkdirAll("/host", 0o755); err != nil {
			t.Fatal(err)
		}
		cfg := trust.Config{Keys: []string{keys}, Memory: "/host/journal.revoked", FS: fsys}
		r, err := trust.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Take(revoke(t, a, false, "")); err != nil || len(r.Problems()) > 0 {
			t.Fatalf("%v, %q", err, r.Problems())
		}
		return fsys, r, cfg
	}
	second := revoke(t, b, true, "")
	whole, r, _ := begin()
	before := whole.Calls()
	if err := r.Take(second); err != nil {
		t.Fatal(err)
	}
	calls := whole.Calls() - before
	if calls < 4 {
		t.Fatalf("%d calls, expected more: is it written?", calls)
	}
	for n := 1; n <= calls; n++ {
		for _, loss := range faultfs.AllLosses() {
			fsys, r, cfg := begin()
			fsys.CrashAt(n)
			if err := r.Take(second); err != nil {
				t.Fatal(err)
			}
			said := len(r.Problems()) == 0
			cfg.FS = fsys.Reboot(loss)
			again, err := trust.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			set := again.Keys()
			_, first := set.Find(id(a))
			if _, there := set.Find(id(b)); !first || said && !there || len(again.Problems()) > 0 {
				t.Errorf("crash at call %d (loss %d): first %v, second %v, said to be there %v, problems %q", n, loss, first, there, said, again.Problems())
			}
		}
	}
}
