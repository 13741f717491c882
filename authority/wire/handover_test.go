package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestHandOver passes the sockets through five servers, one after the other, while a
// client asks: each query is answered, and each connection is served.
func TestHandOver(t *testing.T) {
	path := t.TempDir() + "/socket"
	c := Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, UDPWorkers: 2, HandOver: path}
	type run struct {
		s      *Server
		cancel context.CancelFunc
		done   chan error
	}
	begin := func() run {
		s, err := Listen(c, echo, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		r := run{s, cancel, make(chan error, 1)}
		go func() { r.done <- s.Run(ctx) }()
		return r
	}
	now := begin()
	c.Listen = now.s.Addrs()
	addr := c.Listen[0].String()
	stop, asked := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				asked <- nil
				return
			default:
			}
			for _, network := range []string{"udp", "tcp"} {
				if err := once(network, addr, i); err != nil {
					asked <- err
					return
				}
			}
		}
	}()
	for range 5 {
		eventually(t, "it waits for a successor", func() bool { return exists(path) })
		next := begin()
		if err := <-now.done; !errors.Is(err, ErrHandedOver) {
			t.Fatalf("the predecessor ends with %v", err)
		}
		now.cancel()
		now = next
	}
	close(stop)
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	now.cancel()
	if err := <-now.done; err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	c, err := net.DialTimeout("unixpacket", path, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
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
