package swarm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/snapshot"
)

// random is a file of octets that do not compress; Fetch does not look into files.
func (w *world) random(size int64) (snapshot.Ref, string) {
	w.t.Helper()
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // does not fail
	ref := snapshot.Ref{ID: sha256.Sum256(b), Size: size, Version: 1}
	path := filepath.Join(w.dir, ref.ID.String()+".offered")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		w.t.Fatal(err)
	}
	return ref, path
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// shaped is an HTTP server whose whole output has a rate, in octets a second; zero is none.
func (w *world) shaped(path string, id snapshot.ID, octets int64) *httptest.Server {
	limit := rate.NewLimiter(rate.Inf, 0)
	if octets > 0 {
		limit = rate.NewLimiter(rate.Limit(octets), burst(octets))
	}
	s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("ETag", `"`+id.String()+`"`)
		http.ServeFile(shapedWriter{out, limit}, r, path)
	}))
	w.t.Cleanup(s.Close)
	return s
}

type shapedWriter struct {
	http.ResponseWriter
	limit *rate.Limiter
}

func (s shapedWriter) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		part := b[n:min(len(b), n+16<<10)]
		if s.limit.Limit() != rate.Inf {
			if err := s.limit.WaitN(context.Background(), len(part)); err != nil {
				return n, err
			}
		}
		var k int
		k, err = s.ResponseWriter.Write(part)
		n += k
	}
	return n, err
}

// BenchmarkFleet carries a snapshot to hosts that begin at once: from each other, and by HTTP from
// the publisher alone, where each has a line of the same rate out. docs/benchmarks.md has the table.
func BenchmarkFleet(b *testing.B) {
	const mib = 1 << 20
	for _, c := range []struct {
		name   string
		size   int64
		hosts  int
		rate   int64 // octets a second out of publisher and hosts; zero is none
		pieces int64 // octets of a piece; zero: as it is
	}{
		{"128MiB/8hosts/free", 128 * mib, 8, 0, 0},
		{"128MiB/8hosts/free/1MiB", 128 * mib, 8, 0, mib},
		{"128MiB/8hosts/free/256KiB", 128 * mib, 8, 0, mib / 4},
		{"24MiB/20hosts/4MBps", 24 * mib, 20, 4e6, 0},
	} {
		b.Run(c.name+"/swarm", func(b *testing.B) {
			for range b.N {
				w := newWorld(b)
				slow := func(cfg *Config, _ *Deps, p *pace) { cfg.Up = c.rate; *p = defaultPace }
				p := w.start("p", true, slow)
				if c.pieces > 0 {
					p.pieceLength = func(int64) int64 { return c.pieces }
				}
				ref, path := w.random(c.size)
				var meta []byte
				var err error
				if ref.Torrent, meta, err = p.Offer(ref, path); err != nil {
					b.Fatal(err)
				}
				w.register(ref, meta)
				var hosts []*member
				for i := range c.hosts {
					hosts = append(hosts, w.start(fmt.Sprint("h", i), false, slow))
				}
				began, used := time.Now(), cpu()
				w.all(hosts, func(h *member) error {
					_, err := h.Fetch(b.Context(), ref, filepath.Join(w.dir, h.name, "fetch"), nil)
					return err
				})
				b.ReportMetric(time.Since(began).Seconds(), "s-to-last")
				b.ReportMetric((cpu() - used).Seconds(), "cpu-s")
				b.ReportMetric(p.metric("sent_bytes_total")/float64(ref.Size), "egress")
				for _, h := range hosts {
					h.stop()
				}
				p.stop()
			}
		})
		if c.pieces > 0 {
			continue
		}
		b.Run(c.name+"/http", func(b *testing.B) {
			for range b.N {
				w := newWorld(b)
				ref, path := w.random(c.size)
				ref.URLs = []string{w.shaped(path, ref.ID, c.rate).URL}
				var hosts []*member
				for i := range c.hosts {
					hosts = append(hosts, &member{name: fmt.Sprint("h", i), w: w})
				}
				began, used := time.Now(), cpu()
				w.all(hosts, func(h *member) error {
					_, err := follow.HTTP{}.Fetch(b.Context(), ref, filepath.Join(w.dir, h.name, "fetch"), nil)
					return err
				})
				b.ReportMetric(time.Since(began).Seconds(), "s-to-last")
				b.ReportMetric((cpu() - used).Seconds(), "cpu-s")
				b.ReportMetric(float64(c.hosts), "egress")
			}
		})
	}
}

// all does the same on all members at once.
func (w *world) all(members []*member, do func(*member) error) {
	w.t.Helper()
	var tasks sync.WaitGroup
	for _, m := range members {
		tasks.Go(func() {
			if err := do(m); err != nil {
				w.t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	tasks.Wait()
}

// BenchmarkReuse reports how much of a snapshot of 100 MB is fetched by a host that has an older
// one, when one name in hundred was replaced, in so many runs of neighbours.
func BenchmarkReuse(b *testing.B) {
	const n = 100000
	w := newWorld(b)
	_, oldPath := w.write(data(b, 1, n))
	for _, runs := range []int{1, 10, 100, 1000} {
		ref, path := w.write(changedRuns(b, n, runs, "replaced"))
		b.Run(fmt.Sprintf("%druns", runs), func(b *testing.B) {
			for range b.N {
				for _, length := range []int64{32 << 10, 64 << 10, 256 << 10, 1 << 20} {
					pieces, blocks := fetchedShare(b, oldPath, ref, path, length)
					b.ReportMetric(100*pieces, fmt.Sprintf("%%pieces-%dKiB", length>>10))
					b.ReportMetric(100*blocks, "%blocks")
				}
			}
		})
	}
}
