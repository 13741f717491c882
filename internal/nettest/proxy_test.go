package nettest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// within bounds what must happen at all; only a broken proxy takes it.
const within = 30 * time.Second

// echo is a target that says what it hears, and a proxy before it.
func echo(t *testing.T, f Faults, seed uint64) (*Proxy, func() *net.TCPConn) {
	t.Helper()
	target, at := listen(t), listen(t)
	t.Cleanup(func() { _ = target.Close() })
	go func() {
		for {
			c, err := target.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c) // until a proxy breaks it
				_ = c.Close()
			}()
		}
	}()
	p := ProxyTCP(at, func() (net.Conn, error) { return net.Dial("tcp", target.Addr().String()) }, f, seed)
	t.Cleanup(p.Close)
	return p, func() *net.TCPConn {
		t.Helper()
		c, err := net.Dial("tcp", at.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		return c.(*net.TCPConn)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("heard %q, %v, expected %q", b, err, want)
	}
}

// Whatever delays and stalls it, a connection carries its octets in order, to their end.
func TestProxyOrder(t *testing.T) {
	p, dial := echo(t, Faults{Delay: time.Millisecond, Jitter: 3 * time.Millisecond, Stalls: 0.1, Stall: 10 * time.Millisecond}, 1)
	sent := make([]byte, 3<<20) // more than is under way at a time
	_, _ = rand.NewChaCha8([32]byte{1}).Read(sent)
	c := dial()
	go func() {
		for part := range slices.Chunk(sent, 10_000) {
			_, _ = c.Write(part) // less is seen by who reads
		}
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d octets came back, %v, expected the %d that were sent", len(got), err, len(sent))
	}
	if n := p.Counts(); n.Connections != 1 || n.Stalled == 0 || n.Broken != 0 {
		t.Errorf("counts are %+v, expected one connection, stalled and not broken", n)
	}
}

func TestProxyDelay(t *testing.T) {
	const delay = 50 * time.Millisecond
	_, dial := echo(t, Faults{Delay: delay}, 1)
	c := dial()
	began := time.Now()
	say(t, c, "there and back")
	hear(t, c, "there and back")
	if took := time.Since(began); took < 2*delay {
		t.Errorf("there and back took %s, expected at least %s", took, 2*delay)
	}
}

// A cut connection stands still, one that is made meanwhile too, and both go on.
func TestProxyCut(t *testing.T) {
	p, dial := echo(t, Faults{}, 1)
	c := dial()
	say(t, c, "before")
	hear(t, c, "before")
	p.Cut()
	p.Cut() // is none more
	young := dial()
	for _, one := range []net.Conn{c, young} {
		say(t, one, "meanwhile")
	}
	for _, one := range []net.Conn{c, young} {
		if err := one.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := one.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d octets, %v came by a cut line", n, err)
		}
		if err := one.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
	}
	p.Heal()
	p.Heal()
	for _, one := range []net.Conn{c, young} {
		hear(t, one, "meanwhile")
	}
}

// Broken connections end with an error, not as if all had been said; new ones are made.
func TestProxyBreak(t *testing.T) {
	broken := func(c net.Conn) {
		t.Helper()
		if n, err := io.Copy(io.Discard, c); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d octets, %v from a broken connection, expected a reset", n, err)
		}
	}
	p, dial := echo(t, Faults{}, 1)
	c := dial()
	say(t, c, "before")
	hear(t, c, "before")
	p.Break()
	broken(c)
	c = dial()
	say(t, c, "after")
	hear(t, c, "after")

	old, dial := echo(t, Faults{Life: 20 * time.Millisecond}, 1)
	for range 3 {
		broken(dial())
	}
	if n := p.Counts().Add(old.Counts()); n.Connections != 5 || n.Broken != 4 {
		t.Errorf("counts are %+v, expected 5 connections, 4 of them broken", n)
	}
}

// What cannot be connected is reset.
func TestProxyNobodyThere(t *testing.T) {
	at := listen(t)
	p := ProxyTCP(at, func() (net.Conn, error) { return nil, errors.New("nobody is there") }, Faults{}, 1)
	t.Cleanup(p.Close)
	c, err := net.Dial("tcp", at.Addr().String())
	if err == nil {
		defer c.Close()
		if err = c.SetDeadline(time.Now().Add(within)); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, expected a reset", err)
	}
}

// datagrams sends numbers through a proxy to one that listens, and gives them as they came.
func datagrams(t *testing.T, f Faults, count int) ([]int, Counts) {
	t.Helper()
	udp := func() *net.UDPConn {
		t.Helper()
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	target, at := udp(), udp()
	p := ProxyUDP(at, func() (net.Conn, error) { return net.Dial("udp", target.LocalAddr().String()) }, f, 7)
	defer p.Close()
	c, err := net.Dial("udp", at.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range count {
		say(t, c, fmt.Sprint(i))
		for deadline := time.Now().Add(within); p.Counts().Datagrams <= i; { // the proxy reads them singly: no buffer overflows
			if time.Now().After(deadline) {
				t.Fatalf("datagram %d did not come to the proxy", i)
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
	n := p.Counts()
	var got []int
	for len(got) < count-n.Lost+n.Duplicated {
		b := make([]byte, 16)
		if err := target.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		k, from, err := target.ReadFromUDP(b)
		if err != nil {
			t.Fatalf("%d datagrams came, then %v; counts are %+v", len(got), err, n)
		}
		var number int
		if _, err := fmt.Sscan(string(b[:k]), &number); err != nil {
			t.Fatal(err)
		}
		got = append(got, number)
		if len(got) == 1 { // answers find back
			if _, err := target.WriteToUDP([]byte("answer"), from); err != nil {
				t.Fatal(err)
			}
			if f.Loss == 0 {
				if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
					t.Fatal(err)
				}
				hear(t, c, "answer")
			}
		}
	}
	return got, n
}

func TestProxyDatagrams(t *testing.T) {
	const count = 150 // those and copies fit into a buffer of the kernel
	all := slices.Collect(func(yield func(int) bool) {
		for i := range count {
			_ = yield(i)
		}
	})
	if got, n := datagrams(t, Faults{}, count); !slices.Equal(got, all) || n != (Counts{Datagrams: count}) {
		t.Errorf("without faults came %v, counts %+v", got, n)
	}

	got, n := datagrams(t, Faults{Loss: 0.3}, count)
	if len(got) != count-n.Lost || n.Lost < count/5 || n.Lost > count*2/5 {
		t.Errorf("%d of %d came, %d were lost, expected about a third lost", len(got), count, n.Lost)
	}
	if again, _ := datagrams(t, Faults{Loss: 0.3}, count); !slices.Equal(again, got) {
		t.Errorf("with the same seed came\n%v, expected\n%v", again, got)
	}

	got, n = datagrams(t, Faults{Duplicate: 0.3}, count)
	seen := map[int]int{}
	for _, i := range got {
		seen[i]++
	}
	if n.Duplicated < count/5 || len(seen) != count || slices.Max(slices.Collect(maps.Values(seen))) != 2 {
		t.Errorf("%d datagrams came, of %d numbers, %d were sent twice", len(got), len(seen), n.Duplicated)
	}

	got, n = datagrams(t, Faults{Reorder: 0.1}, count)
	if n.Reordered < count/20 || slices.IsSorted(got) {
		t.Errorf("%d datagrams were held back, and none was overtaken", n.Reordered)
	}
	slices.Sort(got)
	if !slices.Equal(got, all) {
		t.Errorf("of %d datagrams came %v", count, got)
	}
}

// A cut line loses datagrams, and carries those after.
func TestProxyCutDatagrams(t *testing.T) {
	target, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	at, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := ProxyUDP(at, func() (net.Conn, error) { return net.Dial("udp", target.LocalAddr().String()) }, Faults{}, 1)
	defer p.Close()
	c, err := net.Dial("udp", at.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.Cut()
	say(t, c, "lost")
	for deadline := time.Now().Add(within); p.Counts().Cut == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no datagram is counted as cut")
		}
	}
	p.Heal()
	say(t, c, "came")
	if err := target.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	hear(t, target, "came")
}
