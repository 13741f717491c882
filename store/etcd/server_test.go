package etcd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestClaim(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	lock, err := claim(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(t.Context(), dir, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), dir) {
		t.Errorf("second claim: error is %v, expected one that says that %s is in use", err, dir)
	}
	// Who ends within the patience makes room.
	if pid, ready := owner(dir); pid != os.Getpid() || ready {
		t.Errorf("owner is %d, ready %t, expected %d that is not ready", pid, ready, os.Getpid())
	}
	if err := sign(lock, readyMark); err != nil {
		t.Fatal(err)
	}
	if pid, ready := owner(dir); pid != os.Getpid() || !ready {
		t.Errorf("owner is %d, ready %t, expected %d that is ready", pid, ready, os.Getpid())
	}
	first := lock
	time.AfterFunc(100*time.Millisecond, func() { first.Close() })
	lock, err = claim(t.Context(), dir, time.Minute)
	if err != nil {
		t.Fatalf("claim after the first user has ended: %v", err)
	}
	if pid, ready := owner(dir); pid != os.Getpid() || ready {
		t.Errorf("owner after another claim is %d, ready %t, expected %d that is not ready", pid, ready, os.Getpid())
	}
	lock.Close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v, error %v, expected 0700", info.Mode(), err)
	}
}

func TestServerConfigValidate(t *testing.T) {
	for listen, want := range map[string]string{
		"/run/zonecast/store":          "",
		"127.0.0.1:2379":               "",
		"[::1]:2379":                   "",
		"":                             "expected the absolute path",
		"run/store":                    "expected the absolute path",
		"localhost:2379":               "expected the absolute path",
		"0.0.0.0:2379":                 "not on loopback",
		"[2001:db8::1]:2379":           "not on loopback",
		"/" + strings.Repeat("x", 107): "at most 107",
	} {
		err := ServerConfig{Dir: "/d", Listen: listen}.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("Validate with listen %q: error is %v, expected %q", listen, err, want)
		}
	}
	if err := (ServerConfig{Listen: "/s"}).Validate(); err == nil {
		t.Error("Validate without a directory: no error")
	}
}

func TestConfigValidate(t *testing.T) {
	ok := []string{"127.0.0.1:2379"}
	for _, c := range []struct {
		cfg  Config
		good bool
	}{
		{Config{Endpoints: ok}, true},
		{Config{Endpoints: ok, Prefix: "/zonecast"}, true},
		{Config{}, false},
		{Config{Endpoints: []string{""}}, false},
		{Config{Endpoints: ok, Prefix: "zonecast"}, false},
		{Config{Endpoints: ok, Prefix: "/zonecast/"}, false},
	} {
		s, err := Open(t.Context(), c.cfg)
		if (err == nil) != c.good {
			t.Errorf("Open %+v: error is %v, expected none: %t", c.cfg, err, c.good)
		}
		if s != nil {
			s.Close()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Config{Endpoints: ok}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with an ended ctx: error is %v", err)
	}
}

func TestSocketPath(t *testing.T) {
	path, remove, err := SocketPath("/var/lib/zonecast")
	if err != nil || path != "/var/lib/zonecast/socket" {
		t.Errorf("SocketPath of a short directory: %q, %v", path, err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	path, remove, err = SocketPath("/" + strings.Repeat("long/", 30))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Dir(path)); len(path) > maxSocketPath || err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("SocketPath of a long directory: %q, mode %v, error %v, expected a short path in a directory of mode 0700", path, info.Mode(), err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("remove left %s", filepath.Dir(path))
	}
	t.Setenv("TMPDIR", "/"+strings.Repeat("x", 100))
	if path, _, err := SocketPath("/" + strings.Repeat("long/", 30)); err == nil {
		t.Errorf("SocketPath without any short directory: %q and no error", path)
	}
}

func TestLastWords(t *testing.T) {
	got := lastWords("/d", "failed to save", []zap.Field{zap.String("path", "/d/wal"), zap.Int("n", 1), zap.Error(&os.PathError{Op: "write", Path: "/d/wal", Err: syscall.ENOSPC})})
	for _, want := range []string{"store in /d: failed to save", "no space left on device", "free space there"} {
		if !strings.Contains(got, want) || strings.Contains(got, "\n") {
			t.Errorf("last words are %q, expected one line with %q", got, want)
		}
	}
	if got := lastWords("/d", "crc mismatch", nil); !strings.Contains(got, "the data directory is damaged") {
		t.Errorf("last words are %q, expected what to do about a damaged directory", got)
	}
}

func TestZapLogger(t *testing.T) {
	var out strings.Builder
	ctx, stop := context.WithCancel(t.Context())
	log := zapLogger(ctx, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), "/d").With(zap.String("member", "m1"))
	log.Info("never")
	log.Warn("slow", zap.Duration("took", time.Second))
	log.Error("bad", zap.Error(errors.New("cause")))
	stop()
	log.Error("late")
	for _, want := range []string{`level=DEBUG msg="etcd: slow" member=m1 took=1s`, `level=ERROR msg="etcd: bad" member=m1 error=cause`, `level=DEBUG msg="etcd: late"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log is\n%sexpected a line with %s", &out, want)
		}
	}
	if strings.Contains(out.String(), "never") {
		t.Errorf("log has etcd's information messages:\n%s", &out)
	}
}
