package host

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/zonecast/zonecast/internal/ports"
)

// supervise runs parts, which are scripts of sh, until the test ends.
func supervise(t *testing.T, cfg Config, parts []Part) *Supervisor {
	t.Helper()
	s, err := New(cfg, Deps{Program: "/bin/sh", Parts: parts, Out: io.Discard, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestReplaceTakesNewOptions: what takes the place of a process runs on the options of that moment,
// and so does what is started after its death; it is asked where it listens by then. One that
// cannot take over leaves the options of the one that goes on.
func TestReplaceTakesNewOptions(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "part")
	if err := os.WriteFile(program, []byte("[ \"$1\" != dies ] || exit 3\nkill $(cat "+dir+"/first 2>/dev/null) 2>/dev/null\necho $$ >"+dir+"/first\necho \"$1\" >"+dir+"/said\nwhile :; do sleep 0.02; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Dir, cfg.CheckEvery, cfg.Run, cfg.ReplaceWithin = dir, 0, []string{"authority"}, 20*time.Second
	part := func(word, at string) []Part {
		return []Part{{Name: "authority", Args: []string{program, word}, DNS: netip.MustParseAddrPort(at), HandsOver: true}}
	}
	ctx := t.Context()
	s := supervise(t, cfg, part("old", "192.0.2.1:53"))
	pid := func() int {
		pid, _, _ := s.parts[0].has.state(ctx)
		return pid
	}
	says := func(want string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			b, err := os.ReadFile(filepath.Join(dir, "said"))
			if err == nil && strings.TrimSpace(string(b)) == want && pid() != 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the part runs on %q, %v, want %s", b, err, want)
			}
		}
	}
	says("old")
	s.Replace(ctx, part("new", "192.0.2.2:53"))
	says("new")
	s.Replace(ctx, part("dies", "192.0.2.3:53"))
	if all := strings.Join(s.Troubles(), "; "); !strings.Contains(all, "authority not replaced") {
		t.Errorf("troubles: %s", all)
	}
	if at := s.parts[0].now(pid()).DNS.String(); at != "192.0.2.2:53" {
		t.Errorf("it is asked at %s", at)
	}
	if err := os.Remove(filepath.Join(dir, "said")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	says("new")

	// Of one that stays the options are taken when it has ended.
	s.parts[0].runs.Stays = "routes would go"
	was := pid()
	s.Replace(ctx, part("later", "192.0.2.4:53"))
	if pid() != was || s.parts[0].now(pid()).DNS.String() != "192.0.2.2:53" {
		t.Errorf("%d was replaced by %d, and is asked at %s", was, pid(), s.parts[0].now(pid()).DNS)
	}
	if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	says("later")
	if now := s.parts[0].now(pid()); now.DNS.String() != "192.0.2.4:53" || now.Stays != "" {
		t.Errorf("after its end it is asked at %s, and stays: %q", now.DNS, now.Stays)
	}
}

// TestReplaceWhatDoesNotRun: options that are mended are taken by a part that dies of the old ones.
func TestReplaceWhatDoesNotRun(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Dir, cfg.CheckEvery, cfg.Run = dir, 0, []string{"announcer"}
	part := func(script string) []Part {
		return []Part{{Name: "announcer", Args: []string{"-c", script}, Stays: "routes would go"}}
	}
	s := supervise(t, cfg, part("exit 3"))
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		// It may be replaced in a moment in which it runs, which it is not.
		s.Replace(t.Context(), part("echo ok >"+dir+"/ok; while :; do sleep 0.02; done"))
		if _, err := os.Stat(filepath.Join(dir, "ok")); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not started on the new options: %v", s.Troubles())
		}
	}
}

// TestHungPartThatStays: one that does not answer is started again; one whose end would take routes
// back is not, which is a trouble.
func TestHungPartThatStays(t *testing.T) {
	for _, stays := range []string{"", "routes would go"} {
		cfg := DefaultConfig()
		cfg.Dir, cfg.Run, cfg.CheckEvery, cfg.CheckFall, cfg.StartGrace = t.TempDir(), []string{"announcer"}, 100*time.Millisecond, 2, 0
		cfg.HTTP = netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", ports.Free(t, len(Parts)))) // nobody listens there
		s := supervise(t, cfg, []Part{{Name: "announcer", Args: []string{"-c", "while :; do sleep 0.02; done"}, Stays: stays}})
		restarts := func() float64 { return testutil.ToFloat64(s.parts[0].restarts) }
		failures := func() int {
			s.parts[0].mu.Lock()
			defer s.parts[0].mu.Unlock()
			return s.parts[0].failures
		}
		for end := time.Now().Add(20 * time.Second); failures() < 4 && restarts() == 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("nothing is found: %v", s.Troubles())
			}
		}
		if started := restarts() > 0; started != (stays == "") {
			t.Errorf("it stays: %q; started again: %v", stays, started)
		}
		if all := strings.Join(s.Troubles(), "; "); stays != "" && !strings.Contains(all, "announcer does not answer") {
			t.Errorf("troubles: %s", all)
		}
	}
}

// TestReplaceServiceThatDoesNotRun: the manager starts it on the new options, and by then it is asked
// where they say.
func TestReplaceServiceThatDoesNotRun(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sv"), []byte("#!/bin/sh\necho down: it: 1s\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	cfg := DefaultConfig()
	cfg.Dir, cfg.CheckEvery, cfg.Run, cfg.Manager = dir, 0, []string{"authority"}, Runit
	part := func(at string) []Part {
		return []Part{{Name: "authority", DNS: netip.MustParseAddrPort(at), HandsOver: true}}
	}
	s := supervise(t, cfg, part("192.0.2.1:53"))
	s.Replace(t.Context(), part("192.0.2.2:53"))
	if at := s.parts[0].now(0).DNS.String(); at != "192.0.2.2:53" {
		t.Errorf("it is asked at %s; troubles: %v", at, s.Troubles())
	}
}
