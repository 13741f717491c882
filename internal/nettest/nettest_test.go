//go:build interop && linux

package nettest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A line carries no more than its rate, both hosts count what went, and nothing is left.
func TestInteropLine(t *testing.T) {
	const rate, size = 40e6, 4 << 20 // 0.84 s
	var name string
	t.Run("net", func(t *testing.T) {
		n := New(t)
		a, b := n.Host("a", Line{Up: rate}), n.Host("b", Line{})
		name = a.ns
		if out, err := exec.Command(a.Argv("ip", "-4", "-o", "addr", "show", "eth0")[0], a.Argv("ip", "-4", "-o", "addr", "show", "eth0")[1:]...).CombinedOutput(); err != nil || !strings.Contains(string(out), a.Addr.String()) {
			t.Errorf("address of a: %v: %s, expected %s", err, out, a.Addr)
		}
		var ln net.Listener
		if err := b.Do(func() (err error) {
			ln, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(b.Addr, 0)))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		var c *net.TCPConn
		if err := a.Do(func() (err error) {
			c, err = net.DialTCP("tcp4", nil, ln.Addr().(*net.TCPAddr))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		go func() {
			_, _ = c.Write(make([]byte, size)) // less is seen by who reads
			_ = c.Close()
		}()
		got, err := io.Copy(io.Discard, in)
		if err != nil || got != size {
			t.Fatalf("%d octets came, %v, expected %d", got, err, size)
		}
		// Slower is the machine's right.
		if took, least := time.Since(began), time.Duration(float64(size)*8/rate*0.8*float64(time.Second)); took < least {
			t.Errorf("%d octets took %s at %.0f bit/s, expected at least %s", size, took, rate, least)
		}
		sent, _ := a.Octets()
		if _, received := b.Octets(); sent < size || received < size {
			t.Errorf("a sent %d octets, b received %d, expected at least %d", sent, received, size)
		}
	})
	if t.Failed() || name == "" {
		return
	}
	if _, err := os.Stat("/run/netns/" + name); err == nil {
		t.Errorf("namespace %s is still there", name)
	}
}
