package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// start runs a shell program as a daemon; stop ends it.
func start(t *testing.T, c Config) (d *Daemon, stop func()) {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	d = New(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return d, stop
}

func shell(t *testing.T, script string) Config {
	t.Helper()
	path, err := Find("sh")
	if err != nil {
		t.Fatal(err)
	}
	return Config{Path: path, Args: []string{"-c", script}, PidFile: filepath.Join(t.TempDir(), "pid")}
}

func pid(d *Daemon) int {
	s, _ := d.State()
	return s.Pid
}

func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

// What ends is started again, and its last words are known.
func TestStartedAgain(t *testing.T) {
	d, _ := start(t, shell(t, "echo some last words; exit 3"))
	eventually(t, "three starts", func() bool { s, _ := d.State(); return s.Starts >= 3 })
	eventually(t, "last words", func() bool {
		s, _ := d.State()
		return strings.Contains(s.Ended, "exit status 3") && strings.Contains(s.Ended, "some last words")
	})
}

// A process that was left is taken over, not started twice, and ended at the end. One
// that does not end by SIGTERM is killed.
func TestTakenOver(t *testing.T) {
	c := shell(t, "trap '' TERM; while :; do sleep 0.1; done")
	c.Grace = 300 * time.Millisecond
	left := c
	left.Leave = true
	d, stop := start(t, left)
	eventually(t, "a process", func() bool { return pid(d) != 0 })
	first := pid(d)
	stop()
	if gone(first) {
		t.Fatal("the process that was to be left is gone")
	}
	d, stop = start(t, c)
	eventually(t, "taken over", func() bool { s, _ := d.State(); return s.Pid == first && s.Adopted && s.Starts == 0 })
	stop()
	if !gone(first) {
		t.Error("the process is there after the end")
	}
}

// The number of a process that is another now is not believed.
func TestPidOfAnother(t *testing.T) {
	c := shell(t, "sleep 60 & wait")
	self, ok := of(os.Getpid())
	if !ok {
		t.Fatal("this process is not there")
	}
	for _, text := range []string{strconv.Itoa(self.pid) + " " + self.start, strconv.Itoa(self.pid) + " 1", "1 1", "nonsense"} {
		if err := os.WriteFile(c.PidFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if p, ok := readPid(c.PidFile); ok && p.runs(c.Path) {
			t.Errorf("%q is believed to be the program", text)
		}
	}
}

// Saying more than is read stops nobody.
func TestSayingDoesNotBlock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "done")
	c := shell(t, "i=0; while [ $i -lt 3000 ]; do echo a line that is said much more often than it is read, with some length; i=$((i+1)); done; echo done > "+file+"; exec sleep 60")
	release := make(chan struct{})
	c.Line = func(line string) (slog.Level, string, bool) { <-release; return 0, line, false }
	start(t, c)
	t.Cleanup(func() { close(release) })
	eventually(t, "all said", func() bool { _, err := os.Stat(file); return err == nil })
}
