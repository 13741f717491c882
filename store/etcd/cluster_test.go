//go:build interop

package etcd_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
)

// member is one of Debian's etcd.
type member struct {
	t      *testing.T
	client string // host:port
	args   []string
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
}

func (m *member) start() {
	m.t.Helper()
	m.cmd = exec.Command("etcd", m.args...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// Pdeathsig is about the thread that forks: it must live as long as the process.
	cmd, exited, started := m.cmd, make(chan struct{}), make(chan error, 1)
	m.exited = exited
	go func() {
		runtime.LockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // that it was killed
		}
	}()
	if err := <-started; err != nil {
		m.cmd = nil
		m.t.Fatalf("%v: scripts/install-test-deps.sh installs it", err)
	}
}

func (m *member) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill() // unless it has ended
		<-m.exited
		m.cmd = nil
	}
}

// startMembers starts a cluster of n.
func startMembers(t *testing.T, n int) []*member {
	t.Helper()
	var free []string
	for range 2 * n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		free = append(free, ln.Addr().String())
	}
	var initial []string
	for i := range n {
		initial = append(initial, fmt.Sprintf("m%d=http://%s", i, free[n+i]))
	}
	dir := t.TempDir()
	members := make([]*member, n)
	for i := range members {
		client, peer := "http://"+free[i], "http://"+free[n+i]
		members[i] = &member{t: t, client: free[i], args: []string{
			"--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(dir, fmt.Sprint(i)),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(initial, ","), "--log-level", "error",
		}}
		t.Cleanup(members[i].kill)
	}
	return members
}

// leader is the member that leads and lives.
func leader(t *testing.T, members []*member) *member {
	t.Helper()
	var found *member
	within(t, time.Minute, "a leader", func() bool {
		for _, m := range members {
			if m.cmd == nil {
				continue
			}
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{m.client}, Logger: zap.NewNop(), DialTimeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			st, err := c.Status(ctx, m.client)
			cancel()
			c.Close()
			if err == nil && st.Leader != 0 && st.Leader == st.Header.MemberId {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// Three members of Debian's etcd under load, of which the leader is killed, twice:
// nothing acknowledged is lost, a watch sees all of it in order, and an election's
// fence holds on.
func TestInteropLeaderKilled(t *testing.T) {
	members := startMembers(t, 3)
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.client)
		m.start()
	}
	leader(t, members)
	open := func() *etcd.Store {
		s, err := etcd.Open(t.Context(), etcd.Config{Endpoints: endpoints})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	writes, watches := open(), open()
	ss, err := watches.Session(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ss.Elect(t.Context(), "/elect/office", nil)
	if err != nil {
		t.Fatal(err)
	}

	w := &writer{s: writes, value: []byte("v")}
	ctx, stop := context.WithCancel(t.Context())
	wctx, unwatch := context.WithCancel(t.Context())
	var writing, watching sync.WaitGroup
	defer func() { stop(); writing.Wait(); unwatch(); watching.Wait() }()
	writing.Go(func() { w.run(ctx) })
	batches := watches.Watch(wctx, "/n/", 0)
	var mu sync.Mutex
	seen := make(map[string]bool)
	watching.Go(func() {
		var last store.Revision
		for b := range batches {
			mu.Lock()
			if b.Revision < last {
				t.Errorf("batch of revision %d after %d", b.Revision, last)
			}
			if b.Reset && last != 0 {
				t.Errorf("a Reset after revision %d, expected none", last)
			}
			last = b.Revision
			for _, n := range b.Puts {
				seen[n.Path] = true
			}
			mu.Unlock()
		}
	})
	more := func() {
		before := w.count()
		within(t, time.Minute, "commits go on", func() bool { return w.count() > before+20 })
	}
	for range 2 {
		more()
		m := leader(t, members)
		m.kill()
		more()
		if _, err := writes.Commit(t.Context(), store.Txn{If: []store.Cond{l.Fence}, Do: []store.Op{{Path: "/led", Value: []byte("1")}}}); err != nil {
			t.Errorf("a commit with the fence after the leader was killed: %v", err)
		}
		m.start()
		more()
	}
	stop()
	writing.Wait()
	w.check(t)
	within(t, time.Minute, "the watch has seen every acknowledged commit", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range w.acked {
			if !seen[p] {
				return false
			}
		}
		return true
	})
	t.Logf("%d commits acknowledged", w.count())
}
