package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// process is another process that echoes; see TestMain.
type process struct {
	cmd  *exec.Cmd
	out  *bufio.Reader
	addr netip.AddrPort
}

func startProcess(t *testing.T, env ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command("/proc/self/exe")}
	p.cmd.Env = append(append(os.Environ(), "WIRE_WORKERS=2"), env...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	p.out = bufio.NewReader(out)
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("read the address of a server: %v", err)
	}
	p.addr = netip.MustParseAddrPort(strings.TrimSpace(line))
	return p
}

// wait waits until the process ends by itself.
func (p *process) wait(t *testing.T) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("a process does not end")
		return nil
	}
}

// load asks a server all the time.
type load struct {
	addr         string
	stop         atomic.Bool
	done         sync.WaitGroup
	udp, tcp     atomic.Uint64 // answered
	mu           sync.Mutex    // guards below
	err          error
	disconnected int // connections that ended between two queries
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.Join(l.err, err)
	l.stop.Store(true)
}

func (l *load) start() {
	for range 8 { // from different ports, so that all sockets get some
		l.done.Go(l.overUDP)
	}
	l.done.Go(l.connecting)
	l.done.Go(l.connected)
}

func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop.Store(true)
	l.done.Wait()
	if l.err != nil {
		t.Fatal(l.err)
	}
	t.Logf("%d queries answered over UDP, %d over TCP, %d connections ended in between", l.udp.Load(), l.tcp.Load(), l.disconnected)
}

// overUDP sends a query each 500 µs, whether the one before is answered or not, and
// wants an answer to each in the end.
func (l *load) overUDP() {
	c, err := net.Dial("udp", l.addr)
	if err != nil {
		l.fail(err)
		return
	}
	defer c.Close()
	var sent atomic.Uint64
	var pacer sync.WaitGroup
	pacer.Go(func() {
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for !l.stop.Load() {
			<-tick.C
			if _, err := c.Write(binary.BigEndian.AppendUint64([]byte("query"), sent.Load())); err != nil {
				l.fail(fmt.Errorf("send a query: %w", err))
				return
			}
			sent.Add(1)
		}
	})
	defer pacer.Wait()
	b := make([]byte, 100)
	last := time.Now()
	for got := uint64(0); !l.stop.Load() || got < sent.Load(); {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // then it may be the end
		switch _, err := c.Read(b); {
		case err == nil:
			got++
			l.udp.Add(1)
			last = time.Now()
		case !isTimeout(err) || time.Since(last) > 3*time.Second:
			l.fail(fmt.Errorf("udp: %d of %d queries answered, then %w", got, sent.Load(), err))
			return
		}
	}
}

// connecting makes a connection for each query.
func (l *load) connecting() {
	for !l.stop.Load() {
		c, err := net.DialTimeout("tcp", l.addr, 3*time.Second)
		if err == nil {
			err = l.ask(c)
			c.Close()
		}
		if err != nil {
			l.fail(fmt.Errorf("a query on a connection of its own: %w", err))
		}
	}
}

// connected keeps a connection as long as it can. It may end, but not while a query is
// under way.
func (l *load) connected() {
	for !l.stop.Load() {
		c, err := net.DialTimeout("tcp", l.addr, 3*time.Second)
		if err != nil {
			l.fail(err)
			return
		}
		for err == nil && !l.stop.Load() {
			err = l.ask(c)
		}
		c.Close()
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
			l.fail(err)
		}
		l.mu.Lock()
		l.disconnected++
		l.mu.Unlock()
	}
}

func (l *load) ask(c net.Conn) error {
	c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Write(frame("query")); err != nil {
		return err
	}
	var b [7]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	l.tcp.Add(1)
	return nil
}

// TestHandOver restarts a server five times, each time as a new process that takes the
// sockets over, while clients ask all the time: each query over UDP is answered and
// each connection is served.
func TestHandOver(t *testing.T) {
	path := t.TempDir() + "/socket"
	now := startProcess(t, "WIRE_LISTEN=127.0.0.1:0", "WIRE_HANDOVER="+path)
	l := &load{addr: now.addr.String()}
	l.start()
	for range 5 {
		eventually(t, "it waits for a successor", func() bool { return waits(path) })
		before, udp, tcp := now, l.udp.Load(), l.tcp.Load()
		eventually(t, "queries are answered", func() bool { return l.udp.Load() > udp+500 && l.tcp.Load() > tcp+100 || l.stop.Load() })
		now = startProcess(t, "WIRE_LISTEN="+now.addr.String(), "WIRE_HANDOVER="+path)
		if err := before.wait(t); err != nil {
			t.Errorf("the predecessor ends with %v", err)
		}
	}
	l.end(t)
	if l.disconnected < 5 {
		t.Errorf("a connection outlived its process: %d ended, want 5", l.disconnected)
	}
	now.cmd.Process.Signal(unix.SIGTERM)
	if err := now.wait(t); err != nil {
		t.Errorf("the last one ends with %v", err)
	}
}

// waits tells whether a server waits at path; it takes the sockets and lets them go.
func waits(path string) bool {
	c, err := net.DialTimeout("unixpacket", path, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// TestSuccessorDies holds that a server goes on when its successor dies, whenever it
// does before it answers, and that a server which has waited for its data begins when
// its predecessor dies.
func TestSuccessorDies(t *testing.T) {
	path := t.TempDir() + "/socket"
	first := startProcess(t, "WIRE_LISTEN=127.0.0.1:0", "WIRE_HANDOVER="+path)
	eventually(t, "it waits for a successor", func() bool { return waits(path) })
	unready := []string{"WIRE_LISTEN=" + first.addr.String(), "WIRE_HANDOVER=" + path, "WIRE_UNREADY=1"}
	l := &load{addr: first.addr.String()}
	l.start()
	for range 3 {
		next := startProcess(t, unready...)
		next.cmd.Process.Kill()
		next.cmd.Wait()
	}
	udp := l.udp.Load()
	eventually(t, "queries are answered", func() bool { return l.udp.Load() > udp+500 || l.stop.Load() })
	l.end(t)
	next := startProcess(t, unready...)
	first.cmd.Process.Kill()
	first.cmd.Wait()
	l = &load{addr: first.addr.String()}
	l.start()
	eventually(t, "the successor answers", func() bool { return l.udp.Load() > 100 || l.stop.Load() })
	l.end(t)
	eventually(t, "it waits for a successor", func() bool { return waits(path) })
	next.cmd.Process.Signal(unix.SIGTERM)
	if err := next.wait(t); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// TestTwoSuccessors holds that only one of two gets the sockets, and that a
// successor takes its time.
func TestTwoSuccessors(t *testing.T) {
	path := t.TempDir() + "/socket"
	c := Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, UDPWorkers: 1, HandOver: path}
	first, firstDone := inProcess(t, c)
	eventually(t, "it waits for a successor", func() bool { return waits(path) })
	c.Listen = first.Addrs()
	ready := make(chan struct{})
	c.Ready = ready
	_, secondDone := inProcess(t, c)
	late, err := Listen(c, echo, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-firstDone:
		t.Fatalf("the predecessor ends before its successor is ready: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := once("udp", first.Addrs()[0].String(), 1); err != nil {
		t.Fatal(err)
	}
	close(ready)
	if err := <-firstDone; !errors.Is(err, ErrHandedOver) {
		t.Fatalf("the predecessor ends with %v", err)
	}
	if err := late.Run(context.Background()); !errors.Is(err, errTaken) {
		t.Fatalf("the other successor ends with %v, want %v", err, errTaken)
	}
	if err := once("udp", first.Addrs()[0].String(), 2); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-secondDone:
		t.Fatalf("the successor ends, too: %v", err)
	default:
	}
}

// inProcess runs a Server until it ends or the test does.
func inProcess(t *testing.T, c Config) (*Server, <-chan error) {
	t.Helper()
	s, err := Listen(c, echo, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, ended := make(chan error, 1), make(chan struct{})
	go func() {
		done <- s.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		nothingLeft(t, s)
	})
	return s, done
}

// TestOtherConfiguration hands over to a server with other addresses and fewer
// sockets: those that it has not are bound, those that it does not want are given
// back, and no socket that may have queries in it is closed.
func TestOtherConfiguration(t *testing.T) {
	path := t.TempDir() + "/socket"
	any1, any2 := netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.0.0.2:0")
	first, done := inProcess(t, Config{Listen: []netip.AddrPort{any1, any1}, UDPWorkers: 4, HandOver: path})
	eventually(t, "it waits for a successor", func() bool { return waits(path) })
	kept, gone := first.Addrs()[0], first.Addrs()[1]
	second, _ := inProcess(t, Config{Listen: []netip.AddrPort{any2, kept}, UDPWorkers: 1, HandOver: path})
	if err := <-done; !errors.Is(err, ErrHandedOver) {
		t.Fatal(err)
	}
	for i := range 30 {
		for _, a := range second.Addrs() {
			for _, network := range []string{"udp", "tcp"} {
				if err := once(network, a.String(), i); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	third, err := Listen(Config{Listen: []netip.AddrPort{gone}}, echo, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("an address that nobody wants is still taken: %v", err)
	}
	third.Close()
}

// once asks one question on a socket of its own.
func once(network, addr string, i int) error {
	c, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	query, want := fmt.Sprint("query ", i), fmt.Sprint("uquery ", i)
	sent := []byte(query)
	if network == "tcp" {
		want = string(frame(fmt.Sprint("tquery ", i)))
		sent = frame(query)
	}
	if _, err := c.Write(sent); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		return fmt.Errorf("%s query %d: %q, %v", network, i, got, err)
	}
	return nil
}

// TestOtherUser holds that another user gets no sockets: not from the mode of the path,
// and not when that is opened to all.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	dir, err := os.MkdirTemp("/tmp", "wire-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := dir + "/socket"
	_, done := inProcess(t, Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, HandOver: path})
	eventually(t, "it waits for a successor", func() bool { return waits(path) })
	if err := asNobody(func() error { return take(path) }); !errors.Is(err, unix.EACCES) {
		t.Errorf("another user connects: %v, want EACCES", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := asNobody(func() error { return take(path) }); err == nil || errors.Is(err, unix.EACCES) {
		t.Errorf("another user gets the sockets: %v, want an end of the connection", err)
	}
	if err := take(path); err != nil {
		t.Errorf("this user does not get the sockets: %v", err)
	}
	select {
	case err := <-done:
		t.Errorf("the server ends: %v", err)
	default:
	}
}

// take takes one socket and lets it go.
func take(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	body, control := make([]byte, 512), make([]byte, unix.CmsgSpace(4))
	n, k, _, _, err := unix.Recvmsg(fd, body, control, 0)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return err
	}
	fds, err := descriptors(control[:k])
	for _, fd := range fds {
		unix.Close(fd)
	}
	return err
}

// asNobody runs fn on a thread that has become another user; it ends with it.
func asNobody(fn func() error) error {
	const nobody = 65534
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); e != 0 {
			done <- e
			return
		}
		done <- fn()
	}()
	return <-done
}

func TestHandOverPathIsAFile(t *testing.T) {
	path := t.TempDir() + "/file"
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Listen(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, HandOver: path}, echo, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file at the path of the socket: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
