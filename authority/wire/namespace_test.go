package wire

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/authority/protocol"
)

// inNamespace runs fn on a thread with a network of its own, which has a loopback
// interface with that MTU. Sockets belong to the namespace of the thread that makes
// them, whoever uses them later.
func inNamespace(t *testing.T, mtu uint32, fn func()) {
	t.Helper()
	done := make(chan struct{})
	var skip error
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		if skip = unix.Unshare(unix.CLONE_NEWNET); skip != nil {
			return
		}
		if skip = loopback(mtu); skip != nil {
			return
		}
		fn()
	}()
	<-done
	if skip != nil {
		t.Skipf("no network namespace: %v", skip)
	}
}

func loopback(mtu uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint32(mtu)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, lo); err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// filler answers a query with its header, its question and octets up to the size that
// the query's ID is.
type filler struct{}

func (filler) Answer(batch []Message, _ protocol.Transport) {
	for i := range batch {
		m := &batch[i]
		size := int(binary.BigEndian.Uint16(m.Query))
		m.Response = append(m.Response, m.Query...)
		m.Response = append(m.Response, make([]byte, size-len(m.Query))...)
		m.Response[7] = 1 // ANCOUNT
	}
}

// sizedQuery asks filler for that many octets.
func sizedQuery(size int) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(size))
	return append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'x', 0, 0, 1, 0, 1)
}

// TestTooLarge holds that what does not fit the MTU is not fragmented but sent
// truncated, and what fits is sent whole.
func TestTooLarge(t *testing.T) {
	inNamespace(t, 1300, func() {
		for _, tt := range []struct {
			listen string
			fits   int // MTU less IP header and UDP header
		}{{"127.0.0.1:0", 1300 - 20 - 8}, {"[::1]:0", 1300 - 40 - 8}} {
			c := Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(tt.listen)}, MaxUDP: 4096, UDPWorkers: 1}
			s, err := Listen(c, func() (Handler, func()) { return filler{}, func() {} }, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
				return
			}
			end := run(t, s)
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.Addrs()[0]))
			if err != nil {
				t.Error(err)
				return
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			b := make([]byte, 5000)
			for _, size := range []int{tt.fits, tt.fits + 1, 100, 4096} {
				want, cut := size, size > tt.fits
				if cut {
					want = len(sizedQuery(size))
				}
				conn.Write(sizedQuery(size))
				n, err := conn.Read(b)
				if err != nil || n != want || b[2]&2 != 0 != cut || b[7] == 0 != cut {
					t.Errorf("%s: response of %d octets arrives with %d and flags %x, %v, want %d", tt.listen, size, n, b[2:4], err, want)
				}
			}
			if got := s.Counters.TooLarge.Load(); got != 2 {
				t.Errorf("%s: %d responses counted as too large, want 2", tt.listen, got)
			}
			conn.Close()
			end()
		}
	})
}

// TestLocalAddress holds that a response leaves from the address asked when the socket
// is bound to all, also if the kernel would choose another; and that the handler is
// told of it.
func TestLocalAddress(t *testing.T) {
	inNamespace(t, 65536, func() {
		for _, a := range []string{"192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128", "2001:db8::2/128"} {
			if out, err := exec.Command("ip", "address", "add", a, "dev", "lo", "nodad").CombinedOutput(); err != nil {
				t.Logf("not tried, no address %s: %v: %s", a, err, out)
				return
			}
		}
		c := Config{UDPWorkers: 1, Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:5300"), netip.MustParseAddrPort("[::]:5300")}}
		s, err := Listen(c, func() (Handler, func()) { return teller{}, func() {} }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Error(err)
			return
		}
		defer run(t, s)()
		for _, to := range []string{"192.0.2.1", "192.0.2.2", "127.0.0.1", "127.9.9.9", "2001:db8::1", "2001:db8::2", "::1"} {
			for _, network := range []string{"udp", "tcp"} {
				conn, err := net.Dial(network, net.JoinHostPort(to, "5300"))
				if err != nil {
					t.Error(err)
					continue
				}
				conn.SetDeadline(time.Now().Add(5 * time.Second))
				query, skip := []byte("x"), 0
				if network == "tcp" {
					query, skip = frame("x"), 2
				}
				conn.Write(query)
				b := make([]byte, 100)
				n, err := conn.Read(b) // a connected socket takes nothing from elsewhere
				if err != nil || string(b[skip:n]) != to {
					t.Errorf("%s asked by %s: it says that %q was asked, %v", to, network, b[:n], err)
				}
				conn.Close()
			}
		}
	})
}

// teller answers with the address that was asked.
type teller struct{}

func (teller) Answer(batch []Message, _ protocol.Transport) {
	for i := range batch {
		batch[i].Response = append(batch[i].Response, batch[i].Local.String()...)
	}
}

// run runs a Server until end is called.
func run(t *testing.T, s *Server) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not end")
		}
		nothingLeft(t, s)
	}
}

// nothingLeft holds that a Server that has ended has given everything back.
func nothingLeft(t *testing.T, s *Server) {
	t.Helper()
	if open, pending, clients := s.Counters.TCPOpen.Load(), s.pending.Load(), len(s.clients.open); open != 0 || pending != 0 || clients != 0 {
		t.Errorf("at the end %d connections of %d clients are open and hold %d octets, want none", open, clients, pending)
	}
}

func TestUnknownInterface(t *testing.T) {
	c := Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%nowhere]:5300")}}
	_, err := Listen(c, echo, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), `interface "nowhere"`) {
		t.Errorf("listen on an interface that is not there: %v", err)
	}
}
