//go:build interop

package swarm

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/anacrolix/torrent/bencode"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
)

// aria2 fetches by a metainfo file into a directory.
func aria2(t *testing.T, meta []byte, args ...string) []byte {
	t.Helper()
	program, err := exec.LookPath("aria2c")
	if err != nil {
		t.Fatal("aria2c is not there: scripts/install-test-deps.sh installs it")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "x.torrent")
	if err := os.WriteFile(file, meta, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args = append([]string{
		"--no-conf", "--dir=" + dir, "--seed-time=0", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
		"--listen-port=16881-16999", "--allow-overwrite=true", "--console-log-level=warn", "--summary-interval=0",
	}, args...)
	out, err := exec.CommandContext(ctx, program, append(args, file)...).CombinedOutput()
	if err != nil {
		t.Fatalf("aria2c: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, dataset+"-*.snapshot"))
	if err != nil || len(found) != 1 {
		t.Fatalf("aria2c left %v\n%s", found, out)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A client from Debian's packages fetches a published snapshot from a publisher and a host - a
// tracker of the test's tells it of them, since only hosts read the store - and, with nobody there,
// from the URL that stands in the metainfo.
func TestInteropAria2(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	d := data(t, 1, 2500)
	ref, path := w.write(d)
	web := w.http(path, ref.ID)
	ref = p.offer(d, web.URL)
	nodes, _, err := w.st.List(t.Context(), tree.TorrentPrefix(dataset, ref.ID.String()))
	if err != nil {
		t.Fatal(err)
	}
	meta := nodes[0].Value
	h := w.start("h", false)
	if err := h.fetch(ref); err != nil {
		t.Fatal(err)
	}
	check := func(b []byte) {
		t.Helper()
		if _, err := snapshot.Read(bytes.NewReader(b), ref); err != nil {
			t.Error(err)
		}
	}
	for name, peers := range map[string][]*member{"publisher": {p}, "host": {h}} {
		t.Run(name, func(t *testing.T) {
			var compact []byte
			before := 0.0
			for _, m := range peers {
				a := m.self.Addr().As4()
				compact = append(append(compact, a[:]...), byte(m.self.Port()>>8), byte(m.self.Port()))
				before += m.metric("sent_bytes_total")
			}
			tracker := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
				_ = bencode.NewEncoder(out).Encode(map[string]any{"interval": 60, "peers": string(compact)})
			}))
			defer tracker.Close()
			var m map[string]bencode.Bytes
			if err := bencode.Unmarshal(meta, &m); err != nil {
				t.Fatal(err)
			}
			delete(m, "url-list") // from peers alone
			alone, err := bencode.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			check(aria2(t, alone, "--bt-tracker="+tracker.URL+"/announce"))
			sent := -before
			for _, m := range peers {
				sent += m.metric("sent_bytes_total")
			}
			if sent < float64(ref.Size) {
				t.Errorf("peers sent %.0f octets, expected at least %d", sent, ref.Size)
			}
		})
	}
	t.Run("url", func(t *testing.T) {
		before := web.sent()
		check(aria2(t, meta))
		if got := web.sent() - before; got < ref.Size {
			t.Errorf("URL gave %d octets, expected at least %d", got, ref.Size)
		}
	})
	// And the other way round: a host fetches from aria2, which seeds.
	t.Run("from aria2", func(t *testing.T) {
		dir := t.TempDir()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fileName(dataset, ref.ID)), b, 0o644); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "x.torrent")
		if err := os.WriteFile(file, meta, 0o644); err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := ln.Addr().(*net.TCPAddr).Port
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, "aria2c", "--no-conf", "--dir="+dir, "--seed-ratio=0.0", "--check-integrity=true", "--enable-dht=false", "--enable-dht6=false",
			"--bt-enable-lpd=false", fmt.Sprintf("--listen-port=%d", port), "--console-log-level=warn", "--summary-interval=0", file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cancel(); _ = cmd.Wait() }()
		at := fmt.Sprintf("127.0.0.1:%d", port)
		w.eventually("aria2 listens", func() bool {
			c, err := net.Dial("tcp", at)
			if err != nil {
				return false
			}
			return c.Close() == nil
		})
		w.name("lab", "aria2", at)
		other := w.start("other", false, func(c *Config, _ *Deps, _ *pace) { c.Site = "lab" })
		p.stop()
		h.stop()
		ref := ref
		ref.URLs = nil
		if err := other.fetch(ref); err != nil {
			t.Fatal(err)
		}
	})
}
