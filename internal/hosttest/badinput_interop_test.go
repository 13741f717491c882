//go:build interop

package hosttest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/daemon"
	"github.com/zonecast/zonecast/recursor"
)

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// troubled waits until a trouble with all these words is told.
func troubled(t *testing.T, r *recursor.Recursor, words ...string) {
	t.Helper()
	eventually(t, strings.Join(words, " "), func() bool {
		all := strings.Join(r.Troubles(), "\n")
		for _, w := range words {
			if !strings.Contains(all, w) {
				return false
			}
		}
		return true
	})
}

// A missing Unbound, and one of another version, end the start with what to do.
func TestInteropRecursorWithoutUnbound(t *testing.T) {
	h := newDNSHost(t)
	old := filepath.Join(h.dir, "unbound")
	for _, name := range []string{"unbound", "unbound-checkconf"} {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte("#!/bin/sh\necho 'Version 1.9.0'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for program, want := range map[string]string{
		filepath.Join(h.dir, "nothing"): "unbound is not there",
		old:                             "is Unbound 1.9.0, expected 1.13 or later",
		"/bin/true":                     "does not say which version",
	} {
		c := h.config
		c.Unbound = program
		r, err := recursor.New(c, recursor.Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		err = r.Run(t.Context())
		var advice interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), want) && program != "/bin/true" || !errors.As(err, &advice) || !strings.Contains(advice.Hint(), "--recursor-unbound") {
			t.Errorf("%s: error is %v, want %q and a hint", program, err, want)
		}
	}
}

// A zone that Unbound refuses is left out and said; the others are asked for. A
// configuration that is refused whole does not take the place of one that is not.
func TestInteropRecursorRefused(t *testing.T) {
	h := newDNSHost(t)
	h.config.Include = filepath.Join(h.dir, "more.conf")
	include := func(text string) {
		if err := os.WriteFile(h.config.Include, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	include("")
	real, err := daemon.Find("unbound")
	if err != nil {
		t.Fatal(err)
	}
	// A release that does not take a zone which this one takes.
	h.config.Unbound = filepath.Join(h.dir, "unbound")
	if err := os.Symlink(real, h.config.Unbound); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nif grep -q 10.in-addr \"$1\"; then echo \"$1:77: error: zone is too private\"; exit 1; fi\nexec " + real + "-checkconf \"$1\"\n"
	if err := os.WriteFile(filepath.Join(h.dir, "unbound-checkconf"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h.publish(zoneText)
	r, stop := h.recurse()
	h.see("www.example.net", "A", "NOERROR 192.0.2.1")
	h.publish(`10.in-addr.arpa. 86400 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 86400
		example.org. 86400 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 86400
		www.example.org. 86400 IN A 192.0.2.6
		www.example.net. 86400 IN A 192.0.2.2`)
	h.see("www.example.org", "A", "NOERROR 192.0.2.6")
	h.see("www.example.net", "A", "NOERROR 192.0.2.2")
	troubled(t, r, "zone 10.in-addr.arpa. is left out", "zone is too private")
	stop()

	before, err := os.ReadFile(filepath.Join(h.config.Dir, "unbound.conf"))
	if err != nil {
		t.Fatal(err)
	}
	include("no-such-option: yes\n")
	h.config.LocalData = []string{"printer.example.net. 60 IN A 192.0.2.9"} // so that it is another
	r, stop = h.recurse()
	troubled(t, r, "refuses the configuration", "no-such-option")
	after, err := os.ReadFile(filepath.Join(h.config.Dir, "unbound.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("a configuration that was refused is in place")
	}
	stop()
	include("")
	r, _ = h.recurse()
	h.see("printer.example.net", "A", "NOERROR 192.0.2.9")
	h.see("www.example.org", "A", "NOERROR 192.0.2.6")
	troubled(t, r, "zone 10.in-addr.arpa. is left out")
}

// Unbound goes on without its driver, and the next one takes it over: what changed
// meanwhile is flushed, and it is the same process. One that is killed is started again.
func TestInteropRecursorTakenOver(t *testing.T) {
	h := newDNSHost(t)
	h.publish(zoneText)
	h.config.Leave = true
	_, stop := h.recurse()
	h.see("www.example.net", "A", "NOERROR 192.0.2.1")
	pid := func() int {
		b, err := os.ReadFile(filepath.Join(h.config.Dir, "unbound.pid"))
		if err != nil {
			return 0
		}
		n, _, _ := strings.Cut(string(b), " ")
		p, err := strconv.Atoi(n)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := pid()
	stop()
	h.see("www.example.net", "A", "NOERROR 192.0.2.1")
	h.publish("www.example.net. 86400 IN A 192.0.2.2")
	h.config.Leave = false
	_, stop = h.recurse()
	h.see("www.example.net", "A", "NOERROR 192.0.2.2")
	if second := pid(); second != first {
		t.Errorf("Unbound is process %d, was %d", second, first)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another process", func() bool { p := pid(); return p != 0 && p != first })
	h.see("www.example.net", "A", "NOERROR 192.0.2.2")
	last := pid()
	stop()
	if err := syscall.Kill(last, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("Unbound is there after the end: %v", err)
	}
}

// An Unbound that somebody else runs, and that cannot be spoken to at first: it is said,
// and what changed is flushed when it can.
func TestInteropRecursorUnreachable(t *testing.T) {
	h := newDNSHost(t)
	h.publish(zoneText)
	h.config.Start = false
	r, _ := h.recurse()
	troubled(t, r, "remote control cannot be reached")
	if r.Status().Carried[0].Version != 0 {
		t.Error("the cache counts as flushed")
	}
	h.run("unbound", func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, "/usr/sbin/unbound", "-d", "-c", filepath.Join(h.config.Dir, "unbound.conf"))
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		if err := cmd.Run(); ctx.Err() == nil {
			return err
		}
		return nil
	})
	h.see("www.example.net", "A", "NOERROR 192.0.2.1")
	eventually(t, "flushed, and no trouble", func() bool { return r.Status().Carried[0].Version == 1 && len(r.Troubles()) == 0 })
	h.publish("www.example.net. 86400 IN A 192.0.2.2")
	h.see("www.example.net", "A", "NOERROR 192.0.2.2")
}

// Commands by unbound-control, for an Unbound whose remote control wants TLS.
func TestInteropRecursorByProgram(t *testing.T) {
	h := newDNSHost(t)
	h.publish(zoneText)
	h.config.Control = "@" + filepath.Join(h.config.Dir, "unbound.conf")
	r, _ := h.recurse()
	h.see("www.example.net", "A", "NOERROR 192.0.2.1")
	h.publish("www.example.net. 86400 IN A 192.0.2.2")
	h.see("www.example.net", "A", "NOERROR 192.0.2.2")
	eventually(t, "flushed", func() bool { return r.Status().Carried[0].Version == 2 })
}
