package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
)

// TestMain makes the test binary the child command as well:
//
//	etcd.test serve DIR LISTEN     runs Serve, as `zonecast run store` does
//	etcd.test parent DIR SOCKET    runs StartChild and waits to be killed
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := etcd.Serve(ctx, etcd.ServerConfig{Dir: os.Args[2], Listen: os.Args[3], Log: slog.New(slog.DiscardHandler)})
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 4 && os.Args[1] == "parent" {
		c, err := etcd.StartChild(context.Background(), childConfig(os.Args[2], os.Args[3]))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(c.Pid())
		select {}
	}
	os.Exit(m.Run())
}

func childConfig(dir, socket string) etcd.ChildConfig {
	return etcd.ChildConfig{Command: []string{os.Args[0], "serve", dir, socket}, Dir: dir, Socket: socket}
}

func startChild(t testing.TB, dir string) *etcd.Child {
	t.Helper()
	c, err := etcd.StartChild(t.Context(), childConfig(dir, filepath.Join(dir, "socket")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func openStore(t testing.TB, c *etcd.Child) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{c.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// within polls until ok, and fails the test after a time that is long on purpose.
func within(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(d)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, d)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// freeze stops a process and returns when none of its threads runs any more: the
// signal alone comes back while some still answer.
func freeze(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "every thread stopped", func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(stats) == 0 {
			t.Fatalf("no threads of process %d: %v", pid, err)
		}
		for _, file := range stats {
			b, err := os.ReadFile(file)
			_, after, ok := strings.Cut(string(b), ") ") // proc_pid_stat(5): the state follows the name
			if err == nil && (!ok || after[0] != 'T') {
				return false
			}
		}
		return true
	})
}

// writer commits numbered nodes one after another and remembers what was
// acknowledged.
type writer struct {
	s     store.Store
	value []byte

	mu    sync.Mutex // guards below
	acked []string
	err   error // the last one
}

func (w *writer) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		p := fmt.Sprintf("/n/%06d", i)
		rctx, stop := context.WithTimeout(ctx, time.Second)
		_, err := w.s.Commit(rctx, store.Txn{Do: []store.Op{{Path: p, Value: w.value}}})
		stop()
		w.mu.Lock()
		if w.err = err; err == nil {
			w.acked = append(w.acked, p)
		}
		w.mu.Unlock()
	}
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

func (w *writer) lastError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// check fails when an acknowledged node is missing.
func (w *writer) check(t *testing.T) {
	t.Helper()
	nodes, _, err := w.s.List(t.Context(), "/n/")
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string][]byte)
	for _, n := range nodes {
		there[n.Path] = n.Value
	}
	for _, p := range w.acked {
		if v, ok := there[p]; !ok || !bytes.Equal(v, w.value) {
			t.Errorf("%s was acknowledged and is lost (there: %t, %d octets)", p, ok, len(v))
		}
	}
}

// What Commit acknowledged survives SIGKILL, and a watch sees all of it.
func TestKilledServer(t *testing.T) {
	c := startChild(t, shortDir(t))
	s := openStore(t, c)
	w := &writer{s: s, value: bytes.Repeat([]byte{'v'}, 512)}
	ctx, stop := context.WithCancel(t.Context())
	wctx, unwatch := context.WithCancel(t.Context())
	var writing, watching sync.WaitGroup
	defer func() { stop(); writing.Wait(); unwatch(); watching.Wait() }()
	writing.Go(func() { w.run(ctx) })
	watch := s.Watch(wctx, "/n/", 0)
	var mu sync.Mutex
	seen := make(map[string]bool)
	var last store.Revision
	watching.Go(func() {
		for b := range watch {
			mu.Lock()
			if b.Revision < last {
				t.Errorf("batch of revision %d after %d", b.Revision, last)
			}
			last = b.Revision
			for _, n := range b.Puts {
				seen[n.Path] = true
			}
			mu.Unlock()
		}
	})
	for range 4 {
		before, pid := w.count(), c.Pid()
		within(t, 30*time.Second, "commits go on", func() bool { return w.count() > before+20+rand.IntN(50) })
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		within(t, 30*time.Second, "another child", func() bool { p := c.Pid(); return p != 0 && p != pid })
		within(t, 30*time.Second, "commits go on", func() bool { return w.count() > before+71 })
		t.Logf("commits went on %s after SIGKILL", time.Since(killed).Round(time.Millisecond))
	}
	before := w.count()
	within(t, 30*time.Second, "commits go on", func() bool { return w.count() > before+20 })
	stop()
	writing.Wait()
	w.check(t)
	within(t, 10*time.Second, "the watch sees all that was acknowledged", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range w.acked {
			if !seen[p] {
				return false
			}
		}
		return true
	})
}

// The child ends when its parent is killed, and the next parent can start at once.
func TestKilledParent(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "socket")
	parent := exec.Command(os.Args[0], "parent", dir, socket)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatalf("the parent says no pid: %v", err)
	}
	parent.Process.Kill()
	parent.Wait()
	c := startChild(t, dir)
	if c.Pid() == pid {
		t.Fatalf("the child of the killed parent, %d, still runs", pid)
	}
	within(t, 10*time.Second, "the orphan ends", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) })
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestCloseEndsChild(t *testing.T) {
	dir := shortDir(t)
	c, err := etcd.StartChild(t.Context(), childConfig(dir, filepath.Join(dir, "socket")))
	if err != nil {
		t.Fatal(err)
	}
	pid := c.Pid()
	w := openStore(t, c).Watch(t.Context(), "/", 0)
	<-w
	start := time.Now()
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("Close took %s with a client, expected no wait for it", took)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory has mode %v, error %v, expected 0700", info.Mode(), err)
	}
}

// A server that is alive but does not answer is unavailable, in time.
func TestFrozenServer(t *testing.T) {
	c := startChild(t, shortDir(t))
	s := openStore(t, c)
	pid := c.Pid()
	if _, err := s.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/a"}}}); err != nil {
		t.Fatal(err)
	}
	freeze(t, pid)
	defer syscall.Kill(pid, syscall.SIGCONT)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := s.Get(ctx, "/a")
	if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get: error is %v, expected one that is %q and a deadline", err, store.ErrUnavailable)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("Get took %s, expected 300ms", took)
	}
	syscall.Kill(pid, syscall.SIGCONT)
	if _, err := s.Get(t.Context(), "/a"); err != nil {
		t.Errorf("Get when the server goes on: %v", err)
	}
}

// Who stops while the server is away says all its goodbyes in about the time of one.
func TestGoodbyesToNobody(t *testing.T) {
	c := startChild(t, shortDir(t))
	s := openStore(t, c)
	var sessions []store.Session
	for range 4 {
		ss, err := s.Session(t.Context(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, ss)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := sessions[0].Elect(ctx, "/elect", nil); err != nil {
		t.Fatal(err)
	}
	elected := make(chan error, 1)
	go func() {
		_, err := sessions[1].Elect(ctx, "/elect", nil)
		elected <- err
	}()
	pid := c.Pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	began := time.Now()
	cancel()
	if err := <-elected; err == nil {
		t.Error("elected without a server")
	}
	for _, ss := range sessions {
		if err := ss.Close(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Close: error is %v, expected one that is %q", err, store.ErrUnavailable)
		}
	}
	if took := time.Since(began); took > 2500*time.Millisecond {
		t.Errorf("five goodbyes took %s, expected about 1s", took)
	}
}

func TestStartChildRefused(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "socket")
	c := startChild(t, dir)

	// Another store at the same socket: the running one keeps it.
	startFails(t, childConfig(shortDir(t), socket), socket, "in use by another process")
	if _, err := openStore(t, c).Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/a"}}}); err != nil {
		t.Errorf("Commit to the store that was there first: %v", err)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	startFails(t, childConfig(shortDir(t), ln.Addr().String()), ln.Addr().String(), "address already in use", "choose another address")

	file := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	startFails(t, childConfig(shortDir(t), file), file, "no socket")
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file at the socket's path was changed: %q, %v", b, err)
	}
	startFails(t, childConfig(file, filepath.Join(shortDir(t), "s")), file, "not a directory", "choose another directory")
	startFails(t, childConfig(shortDir(t), "192.0.2.1:2379"), "192.0.2.1:2379", "not on loopback")
	startFails(t, etcd.ChildConfig{Command: []string{"/nonexistent/zonecast"}, Dir: dir, Socket: socket}, "/nonexistent/zonecast")
}

// startFails starts a child that must not start, and checks what a person reads.
func startFails(t *testing.T, cfg etcd.ChildConfig, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := etcd.StartChild(ctx, cfg)
	if err == nil {
		c.Close()
		t.Fatalf("StartChild: no error, expected one with %q", want)
	}
	t.Logf("the error is: %v", err)
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("StartChild: error is %q, expected it to have %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "goroutine ") {
		t.Errorf("StartChild: error quotes a stack: %q", err)
	}
}

func TestDamagedDirectory(t *testing.T) {
	damage := map[string]func(t *testing.T, dir string){
		"log": func(t *testing.T, dir string) {
			files, err := filepath.Glob(filepath.Join(dir, "etcd/member/wal/*.wal"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no log in %s: %v", dir, err)
			}
			overwrite(t, files[0], 0, 4096)
		},
		"log, in the middle": func(t *testing.T, dir string) {
			files, err := filepath.Glob(filepath.Join(dir, "etcd/member/wal/*.wal"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no log in %s: %v", dir, err)
			}
			overwrite(t, files[0], 12<<10, 4096)
		},
		"database": func(t *testing.T, dir string) { overwrite(t, filepath.Join(dir, "etcd/member/snap/db"), 0, 1<<20) },
		"database cut off": func(t *testing.T, dir string) {
			db := filepath.Join(dir, "etcd/member/snap/db")
			if err := os.Truncate(db, 100); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, breakIt := range damage {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := shortDir(t)
			c, err := etcd.StartChild(t.Context(), childConfig(dir, filepath.Join(dir, "socket")))
			if err != nil {
				t.Fatal(err)
			}
			s := openStore(t, c)
			for i := range 30 {
				if _, err := s.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: fmt.Sprintf("/a/%d", i), Value: make([]byte, 1000)}}}); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			c.Close()
			breakIt(t, dir)
			startFails(t, childConfig(dir, filepath.Join(dir, "socket")), dir, "is damaged", "put back a backup")
		})
	}
}

func overwrite(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, n), at); err != nil {
		t.Fatal(err)
	}
}

// A backup is a copy of the directory of a stopped store; it works anywhere.
func TestCopiedDirectory(t *testing.T) {
	dir, backup := shortDir(t), filepath.Join(shortDir(t), "backup")
	c, err := etcd.StartChild(t.Context(), childConfig(dir, filepath.Join(dir, "socket")))
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, c)
	rev, err := s.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/a", Value: []byte("1")}}})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	c.Close()
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	n, err := openStore(t, startChild(t, backup)).Get(t.Context(), "/a")
	if err != nil || string(n.Value) != "1" || n.Modified != rev {
		t.Errorf("Get from the copy: %+v, error %v, expected the value 1 of revision %d", n, err, rev)
	}
}

// A full disk ends the child, not the parent; nothing acknowledged is lost, and the
// store goes on by itself when there is room.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	mount := shortDir(t)
	// etcd's log is made in pieces of 64 MiB, the next of which is made ahead.
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=160m,mode=0700"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(mount, syscall.MNT_DETACH) })
	dir := filepath.Join(mount, "store")
	var logged syncBuffer
	cfg := childConfig(dir, filepath.Join(dir, "socket"))
	cfg.Log = slog.New(slog.NewTextHandler(&logged, nil))
	c, err := etcd.StartChild(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := openStore(t, c)
	w := &writer{s: s, value: bytes.Repeat([]byte{'v'}, 32<<10)}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() { stop(); wg.Wait() }()
	wg.Go(func() { w.run(ctx) })
	within(t, 10*time.Second, "some commits", func() bool { return w.count() > 20 })

	ballast := filepath.Join(mount, "ballast")
	fill(t, ballast)
	within(t, 60*time.Second, "the disk is full", func() bool { return errors.Is(w.lastError(), store.ErrUnavailable) })
	within(t, 30*time.Second, "the cause is logged", func() bool { return strings.Contains(logged.String(), "no space left on device") })
	if !strings.Contains(logged.String(), "free space there") || !strings.Contains(logged.String(), dir) {
		t.Errorf("the log does not say where and what to do:\n%s", logged.String())
	}
	full := w.count()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	within(t, 60*time.Second, "commits go on when there is room", func() bool { return w.count() > full+5 })
	stop()
	wg.Wait()
	w.check(t)
}

// A start on a full disk says so.
func TestStartOnFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	mount := shortDir(t)
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(mount, syscall.MNT_DETACH) })
	startFails(t, childConfig(filepath.Join(mount, "new"), filepath.Join(mount, "s")), mount, "no space left on device", "free space there")
	fill(t, filepath.Join(mount, "ballast"))
	startFails(t, childConfig(filepath.Join(mount, "store"), filepath.Join(mount, "s")), mount, "no space left on device", "free space there")
	if err := syscall.Mount("", mount, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("remount read-only: %v", err)
	}
	startFails(t, childConfig(filepath.Join(mount, "store"), filepath.Join(mount, "s")), mount, "read-only file system", "remount it writable")
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex // guards below
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
